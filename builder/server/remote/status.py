"""The state of the host: services, stacks, ports, certificates, disk, memory, load, updates, bans."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import (
    bans,
    common,
    egress,
    held,
    host_secrets,
    image_updates,
    release_record,
    secrets,
    shared_certificates,
    sleepers,
)
from builder.server.remote.backup import backup, backup_state, restic, restore
from builder.server.remote.deploy import deploy_key
from builder.server.remote.images import first_images, images, kept_images, registries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value

_SERVICES: Final = ("er-firewall", "er-first-boot", "fail2ban", "ssh", "systemd-resolved", "unattended-upgrades")


def status() -> Value:
    """Everything at once; sizes are in bytes, times in seconds."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    services = _services()
    return {
        "name": common.server_env().get("NAME", ""),
        "booted": int(time.time() - uptime),
        "uptime": int(uptime),
        "move": moved(),
        "load": list(os.getloadavg()),
        "cores": os.cpu_count(),
        "memory": memory(),
        "disk": disk("/"),
        "data": _data(),
        "shared_certificates": shared_certificates.state(),
        "full": is_full(),
        "files_full": is_full("files_"),
        "firewall": common.firewall_loaded(),
        "services": services,
        "proxy": common.unit("er-proxy.service", facts.PROXY_USER, uptime),
        "proxy_image": images.proxy_image(),
        "stacks": [_stack(name, uptime) for name in common.stacks()],
        "logins": registries.registry_list(),
        "egress": egress.egress(),
        "ports": sorted(listening(), key=lambda port: (port["port"], port["protocol"])),
        "certificates": sorted(certificates(), key=lambda one: one["days"]),
        "updates": updates(),
        "reboot_needed": Path("/run/reboot-required").exists(),
        "host_keys": list(host_keys()),
        "deploys": deploys(),
        "backup": backups(),
        "untold": host_secrets.missing("notify"),
        "restores": restores(),
        "waits_for_data": common.waits_for_data(),
        "jails": bans.jails() if services["fail2ban"] == "active" else [],
        "image_updates": image_updates.state(),
    }


def moved() -> Value | None:
    """Of a host whose stacks are stopped for `er server move`: the `phase` of that, and `to` whom it was moved."""
    state = held.state()
    return {"phase": state.get("phase", ""), "to": state.get("to", "")} if held.is_held() else None


def host_keys() -> Iterator[Value]:
    """The public keys by which ssh knows this host: `type`, `key` in base64, `fingerprint`."""
    for path in sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub")):
        kind, blob, *_ = path.read_text().split()
        yield {"type": kind, "key": blob, "fingerprint": deploy_key.fingerprint(blob)}


def deploys() -> Value:
    """How many `keys` may deploy something here, and whether they are `served`: they wait for an `er server apply`."""
    has_keys = Path(facts.DEPLOY_KEYS).exists()
    return {"keys": len([*deploy_key.keys()]) if has_keys else 0, "served": Path(facts.REMOTE_CODE).exists()}


def backups() -> Value | None:
    """How backups went, by `stacks` that have any, and what they lack; None where the spec has none."""
    if not restic.is_configured():
        return None
    state, since = backup_state.read(), Path(facts.BACKUP).stat().st_mtime
    stacks = [
        {"stack": name, **state["stacks"].get(name, {}), "drill": state["drill"].get(name, {})}
        for name in backup.included()
    ]
    late = time.time() - facts.BACKUP_LATE
    return {
        "to": restic.settings()["repository"],
        "missing": host_secrets.missing("backup"),
        "served": Path(facts.REMOTE_CODE).exists(),
        "stacks": [{**one, "late": one.get("good_at", since) < late} for one in stacks],
        "run": state["run"],
    }


def restores() -> list[Value]:
    """What restores have left that nobody has confirmed or taken back, by `stack`: see `restore.kept`."""
    return [{"stack": name, **found} for name in common.stacks() if (found := restore.kept(name))]


_MEMINFO: Final = re.compile(r"^(MemTotal|MemAvailable|SwapTotal|SwapFree): +(\d+) kB$", re.MULTILINE)


def memory() -> dict[str, int]:
    """Bytes: total, available, swap_total, swap_free."""
    found = {key: int(value) * 1024 for key, value in _MEMINFO.findall(Path("/proc/meminfo").read_text())}
    names = {"MemTotal": "total", "MemAvailable": "available", "SwapTotal": "swap_total", "SwapFree": "swap_free"}
    return {name: found.get(key, 0) for key, name in names.items()}


def disk(path: str) -> dict[str, int]:
    """Bytes: total, used, free to users; and how many more files it can take."""
    return {
        **shutil.disk_usage(path)._asdict(),
        "files_total": (found := os.statvfs(path)).f_files,
        "files_free": found.f_favail,
    }


def is_full(what: str = "") -> bool:
    """Whether too little of a disk is free, also of that for data; with `files_`, whether it takes too few files."""
    spaces = [disk(path) for path in ("/", facts.DATA) if Path(path).is_dir()]
    if what:
        return any(space[f"{what}free"] < facts.LEAST_FREE * space[f"{what}total"] for space in spaces)
    return any(space["free"] < common.wanted_free(space["total"]) for space in spaces)


