from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.problems import Mark, Report
from builder.yamlfile import scalars, source

if TYPE_CHECKING:
    from builder.yamlfile.source import Dialect, Source

FILE = Path("file.yaml")


def read(text: str, dialect: Dialect = "spec") -> tuple[Source | None, list[str]]:
    report = Report()
    found = source.parse(text, FILE, report, dialect=dialect)
    return found, [problem.message for problem in report]


def good(text: str, dialect: Dialect = "spec") -> Source:
    found, problems = read(text, dialect)
    assert found is not None
    assert problems == []
    return found


def at(line: int, column: int, length: int = 1) -> Mark:
    return Mark(FILE, line, column, length)


def test_plain_values() -> None:
    text = "a: 1\nb: [x, 'y', 1.5, true, ~]\nc: {d: -3}\n"
    assert good(text).data == {"a": 1, "b": ["x", "y", 1.5, True, None], "c": {"d": -3}}


def test_marks_of_keys_and_values() -> None:
    found = good("stacks:\n  - name: blog\n    port: 8080\n")
    assert found.mark(("stacks", 0, "port")) == at(3, 11, 4)
    assert found.mark(("stacks", 0, "port"), key=True) == at(3, 5, 4)
    assert found.mark(("stacks", 0)) == at(2, 5, 4)
    assert found.mark(("stacks", 0, "absent")) == at(2, 5, 4)
    assert found.mark(("absent", 3)) == at(1, 1, 6)


def test_missing_value_is_marked_by_its_key() -> None:
    assert good("a:\n  port:\nb: 1\n").mark(("a", "port")) == at(2, 3, 4)


def test_flow_and_quoted_marks_span_the_text() -> None:
    found = good('a: [1, 2]\nb: "two words" # comment\nc: |\n  x\n')
    assert found.mark(("a",)) == at(1, 4, 6)
    assert found.mark(("b",)) == at(2, 4, 11)
    assert found.mark(("c",)) == at(3, 4, 1)


def test_spelling_is_kept() -> None:
    found = good('v: 1.10\nw: "1.10"\nx: []\n')
    assert (found.data["v"], found.raw(("v",)), found.raw(("w",)), found.raw(("x",))) == (
        1.1,
        "1.10",
        "1.10",
        None,
    )


def test_aliases_and_merges_keep_the_place_of_the_text() -> None:
    found = good("x-base: &base {port: 1, deep: {a: 1}}\napp:\n  <<: *base\n  port: 2\nsame: *base\n")
    assert found.data["app"] == {"port": 2, "deep": {"a": 1}}
    assert found.mark(("app", "deep", "a")) == at(1, 35, 1)
    assert found.mark(("app", "port")) == at(4, 9, 1)
    assert found.mark(("same", "port")) == at(1, 22, 1)
    found.data["app"]["deep"]["a"] = 9
    assert found.data["same"]["deep"]["a"] == 1


def test_merge_order() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2, <<: *a}\nc: {<<: [*b, *a], z: 3}\n"
    assert good(text, "compose").data["c"] == {"x": 2, "y": 1, "z": 3}


def test_an_anchor_may_be_set_again() -> None:
    assert good("a: &v 1\nb: *v\nc: &v 2\nd: *v\n").data == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_byte_order_mark_and_line_ends() -> None:
    report = Report()
    path = Path("unused")
    found = source.parse("a: 1\r\nb: 2\r\n", path, report, dialect="spec")
    assert found is not None
    assert found.mark(("b",)) == Mark(path, 2, 4, 1)


def test_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    report = Report()
    found = source.read(path, report, dialect="spec")
    assert found is not None
    assert (found.data, found.mark(("a",)), len(report)) == ({"a": 1}, Mark(path, 1, 4, 1), 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("22:22", "22:22"),
        ("2024-12-24", "2024-12-24"),
        ("0644", 420),
        ("0o644", 420),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("08", 8.0),
        ("+7", 7),
        ("1.", 1.0),
        ("v1", "v1"),
        ("1.2.3", "1.2.3"),
        ("True", True),
        ("NULL", None),
        ("9" * 500, "9" * 500),
    ],
)
def test_compose_reads_as_docker_compose_does(text: str, value: object) -> None:
    data = good(f"key: {text}\n", "compose").data["key"]
    assert (data, type(data)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["12", "-3", "1.5", "1.10", "0", "0x1F", "web1", "a:b", "127.0.0.1", ".inf", "~", "+3"]
)
def test_what_all_readers_agree_on_needs_no_quotes(text: str) -> None:
    assert scalars.ambiguity(text) is None


@pytest.mark.parametrize("text", ["y", "Off", "007", "-012", "1:30", "1:30.5", "1_0", "0b1", "1e3", ".5", "2024-1-1"])
def test_what_readers_disagree_on_has_to_be_quoted(text: str) -> None:
    _, problems = read(f"key: {text}\n")
    assert len(problems) == 1
    assert good(f'key: "{text}"\n').data == {"key": text}


def test_a_surprise_behind_an_anchor_is_told_once() -> None:
    assert len(read("a: &v no\nb: *v\nc: {<<: {d: *v}}\n")[1]) == 1


def test_long_chains_of_aliases_and_merges_end() -> None:
    nested = "x0: &a0 [1]\n" + "".join(f"x{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 300))
    merged = "x0: &a0 {k: 1}\n" + "".join(f"x{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 300))
    assert read(nested)[1]
    assert read(merged)[1]


def test_dotted() -> None:
    loc = ("services", "web", "labels", "xyz.easyrunner.service.port", 0)
    assert source.dotted(loc) == 'services.web.labels["xyz.easyrunner.service.port"][0]'


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *"abc:-?[]{},&*!|>'\"%@`#~ \t\n\r",
            ": ",
            "- ",
            "\n  ",
            "&a ",
            "*a",
            "<<: ",
            "0644",
            "no",
            "---\n",
            "\\x",
            "é",
            "\x85",
            "\u2028",
            "\ufeff",
        ]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.one_of(FRAGMENTS, st.text(max_size=80)), st.sampled_from(["spec", "compose"]))
def test_any_text_is_read_or_reported(text: str, dialect: Dialect) -> None:
    report = Report()
    found = source.parse(text, FILE, report, dialect=dialect)
    assert found is not None or report.failed
    lines = text.splitlines() or [""]
    marks = [problem.mark for problem in report]
    if found is not None:
        lines = list(found.lines)
        marks += [mark for place in found.places.values() for mark in (place.value, place.key) if mark]
    for mark in marks:
        assert mark is not None
        assert 1 <= mark.line <= len(lines) + 1
        assert mark.column >= 1
        assert mark.length >= 1
        if found is not None:
            assert mark.column + mark.length - 1 <= max(len(lines[mark.line - 1]), 1)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_file_is_read_or_reported(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    report = Report()
    assert source.read(path, report, dialect="spec") is not None or report.failed
