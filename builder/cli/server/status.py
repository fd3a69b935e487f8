"""`er server status`: the state of a host on one screen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, asking
from builder.cli.server import backup, firewall, notify, registries, releases
from builder.server import host_keys
from builder.server.deploy_login import DeployLogin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

Status = dict[str, Any]


def command(
    host: Host,
    stack: Annotated[str, typer.Argument(metavar="STACK", help="Only this one, as a deploy key may see it.")] = "",
    *,
    known_hosts: Annotated[
        bool, typer.Option("--known-hosts", help="Print the lines for known_hosts, and nothing else.")
    ] = False,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Show services, stacks, ports, certificates, disk, memory, load, updates and bans; 1 when something is wrong."""
    server = asking(host, ssh)
    if stack:
        return _show_stack(server.ask("stack-status", stack), as_json=as_json)
    if isinstance(server, DeployLogin):
        raise typer.BadParameter("a deploy key sees its own stack alone: er server status HOST STACK")
    found: Status = server.ask("status")
    lines = host_keys.known_hosts(host, server.options, found["host_keys"])
    if known_hosts:
        output.data(lines.encode())
        return 0
    if as_json:
        output.json({**found, "known_hosts": lines, "wrong": list(wrong(found))})
    else:
        output.table(_host(found))
        output.table(_stacks(found))
        for table in _images(found):
            output.table(table)
        output.table(firewall.refusals_table(found["egress"]))
        if found["certificates"]:
            output.table(_certificates(found))
        if found["backup"]:
            output.table(_backups(found["backup"]))
        for text in _kept(found):
            output.note(text)
        for text in wrong(found):
            output.failure(text)
    return 1 if any(wrong(found)) else 0


def _show_stack(found: Status, *, as_json: bool) -> int:
    down = [one for one in found["services"] if one["state"] == "failed"]
    if as_json:
        output.json(found)
        return 1 if down else 0
    rows = output.new_table("service", "state", "since", ">restarts", "image of the spec")
    for one in found["services"]:
        since = output.duration(one["seconds"]) if one["state"] == "active" else ""
        rows.add_row(one["service"], _state(one), since, str(one["restarts"]), one["image"])
    output.table(rows)
    for one in down:
        output.failure(f"{one['service']} has failed ({one['result']})")
    return 1 if down else 0


def _state(unit: Status) -> str:
    sleep = unit.get("sleep") or {"asleep": False, "woken": None}
    woken = f", woken {_count(sleep['woken'])}" if sleep["woken"] is not None else ""
    if sleep["asleep"]:
        since = f" since {_clock(sleep['since'])}" if sleep["since"] else ""
        return f"asleep{since}{woken}"
    return f"{unit['state']} ({unit['detail'] if unit['result'] == 'success' else unit['result']}){woken}"


def _count(times: int) -> str:
    """Since the boot."""
    return f"{times} time{'s' * (times != 1)}"


_DAY: Final = 86_400


def _clock(at: int) -> str:
    """The time of day here, with its date where that was not today or last night."""
    return time.strftime("%H:%M" if time.time() - at < _DAY else "%Y-%m-%d %H:%M", time.localtime(at))


def wrong(found: Status) -> Iterator[str]:
    """What needs somebody's attention, in words."""
    move = found.get("move")
    yield from _wrong(found) if move is None else [_moved(move)]


def _moved(move: Status) -> str:
    where = f"it was moved to {move['to']}" if move["phase"] == "moved" else "er server move is at it"
    return f"{where}: its stacks are stopped; to undo that: er server move OLD NEW --back"


def _wrong(found: Status) -> Iterator[str]:
    if not found["firewall"]:
        yield "the firewall is in lockdown: only SSH is open; see er server doctor"
    for name, state in found["services"].items():
        if state not in {"active", "activating"}:
            yield f"the service {name} is {state}"
    yield from _failed(found)
    yield from _secrets(found)
    yield from registries.missing("HOST", found["logins"])
    for stack in found["stacks"]:
        yield from registries.refusals("HOST", stack["stack"], stack["refusals"])
    yield from firewall.problems_of(name for row in found["egress"] for name in row["names"])
    for one in found["certificates"]:
        if one["late"]:
            yield f"the certificate of {one['domain']} {_left(one['seconds'])}"
    yield from _shared_certificates(found)
    if found["deploys"]["keys"] and not found["deploys"]["served"]:
        yield "deploy keys are not served yet; that begins with: er server apply HOST SPEC"
    yield from backup.problems(found["backup"])
    yield from (notify.without(name) for name in found["untold"])
    yield from _cut_restores(found)
    yield from _unkept(found)
    yield from _disk_space(found)


