"""The checks of an image's hygiene on a tiny tree: clean it has no finding, with dirt exactly the one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import host as hosts
from builder import imagecheck
from builder import spec as specs
from builder.host import rootfs
from builder.host.model import Part
from builder.imagecheck import packages, services
from builder.imagecheck.image_tree import Tree, memory_mounts
from tests.planted_faults import PLANTS, Plant, Soil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.host.model import File

ROOT = Path(__file__).parents[2]
LIVE = {check.id for check in imagecheck.CHECKS if check.when == "live"}
UNITS = {
    "sysinit.target.wants": "er-firewall",
    "multi-user.target.wants": "er-first-boot fail2ban ssh",
}


@pytest.fixture(scope="module")
def baked() -> tuple[File, ...]:
    spec, _ = specs.load(ROOT / "examples/web.yaml")
    return hosts.build(spec).only(Part.BAKED)


@pytest.fixture
def soil(tmp_path: Path, baked: tuple[File, ...]) -> Iterator[Soil]:
    root = tmp_path / "image"
    root.mkdir()
    _lay(Soil(root), baked)
    soil = Soil(root)
    yield soil
    soil.restore()


def _lay(soil: Soil, baked: tuple[File, ...]) -> None:
    """The smallest tree that is clean: owned by whoever runs the test."""
    uid, gid = os.getuid(), os.getgid()
    soil.write(
        "/etc/passwd",
        f"root:x:{uid}:{gid}:root:/root:/bin/bash\ngames:x:5:60:games:/usr/games:/usr/sbin/nologin\n",
    )
    soil.write("/etc/group", f"root:x:{gid}:\ngames:x:60:\n")
    soil.write("/etc/shadow", "root:*:20780:0:99999:7:::\ngames:*:20780:0:99999:7:::\n", 0o640)
    soil.write("/etc/os-release", 'ID=debian\nVERSION_ID="13"\n')
    soil.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
    soil.write("/etc/machine-id", "")
    soil.write("/usr/bin/cloud-init", "#!/bin/sh\n", 0o755)
    for folder in ("/root", "/usr/games", "/home", "/var/tmp", "/tmp"):
        soil.folder(folder)
    soil.at("/tmp").chmod(0o1777)
    rootfs.write_files(soil.root, baked)
    names = soil.at("/usr/lib/easyrunner/packages").read_text().split()
    row = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n"
    soil.write("/var/lib/dpkg/status", "\n".join(row.format(name) for name in [*names, "less"]))
    soil.write(
        "/var/lib/dpkg/info/sysvinit.list",
        "/lib/systemd/system/ssh.service\n/usr/lib/systemd/system/fail2ban.service\n",
    )
    for folder, units in UNITS.items():
        for unit in units.split():
            there = f"/usr/lib/systemd/system/{unit}.service"
            if not soil.at(there).exists():
                soil.write(there, "[Service]\n")
            soil.link(f"/etc/systemd/system/{folder}/{unit}.service", there)


def _found(soil: Soil, baked: tuple[File, ...]) -> tuple[imagecheck.Finding, ...]:
    return imagecheck.check(soil.root, expected=imagecheck.expected(baked))


def test_a_clean_tree_has_no_finding(soil: Soil, baked: tuple[File, ...]) -> None:
    report = imagecheck.examine(soil.root, expected=imagecheck.expected(baked))
    assert report.findings == ()
    assert {check for check, _ in report.skipped} == LIVE
    assert {*report.ran} == {*imagecheck.IDS} - LIVE


def _id(plant: Plant) -> str:
    return f"{plant.check}-{plant.word}"


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if not plant.needs_root], ids=_id)
def test_planted_dirt_is_found_by_its_check_alone(plant: Plant, soil: Soil, baked: tuple[File, ...]) -> None:
    plant.make(soil)
    found = _found(soil, baked)
    assert {finding.check for finding in found} == {plant.check}
    assert plant.path in {finding.path for finding in found}
    soil.restore()
    assert _found(soil, baked) == ()


def test_every_check_that_looks_at_files_has_dirt() -> None:
    assert {plant.check for plant in PLANTS} == {*imagecheck.IDS} - LIVE
    assert len({_id(plant) for plant in PLANTS}) == len(PLANTS)


def test_ids_are_unique_and_every_row_says_all() -> None:
    assert len({*imagecheck.IDS}) == len(imagecheck.CHECKS)
    for check in imagecheck.CHECKS:
        assert all((check.title, check.why, check.source, check.remedy))


@pytest.mark.parametrize(
    ("path", "target", "there"),
    [
        ("/etc/passwd", None, "etc/passwd"),
        ("/var/run/x", "/run", "run/x"),
        ("/var/run/x", "../run", "run/x"),
        ("/var/run/x", "../../../../../run", "run/x"),
        ("/var/run/../x", "/run", "x"),
    ],
)
def test_no_link_leads_out_of_the_image(tmp_path: Path, path: str, target: str | None, there: str) -> None:
    soil = Soil(tmp_path)
    soil.folder("/run")
    if target:
        soil.link("/var/run", target)
    assert Tree(tmp_path).where(path) == tmp_path / there


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    soil = Soil(tmp_path)
    soil.link("/etc/a", "b")
    soil.link("/etc/b", "a")
    assert Tree(tmp_path).text("/etc/a") == ""


def test_an_image_cannot_show_files_of_this_machine(soil: Soil, baked: tuple[File, ...], tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret of this machine\n")
    soil.link("/etc/hostname", str(tmp_path / "outside"))
    assert _found(soil, baked) == ()


def test_a_question_without_an_answer_is_no_password(soil: Soil, baked: tuple[File, ...]) -> None:
    soil.write("/var/cache/debconf/passwords.dat", "Name: grub-efi/password\nTemplate: grub-efi/password\n", 0o600)
    assert _found(soil, baked) == ()


def test_a_rule_of_the_hosts_own_is_known_by_name_or_by_what_is_expected(soil: Soil, baked: tuple[File, ...]) -> None:
    soil.write("/etc/sudoers.d/99-easyrunner", "er ALL=(ALL) NOPASSWD:ALL\n", 0o440)
    assert imagecheck.check(soil.root) == ()
    assert {finding.check for finding in _found(soil, baked)} == {"sudoers"}


def test_a_pipe_in_an_image_stops_nothing(soil: Soil, baked: tuple[File, ...]) -> None:
    soil.remove("/etc/hosts")
    os.mkfifo(soil.at("/etc/hosts"))
    assert _found(soil, baked) == ()
    soil.at("/etc/hosts").unlink()


def test_what_is_no_host_is_said_and_not_passed(tmp_path: Path) -> None:
    report = imagecheck.examine(tmp_path)
    assert {"host-files", "host-units", "host-packages"} <= {check for check, _ in report.skipped}
    # In a bake it is a finding: the host was to be made there.
    assert not imagecheck.examine(tmp_path, live=True, only=["host-files"]).clean


def test_only_what_is_asked_for_runs(soil: Soil) -> None:
    assert imagecheck.examine(soil.root, only=["logs", "setuid"]).ran == ("logs", "setuid")


def test_container_storage_is_another_system(soil: Soil, baked: tuple[File, ...]) -> None:
    inside = "/var/lib/easyrunner/home/proxy/.local/share/containers/storage/overlay/x/diff/usr/bin/su"
    soil.write(inside, b"\x7fELF", 0o4777)
    assert _found(soil, baked) == ()


def test_the_report_reads_what_it_wrote(soil: Soil, baked: tuple[File, ...]) -> None:
    soil.write("/etc/hostname", "build\n")
    report = imagecheck.examine(soil.root, expected=imagecheck.expected(baked))
    assert imagecheck.from_json(report.as_json()) == report
    assert json.loads(report.as_json())["findings"] == [
        {"check": "hostname", "path": "/etc/hostname", "what": "is 'build'", "remedy": "run the step 70-clean last"}
    ]
    for broken in ("[]", "{}", '{"ran": 1}'):
        with pytest.raises(ValueError, match=r"report|JSON"):
            imagecheck.from_json(broken)


def test_the_text_shows_findings_remedies_and_what_could_not_be_checked() -> None:
    many = tuple(imagecheck.Finding("logs", f"/var/log/{n}", "holds 1 bytes", "clean") for n in range(14))
    report = imagecheck.Report(("logs",), (("listening-ports", "only the running system knows"),), many)
    lines = report.as_text().splitlines()
    assert lines[0] == "logs  /var/log/0: holds 1 bytes"
    assert lines[-4:] == [
        "logs  … and 2 more",
        "logs  remedy: clean",
        "not checked: listening-ports (only the running system knows)",
        "14 findings; 1 checks ran, 1 could not",
    ]
    assert len(report.as_text(everything=True).splitlines()) == 17


@given(st.text())
def test_names_in_an_image_cannot_steer_a_terminal(name: str) -> None:
    report = imagecheck.Report((), (), (imagecheck.Finding("logs", f"/{name}", name, "-"),))
    first = report.as_text().split("\nlogs  remedy")[0]
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in "\u202e\u2028" for letter in first)


def test_the_bundle_is_the_same_on_any_day_and_holds_the_files_to_expect(
    tmp_path: Path, baked: tuple[File, ...]
) -> None:
    one, two = (imagecheck.bundle(tmp_path / name, baked) for name in ("one.pyz", "two.pyz"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        rows = json.loads(archive.read("builder/imagecheck/expected.json"))
        names = archive.namelist()
    assert tuple(imagecheck.Expected(**row) for row in rows) == imagecheck.expected(baked)
    assert {name.partition("/")[0] for name in names} == {"__main__.py", "builder"}


def test_the_package_imports_the_standard_library_alone() -> None:
    allowed = {*sys.stdlib_module_names, "builder"}
    for path in (ROOT / "builder/imagecheck").glob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if line.startswith(("import ", "from ")):
                assert words[1].partition(".")[0] in allowed, f"{path.name}: {line}"
                assert not words[1].startswith("builder.") or words[1].startswith("builder.imagecheck"), line


def test_memory_is_not_on_the_disk() -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:21 / /tmp rw,nosuid shared:1 - tmpfs tmpfs rw\n"
        "24 22 8:15 / /boot/efi rw - vfat /dev/sda15 rw\n"
        "25 22 0:5 / /dev rw - devtmpfs udev rw\n"
    )
    assert memory_mounts(mounts) == {"/tmp", "/dev"}


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1
   1: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1
   2: 0000000A:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1
   3: 0F02000A:0016 0202000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 103 1
"""
TCP6 = """  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 200
   1: 00000000000000000000000000000000:14EB 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 201
   2: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 202
"""
UDP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0044 00000000:0000 07 0:0 0:0 0 0 0 300
   1: 3500007F:0035 00000000:0000 07 0:0 0:0 0 0 0 301
   2: 00000000:9C41 00000000:0000 07 0:0 0:0 0 0 0 302
   3: 00000000:14E9 00000000:0000 07 0:0 0:0 0 0 0 303
