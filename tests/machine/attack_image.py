"""The image of an app that has been taken over: the example app with Python beside it, to attack from inside."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.oci import image_archive
from tests.machine import hosts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

PATH: Final = hosts.IMAGES / "toolbox.tar"
# What Python and its ctypes are linked with, as the loader looks for it.
_LIBRARIES: Final = (
    *("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1", "libffi.so.8"),
    *("libssl.so.3", "libcrypto.so.3", "libzstd.so.1"),
)
_SPARED: Final = ("test", "idlelib", "tkinter", "lib2to3", "ensurepip", "__pycache__", "pydoc_data", "distutils")


def make(maker: ModuleType) -> None:
    """Write the image, with what examples/make_images.py makes; Python comes from a machine's own tree."""
    tree = base_tree.tree(PACKAGES["debian-13"])
    image_archive.write(PATH, (*maker.app_files(), *python(tree)), maker.APP_CONFIG)


def python(tree: Path) -> Iterator[image_archive.ImageFile]:
    """A machine's own Python, and what it is linked with."""
    usr = tree / "usr"
    program = (usr / "bin/python3").resolve()
    yield image_archive.ImageFile("usr/bin/python3", (usr / "bin" / program.name).read_bytes(), mode=0o755)
    triplet = f"{platform.machine()}-linux-gnu"
    for name in _LIBRARIES:
        yield image_archive.ImageFile(f"lib/{triplet}/{name}", (usr / "lib" / triplet / name).read_bytes(), mode=0o755)
    loader = next((usr / "lib").glob("ld-linux*.so.*"), None) or next((usr / "lib64").glob("ld-linux*.so.*"))
    yield image_archive.ImageFile(f"{loader.parent.name}/{loader.name}", loader.read_bytes(), mode=0o755)
    standard = usr / "lib" / program.name
    for path in sorted(standard.rglob("*")):
        inside = path.relative_to(standard)
        if path.is_file() and not path.is_symlink() and not set(inside.parts) & set(_SPARED):
            yield image_archive.ImageFile(f"usr/lib/{program.name}/{inside}", path.read_bytes())
