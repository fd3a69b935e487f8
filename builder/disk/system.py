"""The files that make a Debian tree a disk of any machine's, and what must not be in it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from builder.disk import grub

if TYPE_CHECKING:
    from pathlib import Path

    from builder.disk.layout import Layout
    from builder.disk.recipe import Recipe

_DEBIAN_SOURCES: Final = """\
Types: deb
URIs: https://deb.debian.org/debian
Suites: {release} {release}-updates
Components: {components}
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://deb.debian.org/debian-security
Suites: {release}-security
Components: {components}
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_UBUNTU_SOURCES: Final = """\
Types: deb
URIs: {archive}
Suites: {release} {release}-updates {release}-security
Components: {components}
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""
_UBUNTU_ARCHIVES: Final = {"amd64": "http://archive.ubuntu.com/ubuntu", "arm64": "http://ports.ubuntu.com/ubuntu-ports"}
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


def files(layout: Layout, recipe: Recipe) -> dict[str, str]:
    """Path below the root -> text; all root:root 0644."""
    sources = f"etc/apt/sources.list.d/{recipe.efi}.sources"
    return {
        "etc/fstab": _fstab(layout),
        "etc/hostname": "localhost\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
        "etc/default/grub.d/10_console.cfg": grub.defaults(layout.arch),
        "etc/default/locale": "LANG=C.UTF-8\n",
        # Asks grub-cloud's package to keep the boot loaders of the disk up to date.
        "etc/grub.d/enable_cloud": "",
        sources: _sources(layout, recipe),
    }


def _fstab(layout: Layout) -> str:
    return (
        f"UUID={layout.root_uuid} / ext4 rw,discard,errors=remount-ro 0 1\n"
        f"PARTUUID={layout.esp.id} /boot/efi vfat defaults,umask=077 0 2\n"
    )


def _sources(layout: Layout, recipe: Recipe) -> str:
    """The distribution's own archive, wherever the packages came from."""
    text = _DEBIAN_SOURCES if recipe.base == "debian-13" else _UBUNTU_SOURCES
    archive = _UBUNTU_ARCHIVES[layout.arch]
    return text.format(release=recipe.release, components=recipe.components, archive=archive)


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