def _failed(found: Status) -> Iterator[str]:
    for where, unit in _units(found):
        if unit["state"] == "failed":
            yield f"{where} has failed ({unit['result']}); see er server logs"
        elif (sleep := unit.get("sleep")) and sleep["failed"]:
            yield f"{where} was not awake in time for its last visitor ({sleep['failed']}); see er server logs"


def _shared_certificates(found: Status) -> Iterator[str]:
    if (shared := found["shared_certificates"]) and shared["said"]:
        state = "" if shared["mounted"] else "; the proxy does not run before"
        yield f"the certificates shared at {shared['source']}: {shared['said']}{state}"


def _cut_restores(found: Status) -> Iterator[str]:
    if found["waits_for_data"]:
        yield "its data has not come from the backup yet: nothing starts before; see journalctl -u easyrunner-restore"
    for one in found["restores"]:
        if one["state"] != "kept":
            yield f"a restore of {one['stack']} was cut: er server restore HOST {one['stack']} --back"


def _kept(found: Status) -> Iterator[str]:
    for one in found["restores"]:
        if one["state"] == "kept":
            way = f"er server restore HOST {one['stack']}"
            yield f"what {one['stack']} had before its restore is kept: {way} --confirm, or --back"


def _disk_space(found: Status) -> Iterator[str]:
    disks = {"the disk": found["disk"]}
    if data := found["data"]:
        if data["said"]:
            yield f"the disk for data is not mounted, and no stack runs: {data['said']}"
        else:
            disks["the disk for data"] = data
    if found["full"]:
        yield "nearly full: " + ", ".join(
            f"{name} has {output.size(disk['free'])} left" for name, disk in disks.items()
        )
    if found["files_full"]:
        yield "; ".join(f"{name} takes only {disk['files_free']} more files" for name, disk in disks.items())
    for stack in found["stacks"]:
        if (filled := stack["pressure"]["filled"]) is not None:
            why = f"it holds {output.size(filled)} of a full disk; it starts again when there is room"
            yield f"{stack['stack']} was stopped: {why}"


def _secrets(found: Status) -> Iterator[str]:
    for stack in found["stacks"]:
        if stack["trouble"]:
            yield f"{stack['stack']} does not answer: {stack['trouble']}"
        for name, services in stack["lacking"].items():
            way = f"er server secret set HOST {stack['stack']} {name}"
            yield f"{stack['stack']}: {', '.join(services)} waits for the secret {name}; set it with: {way}"
        for service in stack["unbuilt"]:
            where = f"{stack['stack']}/{service}"
            yield f"{where} waits for its first image; er server apply HOST SPEC, or er server push HOST {where} IMAGE"


def _unkept(found: Status) -> Iterator[str]:
    for stack in found["stacks"]:
        if unkept := stack["unkept"]:
            names = ", ".join(f"{stack['stack']}/{service}" for service in unkept["services"])
            why = f": {unkept['why']}" if unkept["why"] else ""
            yield f"another machine would lack the image of {names}{why}; see er server doctor HOST --fix"
        for service in stack["lost"]:
            where = f"{stack['stack']}/{service}"
            yield f"{where} ran a release whose image has not come along: er server push HOST {where} IMAGE"


def _units(found: Status) -> Iterator[tuple[str, Status]]:
    yield "proxy", found["proxy"]
    for stack in found["stacks"]:
        yield from ((f"{stack['stack']}/{service['service']}", service) for service in stack["services"])


