"""Services: what starts, what listens, what is scheduled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import Check, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Tree

_ETC: Final = "/etc/systemd/system"
_UNIT_FOLDERS: Final = (_ETC, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
# Servers and back doors; the first three rows are in the CIS benchmarks' chapter on services.
_SERVICES: Final = (
    ("apache2", "autofs", "avahi-daemon", "bind9", "bluetooth", "cups", "dovecot", "exim4", "isc-dhcp-server"),
    ("lighttpd", "mariadb", "mysql", "named", "nfs-server", "nginx", "nis", "ntp", "ntpsec", "postfix", "postgresql"),
    ("rpcbind", "rsync", "slapd", "smbd", "snmpd", "squid", "tftpd-hpa", "vsftpd", "xinetd", "ypserv"),
    ("conntrackd", "containerd", "docker", "dockerd", "do-agent", "droplet-agent", "netavark-dhcp-proxy", "podman"),
    ("debug-shell", "podman-restart", "rescue"),
)
_SOCKETS: Final = (
    ("avahi-daemon", "cockpit", "cups", "docker", "netavark-dhcp-proxy", "podman", "rpcbind", "telnet"),
    ("systemd-journal-gatewayd", "systemd-journal-remote"),
)
UNWANTED: Final = frozenset(
    {f"{name}.service" for row in _SERVICES for name in row} | {f"{name}.socket" for row in _SOCKETS for name in row}
)
# Updates must come by themselves: a bake that holds these timers back has to let them go again.
_UPDATE_UNITS: Final = ("apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service")
_OWN_UNITS: Final = frozenset({"er-firewall.service", "er-first-boot.service"})
_CRON: Final = ("/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly")
_SPOOLS: Final = ("/var/spool/cron/crontabs", "/var/spool/cron/atjobs", "/var/spool/at")
_AUTOLOGIN: Final = re.compile(r"^ExecStart=.*(--autologin|-a\s)", re.MULTILINE)
_LISTEN, _UNCONNECTED = "0A", "07"
# SSH, and the client side of DHCP for both families.
_ALLOWED: Final = {("tcp", 22), ("udp", 68), ("udp", 546)}
# Above this, a UDP socket without a peer is a client's: the default of net.ipv4.ip_local_port_range.
_EPHEMERAL: Final = 32_768


def enabled(tree: Tree) -> Iterator[tuple[str, str]]:
    """The links that enable units, and the units they enable."""
    for folder in tree.children(_ETC):
        if folder.endswith((".wants", ".requires", ".upholds")):
            yield from ((path, path.rpartition("/")[2]) for path in tree.children(folder))


def unwanted(tree: Tree) -> Iterator[Hit]:
    """Units that are enabled and should not be: servers, back doors, and units that came with no package."""
    for path, unit in enabled(tree):
        if unit in UNWANTED:
            yield Hit(path, f"enables {unit}")
        elif unit not in _OWN_UNITS and _has_no_package(tree, path, unit):
            yield Hit(path, f"enables {unit}, which came with no package")
    for path in tree.children("/etc/systemd/system", "*getty@*.d"):
        for dropin in tree.children(path, "*.conf"):
            if _AUTOLOGIN.search(tree.text(dropin)):
                yield Hit(dropin, "logs somebody in on a console")


def _has_no_package(tree: Tree, path: str, unit: str) -> bool:
    if tree.link(path) == "/dev/null":
        return False
    name = re.sub(r"@.*\.", "@.", unit)
    found = [f"{folder}/{file}" for folder in _UNIT_FOLDERS for file in {unit, name}]
    existing = [candidate for candidate in found if tree.exists(candidate)]
    return not any(
        candidate in tree.owners or tree.ours(candidate) or _alias(tree, candidate) for candidate in existing
    )


def _alias(tree: Tree, path: str) -> bool:
    """Whether a unit file is another name of one that a package has."""
    real = f"/{tree.where(path).relative_to(tree.root)}"
    return tree.link(path) is not None and real in tree.owners


def held_back(tree: Tree) -> Iterator[Hit]:
    """Updates that were switched off for the build."""
    for unit in _UPDATE_UNITS:
        path = f"{_ETC}/{unit}"
        if tree.link(path) == "/dev/null" or (tree.exists(path) and not tree.content(path)):
            yield Hit(path, f"masks {unit}")
    for path in tree.children("/etc/apt/preferences.d"):
        if path not in tree.owners and any("Pin-Priority: -" in line for line in tree.lines(path)):
            yield Hit(path, "keeps packages from being installed")
    for name, state in sorted(tree.packages.items()):
        if state.startswith("hold "):
            yield Hit("/var/lib/dpkg/status", f"{name} is held at its version")


def scheduled(tree: Tree) -> Iterator[Hit]:
    """Jobs that somebody has planned."""
    for folder in _SPOOLS:
        for entry in tree.files(folder):
            if tree.lines(entry.path) and entry.name != ".SEQ":
                yield Hit(entry.path, "a job of a user")
    for folder in _CRON:
        for path in tree.children(folder):
            if path not in tree.owners and not tree.ours(path) and tree.lines(path):
                yield Hit(path, "a job that came with no package")
    if tree.exists("/etc/rc.local") and "/etc/rc.local" not in tree.owners:
        yield Hit("/etc/rc.local", "is run at every boot")


def listening(tree: Tree, proc: Path = Path("/proc")) -> Iterator[Hit]:
    """Ports that answer beyond this machine; `proc` is for tests."""
    del tree
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        table = proc / "net" / kind
        text = table.read_text() if table.is_file() else ""
        for protocol, port, inode in sockets(kind, text):
            if (protocol, port) not in _ALLOWED:
                yield Hit("-", f"{protocol} port {port} is open to others, by {_process_of(proc, inode)}")


def sockets(kind: str, text: str) -> Iterator[tuple[str, int, str]]:
    """Protocol, port and inode of what others reach, from the text of /proc/net/tcp and its kin (proc(5))."""
    protocol = kind[:3]
    open_state = _LISTEN if protocol == "tcp" else _UNCONNECTED
    for row in (line.split() for line in text.splitlines()[1:]):
        address, _, hexport = row[1].partition(":")
        port = int(hexport, 16)
        client = protocol == "udp" and port >= _EPHEMERAL
        if row[3] == open_state and not client and not _is_loopback(address):
            yield protocol, port, row[9]


def _is_loopback(address: str) -> bool:
    """The kernel prints words in the machine's order: 127.x ends in 7F; ::1 and mapped 127.x likewise."""
    if len(address) == 8:
        return address.endswith("7F")
    return address == "00000000000000000000000001000000" or (
        address.startswith("0000000000000000FFFF0000") and address.endswith("7F")
    )


def _process_of(proc: Path, inode: str) -> str:
    socket = f"socket:[{inode}]"
    for process in proc.glob("[0-9]*"):
        try:
            if any(str(link.readlink()) == socket for link in (process / "fd").iterdir()):
                return (process / "comm").read_text().strip()
        except OSError:
            continue  # It has ended meanwhile.
    return "nobody that can be seen"


CHECKS: Final = (
    Check(
        "unwanted-units",
        "Units that are enabled and should not be",
        "servers listen, back doors wait, and a unit of no package came from the build",
        "goss: services; CIS 2.1",
        "systemctl disable",
        unwanted,
    ),
    Check(
        "updates-held-back",
        "Updates switched off for the build",
        "the machine would never update itself",
        "none",
        "systemctl unmask, apt-mark unhold",
        held_back,
    ),
    Check(
        "scheduled-jobs",
        "Jobs of cron, at and rc.local",
        "what the build planned would run on every machine",
        "CIS 2.4",
        "remove the job",
        scheduled,
    ),
    Check(
        "listening-ports",
        "Ports open to others",
        "only sshd answers while an image is made",
        "CIS 2.1",
        "stop and disable the service",
        listening,
        "live",
    ),
)
