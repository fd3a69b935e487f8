"""A look at the host: what it sees is judged by the rules, and what of that is to be told is queued.

er-notify-watch.service makes one each quarter of a minute, as a process of its own. What it remembers from look to
look, the ledger too, is one file that is replaced at the end: a look that was cut is made again.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, doctor, egress, held, locks, services, status
from builder.server.remote.changed_files import APPLY
from builder.server.remote.common import RemoteError
from builder.server.remote.notify import audit_log, ledger, notices, rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.server.remote.common import Value

_STATE: Final = notices.DIRECTORY / "state.json"
# Seconds between two signs of life.
_BEAT: Final = 86_400
# Bytes of a log, and entries of the journal, that one look reads at most.
_MOST_BYTES, _MOST_ENTRIES = 4 << 20, 5000


def notify_watch() -> Value:
    """One look. What could not be looked at is not judged."""
    settings = notices.settings()
    if settings is None:
        return {}
    notices.make_directories()
    state = _read()
    seen = _look(state, settings)
    found, unknown, memory = rules.judge(seen, state["memory"])
    quiet = notices.quiet_until(settings["quiet"], seen["now"]) > 0
    new, told = ledger.step(state["ledger"], found, seen["now"], quiet=quiet, unknown=unknown)
    for one in told:
        notices.queue(one.key, one.title, one.text, stack=one.stack, kind=one.kind, urgent=one.urgent)
    state |= {"memory": memory, "ledger": new, "at": seen["now"]}
    _beat(state, settings, seen["now"])
    files.replace(_STATE, json.dumps(state).encode(), 0o600, owner=(0, 0))
    return {"told": len(told)}


def _read() -> Value:
    """`memory` and `ledger`; the last answers of `checks`; and how far `journal` and `audit` were read."""
    try:
        found = json.loads(_STATE.read_bytes())
    except (FileNotFoundError, ValueError):
        found = {}
    return {"memory": {}, "ledger": ledger.empty(), "checks": {}, "journal": "", "audit": [0, 0], "beat": 0, **found}


def open_problems() -> tuple[list[Value], int | None]:
    """What was told and is not over, and when the last look was."""
    state = _read()
    return ledger.problems(state["ledger"]), state.get("at")


def _beat(state: Value, settings: Value, now: int) -> None:
    """A sign of life each day, with how many problems there are; an older one that waits is of no use any more."""
    if not settings["heartbeat"] or now - state["beat"] < _BEAT:
        return
    for path, one in notices.queued():
        if one.kind == notices.BEAT:
            path.unlink(missing_ok=True)
    count = len(ledger.problems(state["ledger"]))
    title = f"{count} problem{'s' * (count != 1)}"
    notices.put(notices.Notice("heartbeat", title, "", "", notices.BEAT, now, ("heartbeat",)))
    state["beat"] = now


# ---- what is seen


def _look(state: Value, settings: Value) -> Value:
    """What `rules` judge. Sizes in bytes, times in seconds since 1970."""
    now, uptime = int(time.time()), float(Path("/proc/uptime").read_text().split()[0])
    starting = _is_starting(uptime)
    checks = _checks(state, now)
    entries = [*_journal(state)]
    logged = [*audit_log.events(audit(state))]
    stacks = {uid: stack for stack, uid in common.uids(common.stacks()).items()}
    pressure = {one: status.pressure(one) for one in stacks.values()}
    return {
        "now": now,
        "uptime": uptime,
        "name": common.server_env().get("NAME", "HOST"),
        "starting": starting,
        "held": held.is_held(),
        "busy": sorted(locks.held_now()),
        "installing": _is_installing(state, now),
        "filled": [one for one, found in pressure.items() if found["filled"] is not None],
        "activity": [*_activity(now, starting=starting, uptime=uptime)],
        "checks": checks,
        "services": _services(),
        "memory": status.memory(),
        "reboot": Path("/run/reboot-required").exists(),
        "lists_at": int(_modified("/var/lib/apt/lists") or now),
        "killed": {one: found["killed"] for one, found in pressure.items()},
        **_refused(entries),
        "listeners": [*_listeners()],
        "bans": [*bans(entries)],
        "logins": [*logins(entries)],
        "integrity": [*_integrity(entries)],
        "changes": [*_changes(logged)],
        "programs": [*_programs(logged, stacks)],
        "allow_exec": settings["allow_exec"],
    }


def _is_starting(uptime: float) -> bool:
    """Whether this boot's start of the stacks is not over yet."""
    state = common.show("er-first-boot.service", "ActiveState").get("ActiveState")
    return state in {"activating", "inactive"} and uptime < 1800


