"""One bake for all tests that look at what comes out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.lab import needs
from tests.machine.conftest import example_images
from tests.packer import bakery

if TYPE_CHECKING:
    from tests.packer.bakery import Baked

__all__ = ["example_images"]


@pytest.fixture(scope="session")
def baked(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Baked:
    """The spec `three`, baked with its stacks' images."""
    needs.check()
    directory = tmp_path_factory.mktemp("baked")
    # Users of the machines go through it.
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(0o755)
    return bakery.bake("three", directory)
