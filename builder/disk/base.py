"""The base disk: a generic cloud image of Debian's packages, made once here and shared read-only."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from builder.disk import build
from builder.disk.partitions import Layout
from builder.disk.recipe import RECIPES, VERSION
from builder.localhost import cache, requirements
from builder.problems import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from builder.disk.recipe import Recipe
    from builder.spec.model import Arch, Base

_PROGRAMS: Final = ("mcopy", "mformat", "mke2fs", "mmdebstrap", "qemu-img")
_GIB: Final = 1024**3
SIZE: Final = 4 * _GIB
_SMALLEST: Final = 2 * _GIB
_MIB: Final = 1024**2


def base_disk(base: Base, arch: Arch, *, size: int = SIZE) -> Path:
    """The qcow2 of a stock disk, `size` bytes to the machine; made on first use, which takes a minute or two.

    Boots by BIOS and UEFI (arm64: UEFI). Nothing on it is a secret or a machine's own. A point release of the
    distribution has it made anew. Raises UserError.
    """
    return _made(base, arch, size) / build.DISK


def kernel(base: Base, arch: Arch) -> Path:
    """The kernel of the base disk, as a boot loader takes it; the disk is made on first use. Raises UserError."""
    return _made(base, arch, SIZE) / build.KERNEL


def _made(base: Base, arch: Arch, size: int) -> Path:
    recipe = RECIPES[base]
    if size < _SMALLEST or size % _MIB:
        raise UserError("a base disk has 2 GiB or more, in whole MiB")
    _check(recipe)
    build.refuse_foreign(arch)
    name = f"{base}-{arch}-{key(recipe, arch, size)}"
    layout = Layout(arch, size, name)
    folder = cache.root() / "disks" / name
    return cache.current(folder, recipe.edition(), lambda aside: build.disk(aside, layout, recipe))


def key(recipe: Recipe, arch: Arch, size: int) -> str:
    """A short name for what a disk is made of."""
    made_of = json.dumps([VERSION, recipe.release, recipe.components, recipe.include(arch), size]).encode()
    return hashlib.sha256(made_of).hexdigest()[:16]


def _check(recipe: Recipe) -> None:
    if recipe.base == "ubuntu-24.04" and not (recipe.keyrings() and recipe.archives()):
        raise UserError(
            "no Ubuntu archive and keyring on this machine, so no base disk of ubuntu-24.04 can be made",
            "give a cloud image with its SHA-256 checksum instead",
        )
    keyring = () if recipe.keyrings() else ("debian-archive-keyring",)
    requirements.check_programs("making a base disk", _PROGRAMS, packages=keyring, root=True)
