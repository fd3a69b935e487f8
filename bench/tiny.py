"""The smallest app that serves a page, so that what is measured is what a stack costs, not what its app costs."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.oci import image_archive
from builder.problems import UserError


def make(target: Path) -> Path:
    """An OCI archive with Busybox's web server in it."""
    found = shutil.which("busybox")
    if found is None:
        raise UserError("cannot find the program busybox", "apt-get install busybox-static")
    files = (
        image_archive.ImageFile("bin/busybox", Path(found).read_bytes(), mode=0o755),
        image_archive.ImageFile("srv/index.html", b"hello\n"),
    )
    command = ("/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/srv")
    image_archive.write(target, files, image_archive.ImageConfig(command=command, ports=("3000/tcp",)))
    return target
