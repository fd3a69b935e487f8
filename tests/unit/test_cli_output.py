"""What leaves `er` is printable, whoever wrote it: a container, a server's console, an image's file names, a log."""

from __future__ import annotations

import ast
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.text import Text

from builder.cli import output
from builder.cli.output import Console
from builder.cli.progress import Steps, ending
from builder.packer.build_log import Log
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
# A window's title, a colour, a cleared screen, C1's one-byte CSI, a carriage return, a bell, right-to-left, a tag.
HOSTILE = "a\x1b]0;owned\x07b\x1b[31mc\x1b[2Jd\x9b1me\rf\x08g\x00h\u202ei\u200bj\U000e0041k\x7fl"
KEPT = "abcdefghijkl"


def harmless(text: str) -> bool:
    """A terminal only prints it, and nothing was lost that could be read."""
    letters = iter(text)
    return all(char.isprintable() or char in "\n\t" for char in text) and all(char in letters for char in KEPT)


def test_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    ways: tuple[Callable[[], None], ...] = (
        lambda: output.note(HOSTILE),
        lambda: output.note(HOSTILE, style="green"),
        lambda: output.prompt(HOSTILE),
        lambda: output.failure(HOSTILE),
        lambda: output.failure(KEPT, HOSTILE),
        lambda: output.missing([UserError(HOSTILE)]),
        lambda: output.console.print(Text(HOSTILE), markup=False),
    )
    for write in ways:
        write()
        assert harmless(capsys.readouterr().err)


def test_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    rows = output.new_table("name", "text")
    rows.add_row(HOSTILE, HOSTILE)
    ways: tuple[Callable[[], None], ...] = (lambda: output.text(HOSTILE), lambda: output.table(rows))
    for write in ways:
        write()
        assert harmless(capsys.readouterr().out)


def test_json_escapes_what_is_not_printable(capsys: pytest.CaptureFixture[str]) -> None:
    output.json({"said": HOSTILE, HOSTILE: ["ünï", "😀"]})
    out = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert "ünï" in out
    assert json.loads(out) == {"said": HOSTILE, HOSTILE: ["ünï", "😀"]}


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal too: what moves the cursor there is Rich's own, and nothing else."""
    hostile, plain = io.StringIO(), io.StringIO()
    for stream, text in ((hostile, HOSTILE), (plain, KEPT)):
        console = Console(file=stream, force_terminal=True, width=200, color_system=None, legacy_windows=False)
        monkeypatch.setattr(output, "console", console)
        with Steps() as steps:
            steps.start(text)
            steps.detail(text)
            steps.line(text)
            steps.end(text, 1.0)
    own = {char for char in plain.getvalue() if not char.isprintable()}
    assert {char for char in hostile.getvalue() if not char.isprintable()} <= own
    assert "owned" in hostile.getvalue()
    for obeyed in ("\x1b]0;", "\x1b[31m", "\x1b[2J"):
        assert obeyed not in hostile.getvalue()


def test_the_log_of_a_build(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.write(f"{HOSTILE}\nnext")
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2
    assert harmless(lines[0])


def test_nothing_but_output_writes() -> None:
    """No module of the command line writes to a stream, or makes a console, of its own."""
    top = ROOT / "builder"
    writing = {str(path.relative_to(top)) for path in top.rglob("*.py") if _writes(path.read_text())}
    # What runs on the host or in an image; cli/__init__ before anything is imported; problem_report makes plain text.
    elsewhere = {
        "imagecheck/zipapp.py",
        "server/remote/main.py",
        "server/remote/deploy/git_hook.py",
        "server/remote/image_updates.py",
        "server/remote/deploy_service.py",
        "server/remote/proxy_update.py",
        "server/remote/backup/drill.py",
        "server/remote/backup/first_restore.py",
        "server/remote/move/data_copy.py",
        "server/remote/move/move.py",
        "cli/__init__.py",
        "problem_report.py",
    }
    assert writing - {"cli/output.py"} == elsewhere


def _writes(source: str) -> bool:
    return any(_is_write(node) or _makes_a_console(node) for node in ast.walk(ast.parse(source)))


def _is_write(node: ast.AST) -> bool:
    """`print(…)`, or `sys.stdout.write` and its kin."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "print"
    if not isinstance(node, ast.Attribute) or node.attr not in {"write", "writelines", "buffer"}:
        return False
    return ast.unparse(node.value) in {"sys.stdout", "sys.stderr"}


def _makes_a_console(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "rich.console"
        and any(name.name == "Console" for name in node.names)
        and node.level == 0
    )


def test_no_text_is_taken_for_markup_or_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    """`:x:`, `:lock:` and `[/etc]` stay as somebody wrote them."""
    texts = ("a.example.org=web:x: no", "cache:/data:lock:ro", "[red]x[/] [/etc/hosts]")
    for text in texts:
        output.note(text)
        output.failure(text, text)
    rows = output.new_table("what", "why")
    for text in texts:
        rows.add_row(text, text)
    output.table(rows)
    said = capsys.readouterr()
    assert [said.err.count(text) for text in texts] == [3, 3, 3]
    assert [said.out.count(text) for text in texts] == [2, 2, 2]


def printed(monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """What a command with two steps prints on a console with these options."""
    stream = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=stream, width=200, legacy_windows=False, **options))
    with Steps() as steps:
        steps.next("boot")
        steps.next("first boot of the new one")
    ending([("next", "look at it"), ("server", "web1\nof two lines"), ("site", "https://web.example.org/")])
    return stream.getvalue()


def test_steps_and_what_there_is_at_the_end_have_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch).splitlines()
    assert lines == [
        "  boot                         0.0 s",
        "  first boot of the new one    0.0 s",
        "",
        "  server    web1",
        "            of two lines",
        "  site      https://web.example.org/",
        "  next      look at it",
    ]


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://no-color.org: bold and the spinner's movements stay on a terminal, colours do not."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.findall(r"\x1b\[(?:3|4|9)\d", printed(monkeypatch, force_terminal=True))
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[" not in printed(monkeypatch), "and nothing at all where it is no terminal"


def test_a_step_that_failed_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=stream, width=200))
    with pytest.raises(ValueError, match="broken"), Steps() as steps:  # noqa: PT012
        steps.next("boot")
        raise ValueError("broken")
    assert stream.getvalue() == ""
