"""What each base disk is made of: one row a base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.localhost import debian_mirror, requirements

if TYPE_CHECKING:
    from builder.spec.model import Arch, Base

# Raise it when anything that makes the disk changes: disks made by an older recipe are then made anew.
VERSION: Final = 3
_KEYRINGS: Final = Path("/usr/share/keyrings")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the base disk of one distribution is made from.

    `packages` are for every architecture, `boot` by architecture; `efi` is the directory on the ESP where the signed
    GRUB looks for its configuration.
    """

    base: Base
    release: str
    components: str
    packages: tuple[str, ...]
    boot: dict[Arch, tuple[str, ...]]
    efi: str

    def include(self, arch: Arch) -> tuple[str, ...]:
        """All packages, sorted."""
        return tuple(sorted({*self.packages, *self.boot[arch]}))

    def keyrings(self) -> tuple[Path, ...]:
        """The keys of its archive on this machine; none when the package with them is not installed."""
        if self.base == "debian-13":
            return requirements.keyrings(self.release)
        return tuple(path for path in (_KEYRINGS / "ubuntu-archive-keyring.gpg",) if path.exists())

    def archives(self, apt: Path = Path("/etc/apt")) -> tuple[str, ...]:
        """One-line sources of this machine's own mirror; with none mmdebstrap takes its default."""
        kinds = _ARCHIVES[self.base]
        found = [(debian_mirror.mirror(apt, kind), suffix) for kind, suffix in kinds]
        if found[0][0] is None:
            return ()
        return tuple(f"deb {uri} {self.release}{suffix} {self.components}" for uri, suffix in found if uri)

    def edition(self) -> str:
        """Which edition of its first archive this machine's mirror has; empty when that cannot be found out."""
        kind, suffix = _ARCHIVES[self.base][0]
        return debian_mirror.edition(debian_mirror.mirror(archive=kind), f"{self.release}{suffix}")


_ARCHIVES: Final[dict[Base, tuple[tuple[debian_mirror.Archive, str], ...]]] = {
    "debian-13": (("debian", ""), ("debian-security", "-security")),
    "ubuntu-24.04": (("ubuntu", ""), ("ubuntu", "-updates"), ("ubuntu", "-security")),
}
# As Debian's genericcloud images: their network is netplan, networkd and resolved, their disks grow by growpart.
_COMMON: Final = (
    "apparmor",
    "apt-utils",
    "ca-certificates",
    "cloud-guest-utils",
    "cloud-init",
    "curl",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "init",
    "initramfs-tools",
    "iproute2",
    "iptables",
    "iputils-ping",
    "less",
    "libnss-myhostname",
    "libnss-resolve",
    "libpam-systemd",
    "netbase",
    "netplan.io",
    "openssh-server",
    "polkitd",
    "procps",
    "python3",
    "python3-yaml",
    "sudo",
    "systemd-resolved",
    "systemd-timesyncd",
    "udev",
    "unattended-upgrades",
    "zstd",
)
_GRUB_PC: Final = ("grub-efi-amd64-bin", "grub-efi-amd64-signed", "grub-pc-bin", "grub2-common", "shim-signed")
_GRUB_ARM: Final = ("grub-efi-arm64-bin", "grub-efi-arm64-signed", "grub2-common", "shim-signed")

RECIPES: Final[dict[Base, Recipe]] = {
    "debian-13": Recipe(
        base="debian-13",
        release="trixie",
        components="main",
        packages=(*_COMMON, "debian-archive-keyring", "linux-sysctl-defaults"),
        # grub-cloud installs GRUB anew for both BIOS and UEFI when GRUB is upgraded on the host.
        boot={
            "amd64": (*_GRUB_PC, "grub-cloud-amd64", "linux-image-cloud-amd64"),
            "arm64": (*_GRUB_ARM, "linux-image-cloud-arm64"),
        },
        efi="debian",
    ),
    "ubuntu-24.04": Recipe(
        base="ubuntu-24.04",
        release="noble",
        components="main universe",
        packages=(*_COMMON, "ubuntu-keyring"),
        boot={"amd64": (*_GRUB_PC, "linux-image-virtual"), "arm64": (*_GRUB_ARM, "linux-image-virtual")},
        efi="ubuntu",
    ),
}
