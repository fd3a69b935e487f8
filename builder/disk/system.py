"""The files that make a Debian tree a disk of any machine's, and what must not be in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from builder.disk import bootloader

if TYPE_CHECKING:
    from pathlib import Path

    from builder.disk.layout import Layout
    from builder.disk.recipe import Recipe
    from builder.spec.model import Arch

_SOURCES: Final = """\
Types: deb
URIs: {primary}
Suites: {release} {release}-updates
Components: {components}
Signed-By: {keyring}

Types: deb
URIs: {security}
Suites: {release}-security
Components: {components}
Signed-By: {keyring}
"""
_KEYRINGS: Final = {
    "debian-13": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "ubuntu-24.04": "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
}
# Every machine makes these for itself, or they tell of the making.
_DIRT: Final = (
    "etc/apt/sources.list",
    "etc/ssh/ssh_host_*",
    "etc/.pwd.lock",
    "etc/*-",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/systemd/random-seed",
    "var/log/**/*",
    "run/*",
    "tmp/*",
    "var/tmp/*",
)
_EMPTY: Final = ("etc/machine-id",)


@dataclass(frozen=True, slots=True)
class Archives:
    """Where a disk's packages come from: the URIs of the distribution's archive, and of its security fixes."""

    primary: str
    security: str


def archives(tree: Path, arch: Arch) -> Archives:
    """The distribution's own, as its package of cloud-init knows them; not the mirror that the disk was made from."""
    known = yaml.safe_load((tree / "etc/cloud/cloud.cfg").read_text())["system_info"]["package_mirrors"]
    row = next((row for row in known if arch in row["arches"]), None) or next(
        row for row in known if "default" in row["arches"]
    )
    return Archives(row["failsafe"]["primary"], row["failsafe"]["security"])


def files(layout: Layout, recipe: Recipe, origin: Archives) -> dict[str, str]:
    """Path below the root -> text; all root:root 0644."""
    sources = f"etc/apt/sources.list.d/{recipe.efi}.sources"
    return {
        "etc/fstab": _fstab(layout),
        "etc/hostname": "localhost\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
        "etc/default/grub.d/10_console.cfg": bootloader.defaults(layout.arch),
        "etc/default/locale": "LANG=C.UTF-8\n",
        # Asks grub-cloud's package to keep the boot loaders of the disk up to date.
        "etc/grub.d/enable_cloud": "",
        sources: _sources(recipe, origin),
    }


def _fstab(layout: Layout) -> str:
    return (
        f"UUID={layout.root_uuid} / ext4 rw,discard,errors=remount-ro 0 1\n"
        # Only upgrades of the boot loader write there: a disk that is slow to come must not end a boot.
        f"PARTUUID={layout.esp.id} /boot/efi vfat defaults,umask=077,nofail 0 2\n"
    )


def _sources(recipe: Recipe, origin: Archives) -> str:
    return _SOURCES.format(
        primary=origin.primary,
        security=origin.security,
        release=recipe.release,
        components=recipe.components,
        keyring=_KEYRINGS[recipe.base],
    )


def write(tree: Path, content: dict[str, str]) -> None:
    """Lay files into the tree."""
    for path, text in content.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o644)


def clean(tree: Path) -> None:
    """Leave nothing in the tree that two machines must not share; directories below /var/log stay."""
    for pattern in _DIRT:
        for path in sorted(tree.glob(pattern)):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif "**" not in pattern:
                shutil.rmtree(path)
    for name in _EMPTY:
        (tree / name).write_bytes(b"")
