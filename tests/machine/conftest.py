"""Machine tests boot real hosts; where that cannot be, each of them fails with what is lacking."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.lab import needs

if TYPE_CHECKING:
    from types import ModuleType

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    """A failure, not a skip: a test that did not run has shown nothing."""
    needs.check()


def _example_maker() -> ModuleType:
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
    _example_maker().make(directory)
    return directory