def _data() -> Value | None:
    """The disk for data, with its room once it is mounted; None where data lies on the machine's own disk."""
    found = common.data_disk()
    return {**found, **disk(facts.DATA)} if found and found["device"] else found


def _services() -> dict[str, str]:
    """The ActiveState of each."""
    states = common.run(["systemctl", "is-active", *(f"{name}.service" for name in _SERVICES)], check=False)
    return dict(zip(_SERVICES, states.split(), strict=True))


def _stack(name: str, uptime: float) -> Value:
    user = common.user_of(name)
    sleeping = sleepers.of_stack(name)
    units = [
        {
            "service": service,
            "public": sleeping[service].unit.is_public if service in sleeping else kind in common.PUBLIC,
            **common.unit(unit, user, uptime),
            "sleep": sleeping[service].as_value() if service in sleeping else None,
        }
        for kind, service, unit in common.services(name)
    ]
    missing, trouble = _missing_secrets(name)
    return {
        "stack": name,
        "services": units,
        "lacking": missing,
        "refusals": registries.refusals(name),
        "unbuilt": first_images.waiting(name),
        "releases": release_record.current(name),
        "lost": kept_images.lost(name),
        "unkept": unkept._asdict() if (unkept := kept_images.missing(name)) else None,
        "trouble": trouble,
        "pressure": pressure(name),
    }


def _missing_secrets(name: str) -> tuple[dict[str, list[str]], str]:
    """The secrets that a stack waits for and the services that do, or why its Podman does not answer."""
    try:
        return secrets.missing(name), ""
    except common.RemoteError as error:
        return {}, str(error)


def listening() -> Iterator[Value]:
    """Sockets that other machines could reach if the firewall let them."""
    for line in common.run(["ss", "-Htuln"]).splitlines():
        protocol, _, _, _, local = line.split()[:5]
        address, _, port = local.rpartition(":")
        if not address.strip("[]").split("%")[0].startswith(("127.", "::1")):
            yield {"protocol": protocol, "address": address, "port": int(port)}


def certificates() -> Iterator[Value]:
    """Each certificate that Caddy keeps: domain, issuer, seconds and whole days left, whether its renewal is late."""
    for domain, found in shared_certificates.certificates():
        left = ssl.cert_time_to_seconds(found["notAfter"]) - time.time()
        issuer = dict(pair for part in found["issuer"] for pair in part).get("commonName", "")
        days = int(left // 86_400)
        late = days < facts.LEAST_DAYS if facts.INTERNAL_ISSUER not in issuer else left < 0
        yield {"domain": domain, "issuer": issuer, "seconds": int(left), "days": days, "late": late}


def updates() -> Value:
    """Packages that can be upgraded, as of the last apt-get update, and when that was in seconds since 1970."""
    planned = common.run(["apt-get", "-s", "-o", "Debug::NoLocking=true", "dist-upgrade"], check=False)
    lines = [line for line in planned.splitlines() if line.startswith("Inst ")]
    stamp = Path("/var/lib/apt/lists")
    return {
        "pending": len(lines),
        "security": sum("ecurity" in line for line in lines),
        "checked": int(stamp.stat().st_mtime) if stamp.exists() else None,
    }


_CGROUPS: Final = Path("/sys/fs/cgroup")
# A file for each stack that was stopped because it filled the disk: how many KiB it holds.
_STOPPED_FOR_ROOM: Final = Path(facts.RUN, "room")


def pressure(stack: str) -> Value:
    """How often a stack met its limits: processes `killed` for want of memory, `forks` refused.

    Both are the kernel's counts for the whole stack, so they outlive a restart of its services. `filled` is the bytes
    that it held when it was stopped because the disk was full, else None.
    """
    group = _cgroup(common.stack_user(stack))
    filled = common.read_number(str(_STOPPED_FOR_ROOM / stack))
    return {
        "killed": count(_read(group / "memory.events"), "oom_kill"),
        "forks": forks_refused(group),
        "filled": None if filled is None else filled * 1024,
    }


def _cgroup(user: str) -> Path:
    unit = f"user@{common.uid(user)}.service"
    # Of one that does not run nothing is counted.
    return _CGROUPS / (common.show(unit, "ControlGroup").get("ControlGroup", "").lstrip("/") or unit)


def forks_refused(group: Path) -> int:
    """Before Linux 6.11 a refusal counts only in the group that has the limit, since then in every group above too."""
    events = [count(_read(path), "max") for path in (group / "pids.events", *group.glob("*/*/pids.events"))]
    return max(events[0], sum(events[1:]))


def count(text: str, name: str) -> int:
    """A number of one of the kernel's files of `NAME NUMBER` lines, 0 where it is missing."""
    found = dict(line.split(maxsplit=1) for line in text.splitlines())
    return int(found.get(name, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
