"""Compose files in, units out: each case is a compose file with all it names, and the tree it becomes.

`expected/<base>/` holds the units, `expected/files/` what comes along. Compared in both directions: a file too many
fails like one too few. `UPDATE=1 pytest tests/unit/test_compose_golden.py` writes them anew; read the diff.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from builder import compose, quadlet
from builder.problems import Report
from builder.quadlet.podman import BASES
from builder.stack.model import Service, Stack
from tests.unit_file import sections

GOLDEN = Path(__file__).parent.parent / "golden" / "compose"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
OWN_SECTIONS = ("Container", "Volume", "Network", "Quadlet")


def stack_of(case: str) -> Stack:
    report = Report()
    parts = compose.load(GOLDEN / case / "compose.yaml", stack="app", report=report, server="web1")
    assert parts is not None, [problem.message for problem in report]
    return Stack("app", 20_100, parts.services, parts.volumes, parts.networks, parts.files)


def made_from(case: str) -> dict[str, str]:
    stack = stack_of(case)
    units = {f"{base}/{name}": text for base in BASES for name, text in quadlet.units(stack, base=base, server="web1")}
    files = {f"files/{file.path} {file.mode}": file.content.decode() for file in stack.files}
    return units | files


def written(case: str) -> dict[str, str]:
    root = GOLDEN / case / "expected"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_tree(case: str) -> None:
    made = made_from(case)
    if os.environ.get("UPDATE"):
        _write(case, made)
    assert made == written(case)


def _write(case: str, made: dict[str, str]) -> None:
    root = GOLDEN / case / "expected"
    shutil.rmtree(root, ignore_errors=True)
    for name, text in made.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("case", CASES)
def test_same_bytes_twice(case: str) -> None:
    assert made_from(case) == made_from(case)


@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize("case", CASES)
def test_no_key_is_newer_than_the_base(case: str, base: str) -> None:
    for name, text in quadlet.units(stack_of(case), base=base):
        for section, entries in sections(text).items():
            if section in OWN_SECTIONS:
                unknown = {key for key, _ in entries} - BASES[base].keys(section)
                assert not unknown, name


def test_a_service_with_resolvers_of_its_own_asks_those() -> None:
    service = Service("web", "docker.io/library/alpine:3.22", dns=("192.0.2.53",))
    for base in BASES:
        [(_, text)] = quadlet.units(Stack("app", 20100, (service,)), base=base)
        given = [entry for entry in sections(text)["Container"] if entry[0] in ("Network", "DNS")]
        assert sorted(given) == [("DNS", "192.0.2.53"), ("Network", "pasta")], base


@pytest.mark.parametrize("case", CASES)
def test_what_a_base_reads_only_once_is_written_once(case: str) -> None:
    for base, podman in BASES.items():
        for name, text in quadlet.units(stack_of(case), base=base):
            keys = [key for key, _ in sections(text).get("Container", [])]
            assert all(keys.count(key) <= 1 for key in podman.once), name