def _checks(state: Value, now: int) -> Value:
    """Each check of `doctor` that is told: what is `wrong`, and the `remedy`; those that cost more are asked seldom."""
    by_name = {check.name: check for check in doctor.CHECKS}
    changed = _trigger()
    for name, row in rules.CHECKS.items():
        last = state["checks"].get(name)
        is_due = not last or now - last["at"] >= row.every or last["when"] != changed
        if is_due or (last["wrong"] and row.every < rules.SELDOM):
            wrong = doctor.look(by_name[name])
            state["checks"][name] = {"wrong": wrong, "remedy": by_name[name].remedy, "at": now, "when": changed}
    return {name: state["checks"][name] for name in rules.CHECKS}


# What does not run when it should, and what was installed: where one of these is another, every check is asked.
_WATCHED: Final = ("fail2ban.service", "er-watch@ssh.service", "er-watch@web.service", "ssh.service")
_INSTALLED: Final = ("/var/lib/dpkg/status", "/var/lib/apt/lists", "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d")


def _trigger() -> str:
    states = common.run(["systemctl", "is-active", *_WATCHED], check=False).split()
    return " ".join([*states, *(str(_modified(path)) for path in _INSTALLED)])


def _modified(path: str | Path) -> float | None:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return None


def _services() -> list[Value] | None:
    """`id`, `stack`, `service`, `state`, whether it is `up`, and its `restarts`, by stack; None where none can say."""
    try:
        found = sorted(services.states(), key=lambda one: one.where)
    except RemoteError:
        return None  # a stack that has just come has no user yet
    return [
        {
            "id": one.where,
            "stack": one.where.partition("/")[0],
            "service": one.where.rpartition("/")[2],
            "state": one.state,
            "up": one.is_up,
            "restarts": one.restarts,
        }
        for one in found
    ]


_DPKG: Final = Path("/var/lib/dpkg")
_PACKAGES: Final = (_DPKG / "status", Path("/var/log/dpkg.log"), Path("/var/log/apt/history.log"))


def _activity(now: int, *, starting: bool, uptime: float) -> Iterator[list[float]]:
    """From when until when packages were installed, or er has changed something, as far as it can be seen now."""
    yield from (list(one) for name, one in locks.times().items() if name != "backup")
    yield from ([at, at] for path in (*_PACKAGES, APPLY.directory / "state.json") if (at := _modified(path)))
    if starting or uptime < 120:
        yield [now - uptime, now]
    if _is_locked(_DPKG / "lock-frontend"):
        yield [now, now]


# Seconds: packages that are installed for longer than this hold nothing back any more.
_LONGEST_INSTALL: Final = 1800


def _is_installing(state: Value, now: int) -> bool:
    """Whether packages are being installed: their services are stopped meanwhile, and started again."""
    is_locked = _is_locked(_DPKG / "lock-frontend")
    state["installing"] = (state.get("installing") or now) if is_locked else 0
    return is_locked and now - state["installing"] < _LONGEST_INSTALL


# struct flock of fcntl(2): what kind of lock, from where, and how much of the file.
_FLOCK: Final = "hhqqi"


def _is_locked(path: Path) -> bool:
    """Whether dpkg holds its lock. It is asked for, and not taken, or dpkg could find it taken."""
    try:
        with path.open("rb") as file:
            lock = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return bool(struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, lock))[0] != fcntl.F_UNLCK)
    except OSError:
        return False


def _refused(entries: Iterable[Value]) -> Value:
    """Packets `refused` by stack since the firewall was loaded, and their `destinations`, as far as it was logged."""
    saved = "".join(common.run([f"{tool}-save", "-c", "-t", "filter"]) for tool in ("iptables", "ip6tables"))
    counts, destinations = egress.counts(saved), {}
    kernel = "\n".join(json.dumps(one) for one in entries if one.get("_TRANSPORT") == "kernel")
    logged = [*egress.refusals(kernel)]
    owners = {"proxy": facts.PROXY_USER, **{stack: common.user_of(stack) for stack in common.stacks()}}
    for stack, user in owners.items():
        rows = egress.destinations(one for one in logged if one.user == user)
        destinations[stack] = [f"{one['address']} {one['protocol']}/{one['port'] or '-'}" for one in rows]
    uids = common.uids(owners)
    return {"refused": {stack: counts.get(uid, 0) for stack, uid in uids.items()}, "destinations": destinations}


_PUBLIC: Final = frozenset({facts.SSH, facts.PROXY_HTTP, facts.PROXY_HTTPS, *doctor.DHCP})
_PROGRAM: Final = re.compile(r'users:\(\("([^"]+)"')


def _listeners() -> Iterator[Value]:
    """Who listens where others could reach it if the firewall let them: `port`, `protocol`, `program`."""
    for line in common.run(["ss", "-Htulnp"]).splitlines():
        protocol, _, _, _, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        if int(port) not in _PUBLIC and not address.strip("[]").split("%")[0].startswith(("127.", "::1")):
            program = _PROGRAM.search(line)
            yield {"port": int(port), "protocol": protocol, "program": program[1] if program else ""}


# ---- what the journal has


