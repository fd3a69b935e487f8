"""The base disk: a generic cloud image of a distribution's packages, made once on this machine and shared read-only.

A tree by mmdebstrap, then a file system, an ESP and boot loaders written into one file. No loop device and no mount:
mke2fs and mtools write at an offset, GRUB's sectors are bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from builder import process
from builder.disk import bootloader, image_file
from builder.disk.partitions import Layout
from builder.disk.recipe import RECIPES, VERSION
from builder.localhost import cache, requirements
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.disk import partitions
    from builder.disk.recipe import Recipe
    from builder.spec.model import Arch, Base


# In bytes.
SIZE: Final = 4 * 1024**3
_SMALLEST: Final = 2 * 1024**3
_MIB: Final = 1024**2
# The files of a finished disk's directory.
DISK: Final = "disk.qcow2"
KERNEL: Final = "vmlinuz"


def base_disk(base: Base, arch: Arch, *, size: int = SIZE) -> Path:
    """The qcow2 of a stock disk, `size` bytes to the machine; made on first use, which takes a minute or two.

    Boots by BIOS and UEFI (arm64: UEFI). Nothing on it is a secret or a machine's own. A point release of the
    distribution has it made anew. Raises UserError.
    """
    return _disk_directory(base, arch, size) / DISK


def kernel(base: Base, arch: Arch) -> Path:
    """The kernel of the base disk, as a boot loader takes it; the disk is made on first use. Raises UserError."""
    return _disk_directory(base, arch, SIZE) / KERNEL


def _disk_directory(base: Base, arch: Arch, size: int) -> Path:
    recipe = RECIPES[base]
    if size < _SMALLEST or size % _MIB:
        raise UserError("a base disk has 2 GiB or more, in whole MiB")
    _check_machine(recipe)
    _check_arch(arch)
    name = f"{base}-{arch}-{key(recipe, arch, size)}"
    layout = Layout(arch, size, name)
    folder = cache.root() / "disks" / name
    return cache.current(folder, recipe.edition(), lambda aside: make_disk(aside, layout, recipe))


def key(recipe: Recipe, arch: Arch, size: int) -> str:
    """A hash of what a disk is made of, for its name."""
    made_of = json.dumps([VERSION, recipe.release, recipe.components, recipe.include(arch), size]).encode()
    return hashlib.sha256(made_of).hexdigest()[:16]


_PROGRAMS: Final = ("mcopy", "mformat", "mke2fs", "mmdebstrap", "qemu-img")


def _check_machine(recipe: Recipe) -> None:
    if recipe.base == "ubuntu-24.04" and not (recipe.keyrings() and recipe.archives()):
        raise UserError(
            "no Ubuntu archive and keyring on this machine, so no base disk of ubuntu-24.04 can be made",
            "give a cloud image with its SHA-256 checksum instead",
        )
    keyring = () if recipe.keyrings() else ("debian-archive-keyring",)
    requirements.check_programs("making a base disk", _PROGRAMS, packages=keyring, root=True)


def _check_arch(arch: Arch) -> None:
    """A tree of another architecture is only made where the kernel runs its programs. Raises UserError."""
    emulator = Path(
        "/proc/sys/fs/binfmt_misc/qemu-aarch64" if arch == "arm64" else "/proc/sys/fs/binfmt_misc/qemu-x86_64"
    )
    if requirements.native_arch() != arch and not emulator.exists():
        raise UserError(
            f"a disk for {arch} cannot be made on this {platform.machine()} machine",
            "apt-get install qemu-user-static binfmt-support, or give a cloud image with its checksum",
        )


def make_disk(target: Path, layout: Layout, recipe: Recipe) -> None:
    """Make the directory `target` with disk.qcow2 in it, and beside it its kernel, as vmlinuz."""
    target.mkdir(parents=True)
    tree = target / "tree"
    process.run(bootstrap_argv(tree, layout.arch, recipe))
    _configure(tree, layout, recipe)
    _write_disk(target, tree, layout, recipe)
    shutil.copyfile(tree / f"boot/vmlinuz-{_kernel(tree)}", target / KERNEL)
    for path in target.iterdir():
        if path.name not in (DISK, KERNEL):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def bootstrap_argv(tree: Path, arch: Arch, recipe: Recipe) -> list[str]:
    """Make the tree from packages, of any architecture."""
    keys = [f"--keyring={path}" for path in recipe.keyrings()]
    start = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--architectures={arch}", *keys]
    include = f"--include={','.join(recipe.include(arch))}"
    return [
        *start,
        include,
        f"--components={recipe.components.replace(' ', ',')}",
        recipe.release,
        str(tree),
        *recipe.archives(),
    ]


def _configure(tree: Path, layout: Layout, recipe: Recipe) -> None:
    """From a tree of packages to the tree of a disk."""
    process.run(["chroot", str(tree), "systemctl", "enable", "--quiet", "systemd-networkd", "systemd-resolved"])
    clean(tree)
    write_files(tree, system_files(layout, recipe, distribution_archives(tree, layout.arch)))
    (tree / "boot/efi").mkdir(exist_ok=True)
    kernel = _kernel(tree)
    write_files(tree, {"boot/grub/grub.cfg": bootloader.menu(kernel, layout.root_uuid, layout.arch)})


# Every machine makes these for itself, or they are traces of making the tree.
_TRACES: Final = (
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


def clean(tree: Path) -> None:
    """Remove from the tree what two machines must not share; directories below /var/log stay."""
    for pattern in _TRACES:
        for path in sorted(tree.glob(pattern)):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif "**" not in pattern:
                shutil.rmtree(path)
    (tree / "etc/machine-id").write_bytes(b"")


def system_files(layout: Layout, recipe: Recipe, archives: Archives) -> dict[str, str]:
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
        sources: _sources(recipe, archives),
    }


def _fstab(layout: Layout) -> str:
    return (
        f"UUID={layout.root_uuid} / ext4 rw,discard,errors=remount-ro 0 1\n"
        # Only upgrades of the boot loader write there: a disk that is slow to come must not end a boot.
        f"PARTUUID={layout.esp.id} /boot/efi vfat defaults,umask=077,nofail 0 2\n"
    )


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


def _sources(recipe: Recipe, archives: Archives) -> str:
    return _SOURCES.format(
        primary=archives.primary,
        security=archives.security,
        release=recipe.release,
        components=recipe.components,
        keyring=_KEYRINGS[recipe.base],
    )


@dataclass(frozen=True, slots=True)
class Archives:
    """Where a disk's packages come from: the URIs of the distribution's archive, and of its security fixes."""

    primary: str
    security: str


def distribution_archives(tree: Path, arch: Arch) -> Archives:
    """The distribution's own, by cloud-init's configuration in the tree; not the mirror that the tree was made from."""
    mirrors = yaml.safe_load((tree / "etc/cloud/cloud.cfg").read_text())["system_info"]["package_mirrors"]
    row = next((row for row in mirrors if arch in row["arches"]), None) or next(
        row for row in mirrors if "default" in row["arches"]
    )
    return Archives(row["failsafe"]["primary"], row["failsafe"]["security"])


def write_files(tree: Path, content: dict[str, str]) -> None:
    """Lay files into the tree."""
    for path, text in content.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o644)


def _kernel(tree: Path) -> str:
    """The version of the newest kernel in the tree, by the time it was unpacked; usually there is one."""
    found = sorted(tree.glob("boot/vmlinuz-*"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError("no kernel was installed into the base disk")
    return found[-1].name.removeprefix("vmlinuz-")


def _write_disk(target: Path, tree: Path, layout: Layout, recipe: Recipe) -> None:
    """Write a finished tree to `target`/disk.qcow2; the intermediate files stay beside it."""
    raw = target / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(layout.size)
    _write_at(raw, layout.table())
    _esp(raw, tree, layout, recipe, target)
    _bios(raw, tree, layout)
    _root(raw, tree, layout, target)
    image_file.convert(raw, target / DISK, to="qcow2")


def _write_at(raw: Path, pieces: dict[int, bytes]) -> None:
    with raw.open("r+b") as file:
        for offset, content in pieces.items():
            file.seek(offset)
            file.write(content)


def _esp(raw: Path, tree: Path, layout: Layout, recipe: Recipe, directory: Path) -> None:
    efi = bootloader.EFI[layout.arch]
    folder = directory / "EFI"
    (folder / "BOOT").mkdir(parents=True)
    (folder / recipe.efi).mkdir()
    shutil.copyfile(tree / efi.shim_file, folder / "BOOT" / efi.boot)
    shutil.copyfile(tree / efi.grub_file, folder / "BOOT" / efi.grub)
    (folder / recipe.efi / "grub.cfg").write_text(bootloader.esp_config(layout.root_uuid))
    for argv in esp_argv(raw, layout.esp, layout.id("vfat").hex[:8], folder):
        process.run(argv)


def esp_argv(raw: Path, esp: partitions.Partition, serial: str, folder: Path) -> list[list[str]]:
    """Format the ESP inside the disk and copy `folder` to its top; `serial` has eight hexadecimal digits."""
    drive = f"{raw}@@{esp.offset}"
    format_argv = [
        "mformat",
        "-i",
        drive,
        "-F",
        "-N",
        serial,
        "-v",
        "ESP",
        "-T",
        str(esp.sectors),
        "-h",
        "16",
        "-s",
        "63",
        "::",
    ]
    return [format_argv, ["mcopy", "-i", drive, "-s", "-Q", str(folder), "::"]]


# GRUB's modules for a BIOS: where its package has them, and where GRUB loads them from.
_MODULES: Final = ("usr/lib/grub/i386-pc", "boot/grub/i386-pc")


def _bios(raw: Path, tree: Path, layout: Layout) -> None:
    if layout.bios is None:
        return
    source, target = (tree / path for path in _MODULES)
    target.mkdir(parents=True, exist_ok=True)
    for path in (*source.glob("*.mod"), *source.glob("*.lst")):
        shutil.copy(path, target)
    process.run(bootloader.mkimage_argv(str(tree)))
    boot = (source / "boot.img").read_bytes()
    _write_at(raw, bootloader.bios(boot, (tree / bootloader.CORE).read_bytes(), layout.bios))


# In full, as the defaults of mke2fs change with its version and every GRUB has to read this.
_MKE2FS: Final = """\
[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
blocksize = 4096
inode_size = 256
inode_ratio = 16384
reserved_ratio = 5.0
[fs_types]
ext4 = {
  features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
"""


def _root(raw: Path, tree: Path, layout: Layout, directory: Path) -> None:
    config = directory / "mke2fs.conf"
    config.write_text(_MKE2FS)
    process.run(mke2fs_argv(raw, tree, layout), env=os.environ | {"MKE2FS_CONFIG": str(config)})


def mke2fs_argv(raw: Path, tree: Path, layout: Layout) -> list[str]:
    """Write the tree as a file system into the disk."""
    options = f"offset={layout.root.offset},hash_seed={layout.id('hash')}"
    name = ["-L", "root", "-U", str(layout.root_uuid)]
    size = f"{layout.root.size // 1024}k"
    return ["mke2fs", "-q", "-F", "-t", "ext4", *name, "-E", options, "-d", str(tree), str(raw), size]
