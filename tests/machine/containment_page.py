"""What attacks from inside containers have shown, as data and as a page of the docs; a run with UPDATE=1 writes both.

A test, on any kind of machine, hands in the rows of its section; they are compared with the data, or replace it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from tests.machine.hosts import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATA: Final = ROOT / "docs" / "containment.json"
PAGE: Final = ROOT / "docs" / "containment.md"
_NETWORK: Final = """\
From inside the containers of two stacks, `blog` and `shop`, one at a time, over both families. *counted* is what
`er server status` then shows for that stack; the other stack's count did not move in any row. What a container's own
network refuses never reaches the host, and is not counted."""
# Section -> title, what it is about, columns. The keys of a row are the columns.
_RESOURCES: Final = """\
From inside a container, on a guest with a kernel of its own and one processor. Meanwhile two other stacks answered each
request with 200, and an admin who came anew over SSH got in every time."""
_CAPABILITIES: Final = """\
In three containers of the stack `yard` that share a volume, all in its own user namespace: what images need that start
as root and become a user of their own is `done` under `standard`. It stays in the stack: what has got another owner
belongs to ids of the stack's range, a port is one of the container's network, and nobody else on the host can run the
setuid program, neither another stack nor an admin. Afterwards no file of the host, no setting of its kernel and no
process of the other stack had changed, and links that lay in the stack's directories at a restart led nowhere."""
_CLIENT: Final = """\
Not an app: a client with one address, or a network of 64 bits in IPv6, beside a visitor of the same site on another
address, to whom every request was answered with 200. Caddy takes 250 requests on each connection of HTTP/2, and has no
setting for it."""
_BUILDS: Final = """\
By what is built on the server for a stack, with [--on-server](own-apps.md#building-on-the-server). Meanwhile another
stack answered each request with 200, and the push said why the build had ended."""
_LISTEN: Final = """\
By apps that [listen on a socket](listen.md) of their own. Those in place of which there was something else answered 502
to visitors, and nothing of the neighbour's; with a link where the proxy itself looks, the neighbour's app answered."""
SECTIONS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "network": (
        "Ways out",
        _NETWORK,
        ("attempt", "IPv4", "IPv6"),
    ),
    "inside": (
        "Rights, files, kernel",
        "By a program in the container of `blog`, which is root there. The error is what the kernel answered.",
        ("attempt", "outcome"),
    ),
    "capabilities": (
        "What a container's root may",
        _CAPABILITIES,
        ("attempt", "root, `standard`", "root, `strict`", "another user, `standard`"),
    ),
    "user": (
        "Out of the container",
        "As the stack's own user on the host, as if the container were left behind.",
        ("attempt", "outcome"),
    ),
    "listen": (
        "Sockets of its own",
        _LISTEN,
        ("attempt", "outcome"),
    ),
    "builds": (
        "What is built on the server",
        _BUILDS,
        ("the build", "what it comes to"),
    ),
    "client": (
        "One client from outside",
        _CLIENT,
        ("attempt", "what it comes to"),
    ),
    "resources": (
        "Taking all there is",
        _RESOURCES,
        ("attempt", "stopped by", "`er server status`", "the stack afterwards"),
    ),
}
# What of the section `capabilities` works under `standard`, as it is there for; whatever else works is a finding.
MAY: Final = {
    "give a file to another user",
    "another user's id",
    "root's id",
    "another group's id",
    "read what another user has locked",
    "change what another user has locked",
    "the setgid bit of another group",
    "a program that is setuid, in a volume",
    "end a process of another user",
    "a port below 1024",
}
# Anybody may: their own files, the own network's ports; root is root already.
ANYBODY: Final = {"a program that is setuid, in a volume", "a port below 1024"}
_HEAD: Final = """# What an app that was taken over can do

Made by the tests (`UPDATE=1 .venv/bin/pytest tests/machine/test_containment.py tests/machine/test_capabilities.py`, and
its neighbours there):
each row is tried on a booted host, and compared with this table at every run. What takes a virtual machine, `make
attacks` adds. How `egress:` works is in [egress.md](egress.md).
"""

Row = dict[str, str]


def settle(section: str, rows: Sequence[Row]) -> None:
    """Compare what a run has seen with the data, or with UPDATE=1 write it."""
    known = json.loads(DATA.read_text()) if DATA.exists() else {}
    if os.environ.get("UPDATE"):
        found = {**known, section: list(rows)}
        ordered = {name: found[name] for name in SECTIONS if name in found}
        DATA.write_text(json.dumps(ordered, indent=2) + "\n")
        PAGE.write_text(page(ordered))
    else:
        assert list(rows) == known.get(section), section


def page(data: Mapping[str, Sequence[Row]]) -> str:
    """The content of PAGE."""
    return _HEAD + "".join(_section(name, rows) for name, rows in data.items())


def _section(name: str, rows: Sequence[Row]) -> str:
    title, about, columns = SECTIONS[name]
    lines = [columns, tuple("---" for _ in columns), *(tuple(row[column] for column in columns) for row in rows)]
    return f"\n## {title}\n\n{about}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
