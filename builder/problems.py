"""Problems in what the user wrote: the place, the rule, and the way out. Errors that end a command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator
    from pathlib import Path

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A span in a file. `line` and `column` count from 1; `length` is in characters, at least 1."""

    file: Path
    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the user should change, or know.

    `where` is the path of the value in words of the spec, as `stacks[0].port`; it may be empty. With `secret` the
    line in the file is not shown.
    """

    severity: Severity
    where: str
    message: str
    mark: Mark | None = None
    hint: str | None = None
    secret: bool = False


class Report:
    """Collects problems; nothing is raised before everything has been looked at."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._shared: dict[Hashable, tuple[int, Problem, list[str | None]]] = {}

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)

    def __len__(self) -> int:
        return len(self._problems)

    def error(self, where: str, message: str, mark: Mark | None = None, hint: str | None = None) -> None:
        """Add a problem that must be solved."""
        self._add(Problem("error", where, message, mark, hint))

    def warning(self, where: str, message: str, mark: Mark | None = None, hint: str | None = None) -> None:
        """Add a problem that is no error: it works, but perhaps not as the user thinks."""
        self._add(Problem("warning", where, message, mark, hint))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add the problems of another report."""
        for problem in problems:
            self._add(problem)

    def share(self, problem: Problem, identity: Hashable, name: str | None) -> None:
        """Add a problem that several have, as services that merge one line do: of the others only `name` is added.

        `identity` is equal for what is one problem; `name` is whose it is, None where that is not to be said.
        """
        if identity not in self._shared:
            self._add(problem)
            self._shared[identity] = (self._problems.index(problem), problem, [name])
            return
        index, first, names = self._shared[identity]
        if name not in names:
            names.append(name)
            others = ", ".join(other for other in names[1:] if other is not None)
            self._problems[index] = replace(first, message=f"{first.message} (also for {others})")

    def _add(self, problem: Problem) -> None:
        if problem not in self._problems:
            self._problems.append(problem)

    @property
    def failed(self) -> bool:
        """True when at least one problem is an error."""
        return any(problem.severity == "error" for problem in self._problems)

    def raise_if_failed(self) -> None:
        """Raise SpecError with everything found, when any of it is an error."""
        if self.failed:
            raise SpecError(self._problems)


class SpecError(Exception):
    """The user's files cannot be used as they are. Holds every problem, warnings too."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.where}: {p.message}" for p in self.problems))


class UserError(Exception):
    """A failure that is explained in one line with a way out, without a traceback; exit code 1."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)