"""


@pytest.mark.parametrize(
    ("kind", "table", "found"),
    [
        ("tcp", TCP, [("tcp", 22, "100"), ("tcp", 8080, "102")]),
        ("tcp6", TCP6, [("tcp", 5355, "201")]),
        ("udp", UDP, [("udp", 68, "300"), ("udp", 5353, "303")]),
        ("tcp", "", []),
    ],
)
def test_sockets_that_others_reach(kind: str, table: str, found: list[tuple[str, int, str]]) -> None:
    assert list(services.sockets(kind, table)) == found


def test_listening_ports_name_who_listens(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TCP)
    (tmp_path / "77/fd").mkdir(parents=True)
    (tmp_path / "77/comm").write_text("webd\n")
    (tmp_path / "77/fd/3").symlink_to("socket:[102]")
    (hit,) = services.listening(Tree(tmp_path), tmp_path)
    assert hit.what == "tcp port 8080 is open to others, by webd"


def test_pending_security_updates() -> None:
    simulation = (
        "NOTE: This is only a simulation!\n"
        "Inst libssl3t64 [3.5.0-1] (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])\n"
        "Inst less [668-1] (669-1 Debian:13.1/stable [amd64])\n"
        "Inst openssl [3.0.13-0ubuntu3] (3.0.13-0ubuntu3.6 Ubuntu:24.04/noble-updates,"
        " Ubuntu:24.04/noble-security [amd64])\n"
        "Conf libssl3t64 (3.5.1-1+deb13u1 Debian-Security:13/stable-security [amd64])\n"
    )
    assert packages.pending(simulation) == (("libssl3t64", "3.5.1-1+deb13u1"), ("openssl", "3.0.13-0ubuntu3.6"))


def test_apt_that_fails_is_not_taken_for_no_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Soil(tmp_path).write("/var/lib/apt/lists/x_InRelease", "x")
    done = subprocess.CompletedProcess([], 100, "", "E: broken\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    report = imagecheck.examine(tmp_path, live=True, only=["security-updates"])
    assert report.ran == ()
    assert "broken" in report.skipped[0][1]
