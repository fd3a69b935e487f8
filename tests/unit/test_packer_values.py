"""How programs are called around a bake, and what is laid for them: values."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.packer import convert, find, secrets, sources_list
from builder.packer.convert import FORMATS


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("Packer v1.6.6\n", (1, 6, 6)),
        ("Packer v1.14.2\n\nYour version of Packer is out of date!", (1, 14, 2)),
        ("Packer v1.16.0-dev (abc)\n", (1, 16, 0)),
        ("0 0\n", None),
        ("", None),
    ],
)
def test_the_version_of_packer_and_of_no_other_program(output: str, version: find.Version | None) -> None:
    assert find.parse(output) == version


def test_programs_named_packer_in_the_order_of_the_path(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "packer").write_text("")
    for name in ("a", "c"):
        (tmp_path / name / "packer").chmod(0o755)
    path = f"{tmp_path}/a:{tmp_path}/none:{tmp_path}/b:{tmp_path}/c"
    assert list(find.candidates(path)) == [tmp_path / "a/packer", tmp_path / "c/packer"]


def test_a_bake_takes_its_packages_from_the_mirror_of_this_machine() -> None:
    uris = ("http://mirror.test/debian", "http://mirror.test/security")
    assert sources_list.lines("debian-13", *uris) == (
        "deb http://mirror.test/debian trixie main\n"
        "deb http://mirror.test/debian trixie-updates main\n"
        "deb http://mirror.test/security trixie-security main\n"
    )
    assert sources_list.lines("debian-13", None, None) == ""
    assert sources_list.lines("ubuntu-24.04", *uris) == ""


def test_a_disk_for_azure_has_whole_mebibytes() -> None:
    assert convert.commands(Path("a.qcow2"), Path("b"), FORMATS["vhd"], 3 * 2**20 + 512) == [
        ["qemu-img", "resize", "-f", "qcow2", "a.qcow2", str(4 * 2**20)],
        ["qemu-img", "convert", "-f", "qcow2", "-O", "vpc", "-o", "subformat=fixed,force_size=on", "a.qcow2", "b"],
    ]


def test_a_compressed_disk_is_made_aside() -> None:
    assert convert.commands(Path("a.qcow2"), Path("b"), FORMATS["raw.gz"], 2**20) == [
        ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "b"],
        ["gzip", "--no-name", "--force", "b"],
    ]


def test_secrets_are_hidden_by_the_names_that_give_them_away() -> None:
    environment = {"HCLOUD_TOKEN": "tok-12345678", "PATH": "/usr/bin", "SSH_KEY_PASSWORD": "x", "MY_SECRET": "/etc/key"}
    variables = '{"api_key": "abcdefgh\\"i", "region": "eu-west-1"}\nclient_secret = "s3cr3t-s3cr3t"\n'
    hidden = secrets.from_environment(environment) | secrets.from_variables(variables)
    assert hidden == {"tok-12345678", 'abcdefgh\\"i', "s3cr3t-s3cr3t"}
    assert secrets.hide("curl -H tok-12345678 s3cr3t-s3cr3t.", hidden) == "curl -H *** ***."


def test_a_secret_inside_another_leaves_no_rest() -> None:
    assert secrets.hide("abcdefghij", frozenset({"abcdefgh", "abcdefghij"})) == "***"
