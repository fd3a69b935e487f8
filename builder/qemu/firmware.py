"""Where UEFI's code and fresh variables are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from builder.spec.model import Arch

# Debian and Ubuntu (ovmf, qemu-efi-aarch64), then what QEMU brings along, as on macOS.
_BREW: Final = ("/opt/homebrew/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu")
_PLACES: Final[dict[Arch, tuple[tuple[str, str], ...]]] = {
    "amd64": (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        *((f"{place}/edk2-x86_64-code.fd", f"{place}/edk2-i386-vars.fd") for place in _BREW),
    ),
    "arm64": (
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        *((f"{place}/edk2-aarch64-code.fd", f"{place}/edk2-arm-vars.fd") for place in _BREW),
    ),
}
_PACKAGE: Final[dict[Arch, str]] = {"amd64": "ovmf", "arm64": "qemu-efi-aarch64"}


def find(arch: Arch) -> tuple[Path, Path]:
    """Code and a template of the variables. Raises UserError when there is none."""
    for pair in _PLACES[arch]:
        code, variables = (Path(path) for path in pair)
        if code.exists() and variables.exists():
            return code, variables
    raise UserError(f"no UEFI firmware for {arch} on this machine", f"apt-get install {_PACKAGE[arch]}")