def _host(found: Status) -> Table:
    rows = output.new_table(found["name"], "")
    updates, memory, disk = found["updates"], found["memory"], found["disk"]
    up = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["booted"]))
    rows.add_row("last boot", f"{up}, {output.duration(found['uptime'])} ago")
    rows.add_row("load", f"{' '.join(f'{load:.2f}' for load in found['load'])}, {found['cores']} cores")
    rows.add_row(
        "memory", f"{output.size(memory['total'] - memory['available'])} of {output.size(memory['total'])} used"
    )
    rows.add_row("disk", f"{output.size(disk['used'])} of {output.size(disk['total'])} used")
    if data := found["data"]:
        used = f"{output.size(data['used'])} of {output.size(data['total'])} used" if data["device"] else "not mounted"
        rows.add_row("disk for data", used)
    if shared := found["shared_certificates"]:
        rows.add_row("certificates", f"shared, {'mounted' if shared['mounted'] else 'not mounted'}: {shared['source']}")
    pending = f"{updates['pending']} pending, {updates['security']} of them for security"
    rows.add_row("updates", pending + ("; a reboot is due" if found["reboot_needed"] else ""))
    rows.add_row("proxy", proxy(found["proxy_image"]))
    rows.add_row("firewall", "in force" if found["firewall"] else "LOCKDOWN")
    rows.add_row("services", " ".join(f"{name}:{state}" for name, state in found["services"].items()))
    ports = dict.fromkeys(f"{port['port']}/{port['protocol']}" for port in found["ports"])
    rows.add_row("ports", " ".join(ports))
    for key in found["host_keys"]:
        rows.add_row("host key", f"{key['fingerprint']} {key['type']}; for known_hosts: --known-hosts")
    banned = [one["address"] for jail in found["jails"] for one in jail["banned"]]
    rows.add_row("banned", " ".join(banned) or "nobody")
    return rows


def proxy(found: Status) -> str:
    """Which image the proxy runs, and whether there is a newer release."""
    by = f", by an update; the spec's is {found['of_spec']}" if found["of_spec"] else ""
    image = f"{found['image']}{by}"
    if found["newest"]:
        return f"{image}; {found['newest'].rpartition(':')[2]} is out: er server apply HOST SPEC --newest-proxy"
    if found["unknown"]:
        return f"{image}; whether a newer release is out is not known: {found['unknown']}"
    return f"{image}, the newest release"


def _stacks(found: Status) -> Table:
    rows = output.new_table("service", "state", "since", ">memory", ">of", ">restarts")
    for where, unit in _units(found):
        since = output.duration(unit["seconds"]) if unit["state"] == "active" else ""
        rows.add_row(
            where, _state(unit), since, output.size(unit["memory"]), output.size(unit["limit"]), str(unit["restarts"])
        )
    for stack in found["stacks"]:
        if text := ", ".join(limits_met(stack["pressure"])):
            rows.add_row(stack["stack"], text)
    return rows


def _images(found: Status) -> Iterator[Table]:
    """What runs by a release, and what updates itself."""
    if released := [one for stack in found["stacks"] for one in stack["releases"]]:
        yield _releases(released)
    if found["image_updates"]:
        yield _updates(found["image_updates"])


def _releases(found: list[Status]) -> Table:
    rows = output.new_table("runs by a release", "")
    for where, text in releases.deployed(found):
        rows.add_row(where, text)
    return rows


def _updates(found: list[Status]) -> Table:
    rows = output.new_table("updates itself", "image", "digest", "last time")
    for one in found:
        rows.add_row(f"{one['stack']}/{one['service']}", one["image"], one["digest"][:19], one["said"] or "not yet")
    return rows


def limits_met(pressure: Status) -> Iterator[str]:
    """How often a stack met its limits, in words."""
    if pressure["killed"]:
        yield f"{pressure['killed']} processes killed at the limit of memory"
    if pressure["forks"]:
        yield f"refused {pressure['forks']} times at the limit of processes"


def _certificates(found: Status) -> Table:
    rows = output.new_table("certificate", "issuer", ">left")
    for one in found["certificates"]:
        rows.add_row(one["domain"], one["issuer"], output.duration(one["seconds"]) if one["seconds"] > 0 else "ENDED")
    return rows


def _backups(found: Status) -> Table:
    rows = output.new_table("backup of", "last good one", "snapshot", ">size", ">took", "restore tried")
    for one in found["stacks"]:
        good = f"{backup.date(one['good_at'])}" if "good_at" in one else "none yet"
        took = output.duration(one["seconds"]) if "seconds" in one else ""
        tried = backup.tried(one["drill"])
        rows.add_row(one["stack"], good, one.get("snapshot", ""), output.size(one.get("bytes")), took, tried)
    return rows


def _left(seconds: int) -> str:
    return f"ends in {output.duration(seconds)}" if seconds > 0 else "has ended"
