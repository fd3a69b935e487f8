"""The formats of an image, by QEMU's own tools."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from builder import process
from builder.disk import image_file
from builder.packer import convert
from builder.packer.convert import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

_SIZE = 5 * 2**20 + 4096


@pytest.fixture(scope="module")
def content() -> bytes:
    """A disk whose size is no whole number of MiB."""
    return random.Random(3).randbytes(2**20) + bytes(_SIZE - 2**20)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_on_the_disk_is_the_same_in_every_format(name: str, content: bytes, tmp_path: Path) -> None:
    row, raw, source, aside = FORMATS[name], tmp_path / "a.raw", tmp_path / "a.qcow2", tmp_path / "image"
    raw.write_bytes(content)
    image_file.convert(raw, source, to="qcow2")
    for argv in convert.commands(source, aside, row, _SIZE):
        process.run(argv)
    made = aside.with_name(f"image{row.suffix}")
    assert sorted(tmp_path.iterdir()) == sorted([raw, source, made])
    if row.compressor:
        process.run([row.compressor[0], "--decompress", str(made)])
    back = tmp_path / "back"
    process.run(["qemu-img", "convert", "-f", row.driver, "-O", "raw", str(aside), str(back)])
    size = _SIZE if name == "qcow2" else convert.aligned(_SIZE)
    assert back.read_bytes() == content.ljust(size, b"\0")


def test_a_vhd_is_as_azure_takes_it(content: bytes, tmp_path: Path) -> None:
    """Fixed, so the disk comes first, as it is, and the footer of 512 bytes last; of whole MiB."""
    raw, source, made = tmp_path / "a.raw", tmp_path / "a.qcow2", tmp_path / "a.vhd"
    raw.write_bytes(content)
    image_file.convert(raw, source, to="qcow2")
    for argv in convert.commands(source, made, FORMATS["vhd"], _SIZE):
        process.run(argv)
    found = made.read_bytes()
    assert len(found) == 6 * 2**20 + 512
    assert found[-512:].startswith(b"conectix")
    footer = found[-512:]
    assert int.from_bytes(footer[48:56], "big") == 6 * 2**20
    assert int.from_bytes(footer[60:64], "big") == 2  # fixed


def test_a_vmdk_is_one_stream(content: bytes, tmp_path: Path) -> None:
    raw, source, made = tmp_path / "a.raw", tmp_path / "a.qcow2", tmp_path / "a.vmdk"
    raw.write_bytes(content)
    image_file.convert(raw, source, to="qcow2")
    for argv in convert.commands(source, made, FORMATS["vmdk"], _SIZE):
        process.run(argv)
    told = json.loads(process.run(["qemu-img", "info", "--output=json", str(made)]).stdout)
    assert told["format-specific"]["data"]["create-type"] == "streamOptimized"
