"""The manifest and the SBOM of an image, and what differs between two builds."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from packageurl import PackageURL

from builder import manifest
from builder.imagecheck import Finding, Report
from builder.manifest import er_manifest, sbom
from builder.problems import UserError

if TYPE_CHECKING:
    from pathlib import Path

STATUS = """Package: adduser
Status: install ok installed
Architecture: all
Version: 3.152
Conffiles:
 /etc/adduser.conf ef23042097ebb0d1075254f888c3c394
Description: add and remove users
 .
 Version: not a field

Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.41-12

Package: passwd
Status: install ok installed
Architecture: amd64
Source: shadow (1:4.17.4-2)
Version: 1:4.17.4-2+b1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: broken
Status: install reinstreq half-installed
Architecture: amd64
Version: 1.0
"""
PACKAGES = (
    manifest.Package("adduser", "3.152", "all", "adduser", "3.152"),
    manifest.Package("libc6", "2.41-12", "amd64", "glibc", "2.41-12"),
    manifest.Package("passwd", "1:4.17.4-2+b1", "amd64", "shadow", "1:4.17.4-2"),
)
DIGEST = "sha256:" + "ab" * 32
BUILD = manifest.Build(
    target="qemu",
    base="debian-13",
    arch="amd64",
    format="qcow2",
    made=datetime(2026, 11, 23, 2, 10, tzinfo=UTC),
    inputs=(manifest.of_bytes("spec", b"server:\n"), manifest.of_bytes("rootfs.tar", b"tar")),
    packages=PACKAGES,
    containers=(manifest.Container("docker.io/library/caddy:2.11.7", DIGEST, "er-proxy"),),
    checks=Report(("machine-id", "logs"), (("updates", "no lists"),)),
    steps=(manifest.Step("packages", 68.04), manifest.Step("clean", 2.0)),
    versions={"er": "0.1.0", "packer": "1.6.6"},
)
IMAGE = manifest.Input("host.qcow2", 6, "cd" * 32)


def test_packages_are_those_that_are_installed() -> None:
    assert manifest.installed(STATUS) == PACKAGES


def test_inputs_are_hashed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest.of_file("a", tmp_path / "a") == manifest.of_bytes("a", b"abc") == manifest.Input("a", 3, sha256)


def test_the_time_is_source_date_epoch_or_the_clock() -> None:
    assert manifest.now({"SOURCE_DATE_EPOCH": "86400"}) == datetime(1970, 1, 2, tzinfo=UTC)
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= manifest.now({}) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("package", "url"),
    [
        (PACKAGES[0], "pkg:deb/debian/adduser@3.152?arch=all&distro=debian-13"),
        (PACKAGES[1], "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13&upstream=glibc%402.41-12"),
    ],
)
def test_purl(package: manifest.Package, url: str) -> None:
    assert sbom.purl(package, "debian-13").to_string() == url


def test_the_sbom_is_valid_cyclonedx_and_names_everything() -> None:
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415  two seconds, which each worker would spend
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    text = sbom.render(IMAGE, BUILD).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    value = json.loads(text)
    assert {item["name"] for item in value["components"]} == {
        "adduser",
        "libc6",
        "passwd",
        "docker.io/library/caddy:2.11.7",
    }
    assert value["metadata"]["timestamp"] == "2026-11-23T02:10:00+00:00"
    assert value["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "cd" * 32}]
    (container,) = (item for item in value["components"] if item["type"] == "container")
    assert PackageURL.from_string(container["purl"]) == PackageURL(
        "oci", None, "caddy", DIGEST, {"repository_url": "docker.io/library/caddy", "tag": "2.11.7"}
    )


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (f"reg.example.org:5000/team/app@{DIGEST}", "reg.example.org:5000/team/app"),
        (f"reg.example.org/app:v1@{DIGEST}", "reg.example.org/app"),
        ("localhost/er/blog-web:0123", "localhost/er/blog-web"),
    ],
)
def test_a_container_image_is_known_by_its_repository(name: str, url: str) -> None:
    build = dataclasses.replace(BUILD, packages=(), containers=(manifest.Container(name, DIGEST, "er-blog"),))
    (found,) = json.loads(sbom.render(IMAGE, build))["components"]
    assert PackageURL.from_string(found["purl"]).qualifiers["repository_url"] == url


def test_the_same_build_gives_the_same_bytes() -> None:
    twin = dataclasses.replace(BUILD, inputs=BUILD.inputs[::-1])
    assert sbom.render(IMAGE, BUILD) == sbom.render(IMAGE, twin)
    assert er_manifest.render(IMAGE, BUILD) == er_manifest.render(IMAGE, twin)


def test_write_puts_both_beside_the_image(tmp_path: Path) -> None:
    image = tmp_path / "host.qcow2"
    image.write_bytes(b"qcow2!")
    written = manifest.write(image, BUILD)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "host.qcow2",
        "host.qcow2.manifest.json",
        "host.qcow2.sbom.json",
    ]
    value = manifest.read(written)
    assert value["image"] == {
        "file": "host.qcow2",
        "format": "qcow2",
        "size": 6,
        "sha256": manifest.of_bytes("", b"qcow2!").sha256,
    }
    assert value["checks"]["skipped"] == [{"check": "updates", "why": "no lists"}]
    assert value["steps"][0] == {"name": "packages", "seconds": 68.0}
    assert len(value["packages"]) == 3


def test_an_image_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        manifest.write(tmp_path / "none.qcow2", BUILD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"manifest": 99}', "\0"])
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match="not a manifest"):
        manifest.read(tmp_path / "m.json")


def _changed(**changes: Any) -> dict[str, Any]:
    return er_manifest.value(IMAGE, dataclasses.replace(BUILD, **changes))


def test_equal_manifests_do_not_differ() -> None:
    assert manifest.difference(_changed(), _changed()) == ()


def test_what_must_differ_is_told_apart() -> None:
    other = dataclasses.replace(
        BUILD,
        made=datetime(2026, 11, 23, 3, tzinfo=UTC),
        steps=(manifest.Step("packages", 70.0), manifest.Step("clean", 2.0)),
    )
    found = manifest.difference(_changed(), er_manifest.value(manifest.Input("host.qcow2", 7, "ef" * 32), other))
    assert [difference.what.partition(":")[0] for difference in found] == ["made", "image", "size", "step packages"]
    assert all(difference.expected for difference in found)


def _newer(packages: tuple[manifest.Package, ...]) -> tuple[manifest.Package, ...]:
    return (dataclasses.replace(packages[0], version="3.153"), *packages[1:])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"packages": _newer(PACKAGES)}, "package adduser:all: 3.152, then 3.153"),
        ({"packages": PACKAGES[1:]}, "package adduser:all: only in the first, 3.152"),
        ({"inputs": BUILD.inputs[:1]}, "input rootfs.tar: only in the first, SHA-256 "),
        ({"inputs": (BUILD.inputs[0], manifest.of_bytes("rootfs.tar", b"rat"))}, "input rootfs.tar: SHA-256 "),
        (
            {"containers": ()},
            f"container image docker.io/library/caddy:2.11.7 of er-proxy: only in the first, {DIGEST}",
        ),
        ({"versions": {"er": "0.2.0", "packer": "1.6.6"}}, "version of er: 0.1.0, then 0.2.0"),
        ({"checks": Report(("machine-id", "logs", "updates"))}, "check updates: not run, then clean"),
        (
            {
                "checks": Report(
                    ("machine-id", "logs"), (("updates", ""),), (Finding("logs", "/var/log/x", "is not empty", "-"),)
                )
            },
            "check logs: clean, then /var/log/x (is not empty)",
        ),
        ({"checks": None}, "check logs: only in the first, clean"),
        ({"steps": BUILD.steps[:1]}, "steps: packages, clean; then packages"),
        ({"base": "ubuntu-24.04"}, "base: debian-13, then ubuntu-24.04"),
        ({"format": "raw"}, "format: qcow2, then raw"),
    ],
)
def test_what_should_not_differ_is_told_first(changes: dict[str, Any], what: str) -> None:
    moved = {"made": datetime(2027, 1, 1, tzinfo=UTC)}
    found = manifest.difference(_changed(), _changed(**changes, **moved))
    assert found[0].what.startswith(what)
    assert not found[0].expected
    assert found[-1].expected
