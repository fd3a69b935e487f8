"""The points of a first boot at which the power is cut, found in a first boot that was not cut, named in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.machine.cuts.disk_events import Event

# What is random, or a number of this boot, in the names of files.
_RANDOM: Final = (
    (re.compile(r"^/var/lib/cloud/instances/[^/]+/"), "/var/lib/cloud/instance/"),
    (re.compile(r"(?<=^/etc/sed)\w{6}$"), "*"),
    (re.compile(r"(?<=/\.#)([a-z.]+?)[0-9a-f]{16}$"), r"\1*"),
    (re.compile(r"(?<=\.json)\d+$"), "*"),
    (re.compile(r"(?<=[a-z]\.)\d+$"), "*"),
    (re.compile(r"(?<=/)\d{6,}$"), "*"),
    (re.compile(r"(?<=/)[0-9a-f]{32,}(?=/|$)"), "*"),
    (re.compile(r"^/var/lib/easyrunner/home/(\w+)/.local/share/containers/storage/"), r"\1's storage/"),
)
_SCRIPT: Final = re.compile(r"/usr/lib/easyrunner/(\S+)(?: /etc/easyrunner/stacks/(\w+)/)?")


@dataclass(frozen=True, slots=True)
class Row:
    """Events whose name has `pattern`; of them every `each`-th."""

    pattern: str
    each: int = 1


# Every step of what we run, and a bounded part of what others do. What is asked again and again until something else
# has happened (date, sleep, curl …) is no point: how often is chance. Nor is the dynamic linker, as every program
# starts with it.
_WAITING: Final = "basename|curl|cut|date|getent|id|sed|setpriv|sleep|sort|tr"
ROWS: Final = (
    Row("^systemd makes /etc/machine-id$"),
    Row("^cloud-init makes .*(obj.pkl|user-data.txt|/datasource|90-cloud-init-users)$"),
    Row("^cloud-init makes /home/.*authorized_keys$"),
    Row("^cloud-init makes .*/sem/", 8),
    Row("^cloud-init makes (/etc/(?!sudoers.d/90)|/usr/)", 25),
    Row("^cloud-init runs (useradd|ssh-keygen)$"),
    Row("^(useradd|passwd|chage) makes [^(]*$", 4),
    Row("^ssh-keygen makes ", 2),
    Row("^sed makes ", 4),
    Row("^systemd-sysusers makes /etc/.#", 6),
    Row("^(runcmd runs|provision makes) "),
    Row("^systemd runs /usr/lib/easyrunner/(first-boot|firewall)"),
    Row("^provision runs (?!ld-linux|sed|cat|sort|comm)", 3),
    Row("^firewall runs (?!ld-linux)", 12),
    Row(f"^first-boot runs (?!ld-linux|dash|({_WAITING}))"),
    Row("^users (runs (?!ld-linux|cat|grep)|makes )[^(]*$"),
    Row("^systemd-logind makes ", 2),
    Row("^load-images .*runs podman", 4),
    Row("^podman pull .*storage/overlay-layers/.tmp-layers", 4),
    Row("^podman (pull|tag) .*storage/overlay-images/.tmp-images", 6),
    Row("^caddy makes /data/caddy/(pki|certificates)", 6),
)

# The same while a stock image's packages are being installed. Downloads run side by side: their order is chance.
INSTALLING: Final = (
    Row(r"^provision runs (dpkg|apt-get)( |$)"),
    Row("^apt-get makes /var/cache/apt/archives/lock"),
    Row("^dpkg-deb runs tar", 6),
    Row("^dpkg makes /(etc|usr)/", 300),
    Row(r"^dpkg runs \S+\.(post|pre)inst", 2),
    Row("^sh runs (?!ld-linux)", 12),
)


def name(event: Event) -> str:
    """The event in words, without what is chance."""
    what = event.path
    for pattern, instead in _RANDOM:
        what = pattern.sub(instead, what)
    if event.kind == "runs" and not what.startswith("/usr/lib/easyrunner/"):
        what = what.rpartition("/")[2]
    return f"{_actor(event.command)} {event.kind} {what}"


def _actor(command: str) -> str:
    if found := _SCRIPT.search(command):
        return " of ".join(filter(None, found.groups()))
    words = command.split() or ["?"]
    if "cloud-init" in command.partition("--")[0]:
        return "cloud-init"
    program = "systemd" if words[0].startswith("(") else words[0].rpartition("/")[2]
    return f"podman {words[1]}" if program == "podman" and len(words) > 1 else program


def numbered(events: Iterable[Event]) -> list[tuple[str, float]]:
    """Name and second of each event; what comes again is numbered."""
    counter = Counter()
    return [(counter.next(name(event)), event.seconds) for event in events]


class Counter:
    """Tells the first of a name from the second."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def next(self, text: str) -> str:
        """The name of this one: the second and later have their number in it."""
        self._seen[text] = count = self._seen.get(text, 0) + 1
        return text if count == 1 else f"{text} ({count})"


def chosen(events: Iterable[Event], rows: tuple[Row, ...] = ROWS) -> list[str]:
    """The points out of the events of a first boot, in their order."""
    names = [named for named, _ in numbered(events)]
    picked: set[str] = set()
    for row in rows:
        picked.update([named for named in names if re.search(row.pattern, named)][:: row.each])
    return [named for named in names if named in picked]
