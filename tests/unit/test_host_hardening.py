"""The table of hardening settings and the files of the tree say the same, both ways and on every base."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from builder import host
from builder.host import hardening
from builder.host.packages import PACKAGES
from builder.problems import UserError
from tests.unit.test_host import spec_of

# Rows that not every base has.
ONLY = {"debian-13": set[str](), "ubuntu-24.04": {"ssh-penalties", "mount-proc", "clock-fallback"}}
# In a unit, what it runs is the setting; how it is confined is what all units of ours have in common.
UNITS = re.compile(r"^(ExecStart|Alias)=")


def lines(path: str, content: bytes) -> list[str]:
    """The lines of a file that set something."""
    found = [line.strip() for line in content.decode().splitlines()]
    found = [line for line in found if (line and not line.startswith(("#", "//", "["))) or line.startswith("[ ")]
    return [line for line in found if UNITS.match(line)] if path.endswith((".service", ".timer")) else found


@pytest.mark.parametrize("base", sorted(PACKAGES))
def test_every_row_is_a_line_and_every_line_has_a_row(base: str) -> None:
    files = {file.path: file.content for file in host.build(spec_of(base=base)).files}
    rows = hardening.settings()
    absent = set()
    for path in {row.file for row in rows}:
        there = lines(path, files.get(path, b""))
        of_file = [row for row in rows if row.file == path]
        absent |= {row.id for row in of_file if not any(row.stands_for(line) for line in there)}
        unexplained = [line for line in there if not any(row.stands_for(line) for row in of_file)]
        assert not unexplained, path
    assert absent == ONLY[base]


def test_every_hardening_file_of_the_tree_is_in_the_table() -> None:
    """The folders where only hardening lands; what else stands there is named."""
    folders = re.compile(
        r"/etc/(ssh|sysctl\.d|modprobe\.d|apt|security|audit|aide|sudoers\.d|profile\.d|issue)|/systemd/(journald|coredump|"
        r"system)\.conf\.d/|\.timer\.d/|/er-\.service\.d/"
    )
    paths = {file.path for file in host.build(spec_of()).files}
    assert {path for path in paths if folders.search(path)} <= {row.file for row in hardening.settings()}


def test_ids_are_unique_and_every_row_says_why() -> None:
    rows = hardening.settings()
    assert [id_ for id_, times in Counter(row.id for row in rows).items() if times > 1] == []
    for row in rows:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.id)
        assert row.why.endswith((".", ".)", "…")), row.id
        assert all(re.fullmatch(r"(CIS [\d.]+|SSG [\w-]+|LYNIS [A-Z]+-\d{4})", answer) for answer in row.answers), (
            row.id
        )


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ("ssh-root", ["ssh-root"]),
        ("CIS 5.1.21", ["ssh-root"]),
        ("sshd_disable_root_login", ["ssh-root"]),
        ("/etc/systemd/system.conf.d/10-easyrunner.conf", ["core-services"]),
        ("limits.d/10-coredump-debian.conf", ["core-users", "core-root"]),
    ],
)
def test_a_setting_is_found_by_id_file_and_audit(wanted: str, ids: list[str]) -> None:
    assert [row.id for row in hardening.find(wanted)] == ids


def test_what_is_not_there_is_an_error_with_the_way_out() -> None:
    with pytest.raises(UserError, match="no setting, file or audit's id is called nonsense"):
        hardening.find("nonsense")
