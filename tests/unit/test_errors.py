"""Every mistake in tests/errors earns exactly the text beside it.

A case is a directory: `spec.yaml`, whatever it names, and `expected.txt`, the whole of stderr.
`UPDATE=1 pytest tests/unit/test_errors.py` writes the expectations anew; read the diff before you commit it.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import messages as shared
from builder import problem_report, spec
from builder.messages import Text
from builder.problems import Problem, SpecError
from builder.spec import edge_input, edge_rules, fleet_rules, messages, notify_input, storage, update_input

if TYPE_CHECKING:
    from builder.problems import Mark

ERRORS = Path(__file__).parent.parent / "errors"
CASES = sorted(path.name for path in ERRORS.iterdir() if path.is_dir())
SECRETS = ("hunter2", "abc, def", "bm90IGEga2V5")


@cache
def problems(case: str) -> tuple[Problem, ...]:
    """What a case earns. Paths in texts are relative, as for a user who is in the directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ERRORS / case)
        try:
            return spec.load(Path("spec.yaml"))[1]
        except SpecError as error:
            return error.problems


@pytest.mark.parametrize("case", CASES)
def test_text(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(case)
    monkeypatch.chdir(ERRORS / case)
    text = problem_report.as_text(found)
    expected = ERRORS / case / "expected.txt"
    if os.environ.get("UPDATE"):
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_every_problem_has_a_place(case: str) -> None:
    found = problems(case)
    assert found
    if case not in ("file-missing", "file-directory"):
        assert all(problem.mark for problem in found)


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_not_printed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ERRORS / case)
    text = problem_report.as_text(problems(case))
    assert not [secret for secret in SECRETS if secret in text]
    assert not [secret for secret in SECRETS if secret in str(problem_report.as_json(problems(case)))]


def test_every_text_is_earned_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()
    original = Text.at

    def at(self: Text, where: str, mark: Mark | None, **values: Any) -> Problem:
        used.add(id(self))
        return original(self, where, mark, **values)

    monkeypatch.setattr(Text, "at", at)
    for case in CASES:
        problems.__wrapped__(case)
    modules = (shared, messages, edge_input, edge_rules, fleet_rules, notify_input, storage, update_input)
    texts = {name: value for module in modules for name, value in vars(module).items()}
    unused = [name for name, value in texts.items() if isinstance(value, Text) and id(value) not in used]
    assert not unused
