"""What leaves `er` is printable, whoever wrote it: a container, a server's console, an image's file names, a log."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from builder.cli.output import Console, _Say
from builder.cli.output import say as steps_say
from builder.cli.progress import Steps
from builder.cli.server.options import table
from builder.packer.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

ROOT = Path(__file__).resolve().parents[2]
# A window's title, a colour, a cleared screen, C1's one-byte CSI, a carriage return, a bell, right-to-left, a tag.
HOSTILE = "a\x1b]0;owned\x07b\x1b[31mc\x1b[2Jd\x9b1me\rf\x08g\x00h\u202ei\u200bj\U000e0041k\x7fl"
KEPT = "abcdefghijkl"


def harmless(text: str) -> bool:
    """A terminal only prints it, and nothing was lost that could be read."""
    letters = iter(text)
    return all(char.isprintable() or char in "\n\t" for char in text) and all(char in letters for char in KEPT)


def test_talk(capsys: pytest.CaptureFixture[str]) -> None:
    ways: tuple[Callable[[_Say], None], ...] = (
        lambda say: say.note(HOSTILE),
        lambda say: say.failure(HOSTILE),
        lambda say: say.failure(KEPT, HOSTILE),
        lambda say: say.console.print(Text(HOSTILE), markup=False),
    )
    for speak in ways:
        speak(_Say())
        assert harmless(capsys.readouterr().err)


def test_data(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table("name", "said")
    rows.add_row(HOSTILE, HOSTILE)
    ways: tuple[Callable[[], None], ...] = (lambda: _Say().text(HOSTILE), lambda: _Say().table(rows))
    for speak in ways:
        speak()
        assert harmless(capsys.readouterr().out)


def test_json_holds_what_was_said_and_shows_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    _Say().json({"said": HOSTILE, HOSTILE: ["ünï", "😀"]})
    out = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert "ünï" in out
    assert json.loads(out) == {"said": HOSTILE, HOSTILE: ["ünï", "😀"]}


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal too: what moves the cursor there is Rich's own, and nothing else."""
    talk, plain = io.StringIO(), io.StringIO()
    for stream, text in ((talk, HOSTILE), (plain, KEPT)):
        console = Console(file=stream, force_terminal=True, width=200, color_system=None, legacy_windows=False)
        monkeypatch.setitem(steps_say.__dict__, "console", console)
        with Steps() as steps:
            steps.start(text)
            steps.detail(text)
            steps.line(text)
            steps.end(text, 1.0)
    own = {char for char in plain.getvalue() if not char.isprintable()}
    assert {char for char in talk.getvalue() if not char.isprintable()} <= own
    assert "owned" in talk.getvalue()
    for obeyed in ("\x1b]0;", "\x1b[31m", "\x1b[2J"):
        assert obeyed not in talk.getvalue()


def test_the_log_of_a_build(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.write(f"{HOSTILE}\nnext")
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2
    assert harmless(lines[0])


def test_nothing_but_say_speaks() -> None:
    """No module of the command line writes to a stream, or makes a console, of its own."""
    top = ROOT / "builder"
    speaking = {str(path.relative_to(top)) for path in top.rglob("*.py") if _speaks(path.read_text())}
    # What runs on the host or in an image; cli/__init__ before anything is imported; present makes plain text.
    elsewhere = {"imagecheck/zipapp.py", "server/remote/main.py", "cli/__init__.py", "problem_report.py"}
    assert speaking - {"cli/output.py"} == elsewhere


def _speaks(source: str) -> bool:
    return any(_writes(node) or _makes_a_console(node) for node in ast.walk(ast.parse(source)))


def _writes(node: ast.AST) -> bool:
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
