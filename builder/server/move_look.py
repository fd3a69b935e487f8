"""What two hosts of an `er server move` have, what speaks against the move, and what of the data differs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.server.ssh import Remote

Facts = dict[str, Any]
# Seconds that a list may take.
_LONG: Final = 7200.0
# Phases of the new host in which its own data has been looked at.
_BEGUN: Final = frozenset({"filling", "quieting", "quiet", "switching", "starting", "ready", "undoing", "done"})


class Look(NamedTuple):
    """Both hosts, what speaks against a move, and what would have to be sent."""

    old: Facts
    new: Facts
    pair: str
    problems: tuple[UserError, ...]

    @property
    def phases(self) -> tuple[str, str]:
        """How far this move is on either host; empty where it has not begun, or another one is meant."""
        states = self.old["state"], self.new["state"]
        old, new = (state.get("phase", "") if state.get("pair") == self.pair else "" for state in states)
        return old, new

    @property
    def is_done(self) -> bool:
        """Whether the new host serves, and the old one is held."""
        return self.phases == ("moved", "done")


def look(old: Remote, new: Remote, *, replace: bool = False) -> Look:
    """Ask both hosts. Raises UserError where one does not answer."""
    first, second = old.ask("move-facts", timeout=600), new.ask("move-facts", timeout=600)
    found = Look(first, second, f"{first['id']}-{second['id']}", ())
    return found._replace(problems=tuple(_problems(old.host, new.host, found, replace=replace)))


def _problems(old: str, new: str, found: Look, *, replace: bool) -> Iterator[UserError]:
    if found.old["id"] == found.new["id"]:
        yield UserError(f"{old} and {new} are one server", "is it the right OLD, and the right NEW?")
        return
    if found.old["name"] != found.new["name"]:
        names = f"{new} is the server {found.new['name']}, {old} is {found.old['name']}"
        yield UserError(names, "make the new one from the same spec: only its image may be a newer one")
    yield from _stack_problems(old, new, found.old["stacks"], found.new["stacks"])
    if found.old["format"] != found.new["format"] and found.old["format"] and found.new["format"]:
        yield UserError(
            f"the data is of form {found.old['format']} on {old} and {found.new['format']} on {new}",
            f"er server apply {old} SPEC with this er, then move it",
        )
    state = found.old["state"]
    if state.get("phase") == "moved" and state.get("pair") != found.pair:
        yield UserError(f"{old} was moved to {state.get('to')} already", "move it from there")
    if not replace and found.phases[1] not in _BEGUN:
        for one in found.new["own"]:
            why = "its sites have answered visitors" if one["visited"] else "it was written after the first start"
            yield UserError(
                f"{new} has data of its own: {one['stack']}, {one['bytes']:,} bytes, and {why}",
                "is it the right NEW? --replace-data lets the data of OLD take its place, and in the end it is removed",
            )


def _stack_problems(old: str, new: str, here: dict[str, Any], there: dict[str, Any]) -> Iterator[UserError]:
    for stack in sorted(here.keys() - there.keys()):
        yield UserError(f"{new} has no stack {stack}", f"bring both to the same spec: er server apply {new} SPEC")
    for stack in sorted(there.keys() - here.keys()):
        yield UserError(f"{old} has no stack {stack}", f"bring both to the same spec: er server apply {old} SPEC")
    for stack in sorted(here.keys() & there.keys()):
        if here[stack] != there[stack]:
            numbers = f"{' '.join(here[stack])} on {old} and {' '.join(there[stack])} on {new}"
            yield UserError(
                f"the stack {stack} has other ids: {numbers}",
                f"its files would be another user's: give it the uid of {old} in the spec (uid: {here[stack][0]})",
            )


class Compared(NamedTuple):
    """What differs, and both answers to `move-list`."""

    different: Difference
    here: Facts
    there: Facts


def compare(old: Remote, new: Remote, state: dict[str, Any]) -> Compared:
    """What differs now; the hosts are asked at the same time. Raises UserError."""
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(one.ask, "move-list", what, timeout=_LONG) for one, what in ((old, "here"), (new, "incoming"))
        ]
        here, there = (one.result() for one in asked)
    return Compared(difference(here, there, state), here, there)


def difference(here: Facts, there: Facts, state: dict[str, Any]) -> Difference:
    """The same of two answers; `state` is the new host's."""
    times = {"since": state.get("since", 0), "tried": state.get("tried", 0)}
    return differing(entries(here["entries"]), entries(there["entries"]), **times)


