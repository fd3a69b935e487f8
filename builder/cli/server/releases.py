"""`er server releases` and `er server rollback`: what a stack has run, and the way back to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from builder.cli import output, progress
from builder.cli.options import AsJson, Host, SshOptions, Stack, asking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

Timeout = Annotated[
    float, typer.Option("--timeout", min=10, metavar="SECONDS", help="Take it back when not ready by then.")
]


def list_(host: Host, stack: Stack, *, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Show the last five releases of a stack: when, from where, by whom, and which images."""
    from builder.server import releases

    found = releases.releases(asking(host, ssh), stack)
    if as_json:
        output.json(found)
    elif found:
        output.table(table(found))
    else:
        output.note(f"{stack} has had no release: it runs what the spec names")
    return 0


def table(found: Iterable[dict[str, Any]]) -> Table:
    """Releases as rows."""
    rows = output.new_table("release", "when", "from", "by", "service", "image", "id")
    for one in found:
        first = [f"{one['number']}{' runs' if one['current'] else ''}", _date(one["when"]), _source(one), one["by"]]
        for service, image in one["images"].items():
            rows.add_row(*first, service, image["image"], image["id"][:12])
            first = ["", "", "", ""]
    return rows


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _source(one: dict[str, Any]) -> str:
    again = one.get("again")
    if again:
        return f"{one['source']} to {again['number']} ({_source(again)})"
    return f"{one['source']} {one['commit'][:10]}" if one.get("commit") else str(one["source"])


def follow(states: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Show the states of a release as they come; returns the last one."""
    try:
        return progress.follow(states, holder)
    except KeyboardInterrupt:
        output.note("the server goes on by itself: what does not come up is taken back")
        raise


def holder(state: dict[str, Any]) -> list[str]:
    """Who is at it, where a change waits for its turn."""
    return [f"somebody else is at it: {state['holder']}"] if "holder" in state else []


def show_end(host: str, stack: str, end: dict[str, Any], services: Iterable[str] = ()) -> int:
    """How a release ended, in words; the exit code. `services` were asked for; without, those that changed count."""
    names = [*(services or end.get("changed", ()))]
    who = f"{stack}/{names[0]}" if len(names) == 1 else stack
    if end["phase"] == "done":
        release = end["release"]
        for name in names:
            output.note(f"{stack}/{name} runs {release['images'][name]['image']}, release {release['number']}")
        if not names:
            output.note(f"{stack} runs release {release['number']}: nothing had to restart")
        for where, reason in end.get("restarted", {}).items():
            output.note(restarted(where, reason))
        if end["lacking"]:
            output.note(f"{stack} waits for {', '.join(end['lacking'])}")
        return 0
    said = "\n  ".join(["its containers said:", *end["said"]]) if end.get("said") else None
    if end["phase"] == "rolled back":
        output.failure(f"{who} did not come up and runs what it ran before: {end['why']}", said)
    else:
        then = f"; then: {end['then']}" if end.get("then") else ""
        output.failure(f"{who}: the switch failed: {end['why']}{then}", said or f"see: er server logs {host} {stack}")
    return 1


def restarted(where: str, reason: str) -> str:
    """Why requests waited while a public service restarted."""
    return f"{where} was restarted, and its visitors waited: {reason}"


def deployed(found: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """What runs by a release: `stack/service`, and in words which one it is."""
    for one in found:
        yield f"{one['stack']}/{one['service']}", words(one)


def words(one: dict[str, Any]) -> str:
    """A release that a service runs, and what the spec names."""
    known = (
        f"release {one['number']} of {_date(one['when'])}, {one['source']} by {one['by']}" if "number" in one else ""
    )
    return f"{known or 'a release'}: {one['image']}, not the spec's {one['of_spec']}"


_WINS: Final = "the spec names another image for it now, and that one is taken"


def before_apply(host: str, found: Iterable[dict[str, Any]], changed_images: frozenset[str]) -> Iterator[str]:
    """What becomes of releases when the spec is applied; `changed_images` are paths of units whose image changes."""
    for one in found:
        where = f"{one['stack']}/{one['service']} runs {words(one)}"
        if one["stack"] == "proxy":
            yield f"{where}; " + (_WINS if one["unit"] in changed_images else "it stays until the spec names another")
        elif one["unit"] in changed_images:
            yield f"{where}; {_WINS}; the way back: er server rollback {host} {one['stack']}"
        else:
            yield f"{where}; it stays; to the spec's image: er server rollback {host} {one['stack']} spec"
