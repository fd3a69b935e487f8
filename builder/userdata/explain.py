"""What each part of the user-data does, in words."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.providers import Encoding
from builder.userdata.cloudconfig import PARTS, around, block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.host import File, Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On
    from builder.userdata.delivery import Delivery


FORMS: Final = {
    (Encoding.PLAIN, False): "a readable cloud-config",
    (Encoding.MIME, False): "a MIME multipart in ASCII: the cloud-config, compressed",
    (Encoding.MIME, True): "a MIME multipart in ASCII: the cloud-config, compressed; what stacks share is there once",
    (Encoding.GZIP, True): "the cloud-config as raw gzip; what stacks share is there once",
    (Encoding.PACKED, False): "a cloud-config in ASCII whose files are one compressed block",
    (Encoding.SCRIPT, False): "a launch script that brings the cloud-config along, compressed",
}
_GROUPS: Final = {
    "firewall": "rules of both address families, and the program that loads them; without rules only SSH is open",
    "Caddy": "the proxy: its container, its sockets, its configuration and the sites",
    "Fail2Ban": "what counts as an attempt, and how long a ban lasts",
    "SSH": "keys only, no root, today's algorithms",
    "provisioning and first boot": "install packages, load the firewall, make users, start the stacks, report",
    "system settings": "kernel, journal, updates and what else every host has",
}


def explain(spec: Spec, host: Host, delivery: Delivery) -> Iterator[tuple[str, str]]:
    """Pairs of a part and what it does, in the order of their effect."""
    yield "the whole", FORMS[delivery.encoding, delivery.shared]
    if delivery.shared:
        yield "## template: jinja", "cloud-init writes out a table of the stacks before it reads the cloud-config"
    yield (
        "bootcmd",
        f"until {facts.STATE}/complete exists, each boot does everything again: the power may go at any time",
    )
    if delivery.encoding is Encoding.PACKED:
        yield "bootcmd", "unpacks the files, at the moment when write_files would write them"
    yield "hostname", f"the server is called {spec.server.name}"
    yield "users", f"{spec.admin.name}, with sudo and {len(spec.admin.ssh_keys)} SSH key(s), before SSH shuts out root"
    yield "disable_root", "root's keys no longer open a shell"
    yield "ssh_genkeytypes", "the host makes itself an Ed25519 key, and no other"
    yield (
        "the block" if delivery.encoding is Encoding.PACKED else "write_files",
        f"{_count(host, delivery)} files, owned by root:",
    )
    for group in sorted(groups(spec, host, delivery.on, delivery.used, compressed=False), key=lambda one: one.name):
        if group.name != SETTINGS:
            words = _GROUPS.get(group.name, "its user, directories, units, firewall rules and site")
            yield f"  {group.name}", f"{group.files} files: {words}"
    yield "runcmd", _RUN[delivery.on]


_RUN: Final = {
    "stock": "installs the packages, then starts everything; it ends when every stack has answered",
    "baked": "starts everything, as the image has the packages; it ends when every stack has answered",
}


def _count(host: Host, delivery: Delivery) -> int:
    return len(host.only(*PARTS[delivery.on]))


SETTINGS: Final = "admin, keys, settings"
_REST: Final = "system settings"
# The first row whose words are in the path says which group a file of the host itself belongs to.
_GROUPS_space: Final = (
    ("firewall", ("firewall",)),
    ("Caddy", ("/caddy/", f"/{facts.PROXY_UID}", f"@{facts.PROXY_UID}")),
    ("Fail2Ban", ("/fail2ban/",)),
    ("SSH", ("/ssh/",)),
    ("provisioning and first boot", (facts.LIB, "er-first-boot", "server.env")),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Something that takes space: its name, how many bytes of the limit, about, and what it is in files."""

    name: str
    used: int
    files: int
    raw: int


def group(file: File) -> str:
    """The group of a file."""
    if file.stack:
        return f"stack {file.stack}"
    return next((name for name, words in _GROUPS_space if any(word in file.path for word in words)), _REST)


def groups(spec: Spec, host: Host, on: On, used: int, *, compressed: bool) -> tuple[Group, ...]:
    """The groups of a delivery that takes `used`, largest first; the sizes add up to it.

    Compressed, a group counts what it adds to the groups before it, so that text it shares with them is theirs.
    """
    texts: dict[str, list[str]] = {SETTINGS: ["".join(around(spec, ascii_only=compressed))]}
    for file in sorted(host.only(*PARTS[on]), key=lambda file: bool(file.stack)):
        texts.setdefault(group(file), []).append(block(file, ascii_only=compressed))
    raw = {name: "".join(blocks).encode() for name, blocks in texts.items()}
    sizes = _added(raw) if compressed else {name: len(content) for name, content in raw.items()}
    scale = used / sum(sizes.values())
    found = (
        Group(name, round(size * scale), len(texts[name]) - (name == SETTINGS), len(raw[name]))
        for name, size in sizes.items()
    )
    return tuple(sorted(found, key=lambda one: -one.used))


def _added(raw: dict[str, bytes]) -> dict[str, int]:
    stream = zlib.compressobj(9)
    return {name: len(stream.compress(content) + stream.flush(zlib.Z_SYNC_FLUSH)) for name, content in raw.items()}
