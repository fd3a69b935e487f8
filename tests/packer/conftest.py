"""Packer for real; a virtual machine only where one is what is tested."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder import process
from builder.host.packages import PACKAGES
from builder.lab import base, needs
from builder.lab.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bakery:
    """A machine that lets root in with a key, and has the packages already."""

    machine: Machine
    key: Path


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the public one is beside it."""
    path = tmp_path_factory.mktemp("key") / "id"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)])
    return path


@pytest.fixture(scope="session")
def bakery(key: Path) -> Iterator[Bakery]:
    """The machine that is baked in rehearsals."""
    needs.check()
    login = {"disable_root": False, "users": [], "ssh_authorized_keys": [key.with_name("id.pub").read_text().strip()]}
    user_data = b"#cloud-config\n" + json.dumps(login).encode()
    with Machine(base.tree(PACKAGES["debian-13"]), user_data, name="bakery") as machine:
        machine.boot_and_wait()
        yield Bakery(machine, key)
