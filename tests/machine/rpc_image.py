"""The image of an app that speaks HTTP/2 without TLS: the example app with Python, the package h2 and rpc_server.py."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.oci import image_archive
from tests.machine import attack_image, hosts, rpc_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PATH: Final = hosts.IMAGES / "rpc.tar"
_PACKAGES: Final = ("h2", "hpack", "hyperframe")
_INTO: Final = "srv/rpc"


def make(maker: ModuleType) -> None:
    """Write the image, with what examples/make_images.py makes."""
    program = image_archive.ImageFile(f"{_INTO}/rpc_server.py", Path(rpc_server.__file__).read_bytes())
    files = (*maker.app_files(), *attack_image.python(base_tree.tree(PACKAGES["debian-13"])), *_modules(), program)
    image_archive.write(PATH, files, maker.APP_CONFIG)


def _modules() -> Iterator[image_archive.ImageFile]:
    for name in _PACKAGES:
        spec = util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        for path in sorted(package.rglob("*.py")):
            yield image_archive.ImageFile(f"{_INTO}/{name}/{path.relative_to(package)}", path.read_bytes())
