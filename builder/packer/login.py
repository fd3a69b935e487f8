"""How Packer gets into a machine on this one: a key made for one bake, and a seed that lets root in with it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from builder import process
from builder.qemu import seed

if TYPE_CHECKING:
    from pathlib import Path


def make(key: Path, disk: Path) -> None:
    """Write the private key, its public one beside it, and the seed's disk."""
    content = seed.files(user_data(keygen(key)), instance=f"bake-{uuid.uuid4().hex[:12]}", name="localhost")
    seed.make(disk, content)


def keygen(key: Path) -> str:
    """Write a key pair; returns the public one, as a line of authorized_keys."""
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bake", "-f", str(key)])
    return key.with_name(f"{key.name}.pub").read_text().strip()


def user_data(public: str) -> bytes:
    """Root and no other user, so that nobody has to be taken away again."""
    config = {"users": [], "disable_root": False, "ssh_pwauth": False, "ssh_authorized_keys": [public]}
    return b"#cloud-config\n" + json.dumps(config).encode() + b"\n"
