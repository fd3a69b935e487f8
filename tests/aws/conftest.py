"""moto's server and the wire to it, once a run; a new account for every test."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.aws import er_command, moto_account
from tests.aws.wire import Wire
from tests.machine import test_data
from tests.machine.conftest import example_images  # noqa: F401 - a fixture of the whole way
from tests.packer import bake_without_packer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of moto's server."""
    with moto_account.moto(tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture(scope="session")
def the_wire(moto: int) -> Iterator[Wire]:
    with Wire(moto) as wire:
        yield wire


@pytest.fixture(scope="session")
def the_account(moto: int) -> moto_account.Account:
    return moto_account.Account(moto)


@pytest.fixture
def wire(the_wire: Wire) -> Wire:
    """Nothing noted yet, nothing fails."""
    the_wire.reset()
    return the_wire


@pytest.fixture
def account(the_account: moto_account.Account) -> moto_account.Account:
    the_account.reset()
    return the_account


@pytest.fixture
def er(wire: Wire, account: moto_account.Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> er_command.Er:
    """Runs of `er` in this process, against the wire."""
    del account
    return er_command.Er(wire, tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def ami_disk(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:  # noqa: F811
    """The disk of a baked image as a tree, without what the lab gave the machine that was baked."""
    for tree in test_data.baked(tmp_path_factory, ("e2fsprogs", "restic")):
        shutil.rmtree(tree / "var/lib/cloud/seed", ignore_errors=True)
        for path in bake_without_packer.LAB:
            (tree / path.lstrip("/")).unlink(missing_ok=True)
        yield tree
