from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from builder import problem_report
from builder.problems import Mark, Problem, Report


@pytest.fixture(name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("easyrunner.yaml")


def lines(file: Path, content: str, line: int, column: int, length: int = 1) -> list[str]:
    file.write_text(content, encoding="utf-8")
    text = problem_report.as_text([Problem("error", "", "m", Mark(file, line, column, length))])
    return text.splitlines()[2:]


def test_as_in_the_contract(file: Path) -> None:
    file.write_text("\n" * 11 + "    port: 80\n")
    message = "must be 1024 or above, rootless containers cannot bind lower ports"
    hint = "Caddy holds 80 and 443; give the app a high port"
    problem = Problem("error", "stacks[0].port", message, Mark(file, 12, 11, 2), hint)
    assert problem_report.as_text([problem]) == (
        "error: stacks[0].port: must be 1024 or above, rootless containers cannot bind lower ports\n"
        "  --> easyrunner.yaml:12:11\n"
        "12 |     port: 80\n"
        "   |           ^^\n"
        "hint: Caddy holds 80 and 443; give the app a high port\n"
    )


def test_order_is_by_place(file: Path) -> None:
    other = Path("compose.yaml")
    given = [
        Problem("error", "", "3", Mark(file, 2, 5)),
        Problem("error", "", "4", Mark(other, 1, 1)),
        Problem("error", "", "2", Mark(file, 2, 1)),
        Problem("warning", "", "1"),
    ]
    assert [value["message"] for value in problem_report.as_json(given)] == ["1", "2", "3", "4"]


def test_wide_characters_and_tabs_keep_the_caret_in_place(file: Path) -> None:
    assert lines(file, "名前: x\n", 1, 5) == ["1 | 名前: x", "  |       ^"]
    assert lines(file, "a:\tx\n", 1, 4) == ["1 | a:  x", "  |     ^"]


def test_a_missing_file_or_line_shows_no_excerpt(file: Path) -> None:
    assert lines(file, "a\n", 9, 1) == []
    file.unlink()
    assert problem_report.as_text([Problem("error", "a", "m", Mark(file, 1, 1))]).count("\n") == 2


def test_long_lines_are_cut_around_the_caret(file: Path) -> None:
    shown, carets = lines(file, "x" * 500 + "HERE" + "y" * 500, 1, 501, 4)
    assert shown[carets.index("^") :].startswith("HERE")
    assert carets.endswith("^^^^")
    assert len(shown) < 200


def test_escapes_of_a_terminal_are_not_obeyed(file: Path) -> None:
    text = problem_report.as_text([Problem("error", "", "bad \x1b[31m", Mark(file, 1, 1))])
    assert "\x1b" not in text


def test_secrets_stay_hidden_wherever_the_caret_is(file: Path) -> None:
    shown, carets = lines(file, 'e: {TOKEN: "s3cret", PORT: 80.5}', 1, 28, 4)
    assert shown == "1 | e: {TOKEN: ********, PORT: 80.5}"
    assert shown.index("80.5") == carets.index("^")
    key = "k:\n  -----BEGIN OPENSSH PRIVATE KEY-----\n  c2Vj\n  -----END OPENSSH PRIVATE KEY-----\nport: 1\n"
    assert lines(file, key, 3, 3)[0] == "3 |   ********"
    assert lines(file, key, 5, 1)[0] == "5 | port: 1"


def test_colour_only_on_a_terminal(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    problem = Problem("error", "", "m")
    plain, terminal = io.StringIO(), io.StringIO()
    problem_report.print_problems([problem], Console(file=plain))
    problem_report.print_problems([problem], Console(file=terminal, force_terminal=True, color_system="standard"))
    assert plain.getvalue() == "error: m\n"
    assert "\x1b[1;31merror:" in terminal.getvalue()


def test_nothing_is_wrapped(file: Path) -> None:
    text = io.StringIO()
    problem_report.print_problems([Problem("error", "", "word " * 60)], Console(file=text, width=40))
    assert text.getvalue().count("\n") == 1


def test_texts_name_secrets_but_never_quote_keys() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----c2Vj"
    problem = Problem("error", "", f"`{key}` is wrong", hint="use `secrets:` and NAME_TOKEN=file")
    assert "c2Vj" not in problem_report.as_text([problem])
    assert "c2Vj" not in str(problem_report.as_json([problem]))
    assert "use `secrets:` and NAME_TOKEN=file" in problem_report.as_text([problem])


def test_a_problem_that_several_have_is_one() -> None:
    report = Report()
    for name in ("web", "worker", "cron", "worker"):
        report.share(Problem("error", f"services.{name}", f"{name} is wrong"), "one", name)
    report.share(Problem("warning", "x", "told once"), "two", None)
    report.share(Problem("warning", "y", "told once"), "two", None)
    assert [problem.message for problem in report] == ["web is wrong (also for worker, cron)", "told once"]
