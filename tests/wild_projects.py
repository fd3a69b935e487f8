"""Compose files of public projects, as facts: read as a user would have them, held against what is expected of each.

tests/wild/projects.yaml says what the user writes, tests/wild/<project>/ has the files. docs/wild.md shows what came.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from builder import quadlet, spec
from builder.problems import SpecError

if TYPE_CHECKING:
    from builder.problems import Problem
    from builder.spec import Spec

WILD: Final = Path(__file__).parent / "wild"
_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop"
_NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
# What this host does not give, each with how `er check` refuses it.
NEEDS: Final = {
    "engine socket": "no container gets the engine's socket",
    "host network": "a service on the host's network",
    "host processes": "a service sees its own processes only",
    "host directories": "is the host's own",
    "host files": "is a file of the host",
    "home directory": "the server has no home directory of yours",
    "privileged": "a privileged container is the host",
    "devices": "containers of a stack get no devices",
    "other ports": "this host serves HTTP and HTTPS only",
    "fixed addresses": "addresses on a network are handed out",
    "source directory": "the whole directory cannot be mounted",
    "build": "to build from",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a project: the spec that its files give, or None, and everything that was said."""

    name: str
    row: dict[str, Any]
    spec: Spec | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[str, ...]:
        """The messages of what was refused, in the order of the file."""
        return tuple(problem.message for problem in self.problems if problem.severity == "error")

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs and is not given, by the row."""
        return tuple(self.row.get("needs", ()))

    @property
    def surprises(self) -> tuple[str, ...]:
        """What the row does not say: errors that no need explains, needs that are not refused."""
        unexplained = [error for error in self.errors if not any(NEEDS[need] in error for need in self.needs)]
        missed = [need for need in self.needs if not any(NEEDS[need] in error for error in self.errors)]
        return (*unexplained, *(f"not refused: {need}" for need in missed))


def projects() -> dict[str, dict[str, Any]]:
    """The rows, by the name of the project."""
    rows: dict[str, dict[str, Any]] = yaml.safe_load((WILD / "projects.yaml").read_text())
    return rows


def check(name: str, row: dict[str, Any], directory: Path) -> Outcome:
    """Lay the files of a project there, as its manual tells users to, and read them by a spec of what its row says."""
    shutil.copytree(WILD / name, directory / name)
    for example, copied in row.get("env", {}).items():
        shutil.copy(directory / name / example, directory / name / copied)
    path = directory / "easyrunner.yaml"
    path.write_text(json.dumps(_spec(name, row)))
    try:
        found, problems = spec.load(path)
    except SpecError as error:
        return Outcome(name, row, None, error.problems)
    return Outcome(name, row, found, problems)


def _spec(name: str, row: dict[str, Any]) -> dict[str, Any]:
    files = row.get("compose") or [path.name for path in (WILD / name).glob("*.y*ml") if _is_main(path)]
    stack = {
        "name": _stack(name),
        "compose": [f"{name}/{file}" for file in files],
        "public": dict(_public(entry, number) for number, entry in enumerate(row.get("public", ()))),
        "secret_env": row.get("secret_env"),
    }
    stack = {key: value for key, value in stack.items() if value}
    return {"server": {"name": "web1"}, "admin": {"ssh_keys": [_KEY]}, "stacks": [stack]}


def _is_main(path: Path) -> bool:
    """The file of a usual name; where there is none, the only one."""
    usual = [name for name in _NAMES if (path.parent / name).exists()]
    return path.name == usual[0] if usual else True


def _stack(name: str) -> str:
    return name.replace("_", "-")[:20].rstrip("-")


def _public(entry: str, number: int) -> tuple[str, dict[str, Any]]:
    service, _, port = entry.partition(":")
    domain = "app.example.org" if number == 0 else f"app{number}.example.org"
    return service, {"domains": [domain], **({"port": int(port)} if port else {})}


def units(outcome: Outcome, base: str) -> dict[str, str]:
    """The units of a project that converts, by file name."""
    assert outcome.spec is not None
    [stack] = outcome.spec.stacks
    return dict(quadlet.units(stack, base=base, server="web1"))


# What is not to be had on purpose, and images that are nowhere before they are built; the rest counts as missed.
MISSED: Final = frozenset(("host files", "home directory", "fixed addresses", "source directory"))


def share(outcomes: list[Outcome]) -> tuple[int, int]:
    """(those that convert, all), of the projects that need nothing but what is in MISSED."""
    asked = [outcome for outcome in outcomes if set(outcome.needs) <= MISSED]
    return sum(outcome.spec is not None for outcome in asked), len(asked)


def page(text: str, outcomes: list[Outcome]) -> str:
    """The text of the page with its table made anew, between two comments."""
    begin, end = "<!-- projects: made of tests/wild -->\n", "\n<!-- end of projects -->"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}{_table(outcomes)}{end}{rest.partition(end)[2]}"


def _table(outcomes: list[Outcome]) -> str:
    held, asked = share(outcomes)
    converted = f"{held} of them convert ({100 * held / asked:.1f} %), without an edit"
    lines = [
        f"{len(outcomes)} projects. {asked} need nothing that this host forbids: {converted}.",
        "",
        "| project | its file | services | outcome |",
        "|---|---|---|---|",
    ]
    for outcome in outcomes:
        source = outcome.row["source"]
        services = "" if outcome.spec is None else str(len(outcome.spec.stacks[0].services))
        lines.append(f"| {outcome.name} | [{source}](https://github.com/{source}) | {services} | {_words(outcome)} |")
    return "\n".join(lines)


def _words(outcome: Outcome) -> str:
    if outcome.spec is not None:
        return "converts"
    said = dict.fromkeys(error.partition(";")[0].replace("|", "\\|") for error in outcome.errors)
    return f"refused: {'; '.join(said)}"
