"""`er server reapply-firewall`, and how refused packets and resolved names are shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table

Row = dict[str, Any]


def reapply(host: Host, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Resolve the names of egress and load the firewall's rules anew, both families; Fail2Ban's bans stay."""
    found = remote(host, ssh).ask("reapply-firewall")
    lines, names = found["lines"], found["names"]
    if as_json:
        output.json({**found, "wrong": list(problems_of(names))})
    else:
        output.note(f"the firewall is in force: {lines['ipv4']} lines of rules for IPv4, {lines['ipv6']} for IPv6")
        show_names(names)
    return 1 if any(problems_of(names)) else 0


# Destinations shown of each user; --json has them all.
_SHOWN: Final = 3


def refusals_table(found: Sequence[Row]) -> Table:
    """A line for each user and each of its most frequent destinations."""
    since = next((row["since"] for row in found if row["since"]), None)
    rows = output.new_table(f"refused {_when(since)}".rstrip(), ">packets", "mostly to", ">logged", "last")
    for row in found:
        if not row["user"] and not row["refused"]:
            continue  # usually no other user has any
        count = "unknown" if row["refused"] is None else f"{row['refused']:,}"
        shown = row["destinations"][:_SHOWN] or [None]
        for number, one in enumerate(shown):
            name = () if number else (row["user"] or "other users", count)
            rows.add_row(*(name or ("", "")), *_destination(one))
        if (more := len(row["destinations"]) - _SHOWN) > 0:
            rows.add_row("", "", f"and {more} more")
    return rows


def _when(since: int | None) -> str:
    return f"since {time.strftime('%Y-%m-%d %H:%M', time.localtime(since))}" if since else ""


def _destination(one: Row | None) -> tuple[str, str, str]:
    if one is None:
        return "", "", ""
    ago = f"{output.duration(int(time.time() - one['last']))} ago"
    return destination(one), str(one["logged"]), ago


def destination(one: Row) -> str:
    """`203.0.113.7:25/tcp`; an address of IPv6 in brackets; without a port where the protocol has none."""
    if one["port"] is None:
        return f"{one['address']} {one['protocol']}"
    address = f"[{one['address']}]" if ":" in one["address"] else one["address"]
    return f"{address}:{one['port']}/{one['protocol']}"


def problems_of(names: Iterable[Row]) -> Iterator[str]:
    """What is wrong with the names of egress, and the way out."""
    for one in names:
        if one["failing_since"]:
            kept = f"its last answer stays: {', '.join(one['addresses'])}" if one["addresses"] else "it is refused"
            way = "mend the name or its DNS, then: er server reapply-firewall HOST"
            yield f"{one['stack']}: {one['name']} of egress does not resolve, {kept}; {way}"
        for address in one["refused"]:
            yield f"{one['stack']}: {one['name']} of egress is {address}, which stays refused to every stack"


def show_names(names: Sequence[Row]) -> None:
    """Print the addresses of each name, or what is wrong with it."""
    for one in names:
        if one["addresses"] and not one["failing_since"]:
            output.note(f"{one['stack']}: {one['name']} is {', '.join(one['addresses'])}")
    for text in problems_of(names):
        output.failure(text)