# What differs between the data of two hosts, by their lists.


class Entry(NamedTuple):
    """As `remote/move/data_copy.py` lists it: kinds are d, f, l, p, and ? for what cannot travel; times are in ns.

    Entries with the same `number`, which is not 0, are names of one file.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    ctime: int
    link: str
    number: int


class Item(NamedTuple):
    """What to send: a path, and the first name of the same file, which is sent before, if it has several."""

    path: str
    first: str
    size: int


class Difference(NamedTuple):
    """`remove`: paths to remove there, the deepest first. `send`: in order, directories before what is in them.

    `odd` are paths of what cannot travel: devices.
    """

    remove: tuple[str, ...]
    send: tuple[Item, ...]
    odd: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The most that has to be sent."""
        return sum(item.size for item in self.send)


# Clocks of file systems are coarse: in seconds.
_MARGIN: Final = 2.0


def entries(listed: Iterable[list[Any]]) -> list[Entry]:
    """A list as it was answered, in order of path."""
    return sorted(Entry(*one) for one in listed)


def differing(old: list[Entry], new: list[Entry], *, since: float = 0, tried: float = 0) -> Difference:
    """What makes `new` the same as `old`.

    What changed on the old host after `since` is sent whatever it looks like, and so is what changed on the new one
    after `tried`; both are by the host's own clock, in seconds, and 0 is never. Programs can set a file's time back,
    and one that writes to mapped memory changes it late; the time of the last change of status tells both.
    """
    firsts, their_firsts = _first_names(old), _first_names(new)
    there = {entry.path: entry for entry in new}
    travels = [entry for entry in old if entry.kind != "?"]
    kinds = {entry.path: entry.kind for entry in travels}
    remove = [entry.path for entry in new if kinds.get(entry.path) != entry.kind]
    changed = {
        entry.path
        for entry in travels
        if not _is_same(entry, there.get(entry.path))
        or firsts.get(entry.path) != their_firsts.get(entry.path)
        or (since and entry.ctime / 1e9 >= since - _MARGIN)
        or (tried and there[entry.path].ctime / 1e9 >= tried - _MARGIN)
    }
    # All names of a file are made anew with it, and a directory gets its time back after what is written into it.
    changed |= {path for path, first in firsts.items() if first in changed}
    above = {parent for path in (*changed, *remove) for parent in _parents(path)}
    send = [
        Item(entry.path, firsts.get(entry.path, ""), 0 if entry.path in firsts else entry.size)
        for entry in travels
        if entry.path in changed or (entry.kind == "d" and entry.path in above)
    ]
    odd = tuple(entry.path for entry in old if entry.kind == "?")
    return Difference(tuple(sorted(remove, reverse=True)), tuple(send), odd)


def _is_same(old: Entry, new: Entry | None) -> bool:
    if new is None or (old.kind, old.uid, old.gid) != (new.kind, new.uid, new.gid):
        return False
    if old.kind == "l":
        return old.link == new.link
    return (old.mode, old.size, old.mtime) == (new.mode, new.size, new.mtime)


def _first_names(every: list[Entry]) -> dict[str, str]:
    """Of each further name of a file the first one, in order of path."""
    first: dict[int, str] = {}
    return {entry.path: known for entry in every if entry.number and (known := _known(first, entry)) != entry.path}


def _known(first: dict[int, str], entry: Entry) -> str:
    return first.setdefault(entry.number, entry.path)


def _parents(path: str) -> list[str]:
    steps = path.split("/")[:-1]
    return ["/".join(steps[:count]) for count in range(1, len(steps) + 1)]
