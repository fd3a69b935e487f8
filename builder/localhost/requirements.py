"""What the lab needs of the machine it runs on: everything that is missing, in one message."""

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
_PROGRAMS: Final = (
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("pasta", "passt"),
    ("nsenter", "util-linux"),
    ("curl", "curl"),
)
_DEVICES: Final = ("/dev/net/tun", "/dev/fuse")
_FILESYSTEMS: Final = ("overlay", "cgroup2")
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def keyrings(release: str) -> tuple[Path, ...]:
    """The archive keys of a Debian release; one file on newer machines, several on older ones."""
    shared = Path("/usr/share/keyrings")
    own = sorted(shared.glob(f"debian-archive-{release}-*.gpg"))
    return tuple(own) or tuple(path for path in (shared / "debian-archive-keyring.gpg",) if path.exists())


def check_booting(release: str = "trixie") -> None:
    """Raise one UserError that names everything missing, or return."""
    if platform.system() != "Linux":
        raise UserError(
            "booting a host here needs Linux", "run this on a Debian or Ubuntu machine, or use `er user-data`"
        )
    lacking = tuple(_missing_for_booting())
    packages = missing_packages(release)
    if lacking or packages:
        what = [*lacking, *(f"the package {package}" for package in packages)]
        raise UserError(f"booting a host here needs {', '.join(what)}", _install(packages))


def missing_packages(release: str = "trixie") -> tuple[str, ...]:
    """The Debian packages to install, sorted."""
    path = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    packages = {package for program, package in _PROGRAMS if shutil.which(program, path=path) is None}
    if not keyrings(release):
        packages.add("debian-archive-keyring")
    return tuple(sorted(packages))


def _missing_for_booting() -> Iterable[str]:
    if os.geteuid() != 0:
        yield "root"
    yield from (device for device in _DEVICES if not Path(device).exists())
    # A module that is not loaded yet is loaded by the first mount, so only a kernel without modules tells.
    if not Path("/lib/modules", platform.release()).is_dir():
        known = Path("/proc/filesystems").read_text().split()
        yield from (f"the file system {name}" for name in _FILESYSTEMS if name not in known)


def _install(packages: tuple[str, ...]) -> str:
    install = f"apt-get install {' '.join(packages)}" if packages else ""
    root = "run it as root (sudo)" if os.geteuid() != 0 else ""
    return "; ".join(part for part in (install, root) if part) or "use a machine or a virtual machine with these"


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
_SBIN_needs: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def which(program: str) -> str | None:
    """Where a program is; an administrator's programs count too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN_needs}")


def check_programs(
    what: str, programs: Iterable[str], *, packages: Iterable[str] = (), root: bool = False, fuse: bool = False
) -> None:
    """Raise one UserError that names everything missing for `what`, or return.

    `packages` are missing ones that no program tells of.
    """
    missing = {PACKAGES[program] for program in programs if which(program) is None} | set(packages)
    lacking = [*_missing(root=root, fuse=fuse), *(f"the package {name}" for name in sorted(missing))]
    if lacking:
        raise UserError(f"{what} needs {', '.join(lacking)}", _way_out(sorted(missing), root=root))


def _missing(*, root: bool, fuse: bool) -> Iterable[str]:
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
