"""What of the findings of a look is told, and when: each once, grouped, and its end.

Values only: the ledger, the findings and the time in, the new ledger and what is to be told out. There are conditions,
which last until they are not found any more, and events, which are over when they are found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.server.remote.notify.notices import HAPPENED, RESOLVED, WRONG

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from builder.server.remote.common import Value

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# Seconds: a condition is over when it was not found for so long; when it comes back sooner than the second after that,
# it is told once that has passed; and when it lasts it is told again after the third.
_SETTLED, _PAUSE, _REMINDER = _MINUTE, 15 * _MINUTE, 7 * _DAY
# Of one rule: so many notices of events in so long. More of them are counted, and told with the next.
_MOST, _WITHIN = 6, 6 * _HOUR
# Lines of a notice of many events.
_LINES: Final = 10


@dataclass(frozen=True)
class Finding:
    """What a rule has found. `key` names the rule, `subject` what of its kind it is; `todo` is the way out.

    A condition is told once it has lasted `wait` seconds. With `again` it is an event: the same one is not told twice
    within so many seconds. Who is `urgent` is told in the quiet time, too.
    """

    key: str
    title: str
    todo: str
    stack: str = ""
    subject: str = ""
    urgent: bool = False
    wait: int = 0
    again: int = 0

    @property
    def id(self) -> str:
        """By which it is known again."""
        return f"{self.key}:{self.stack}:{self.subject}"


@dataclass(frozen=True)
class Told:
    """A notice to queue; `kind` as in `notices`. What is not `urgent` waits for the end of the quiet time."""

    kind: str
    key: str
    title: str
    text: str
    stack: str
    urgent: bool = True


def empty() -> Value:
    """A ledger in which nothing stands: what is `open` or `over`, and `events`, by id; how often a key `spoke`."""
    return {"open": {}, "over": {}, "events": {}, "spoke": {}}


def step(
    ledger: Value, found: Collection[Finding], now: int, *, quiet: bool, unknown: Collection[str] = ()
) -> tuple[Value, list[Told]]:
    """The ledger after a look, and what is to be told. `unknown` are keys and ids that could not be looked at."""
    conditions = {one.id: one for one in found if not one.again}
    opened, over = _opened(ledger, conditions, now)
    told = [*_tell_wrong(opened, over, conditions, now, quiet=quiet)]
    told += _tell_over(opened, over, conditions, now, quiet=quiet, unknown=unknown)
    events, spoke = ({id_: dict(one) for id_, one in ledger[name].items()} for name in ("events", "spoke"))
    told += _tell_events(events, spoke, [one for one in found if one.again], now)
    recent = {id_: at for id_, at in over.items() if now - at < _DAY}
    return {"open": opened, "over": recent, "events": _kept(events, now), "spoke": spoke}, told


def problems(ledger: Value) -> list[Value]:
    """The conditions that were told and are not over: `key`, `stack`, `title`, `todo`, `since`."""
    names = ("key", "stack", "title", "todo", "since")
    return [{name: one[name] for name in names} for one in ledger["open"].values() if one["told"]]


def _opened(ledger: Value, conditions: dict[str, Finding], now: int) -> tuple[Value, dict[str, int]]:
    opened = {id_: dict(one) for id_, one in ledger["open"].items()}
    for id_, one in conditions.items():
        entry = opened.setdefault(id_, {"since": now, "told": 0, "gone": 0})
        entry |= {"key": one.key, "stack": one.stack, "title": one.title, "todo": one.todo, "gone": 0}
        entry["urgent"] = one.urgent
    return opened, dict(ledger["over"])


def _tell_wrong(
    opened: Value, over: dict[str, int], conditions: dict[str, Finding], now: int, *, quiet: bool
) -> Iterator[Told]:
    for id_, one in conditions.items():
        entry = opened[id_]
        is_due = now - entry["since"] >= one.wait and now - over.get(id_, 0) >= _PAUSE
        if entry["told"]:
            is_due = now - entry["told"] >= _REMINDER
        if is_due and (one.urgent or not quiet):
            since = f"\nsince {_duration(now - entry['since'])}" if entry["told"] else ""
            entry["told"] = now
            yield Told(WRONG, one.key, one.title, f"{one.todo}{since}", one.stack)


def _tell_over(
    opened: Value,
    over: dict[str, int],
    conditions: dict[str, Finding],
    now: int,
    *,
    quiet: bool,
    unknown: Collection[str],
) -> Iterator[Told]:
    for id_, entry in list(opened.items()):
        if id_ in conditions or {id_, entry["key"]} & {*unknown}:
            continue
        entry["gone"] = entry["gone"] or now
        if not entry["told"]:
            del opened[id_]
        elif now - entry["gone"] >= _SETTLED and (entry["urgent"] or not quiet):
            del opened[id_]
            over[id_] = now
            lasted = _duration(entry["gone"] - entry["since"])
            yield Told(RESOLVED, entry["key"], f"resolved: {entry['title']}", f"it lasted {lasted}", entry["stack"])


def _tell_events(events: Value, spoke: Value, found: Iterable[Finding], now: int) -> Iterator[Told]:
    """One notice for the events of a look that are of one rule and one stack."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for one in found:
        entry = events.get(one.id)
        if entry and now - entry["told"] < one.again:
            entry["more"] += 1
            continue
        more = entry["more"] if entry else 0
        events[one.id] = {"told": now, "more": 0, "until": now + one.again}
        groups.setdefault((one.key, one.stack), []).append(_with_more(one, more))
    for (key, stack), members in groups.items():
        before = spoke.get(key, {"times": [], "held": 0})
        times = [at for at in before["times"] if now - at < _WITHIN]
        if len(times) < _MOST:
            spoke[key] = {"times": [*times, now], "held": 0}
            yield _grouped(key, stack, members, before["held"])
        else:
            spoke[key] = {"times": times, "held": before["held"] + len(members)}


def _with_more(one: Finding, more: int) -> Finding:
    if not more:
        return one
    return replace(one, title=f"{one.title} (and {more} times before)")


def _grouped(key: str, stack: str, members: list[Finding], held: int) -> Told:
    """`held` is how many of the rule were not told before, as there were too many."""
    first, *others = members
    lines = [f"- {one.title}" for one in members[:_LINES] if others]
    if len(members) > _LINES:
        lines.append(f"- and {len(members) - _LINES} more")
    if held:
        lines.append(f"- {held} more in the hours before, which were not told")
    title = f"{first.title}, and {len(others)} more" if others else first.title
    return Told(HAPPENED, key, title, "\n".join([*lines, first.todo]), stack, any(one.urgent for one in members))


# Events that are remembered.
_REMEMBERED: Final = 500


def _kept(events: Value, now: int) -> Value:
    """Those that would not be told if they came again, the newest of them."""
    lasting = sorted((one["told"], id_) for id_, one in events.items() if one["until"] > now)[-_REMEMBERED:]
    return {id_: events[id_] for _, id_ in lasting}


def _duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h, 2 days."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.0f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} days"
