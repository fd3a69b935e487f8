"""`er server notify`: who is told, what was told, what waits to be told; and a trial of each channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote
from builder.cli.server.backup import date

if TYPE_CHECKING:
    from collections.abc import Iterator

Overview = dict[str, Any]
# Seconds: each channel has its time to answer.
_ANSWERS_WITHIN: Final = 120
# Notices that are shown, the newest.
_SHOWN: Final = 20


def command(
    host: Host,
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Send one notice to each channel, and show what each answered.")
    ] = False,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Show what HOST has told by itself, what waits to be told, and how its channels answer."""
    server = remote(host, ssh)
    if test:
        found = server.ask("notify-test", timeout=_ANSWERS_WITHIN)
        failed = _failing(found["channels"])
    else:
        found = server.ask("notify-show")
        failed = [*_troubles(found)]
    if as_json:
        output.json(found)
        return 1 if failed else 0
    output.table(_channels(found["channels"]))
    if not test:
        _show_told(found)
    for text, hint in failed:
        output.failure(text, hint.replace("HOST", host) or None)
    return 1 if failed else 0


def _channels(channels: Overview) -> Any:
    rows = output.new_table("channel", "last answer", "")
    for name, one in channels.items():
        when = date(one["at"]) if one and one["at"] else "none yet"
        rows.add_row(name, when, one["said"] if one else "")
    return rows


def _show_told(found: Overview) -> None:
    if found["told"]:
        rows = output.new_table("told", "stack", "what")
        for one in found["told"][-_SHOWN:]:
            rows.add_row(date(one["at"]), one["stack"], one["title"])
        output.table(rows)
    else:
        output.note("nothing has been told yet")
    for one in found["problems"]:
        output.note(f"wrong since {date(one['since'])}: {one['title']}")
    if found["queued"]:
        channels = sorted({name for one in found["queued"] for name in one["left"]})
        output.note(f"{len(found['queued'])} of these wait for {' and '.join(channels)}")


def _failing(channels: Overview) -> list[tuple[str, str]]:
    """What does not arrive, and the way out."""
    failed = ((name, one) for name, one in channels.items() if one and not one["ok"])
    return [
        (
            f"{name} does not take notices: {one['said']}",
            f"it is tried again; if it is the address or the password: er server secret set HOST --host {secret}",
        )
        for name, one in failed
        if (secret := _SECRETS[name])
    ]


_SECRETS: Final = {
    "webhook": "notify-webhook", "email": "notify-smtp-password", "heartbeat": "notify-heartbeat"
}  # fmt: skip


def without(name: str) -> str:
    """What it means that a secret of the host is missing."""
    return f"nobody is told of what is wrong without the host's secret {name}: er server secret set HOST --host {name}"


def _troubles(found: Overview) -> Iterator[tuple[str, str]]:
    for name in found["missing"]:
        yield f"nobody is told without the host's secret {name}", f"er server secret set HOST --host {name}"
    if not found["missing"] and not found["served"]:
        yield "nothing is looked at yet", "that begins with: er server apply HOST SPEC"
    if not found["missing"]:
        yield from _failing(found["channels"])
    if found["late"]:
        yield f"nobody has looked since {date(found['looked'])}", "on the server: journalctl -u er-notify-watch"
    if found["dropped"]:
        yield f"{found['dropped']} notices found the queue full, and are lost", ""
