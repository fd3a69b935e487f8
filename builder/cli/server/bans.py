"""`er server fail2ban-status`, `ban` and `unban`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote

if TYPE_CHECKING:
    from rich.table import Table

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="An IPv4 or IPv6 address; of IPv6 its /64 counts.")]


def status(host: Host, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Show each jail: its policy, counts, and who is banned until when."""
    jails: list[dict[str, Any]] = remote(host, ssh).ask("jails")
    if as_json:
        output.json(jails)
        return 0
    output.table(_overview(jails))
    if any(jail["banned"] for jail in jails):
        output.table(_banned(jails))
    else:
        output.text("nobody is banned\n")
    return 0


def _overview(jails: list[dict[str, Any]]) -> Table:
    rows = output.new_table("jail", "policy", ">failing now", ">failed ever", ">banned now", ">banned ever")
    for jail in jails:
        policy = f"{jail['maxretry']} in {output.duration(jail['findtime'])}: {output.duration(jail['bantime'])}"
        counts = (jail["failing"], jail["failed_total"], len(jail["banned"]), jail["banned_total"])
        rows.add_row(jail["jail"], policy, *map(str, counts))
    return rows


def _banned(jails: list[dict[str, Any]]) -> Table:
    rows = output.new_table("banned", "jail", "since", "until")
    for jail in jails:
        for one in jail["banned"]:
            rows.add_row(one["address"], jail["jail"], one["since"], one["until"])
    return rows


def ban(
    host: Host,
    address: Address,
    jail: Annotated[str, typer.Option("--jail", help="The jail whose time and ports count.")] = "sshd",
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Ban an address now."""
    done: dict[str, str] = remote(host, ssh).ask("ban", address, jail)
    if as_json:
        output.json(done)
    else:
        output.note(f"{done['address']} is banned by the jail {done['jail']}")
    return 0


def unban(host: Host, address: Address, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Take an address out of every jail."""
    done: dict[str, Any] = remote(host, ssh).ask("unban", address)
    if as_json:
        output.json(done)
    elif done["was"]:
        output.note(f"{done['address']} is free again, it was banned by: {', '.join(done['was'])}")
    else:
        output.note(f"{done['address']} was not banned")
    return 0
