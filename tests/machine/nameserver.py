"""A name server for tests: answers from a JSON file, {name: [addresses]}, that is read for every question.

A name that is not in it does not exist; one with the value null is never answered. As a program: `nameserver.py FILE
ADDRESS…`; knows nothing of the project, needs only Python.
"""

from __future__ import annotations

import ipaddress
import json
import selectors
import socket
import struct
import sys
from pathlib import Path

_A, _AAAA, _NO_SUCH_NAME = 1, 28, 3


def answer(query: bytes, table: dict[str, list[str] | None]) -> bytes | None:
    """The answer to one question, or None for silence."""
    name, end = _name(query)
    kind = struct.unpack("!H", query[end : end + 2])[0]
    if name in table and table[name] is None:
        return None
    addresses = [ipaddress.ip_address(text) for text in table.get(name) or ()]
    found = [one.packed for one in addresses if {4: _A, 6: _AAAA}[one.version] == kind]
    flags = 0x8580 | (0 if name in table else _NO_SUCH_NAME)
    head = query[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0)
    # 0xC00C points at the name of the question; nobody is to keep the answer.
    records = (struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(data)) + data for data in found)
    return head + query[12 : end + 4] + b"".join(records)


def _name(query: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode().lower())
        at += size + 1
    return ".".join(labels), at + 1


def main() -> None:
    """Answer until stdin ends."""
    file = Path(sys.argv[1])
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    for address in sys.argv[2:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM)
        bound.bind((address, 53))
        selector.register(bound, selectors.EVENT_READ)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for key, _ in selector.select():
            if not isinstance(key.fileobj, socket.socket):
                return
            query, source = key.fileobj.recvfrom(2000)
            if said := answer(query, json.loads(file.read_text())):
                key.fileobj.sendto(said, source)


if __name__ == "__main__":
    main()
