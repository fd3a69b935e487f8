"""What work on disks needs of this machine: all that is missing, in one message."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

# Program, and the Debian package that brings it.
PACKAGES: Final = {
    "fuse2fs": "fuse2fs",
    "mcopy": "mtools",
    "mformat": "mtools",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "curl": "curl",
}
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def which(program: str) -> str | None:
    """Where a program is; an administrator's programs count too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def check(
    what: str, programs: Iterable[str], *, packages: Iterable[str] = (), root: bool = False, fuse: bool = False
) -> None:
    """Raise one UserError that names everything missing for `what`, or return.

    `packages` are missing ones that no program tells of.
    """
    missing = {PACKAGES[program] for program in programs if which(program) is None} | set(packages)
    lacking = [*_lacking(root=root, fuse=fuse), *(f"the package {name}" for name in sorted(missing))]
    if lacking:
        raise UserError(f"{what} needs {', '.join(lacking)}", _way_out(sorted(missing), root=root))


def _lacking(*, root: bool, fuse: bool) -> Iterable[str]:
    if (root or fuse) and platform.system() != "Linux":
        yield "Linux"
    if root and os.geteuid() != 0:
        yield "root"
    if fuse and not Path("/dev/fuse").exists():
        yield "/dev/fuse"


def _way_out(packages: list[str], *, root: bool) -> str:
    install = f"apt-get install {' '.join(packages)}" if packages else ""
    sudo = "run it as root (sudo)" if root and os.geteuid() != 0 else ""
    return "; ".join(part for part in (install, sudo) if part) or "use a machine or a virtual machine with these"
