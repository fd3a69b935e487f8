"""Compose files of public projects convert as they are shipped, or are refused for what this host does not give.

`UPDATE=1 pytest tests/unit/test_wild.py` writes the table of docs/wild.md.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from builder.quadlet.podman import BASES
from tests import wild_projects as wild

PAGE = Path(__file__).parent.parent.parent / "docs/wild.md"
PROJECTS = wild.projects()


@cache
def outcome(name: str) -> wild.Outcome:
    with TemporaryDirectory() as directory:
        return wild.check(name, PROJECTS[name], Path(directory))


@pytest.mark.parametrize("name", PROJECTS)
def test_it_converts_or_is_refused_for_what_it_needs(name: str) -> None:
    found = outcome(name)
    assert found.surprises == ()
    assert (found.spec is None) is bool(found.needs)


@pytest.mark.parametrize("name", [name for name in PROJECTS if not PROJECTS[name].get("needs")])
def test_every_public_service_of_a_row_is_served_and_every_service_has_a_unit(name: str) -> None:
    found = outcome(name)
    assert found.spec is not None
    [stack] = found.spec.stacks
    public = {entry.partition(":")[0] for entry in found.row.get("public", ())}
    assert {service.name for service in stack.services if service.domains} == public
    for base in BASES:
        units = wild.units(found, base)
        assert {f"{stack.name}-{service.name}.container" for service in stack.services} <= units.keys()


def test_each_directory_has_a_row() -> None:
    assert {path.name for path in wild.WILD.iterdir() if path.is_dir()} == set(PROJECTS)


def test_one_place_is_one_problem() -> None:
    for name in PROJECTS:
        said = [(problem.mark, problem.message) for problem in outcome(name).problems]
        assert len(said) == len(set(said)), name


def test_of_those_that_need_nothing_forbidden_nearly_all_convert() -> None:
    held, asked = wild.share([outcome(name) for name in PROJECTS])
    assert asked >= 60
    assert held / asked >= 0.95


def test_the_page_shows_what_became_of_each() -> None:
    text = wild.page(PAGE.read_text(), [outcome(name) for name in PROJECTS])
    if os.environ.get("UPDATE"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text
