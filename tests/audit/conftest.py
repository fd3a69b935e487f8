"""Booted hosts side by side, a plain Debian and both deliveries of ours, each with the audits' tools inside.

`make audits` has all, a run of the tests none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from builder import process
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.lab.machine import Machine
from builder.localhost import debian_mirror, requirements
from tests.audit import report
from tests.machine import hosts
from tests.machine.conftest import example_images
from tests.packer import bake_without_packer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.machine.hosts import Host

__all__ = ["example_images"]

TOOLS = ("lynis", "openscap-scanner", "ssg-debian")


@cache
def answers() -> dict[str, dict[str, dict[str, Any]]]:
    """What is said to each finding, by its tool and its name there."""
    found: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "answers.yaml").read_text())
    return found


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    requirements.check_booting()


@pytest.fixture(scope="session")
def findings() -> Iterator[report.Findings]:
    """What the audits found; written to docs/audits.md at the end, under UPDATE=1."""
    found = report.Findings(answers())
    yield found
    found.write()


def files() -> dict[str, bytes]:
    """What each host gets: the source of security fixes that every stock image has."""
    uri = debian_mirror.mirror(archive="debian-security")
    repository = f"deb {uri} {base_tree.RELEASE}-security main\n" if uri else ""
    return {"/etc/apt/sources.list.d/security.list": repository.encode()}


@dataclass(frozen=True)
class Side:
    """The hosts that are compared."""

    plain: Machine
    ours: Mapping[str, Host]

    @property
    def machines(self) -> dict[str, Machine]:
        """All of them by the names of the page."""
        return {"plain": self.plain} | {delivery: host.machine for delivery, host in self.ours.items()}


@pytest.fixture(scope="session")
def stock(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts.booted("three", tmp_path_factory.mktemp("stock"), more=TOOLS, extra_files=files()) as host:
        yield host


@pytest.fixture(scope="session")
def baked(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("baked")
    # Users of the machine go through it.
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(0o755)
    image = bake_without_packer.bake("three", directory, packages=(*PACKAGES["debian-13"], *TOOLS), twice=False)
    with bake_without_packer.laid_out(image, extra_files=files()) as host:
        host.boot()
        yield host


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """What a provider's image comes to with its defaults: one user, one key."""
    key = tmp_path_factory.mktemp("plain") / "id"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    user = {"name": "debian", "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash", "lock_passwd": True}
    user["ssh_authorized_keys"] = [key.with_suffix(".pub").read_text().strip()]
    data = b"#cloud-config\n" + yaml.safe_dump({"users": [user]}).encode()
    with Machine(base_tree.tree(TOOLS), data, name="plain", extra_files=files()) as machine:
        machine.boot_and_wait()
        yield machine


@pytest.fixture(scope="session")
def side(plain: Machine, stock: Host, baked: Host) -> Side:
    """All of them, up."""
    return Side(plain, {"stock": stock, "baked": baked})
