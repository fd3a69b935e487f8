"""Machine tests boot real hosts; where that cannot be, each of them fails with what is lacking."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.localhost import requirements
from tests.machine import attack_image, hosts, rpc_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from tests.machine.egress_host import Walls
    from tests.machine.hosts import Host

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    """A failure, not a skip: a test that did not run has shown nothing."""
    requirements.check_booting()


def example_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_images", _ROOT / "examples/make_images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with caddy.tar and app.tar."""
    directory = tmp_path_factory.mktemp("images")
    example_maker().make(directory)
    return directory


@pytest.fixture(scope="session")
def example_images() -> None:
    """The archives that the specs under tests/machine/specs name."""
    if not all((hosts.IMAGES / name).exists() for name in ("caddy.tar", "app.tar")):
        example_maker().make(hosts.IMAGES)


@pytest.fixture(scope="session")
def toolbox_image(example_images: None) -> None:
    """The archive that the spec `walls` names, made anew: it is of the machine's own Python."""
    attack_image.make(example_maker())


@pytest.fixture(scope="session")
def rpc_image_made(example_images: None) -> None:
    """The archive of an app that speaks HTTP/2, which the spec `public` names."""
    rpc_image.make(example_maker())


@pytest.fixture(scope="session")
def three(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host of the spec `three`, for tests that only look, or put back what they change.

    For test_first_boot.py before all others, where it is of a run, and then for test_reboot.py.
    """
    with hosts.booted("three", tmp_path_factory.mktemp("three")) as host:
        yield host


@pytest.fixture(scope="session")
def walls(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walls]:
    """The host of the spec `walls` with its name server, for test_containment.py, and then for test_egress_names.py."""
    from tests.machine import egress_host  # noqa: PLC0415 - what it imports has fixtures of this module

    with egress_host.standing(tmp_path_factory.mktemp("walls")) as walls:
        yield walls


@pytest.fixture(scope="session")
def edge(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host of the spec `edge`: telling headers, long connections, every key that shapes a service."""
    with hosts.booted("edge", tmp_path_factory.mktemp("edge")) as host:
        yield host
