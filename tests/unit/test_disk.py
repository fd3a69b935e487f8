"""Disks as values: partition tables, GRUB's sectors, what is made of what."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import struct
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.disk import base, bootloader, cloud_image, image_file, partitions, recipe
from builder.disk import base as bases
from builder.disk.partitions import Layout
from builder.localhost import cache
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.spec.model import Arch

_GIB = 1024**3
_LAYOUT = Layout("amd64", 4 * _GIB, "a-disk")
_DEBIAN = recipe.RECIPES["debian-13"]


def _disk(pieces: dict[int, bytes], size: int) -> bytes:
    """The first MiB of a disk with these bytes on it."""
    start = bytearray(min(size, 1024 * 1024))
    for offset, content in pieces.items():
        if offset < len(start):
            start[offset : offset + len(content)] = content
    return bytes(start)


def test_a_table_is_read_as_it_was_written() -> None:
    assert partitions.read(_disk(_LAYOUT.table(), _LAYOUT.size)) == (_LAYOUT.root, _LAYOUT.bios, _LAYOUT.esp)


def test_both_headers_carry_their_checksums_and_point_at_each_other() -> None:
    (_, start), (end_at, end) = sorted(_LAYOUT.table().items())
    last = _LAYOUT.sectors - 1
    for header, here, other in ((start[512:604], 1, last), (end[-512:-420], last, 1)):
        fields = struct.unpack("<8sIIIIQQQQ16sQIII", header)
        assert fields[0] == b"EFI PART"
        assert fields[5:7] == (here, other)
        assert fields[3] == zlib.crc32(header[:16] + bytes(4) + header[20:])
        assert fields[13] == zlib.crc32(start[1024:])
    assert end_at + len(end) == _LAYOUT.size
    assert start[1024:] == end[:-512]


@pytest.mark.parametrize("size", [2 * _GIB, 4 * _GIB, 5 * _GIB + 1024**2])
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_partitions_lie_in_order_and_the_root_is_last_so_that_it_can_grow(arch: Arch, size: int) -> None:
    layout = Layout(arch, size, "a-disk")
    parts = [part for part in (layout.bios, layout.esp, layout.root) if part]
    for before, after in itertools.pairwise(parts):
        assert before.first + before.sectors == after.first
    assert parts[-1].first + parts[-1].sectors - 1 <= partitions.last_usable(layout.sectors)
    assert all(part.first % 2048 == 0 for part in parts)
    assert (layout.bios is None) == (arch == "arm64")


def test_ids_depend_on_the_name_alone() -> None:
    again = Layout("amd64", 4 * _GIB, "a-disk")
    assert again.table() == _LAYOUT.table()
    assert dataclasses.replace(again, name="other").root_uuid != again.root_uuid


def test_an_mbr_is_read_too_and_no_table_is_none() -> None:
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff\xff\xff", 2048, 4096)
    start = (bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa").ljust(34 * 512, b"\0")
    assert partitions.read(start) == (partitions.Partition(1, 2048, 4096),)
    assert partitions.read(bytes(34 * 512)) == ()


def test_the_largest_ext_file_system_is_the_root(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(64 * 1024**2)
        parts = [partitions.Partition(1, 2048, 2048, uuid.uuid4()), partitions.Partition(2, 4096, 8192, uuid.uuid4())]
        parts.append(partitions.Partition(3, 12288, 40960, uuid.uuid4()))
        for offset, content in partitions.write(parts, 64 * 2048, uuid.uuid4()).items():
            file.seek(offset)
            file.write(content)
        for part in parts[:2]:
            file.seek(part.offset + 1080)
            file.write(b"\x53\xef")
    assert image_file.root_of(raw).number == 2


def test_a_disk_without_ext_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1024**2))
    with pytest.raises(UserError, match="no ext4 file system"):
        image_file.root_of(tmp_path / "disk.raw")


def test_grub_is_patched_where_its_sources_say() -> None:
    assert _LAYOUT.bios is not None
    boot, core = bytes(range(256)) * 2, b"\x11" * 1300
    pieces = bootloader.bios(boot, core, _LAYOUT.bios)
    code, sectors = pieces[0], pieces[1024 * 1024]
    assert code[0x5C:0x64] == (2048).to_bytes(8, "little")
    assert code[0x66:0x68] == b"\x90\x90"
    assert code[:0x5C] + code[0x64:0x66] + code[0x68:] == boot[:0x5C] + boot[0x64:0x66] + boot[0x68:440]
    assert sectors[0x1F4:0x200] == struct.pack("<QHH", 2049, 2, 0x820)
    assert sectors[:0x1F4] + sectors[0x200:] == (core[:0x1F4] + core[0x200:]).ljust(3 * 512 - 12, b"\0")


def test_a_core_too_large_for_its_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        bootloader.bios(bytes(512), bytes(4096), partitions.Partition(14, 2048, 4))


def test_the_tables_bytes_and_grubs_do_not_touch() -> None:
    assert _LAYOUT.bios is not None
    boot = bootloader.bios(b"\xff" * 512, b"\xff" * 512, _LAYOUT.bios)[0]
    assert len(boot) == 440


def test_argvs_of_the_programs() -> None:
    raw, tree = Path("/d/disk.raw"), Path("/d/tree")
    assert base.mke2fs_argv(raw, tree, _LAYOUT) == [
        "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-U", str(_LAYOUT.root_uuid),
        "-E", f"offset=134217728,hash_seed={_LAYOUT.id('hash')}", "-d", "/d/tree", "/d/disk.raw", "4062208k",
    ]  # fmt: skip
    form, copy = base.esp_argv(raw, _LAYOUT.esp, "0123abcd", Path("/d/EFI"))
    assert form == [
        "mformat", "-i", "/d/disk.raw@@4194304", "-F", "-N", "0123abcd", "-v", "ESP", "-T", "253952",
        "-h", "16", "-s", "63", "::",
    ]  # fmt: skip
    assert copy == ["mcopy", "-i", "/d/disk.raw@@4194304", "-s", "-Q", "/d/EFI", "::"]
    assert image_file.mount_argv(raw, _LAYOUT.root, tree) == [
        "setpriv", "--pdeathsig", "TERM", "fuse2fs", "-f", "-o", "ro,norecovery,offset=134217728",
        "/d/disk.raw", "/d/tree",
    ]  # fmt: skip
    assert image_file.convert_argv(raw, Path("/d/x"), source_format="raw", to="qcow2", compress=True) == [
        "qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", "/d/disk.raw", "/d/x",
    ]  # fmt: skip


def test_mmdebstrap_is_called_for_each_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "deb http://mirror.test/debian trixie main\ndeb http://mirror.test/security trixie-security main\n"
    )
    lines = _DEBIAN.archives(tmp_path)
    assert lines == (
        "deb http://mirror.test/debian trixie main",
        "deb http://mirror.test/security trixie-security main",
    )
    monkeypatch.setattr(recipe.Recipe, "archives", lambda _: lines)
    monkeypatch.setattr(recipe.Recipe, "keyrings", lambda _: (Path("/k.gpg"),))
    argv = base.bootstrap_argv(Path("/d/tree"), "arm64", _DEBIAN)
    start = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--architectures=arm64", "--keyring=/k.gpg"]
    assert argv[:6] == start
    assert argv[7:] == ["--components=main", "trixie", "/d/tree", *lines]
    packages = argv[6].removeprefix("--include=").split(",")
    assert packages == sorted(set(packages))
    assert {"linux-image-cloud-arm64", "grub-efi-arm64-signed", "cloud-init", "cloud-guest-utils"} <= set(packages)
    assert not any("amd64" in name or name == "grub-pc-bin" for name in packages)


def test_a_machine_without_a_mirror_leaves_it_to_mmdebstrap(tmp_path: Path) -> None:
    assert _DEBIAN.archives(tmp_path) == ()


def test_a_disk_has_a_name_of_what_it_is_made_of() -> None:
    keys = {bases.key(_DEBIAN, "amd64", 4 * _GIB), bases.key(_DEBIAN, "arm64", 4 * _GIB)}
    more = dataclasses.replace(_DEBIAN, packages=(*_DEBIAN.packages, "nano"))
    keys |= {bases.key(_DEBIAN, "amd64", 5 * _GIB), bases.key(more, "amd64", 4 * _GIB)}
    assert len(keys) == 4


def test_files_name_the_distributions_own_archive_and_the_disks_own_ids() -> None:
    origin = base.Archives("https://archive.example.org/debian", "https://archive.example.org/security")
    files = base.system_files(_LAYOUT, _DEBIAN, origin)
    sources = files["etc/apt/sources.list.d/debian.sources"]
    assert [line for line in sources.splitlines() if line.startswith(("URIs", "Suites"))] == [
        "URIs: https://archive.example.org/debian",
        "Suites: trixie trixie-updates",
        "URIs: https://archive.example.org/security",
        "Suites: trixie-security",
    ]
    assert f"UUID={_LAYOUT.root_uuid} / ext4" in files["etc/fstab"]
    assert f"PARTUUID={_LAYOUT.esp.id} /boot/efi vfat defaults,umask=077,nofail " in files["etc/fstab"]
    assert not any("datasource" in text for text in files.values())
    menu = bootloader.menu("6.12-cloud", _LAYOUT.root_uuid, "amd64")
    assert f"root=UUID={_LAYOUT.root_uuid} ro console=tty0 console=ttyS0,115200" in menu


def test_what_two_machines_must_not_share_is_taken_away(tmp_path: Path) -> None:
    gone = (
        "etc/ssh/ssh_host_ed25519_key", "etc/apt/sources.list", "etc/passwd-", "var/lib/systemd/random-seed",
        "var/log/dpkg.log", "var/log/apt/term.log", "var/lib/apt/lists/a", "tmp/x/y",
    )  # fmt: skip
    kept = ("etc/ssh/sshd_config", "etc/passwd")
    for path in (*gone, *kept, "etc/machine-id"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    base.clean(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, "etc/machine-id"}
    assert (tmp_path / "etc/machine-id").read_bytes() == b""
    assert (tmp_path / "var/log/apt").is_dir()


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"KDMV", "VMDK"), (b"\xfd7zXZ\0", "xz"), (b"\x1f\x8b\x08", "gzip"), (b"conectix", "VHD")],
)
def test_a_foreign_format_is_named(tmp_path: Path, start: bytes, said: str) -> None:
    (tmp_path / "disk.img").write_bytes(start.ljust(512, b"\0"))
    with pytest.raises(UserError, match=said):
        image_file.format_of(tmp_path / "disk.img")


def test_formats_are_found_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"QFI\xfb".ljust(512, b"\0"))
    (tmp_path / "b.qcow2").write_bytes(bytes(512))
    assert image_file.format_of(tmp_path / "a.raw") == "qcow2"
    assert image_file.format_of(tmp_path / "b.qcow2") == "raw"
    with pytest.raises(UserError, match="No such file"):
        image_file.format_of(tmp_path / "none")


def test_a_cloud_image_is_taken_by_its_checksum_only(tmp_path: Path) -> None:
    path = tmp_path / "cloud.img"
    path.write_bytes(b"QFI\xfb")
    right = hashlib.sha256(b"QFI\xfb").hexdigest()
    assert cloud_image.from_file(path, f"sha256:{right.upper()}") == path
    with pytest.raises(UserError, match=f"the checksum is sha256:{right}, not sha256:{'0' * 64}"):
        cloud_image.from_file(path, "0" * 64)
    for wrong in ("", "sha512:" + "0" * 128, right[:-1]):
        with pytest.raises(UserError, match="not a SHA-256 checksum"):
            cloud_image.from_file(path, wrong)


@pytest.mark.parametrize("url", ["ftp://a.test/x", "file:///etc/passwd", "disk.img", "https:///x"])
def test_only_http_is_downloaded_from(url: str) -> None:
    with pytest.raises(UserError, match="not a URL to download from"):
        cloud_image.from_url(url, "0" * 64)


def test_a_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "root", lambda: tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError, match=r"https://a.test/x.img: no route to host"):
        cloud_image.from_url("https://a.test/x.img", "0" * 64)
    assert [path.name for path in (tmp_path / "disks").iterdir() if path.is_dir()] == []


def test_ubuntu_without_an_archive_has_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe.Recipe, "archives", lambda *_: ())
    with pytest.raises(UserError, match="no Ubuntu archive") as caught:
        bases.base_disk("ubuntu-24.04", "amd64")
    assert caught.value.hint == "give a cloud image with its SHA-256 checksum instead"


def test_everything_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.localhost.requirements.which", lambda _: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UserError) as caught:
        bases.base_disk("debian-13", "amd64")
    for missing in ("root", "the package e2fsprogs", "the package mmdebstrap", "the package mtools", "qemu-utils"):
        assert missing in caught.value.message
    assert caught.value.hint is not None
    assert "apt-get install" in caught.value.hint
    assert "sudo" in caught.value.hint


@pytest.mark.parametrize("size", [1024**3, 4 * _GIB + 1])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(UserError, match="2 GiB or more"):
        bases.base_disk("debian-13", "amd64", size=size)
