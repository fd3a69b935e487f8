"""The layers of builder/ hold, and docs/architecture.* show them: UPDATE=1 writes both anew."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.shape import layers, modules, page, picture, source
from tests.shape.layers import Package, Rules

if TYPE_CHECKING:
    from tests.shape.modules import Modules

DOCS = source.ROOT / "docs"


@cache
def tree() -> Modules:
    return modules.read(source.working_tree())


def test_the_tree_is_as_the_layers_say() -> None:
    found = layers.faults(tree())
    assert not found, "\n".join(["", *found])


def test_the_table_in_the_docs_is_that_of_the_layers() -> None:
    target = DOCS / "architecture.md"
    text = page.with_table(target.read_text(), tree())
    if os.environ.get("UPDATE"):
        target.write_text(text)
    assert target.read_text() == text


def test_the_picture_in_the_docs_is_that_of_the_imports() -> None:
    drawn = picture.svg(tree())
    target = DOCS / "architecture.svg"
    if os.environ.get("UPDATE"):
        target.write_text(drawn)
    assert target.read_text() == drawn


UPPER, LOWER, BESIDE = Package("upper", 2, "", ""), Package("lower", 2, "", ""), Package("beside", 2, "", "")
RULES = Rules(layers=((UPPER,), (LOWER, BESIDE)), whole=5, longest=20)
TEXT = "x = 1\n" * 6


@pytest.mark.parametrize(
    ("files", "rules", "fault"),
    [
        ({"upper/a": "from builder.lower import b", "lower/b": ""}, RULES, ""),
        ({"upper/a": "", "lower/b": "from builder.upper import a"}, RULES, "lower is a lower layer than upper"),
        ({"upper/a": "", "lower/b": "def f():\n from builder.upper import a"}, RULES, "a lower layer than upper"),
        (
            {"upper/a": "", "lower/b": "if TYPE_CHECKING:\n from builder.upper.a import A"},
            RULES,
            "builder/lower/b.py imports builder.upper.a",
        ),
        ({"beside/a": "", "lower/b": "import builder.beside.a"}, RULES, "lower is beside beside"),
        (
            {"beside/a": "", "lower/b": "from builder.beside import a"},
            replace(RULES, imports={("lower.b", "beside.a"): "why"}),
            "",
        ),
        ({"lower/b": ""}, replace(RULES, imports={("lower.b", "beside.a"): "why"}), "b no longer imports beside.a"),
        (
            {"upper/a": "from builder.upper.b import x", "upper/b": "from builder.upper import a"},
            RULES,
            "none can be read first: builder.upper.a, builder.upper.b",
        ),
        ({"upper/rule": "", "lower/rules": ""}, RULES, "by an s, which nobody can guess: builder/lower/rules.py"),
        ({"upper/rule": "", "lower/rules": ""}, replace(RULES, plurals={("rule", "rules"): "why"}), ""),
        ({"upper/rule": ""}, replace(RULES, plurals={("rule", "rules"): "why"}), "no more pair rule, rules"),
        ({f"upper/{name}": TEXT for name in "abc"}, RULES, "upper has 3 modules, its budget is 2"),
        ({f"{p}/{p}{name}": TEXT for p in ("upper", "lower", "beside") for name in "ab"}, RULES, "builder/ has 6"),
        ({"upper/a": TEXT * 4}, RULES, "builder/upper/a.py has 24 lines, more than 20"),
        ({"new/a": ""}, RULES, "builder/new/ is in no layer"),
    ],
)
def test_what_is_against_the_rules_is_said(files: dict[str, str], rules: Rules, fault: str) -> None:
    found = layers.faults(modules.read({f"builder/{path}.py": text for path, text in files.items()}), rules)
    assert len(found) == bool(fault), found
    assert fault in "".join(found)


def test_a_package_is_in_one_layer() -> None:
    names = [package.name for layer in layers.LAYERS for package in layer]
    assert len(names) == len(set(names))
