"""`er init --compose` as files: what is asked for, and what is written and said.

Each case has `files/`, the `words` after `er init`, and in `expected/` the spec, stderr with exit code, and the JSON.
`UPDATE=1 pytest tests/unit/test_init_golden.py` writes them anew; read the diff.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from builder import spec as specs
from builder.cli.app import app
from builder.problems import SpecError

TOP = Path(__file__).parent.parent / "golden"
GOLDEN = TOP / "init"
CASES = sorted(path.name for path in GOLDEN.iterdir())
# Files that say of no service, or of no port, that it is the web's, other than by labels.
UNSAID = ("escapes", "next-easyrunner", "sidecar-jobs")
COMPOSE = sorted(path.name for path in (TOP / "compose").iterdir())


class Done(NamedTuple):
    """One run."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who runs it has no key."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def er(*words: str) -> Done:
    done = CliRunner().invoke(app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def run(case: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is in `expected`, by name."""
    copy = place / case
    shutil.copytree(GOLDEN / case / "files", copy)
    monkeypatch.chdir(copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    words = shlex.split((GOLDEN / case / "words").read_text())
    done = er("init", *words)
    made = {"said.txt": f"{done.err}exit {done.code}\n"}
    spec = copy / "easyrunner.yaml"
    if spec.exists():
        made["easyrunner.yaml"] = spec.read_text()
        spec.unlink()
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before, "nothing else is touched"
    as_json = er("init", *words, "--json")
    assert (as_json.code, as_json.err) == (done.code, done.err)
    made["result.json"] = as_json.out
    return made


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(case, tmp_path, monkeypatch)
    root = GOLDEN / case / "expected"
    if os.environ.get("UPDATE"):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, text in made.items():
            (root / name).write_text(text)
    assert made == {path.name: path.read_text() for path in root.iterdir()}


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_what_er_check_says(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 is a spec that passes; 1 with a spec is one with errors that were all shown; 1 without is a question."""
    shutil.copytree(GOLDEN / case / "files", tmp_path / case)
    monkeypatch.chdir(tmp_path / case)
    done = er("init", *shlex.split((GOLDEN / case / "words").read_text()))
    result = json.loads((GOLDEN / case / "expected" / "result.json").read_text())
    if not Path("easyrunner.yaml").exists():
        assert (done.code, bool(result["questions"])) == (1, True)
        return
    try:
        specs.load(Path("easyrunner.yaml"))
        errors = []
    except SpecError as error:
        errors = [problem.message for problem in error.problems if problem.severity == "error"]
    assert done.code == bool(errors)
    assert {problem["message"] for problem in result["problems"] if problem["severity"] == "error"} == {*errors}
    assert result["ok"] == (not errors)


@pytest.mark.parametrize("case", COMPOSE)
def test_files_without_their_labels(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Compose files of the other golden tests, without EasyRunner's labels: what is asked for is given as said."""
    shutil.copytree(TOP / "compose" / case, tmp_path / case, ignore=shutil.ignore_patterns("expected"))
    monkeypatch.chdir(tmp_path / case)
    for path in Path().rglob("*.yaml"):
        text = re.sub(r"labels: \{[^}]*xyz\.[^}]*\}", "", path.read_text())
        path.write_text("".join(line for line in text.splitlines(keepends=True) if "xyz.easyrunner." not in line))
    done = er("init", "--compose", "compose.yaml", "--domain", "app.example.org")
    assert case in UNSAID or done.code == 0, done.err
    while done.code == 1 and not Path("easyrunner.yaml").exists():
        option = re.search(r"--domain (\S+)", done.err.partition("give one of these")[2])
        assert option, done.err
        done = er("init", "--compose", "compose.yaml", "--domain", option[1].replace("PORT", "3000"))
    assert done.code == 0, done.err
    specs.load(Path("easyrunner.yaml"))


def test_the_docs_show_what_is_said() -> None:
    page = (TOP.parents[1] / "docs/apps.md").read_text()
    words, said = ((GOLDEN / "shop" / name).read_text() for name in ("words", "expected/said.txt"))
    block = "".join(("```console\n$ er init ", words, said.removesuffix("exit 0\n"), "```\n"))
    assert block in page, block
