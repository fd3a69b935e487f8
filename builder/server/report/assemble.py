"""The report from what was found: all of it, or the part of one stack; and what the picture says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from builder import diagram, facts
from builder.server.report import inside_rows, outside_rows, promises
from builder.server.report.model import Report, Section, clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.server.report.model import Row
    from builder.server.report.promises import Promises
    from builder.spec import Spec

Found = dict[str, Any]


def report(found: Found, spec: Spec | None, *, stack: str = "", full: bool = False) -> Report:
    """Everything that was found of a host; with `stack`, what concerns that one and names no other.

    `full` shows addresses of visitors whole. Without a spec the host's own word counts, and there is no picture.
    """
    if stack:
        found, spec = part(found, stack), spec and _spec_part(spec, stack)
    promised = promises.of_spec(spec) if spec else promises.of_host(found["more"])
    if stack:
        promised = promises.of_stack(promised, stack)
    sections = tuple(_sections(found, promised, full=full))
    bans = found["more"]["bans"]
    made = Report(
        host=found["status"]["name"],
        stack=stack,
        at=found["more"]["at"],
        is_rehearsal=found["rehearsal"],
        sections=sections,
        bans=tuple((str(day), int(count)) for day, count in bans["days"]),
        bans_since=inside_rows.when(bans["since"]) if bans["since"] else "",
    )
    return replace(made, picture=_picture(spec, made)) if spec else made


def _sections(found: Found, promised: Promises, *, full: bool) -> Iterable[Section]:
    at = found["more"]["at"]
    every = (
        *outside_rows.sections(found["outside"], promised, at),
        *inside_rows.sections(found, promised, full=full),
    )
    return (section for section in every if section.rows)


# ---- one stack

# Of doctor's checks those that are the host's own and whose words name no stack.
_OF_HOST: Final = frozenset(
    {
        "firewall in force",
        "firewall complete",
        "ssh by key only",
        "no passwords",
        "fail2ban",
        "no unknown listener",
        "security updates",
        "clock",
    }
)


def part(found: Found, stack: str) -> Found:
    """What is left of the facts when all that belongs to other stacks, and to the host's admin, is taken out."""
    status, more, outside = found["status"], found["more"], found["outside"]
    domains = {*more["domains"].get(stack, ())}
    backup = status["backup"]
    if backup:
        own = [one for one in backup["stacks"] if one["stack"] == stack]
        backup = {**backup, "missing": [], "run": {}, "stacks": own} if own else None
    return {
        **found,
        "doctor": [one for one in found["doctor"] if one["check"] in _OF_HOST],
        "differs": None,
        "status": {
            **status,
            "stacks": [one for one in status["stacks"] if one["stack"] == stack],
            "egress": [one for one in status["egress"] if one["user"] == f"{facts.STACK_USER_PREFIX}{stack}"],
            "certificates": [one for one in status["certificates"] if one["domain"] in domains],
            "jails": [{**one, "banned": [{**ban, "address": ""} for ban in one["banned"]]} for one in status["jails"]],
            "backup": backup,
        },
        "more": {
            **more,
            "domains": {stack: sorted(domains)},
            "sleeping": [one for one in more["sleeping"] if one in domains],
            "users": [one for one in more["users"] if one["stack"] == stack],
        },
        "outside": {**outside, "sites": [one for one in outside["sites"] if one["domain"] in domains]},
    }


def _spec_part(spec: Spec, stack: str) -> Spec:
    """The spec with this stack alone, and without networks and places that are the admin's business."""
    backup = spec.backup and replace(spec.backup, to="a repository of the operator's")
    return replace(
        spec,
        stacks=tuple(one for one in spec.stacks if one.name == stack),
        backup=backup if any(one.name == stack and one.backup for one in spec.stacks) else None,
        fail2ban=replace(spec.fail2ban, ignore=()),
    )


# ---- the picture

_MARK: Final = 60


def _picture(spec: Spec, made: Report) -> str:
    return diagram.svg(spec, marks(made.rows)).decode()


def marks(rows: Iterable[Row]) -> dict[str, tuple[diagram.Mark, ...]]:
    """What the picture says at each place: what is wrong there, else what is right, each once."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.place and row.mark:
            found.setdefault(row.place, []).append(row)
    return {place: tuple(_marks(every)) for place, every in found.items()}


def _marks(rows: list[Row]) -> Iterable[diagram.Mark]:
    wrong = [row for row in rows if row.state == "bad"]
    texts = dict.fromkeys(clean(row.mark, _MARK) for row in wrong or rows if row.state != "untried")
    return (diagram.Mark(text, good=not wrong) for text in texts)
