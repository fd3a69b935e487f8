"""Podman's own generator and systemd's own check accept every golden unit of the Debian base and read it as meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host.packages import PACKAGES
from builder.lab import base_tree
from tests.quadlet_generator import generate, verify
from tests.unit_file import expand, sections, split

pytestmark = pytest.mark.machine

GOLDEN = Path(__file__).parent.parent / "golden" / "compose"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
SUFFIXES = {".container": "", ".volume": "-volume", ".network": "-network"}


@pytest.fixture(scope="session")
def tree() -> Path:
    """A Debian root with the host's packages: Podman's generator is in it."""
    return base_tree.tree(PACKAGES["debian-13"])


def units_of(case: str) -> Path:
    return GOLDEN / case / "expected" / "debian-13"


@pytest.mark.parametrize("case", CASES)
def test_every_unit_is_generated(case: str, tree: Path) -> None:
    units = units_of(case)
    wanted = {f"{path.stem}{SUFFIXES[path.suffix]}.service" for path in units.iterdir()}
    assert generate(tree, units).keys() == wanted


@pytest.mark.parametrize("case", CASES)
def test_systemd_has_nothing_to_say(case: str, tree: Path) -> None:
    verify(tree, units_of(case))


def test_nothing_is_lost_between_a_compose_file_and_a_command_line(tree: Path) -> None:
    service = sections(generate(tree, units_of("escapes"))["app-odd.service"])["Service"]
    [line] = [value for key, value in service if key == "ExecStart"]
    words = split(line)
    assert ";" not in words
    words = [
        expand(word, {"ER_EMPTY": "", "ER_SEMICOLON": ";"})
        for word in words
        if not word.startswith("--pidfile") and "%t" not in word.replace("%%", "")
    ]
    assert words[words.index("docker.io/library/alpine:3.22") + 1 :] == [
        "sh",
        "-c",
        "echo \"$HOME\" '%n' \\\n  && find . -exec true {} \\;\n",
        ";",
        "",
        "100% of ${A} and $B",
        "tab\there",
        "ünï ⏎",
        "'single' \"double\" back\\slash",
        "%t",
        "#no comment",
    ]
    given = {words[at + 1] for at, word in enumerate(words) if word == "--env"}
    assert given >= {
        "DOLLAR=$x ${y} $$z",
        "PERCENT=%h %% %t",
        "LINES=one\ntwo\nExecStartPre=/bin/false",
        "QUOTES=\"all\" 'of' them",
        "BACKSLASH=C:\\temp\\",
        "SPACES=  both ends  ",
        "EMPTY=",
        "SECTION=[Service]",
    }
    assert words[words.index("--health-cmd") + 1] == '["CMD-SHELL", "test \\"$(cat \'/tmp/x\')\\" = \\"100%\\""]'
