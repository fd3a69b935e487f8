"""What er needs of the machine it runs on; everything that is missing is named in one message."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable


# Program -> the Debian package with it.
PACKAGES: Final = {
    "curl": "curl",
    "fuse2fs": "fuse2fs",
    "ip": "iproute2",
    "mcopy": "mtools",
    "mformat": "mtools",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "pasta": "passt",
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
}
_BOOTING: Final = ("curl", "ip", "mmdebstrap", "nsenter", "pasta", "systemd-nspawn")
_FUSE: Final = "/dev/fuse"


def check_booting(release: str = "trixie") -> None:
    """Raise one UserError that names everything missing for booting a host by systemd-nspawn, or return."""
    if platform.system() != "Linux":
        raise UserError(
            "booting a host here needs Linux", "run this on a Debian or Ubuntu machine, or use `er user-data`"
        )
    missing = [*_root(), *_devices("/dev/net/tun", _FUSE), *_file_systems("overlay", "cgroup2")]
    keyring = () if keyrings(release) else ("debian-archive-keyring",)
    _refuse("booting a host here", missing, _packages(_BOOTING, keyring), root=True)


def check_programs(
    what: str, programs: Iterable[str], *, packages: Iterable[str] = (), root: bool = False, fuse: bool = False
) -> None:
    """Raise one UserError that names everything missing for `what`, or return.

    `packages` are missing ones that have no program to look for.
    """
    linux = () if platform.system() == "Linux" or not (root or fuse) else ("Linux",)
    missing = [*linux, *(_root() if root else ()), *(_devices(_FUSE) if fuse else ())]
    _refuse(what, missing, _packages(programs, packages), root=root)


def _refuse(what: str, missing: list[str], packages: list[str], *, root: bool) -> None:
    """Raise UserError unless nothing is missing."""
    if not missing and not packages:
        return
    names = [*missing, *(f"the package {package}" for package in packages)]
    install = f"apt-get install {' '.join(packages)}" if packages else ""
    sudo = "run it as root (sudo)" if root and os.geteuid() != 0 else ""
    hint = "; ".join(text for text in (install, sudo) if text)
    raise UserError(f"{what} needs {', '.join(names)}", hint or "use a machine or a virtual machine with these")


def _root() -> tuple[str, ...]:
    return ("root",) if os.geteuid() != 0 else ()


def _devices(*paths: str) -> tuple[str, ...]:
    return tuple(path for path in paths if not Path(path).exists())


def _file_systems(*names: str) -> tuple[str, ...]:
    """Those that the kernel lacks: a module that is not loaded yet is loaded by the first mount."""
    if Path("/lib/modules", platform.release()).is_dir():
        return ()
    known = Path("/proc/filesystems").read_text().split()
    return tuple(f"the file system {name}" for name in names if name not in known)


def _packages(programs: Iterable[str], more: Iterable[str]) -> list[str]:
    """The Debian packages to install, sorted."""
    return sorted({PACKAGES[program] for program in programs if which(program) is None} | set(more))


def which(program: str) -> str | None:
    """The path of a program, also of one that only administrators have on their PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


def keyrings(release: str) -> tuple[Path, ...]:
    """The archive keys of a Debian release; one file on newer machines, several on older ones."""
    shared = Path("/usr/share/keyrings")
    own = sorted(shared.glob(f"debian-archive-{release}-*.gpg"))
    return tuple(own) or tuple(path for path in (shared / "debian-archive-keyring.gpg",) if path.exists())


_ARCHITECTURES: Final = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def native_arch() -> str | None:
    """This machine's architecture as Debian names it; None for one that no host has."""
    return _ARCHITECTURES.get(platform.machine())
