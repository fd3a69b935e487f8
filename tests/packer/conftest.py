"""One bake for all tests that look at what comes out of it, and one machine for those that look at Packer."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from builder import process
from builder.disk import kernel
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.lab.machine import Machine
from builder.localhost import requirements
from builder.qemu import acceleration
from tests.machine.conftest import example_images
from tests.packer import bake_without_packer
from tests.packer import shared_bake as one_bake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packer.bake_without_packer import Baked
    from tests.packer.shared_bake import Built

__all__ = ["example_images"]


def skip_if_emulated() -> None:
    """What takes many minutes emulated is left to `make bakes` there."""
    if (
        not os.environ.get("ER_BAKES")
        and acceleration.accelerator("amd64", partial(kernel, "debian-13", "amd64")).emulated
    ):
        pytest.skip("virtual machines are emulated here: `make bakes` runs it")


@pytest.fixture(scope="session")
def baked(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Baked:
    """The spec `three`, baked with its stacks' images."""
    requirements.check_booting()
    directory = tmp_path_factory.mktemp("baked")
    # Users of the machines go through it.
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(0o755)
    return bake_without_packer.bake("three", directory)


@pytest.fixture(scope="session")
def built(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The example, baked by Packer in a container into an image, whose first boot is a virtual machine's."""
    return one_bake.bake(tmp_path_factory.mktemp("built"), "--builder", "container")


@pytest.fixture(scope="session")
def built_in_a_machine(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The same, baked in a virtual machine and not proved."""
    skip_if_emulated()
    directory = tmp_path_factory.mktemp("built-in-a-machine")
    return one_bake.bake(directory, "--builder", "machine", "--no-verify")


@dataclass(frozen=True, slots=True)
class Oven:
    """A machine to bake."""

    machine: Machine
    key: Path


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the public one is beside it."""
    path = tmp_path_factory.mktemp("key") / "id"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)])
    return path


@contextmanager
def standing(key: Path, name: str) -> Iterator[Machine]:
    """A machine that has been up for a while: the packages are there, and root is let in with the key."""
    requirements.check_booting()
    login = {"disable_root": False, "users": [], "ssh_authorized_keys": [key.with_name("id.pub").read_text().strip()]}
    user_data = b"#cloud-config\n" + json.dumps(login).encode()
    with Machine(base_tree.tree(PACKAGES["debian-13"]), user_data, name=name) as machine:
        machine.boot_and_wait()
        yield machine


@pytest.fixture(scope="session")
def oven(key: Path) -> Iterator[Oven]:
    """The machine that is baked in rehearsals."""
    with standing(key, "oven") as machine:
        yield Oven(machine, key)
