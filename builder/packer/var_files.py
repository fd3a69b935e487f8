"""Files of values for a template's variables, as the user writes them: HCL, or JSON where the name ends with .json."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from builder.packer.work_directory import Laid

_DECLARED: Final = re.compile(r'^variable\s+"(\w+)"', re.MULTILINE)
# What HCL is cut into here: texts and comments whole, brackets, an assignment's name.
_TOKEN: Final = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*") | (?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
      | <<-?(?P<end>\w+)\n.*?^\s*(?P=end)$
      | (?P<open>[\[{(]) | (?P<close>[\])}]) | (?P<name>\w+)\s*=(?!=)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def given(path: Path) -> dict[str, int]:
    """The names that a file gives values to, with their lines. Raises UserError for JSON that is none."""
    text = path.read_text(errors="replace")
    return _of_json(path, text) if path.name.endswith(".json") else dict(_of_hcl(text))


def declared(files: Iterable[Laid]) -> frozenset[str]:
    """The variables that a template has."""
    texts = (_text(file) for file in files if file.path.endswith(".pkr.hcl"))
    return frozenset(name for text in texts for name in _DECLARED.findall(text))


def check(paths: Iterable[Path], known: Collection[str]) -> None:
    """Raise UserError for names that the template does not declare: Packer passes over them, and takes its defaults."""
    wrong = [(path, line, name) for path in paths for name, line in given(path).items() if name not in known]
    if not wrong:
        return
    told = "; ".join(f"{path}:{line}: {name}" for path, line, name in wrong)
    near = [match for *_, name in wrong for match in difflib.get_close_matches(name, known, 1)]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise UserError(f"not a variable of the template: {told}", f"{meant}there are {', '.join(sorted(known))}")


def _of_json(path: Path, text: str) -> dict[str, int]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}", "HCL goes into a file that does not end with .json") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: an object of names and values is wanted")
    return {name: _line(text, text.find(json.dumps(name))) for name in value}


def _of_hcl(text: str) -> Iterator[tuple[str, int]]:
    """Names outside of any bracket."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += bool(token["open"]) - bool(token["close"])
        if token["name"] and depth == 0:
            yield token["name"], _line(text, token.start())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, max(at, 0)) + 1


def _text(file: Laid) -> str:
    return file.content.decode() if isinstance(file.content, bytes) else file.content.read_text()
