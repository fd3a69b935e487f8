"""Where the data trees are: in the wheel's builder/_data, or in the checkout beside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Tree = Literal["images", "cloudinit"]


def tree(name: Tree) -> Path:
    """The directory of one data tree; raises FileNotFoundError when the installation is incomplete."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_data" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the data tree {name}/ is missing from this installation of er")
