"""Asks by whatever bytes it is told; runs wherever there is Python. A list of questions on stdin, answers on stdout.

A question: `to`, `port`, `path`, and what it likes of `family`, `source` (an address), `first` (hex, sent before all
else), `tls` (a name, for whose certificate nobody looks), `host` and `headers` (whole lines).
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from typing import Any


def main() -> None:
    """Answer all: of each the status, or what went wrong, and the body."""
    print(json.dumps([_ask(question) for question in json.load(sys.stdin)]))


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    try:
        return _asked(question)
    except OSError as error:
        return {"status": 0, "body": type(error).__name__}


def _asked(question: dict[str, Any]) -> dict[str, Any]:
    source = (question["source"], 0) if question.get("source") else None
    with socket.create_connection((question["to"], question["port"]), timeout=10, source_address=source) as plain:
        plain.sendall(bytes.fromhex(question.get("first", "")))
        name = question.get("tls")
        connection = _secure(name).wrap_socket(plain, server_hostname=name) if name else plain
        lines = [f"GET {question['path']} HTTP/1.1", f"Host: {question['host']}", "Connection: close"]
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, *question.get("headers", ()), "")).encode())
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
    head, _, body = text.partition("\r\n\r\n")
    words = head.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return {"status": status, "head": head, "body": body}


def _secure(name: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


main()
