"""What the host itself says as rows: checks, users and containers, firewall, bans, room, updates, backups."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.quantities import duration, size
from builder.server.report.model import Row, Section, judged
from builder.server.report.outside_rows import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.report.model import State
    from builder.server.report.promises import Promises

Found = dict[str, Any]


def sections(found: Found, promises: Promises, *, full: bool) -> Iterator[Section]:
    """Each as it stands on the page. `full` shows addresses of visitors whole."""
    status, more = found["status"], found["more"]
    yield Section("checks", "Checks on the host", tuple(_checks(found["doctor"])))
    if found["differs"] is not None:
        yield Section("files", "Files of the host", (_files(found["differs"]),))
    yield Section("users", "Users and their containers", tuple(_users(status, more)))
    yield Section("firewall", "Firewall", tuple(_firewall(status["firewall"], more["packets"])), _since(status))
    yield Section("refused", "What apps were refused", tuple(_refused(status, promises)), _since(status))
    yield Section("bans", "Bans", tuple(_bans(status, promises, full=full)))
    yield Section("certificates", "Certificates on the host", tuple(_certificates(status, promises)))
    yield Section("room", "Disk and memory", tuple(_room(status, more)))
    yield Section("updates", "Updates", tuple(_updates(status)))
    yield Section("backups", "Backups, and restores that were tried", tuple(_backups(status["backup"], promises)))


# ---- checks

# What each check of `doctor` stands for, by its name there.
PROMISED: Final = {
    "not held": "its stacks run here, and have not moved to another server",
    "no change half-way": "no change or release was cut off",
    "disk for data": "the disk for data is mounted",
    "firewall in force": "the host's own rules are loaded, for IPv4 and IPv6",
    "firewall complete": "no rule has been taken out by hand",
    "ssh by key only": "no password is taken, and root does not log in",
    "no passwords": "no user has a password",
    "fail2ban": "failed logins and scans are counted, and bans made",
    "system services": "no service of the system has failed",
    "stacks run": "every service of every stack runs",
    "secrets set": "no service waits for a secret",
    "first images": "no service waits for its first image",
    "logins to registries": "every registry takes the login that it needs",
    "releases in place": "what runs can start again",
    "images with the data": "another machine would have every image",
    "stacks apart": "no stack reads another one's files",
    "egress resolves": "every name that an app may reach has an address",
    "room on the disk": "a tenth is free, of room and of files",
    "no unknown listener": "nothing listens that is not the host's own",
    "security updates": "they install themselves, and none waits",
    "packages": "every package of the host is installed",
    "backups": "every stack has been backed up, and none late",
    "restores tried": "the last restore that was tried came up",
    "restores whole": "no restore was cut off",
    "clock": "the clock is synchronised",
    "certificates": "each was renewed in time",
    "shared certificates": "where several hosts share them, that place is reached",
    "edge": "what stands before the host is the edge that it believes",
}
# What the picture says of some: where, and in which words.
_MARKS: Final = {
    "firewall complete": ("wall", "no rule is missing", "rules are missing"),
    "fail2ban": ("wall", "Fail2Ban watches", "Fail2Ban does not watch"),
    "ssh by key only": ("ssh", "by key alone", "not by key alone"),
    "disk for data": ("data", "in place", "not in place"),
    "system services": ("ssh", "no service has failed", "a service has failed"),
    "no unknown listener": ("wall", "nothing else listens", "something else listens"),
}


def _checks(doctor: list[Found]) -> Iterator[Row]:
    for one in doctor:
        name, good = one["check"], one["ok"]
        seen = one["wrong"] or one["note"] or "so it is"
        place, right, wrong = _MARKS.get(name, ("", "", ""))
        yield Row(name, PROMISED.get(name, "passes"), seen, judged(good), place=place, mark=right if good else wrong)


_SHOWN_FILES: Final = 10


def _files(differs: list[str]) -> Row:
    more = f" and {len(differs) - _SHOWN_FILES} more" if len(differs) > _SHOWN_FILES else ""
    seen = f"these differ: {', '.join(differs[:_SHOWN_FILES])}{more}" if differs else "every file is"
    return Row("Files", "every file is as the spec has it, and no other is there", seen, judged(not differs))


# ---- users

_SERVES: Final = ("active", "activating")


def _users(status: Found, more: Found) -> Iterator[Row]:
    units = {one["stack"]: one["services"] for one in status["stacks"]}
    units["proxy"] = [{"service": "caddy", **status["proxy"]}]
    for user in more["users"]:
        stack = user["stack"]
        yield _user(user, "" if stack == "proxy" else stack)
        for unit in units.get(stack, ()):
            yield _service(stack, unit)


def _user(user: Found, stack: str) -> Row:
    if user["uid"] is None:
        return Row(user["user"], "a user of its own", user["said"], "bad", stack)
    first = user["first"]
    promised = f"uid {user['uid']}; in containers also {first} to {first + facts.SUBID_SIZE - 1}; never root"
    outside = [one["name"] for one in user["containers"] if not _is_own(one["uid"], user["uid"], first)]
    running = ", ".join(f"{one['name']} as {one['uid']}" for one in user["containers"] if one["uid"] is not None)
    if user["said"]:
        return Row(user["user"], promised, user["said"], "untried", stack)
    seen = f"by another user: {', '.join(outside)}" if outside else running or "no container runs"
    return Row(user["user"], promised, seen, judged(not outside), stack)


def _is_own(uid: int | None, own: int, first: int) -> bool:
    return uid is None or uid == own or first <= uid < first + facts.SUBID_SIZE


def _service(stack: str, unit: Found) -> Row:
    name = f"{stack}/{unit['service']}"
    sleep = unit.get("sleep") or {"asleep": False, "failed": ""}
    runs = sleep["asleep"] or (unit["state"] in _SERVES and not sleep["failed"])
    since = f" for {duration(unit['seconds'])}" if unit["state"] == "active" else ""
    seen = f"{'asleep' if sleep['asleep'] else unit['state']}{since}, {_count(unit['restarts'], 'restart')}"
    if sleep.get("woken") is not None:
        seen += f", woken {_count(sleep['woken'], 'time')}"
    if sleep["failed"]:
        seen += f", its last wake failed ({sleep['failed']})"
    if unit["result"] not in {"", "success"}:
        seen += f" ({unit['result']})"
    place = "proxy" if stack == "proxy" else f"service:{name}"
    mark = "asleep" if sleep["asleep"] else f"runs{since}" if runs else unit["state"]
    promised = "runs, or sleeps until somebody asks" if unit.get("sleep") else "runs"
    return Row(name, promised, seen, judged(runs), "" if stack == "proxy" else stack, place, mark)


# ---- firewall


def _since(status: Found) -> str:
    since = next((one["since"] for one in status["egress"] if one["since"]), None)
    return f"Counted since {when(since)}, when the rules were loaded." if since else ""


def _firewall(loaded: bool, packets: dict[str, int]) -> Iterator[Row]:
    seen = "the rules are in force" if loaded else "LOCKDOWN: they did not load, and only SSH is open"
    mark = "rules in force" if loaded else "LOCKDOWN"
    yield Row("Rules", "every packet that no rule lets in is dropped", seen, judged(loaded), place="wall", mark=mark)
    for name, count in packets.items():
        yield Row(name[0].upper() + name[1:], "counted", _count(count, "packet"), "note")


_MOST_DESTINATIONS: Final = 5


_WAYS_OUT: Final = "DNS, HTTP, HTTPS and what its spec says"


def _refused(status: Found, promises: Promises) -> Iterator[Row]:
    for one in status["egress"]:
        user = one["user"]
        if not user and not one["refused"]:
            continue
        stack = user.removeprefix(facts.STACK_USER_PREFIX)
        whose = "" if user in {"", facts.PROXY_USER} else stack
        promised = f"{promises.out.get(stack, _WAYS_OUT)}; all else is refused"
        if one["refused"] is None:
            yield Row(user or "other users", promised, "unknown: no rules are loaded", "bad", whose)
            continue
        yield Row(
            user or "other users", promised, _destinations(one), "good", whose,
            f"out:{stack}", f"refused: {_count(one['refused'], 'packet')}",
        )  # fmt: skip


def _destinations(one: Found) -> str:
    to = [_destination(found) for found in one["destinations"][:_MOST_DESTINATIONS]]
    return f"{_count(one['refused'], 'packet')} refused" + (f", to {', '.join(to)}" if to else "")


def _destination(one: Found) -> str:
    address = f"[{one['address']}]" if ":" in one["address"] else one["address"]
    return f"{address}:{one['port']}/{one['protocol']}" if one["port"] is not None else f"{address} {one['protocol']}"


# ---- bans


def _bans(status: Found, promises: Promises, *, full: bool) -> Iterator[Row]:
    jails = {one["jail"]: one for one in status["jails"]}
    for name in promises.jails:
        if name not in jails:
            yield Row(name, "this jail watches", "it does not run", "bad", place="wall", mark=f"{name} does not run")
    for name, jail in jails.items():
        promised = (
            f"{jail['maxretry']} failures in {duration(jail['findtime'])}: banned for {duration(jail['bantime'])}"
        )
        seen = f"{len(jail['banned'])} banned now, {jail['banned_total']} since it started"
        yield Row(name, promised, f"{seen}{_banned(jail['banned'], full=full)}", "good")


_MOST_BANNED: Final = 20


def _banned(bans: list[Found], *, full: bool) -> str:
    shown = dict.fromkeys(one["address"] if full else shortened(one["address"]) for one in bans if one["address"])
    more = len(shown) - _MOST_BANNED
    listed = ", ".join([*shown][:_MOST_BANNED]) + (f" and {more} more" if more > 0 else "")
    return f": {listed}" if listed else ""


_KEPT: Final = {4: 24, 6: 48}


def shortened(address: str) -> str:
    """An address of a visitor without what tells one from its neighbours: its /24, or /48 of IPv6."""
    try:
        found = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return "an address"
    kept = _KEPT[found.version]
    return str(found.supernet(new_prefix=kept) if found.prefixlen > kept else found)


# ---- certificates


def _certificates(status: Found, promises: Promises) -> Iterator[Row]:
    for one in status["certificates"]:
        stack = promises.domains.get(one["domain"], "")
        left = f"{duration(one['seconds'])} left" if one["seconds"] > 0 else "has ended"
        seen = f"by {one['issuer']}, {left}"
        mark = f"certificate of {one['domain']}: {left}" if one["late"] else "certificates in time"
        yield Row(one["domain"], "renewed before a third of its time is left", seen, judged(not one["late"]), stack,
                  "proxy", mark)  # fmt: skip


# ---- room


def _room(status: Found, more: Found) -> Iterator[Row]:
    disk, memory, full = status["disk"], status["memory"], status["full"] or status["files_full"]
    promised = "a tenth is free"
    seen = f"{size(disk['free'])} of {size(disk['total'])} free, {disk['files_free']:,} more files"
    yield Row(
        "Disk",
        promised,
        seen,
        judged(not full),
        place="" if status["data"] else "data",
        mark=f"{size(disk['free'])} free",
    )
    if data := status["data"]:
        yield _data(data, full=full)
    yield Row("Memory", "counted", f"{size(memory['available'])} of {size(memory['total'])} available", "note")
    for user in more["users"]:
        yield from _memory(user, _killed(status, user["stack"]))


def _data(data: Found, *, full: bool) -> Row:
    what = "Disk for data"
    if not data["device"]:
        return Row(what, "mounted", data["said"], "bad", place="data", mark="not mounted")
    seen = f"{size(data['free'])} of {size(data['total'])} free"
    return Row(what, "mounted, a tenth is free", seen, judged(not full), place="data", mark=seen)


def _killed(status: Found, stack: str) -> int:
    return sum(one["pressure"]["killed"] for one in status["stacks"] if one["stack"] == stack)


def _memory(user: Found, killed: int) -> Iterator[Row]:
    if user["uid"] is None:
        return
    stack = "" if user["stack"] == "proxy" else user["stack"]
    what, place = f"Memory of {user['user']}", f"stack:{stack}" if stack else "proxy"
    promised = f"at most {size(user['limit'])}" if user["limit"] else "counted"
    if user["memory"] is None:
        yield Row(what, promised, "this machine does not count it", "untried", stack)
        return
    seen = size(user["memory"]) + (f"; {_count(killed, 'process', 'processes')} killed at the limit" if killed else "")
    state: State = judged(not killed) if user["limit"] else "note"
    of = f" of {size(user['limit'])}" if user["limit"] else ""
    mark = f"{killed} killed for want of memory" if killed else f"memory: {size(user['memory'])}{of}"
    yield Row(what, promised, seen, state, stack, place, mark)


# ---- updates and backups


def _updates(status: Found) -> Iterator[Row]:
    updates = status["updates"]
    checked = f", as of {when(updates['checked'])}" if updates["checked"] else ""
    seen = f"{updates['security']} of {updates['pending']} that wait are for security{checked}"
    yield Row("Packages", "security updates install themselves each night", seen, judged(not updates["security"]))
    due = status["reboot_needed"]
    yield Row("Reboot", "none is due", "one is due for an update" if due else "none is due", judged(not due))
    proxy = status["proxy_image"]
    seen = f"{proxy['image']}; {proxy['newest']} is out" if proxy["newest"] else proxy["image"]
    if proxy["unknown"]:
        seen += f"; whether a newer one is out is not known: {proxy['unknown']}"
    yield Row("Proxy", "pinned by release; its newest is known", seen, "note" if proxy["newest"] else "good")


def _backups(backup: Found | None, promises: Promises) -> Iterator[Row]:
    if backup is None:
        yield Row("Backups", "none: the spec has none", "none", "note")
        return
    for name in backup["missing"]:
        yield Row(
            f"Secret {name}",
            "is set",
            "the host lacks it, and makes no backup",
            "bad",
            place="backup",
            mark=f"lacks {name}",
        )
    if error := backup["run"].get("error"):
        yield Row("Last run", "reaches its repository", error, "bad", place="backup", mark="the last run failed")
    at = f" at {promises.backup_at}" if promises.backup_at else ""
    for one in backup["stacks"]:
        yield _backup(one, f"each day{at}")
        yield _drill(one)


def _backup(one: Found, promised: str) -> Row:
    good = one.get("good_at")
    seen = f"last one {when(good)}, {size(one.get('bytes'))}" if good else "none yet"
    if error := one.get("error"):
        seen += f"; {error}"
    is_good = good and not one["late"] and not one.get("error")
    mark = f"{one['stack']}: {until(good) if good else 'none yet'}"
    return Row(f"Backup of {one['stack']}", promised, seen, judged(is_good), _whose(one), "backup", mark)


def _drill(one: Found) -> Row:
    drill, what = one["drill"], f"Restore of {one['stack']}"
    promised = "tried each week, and came up"
    if drill.get("error"):
        return Row(what, promised, drill["error"], "bad", _whose(one), "backup", f"restore of {one['stack']} failed")
    if drill.get("skipped"):
        return Row(what, promised, f"not tried: {drill['skipped']}", "untried", _whose(one))
    if at := drill.get("at"):
        return Row(what, promised, f"came up, {when(at)}", "good", _whose(one))
    return Row(what, promised, "not tried yet", "untried", _whose(one))


def _whose(one: Found) -> str:
    return "" if one["stack"] == facts.BACKUP_HOST else str(one["stack"])


# ---- words


def when(at: int) -> str:
    """A time to the minute, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