# Of these alone anything is believed: a stack's words are in a journal of their own, and the fields are journald's.
_UNITS: Final = ("ssh.service", "fail2ban.service", "er-integrity.service")
_MATCHES: Final = (*(word for unit in _UNITS for word in (f"_SYSTEMD_UNIT={unit}", "+")), "_TRANSPORT=kernel")
_FIELDS: Final = "MESSAGE,_SYSTEMD_UNIT,_TRANSPORT,_UID,_COMM"


def _journal(state: Value) -> Iterator[Value]:
    """The entries since the last look, of the units that are believed, and of the kernel."""
    argv = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--output-fields={_FIELDS}"]
    if not state["journal"]:
        where = ["--lines=1"]
    else:
        where = [f"--after-cursor={state['journal']}", f"--lines=+{_MOST_ENTRIES}"]
    if not state["journal"]:
        yield from _first_logins(argv)
    for line in common.run([*argv, *where, *_MATCHES], check=False).splitlines():
        entry = json.loads(line)
        is_new = bool(state["journal"])
        state["journal"] = entry["__CURSOR"]
        if is_new and isinstance(entry.get("MESSAGE"), str):
            yield entry


def _first_logins(argv: list[str]) -> Iterator[Value]:
    """Logins before the first look, which are taken as known."""
    words = ["--grep=^Accepted ", "--lines=2000", "_SYSTEMD_UNIT=ssh.service"]
    for line in common.run([*argv, *words], check=False).splitlines():
        yield json.loads(line)


def _of(entries: Iterable[Value], unit: str) -> Iterator[str]:
    """What a unit of root's has said."""
    for one in entries:
        if one.get("_SYSTEMD_UNIT") == unit and one.get("_UID") == "0":
            yield one["MESSAGE"]


_ACCEPTED: Final = re.compile(r"Accepted \S+ for (\S+) from (\S+) port \d+ ssh2(?:: (\S+ \S+))?")
_BAN: Final = re.compile(r"(?:^|\s)\[[\w-]+\] Ban (\S+)$")


def logins(entries: Iterable[Value]) -> Iterator[Value]:
    """Who has logged in: `user`, `address`, `key`."""
    for text in _of(entries, "ssh.service"):
        if match := _ACCEPTED.match(text):
            yield {"user": match[1], "address": match[2], "key": match[3] or ""}


def bans(entries: Iterable[Value]) -> Iterator[str]:
    """The addresses that were banned; not those whose ban a restart has restored."""
    yield from (match[1] for text in _of(entries, "fail2ban.service") if (match := _BAN.search(text)))


def _integrity(entries: Iterable[Value]) -> Iterator[Value]:
    for path, how in dict(audit_log.compared(_of(entries, "er-integrity.service"))).items():
        found = Path(path) if os.path.lexists(path) else Path(path).parent
        yield {"path": path, "how": how, "times": [found.lstat().st_ctime] if found.exists() else []}


# ---- what the audit system has


AUDIT_LOG: Final = Path("/var/log/audit/audit.log")


def audit(state: Value) -> str:
    """What its log has got since the last look, also where it was rotated meanwhile; nothing of before the first."""
    inode, offset = state["audit"]
    try:
        current = AUDIT_LOG.stat()
    except OSError:
        return ""
    if not inode:
        state["audit"] = [current.st_ino, current.st_size]
        return ""
    text = ""
    if current.st_ino != inode:
        old = AUDIT_LOG.with_name("audit.log.1")
        if old.exists() and old.stat().st_ino == inode:
            text = _whole_lines(old, offset)[0]
        offset = 0
    more, offset = _whole_lines(AUDIT_LOG, offset)
    state["audit"] = [current.st_ino, offset]
    return text + more


def _whole_lines(path: Path, offset: int) -> tuple[str, int]:
    """From there to the end of the last line, or so much of it as one look reads; and where that ended."""
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(_MOST_BYTES)
    end = content.rfind(b"\n") + 1
    return content[:end].decode(errors="replace"), offset + end


def _changes(logged: Iterable[Value]) -> Iterator[Value]:
    for one in audit_log.changes(logged):
        if not _is_passing(one["path"]):
            who = one["auid"] if one["auid"] not in {-1, _UNSET} else one["uid"]
            yield {"at": one["at"], "path": one["path"], "program": one["program"], "user": _user(who)}


_UNSET: Final = 0xFFFF_FFFF


def _is_passing(path: str) -> bool:
    """What the host writes there by itself, and what is written aside."""
    name = path.rpartition("/")[2]
    return bool(egress.GENERATED.search(name)) or ".er-new" in name or name.startswith(".#")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _programs(logged: Iterable[Value], stacks: dict[int, str]) -> Iterator[Value]:
    for one in audit_log.programs(logged):
        if stack := stacks.get(owner(one["uid"])):
            yield {"stack": stack, "path": one["path"], "ran": one["ran"]}


def owner(uid: int) -> int:
    """The number of the stack's user: itself, or whose subordinate range it is of."""
    return uid if uid < facts.FIRST_SLOT * facts.SUBID_SIZE else facts.UID_BASE + uid // facts.SUBID_SIZE
