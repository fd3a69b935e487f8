"""Who is told: a webhook and a heartbeat over HTTP, and a mail server with STARTTLS and a login.

    python receivers.py DIRECTORY ADDRESS HTTP_PORT SMTP_PORT

What comes is a line of JSON in DIRECTORY/received each. While DIRECTORY/down exists, HTTP answers 503.
The mail server is small and real: no mail without TLS, none without the password in DIRECTORY/password.
"""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DIRECTORY = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
_LOCK = threading.Lock()


def note(**what: object) -> None:
    """What came, on the disk before the sender gets its answer."""
    with _LOCK, (DIRECTORY / "received").open("a") as file:
        file.write(json.dumps({"came": time.time(), **what}) + "\n")


class Webhook(BaseHTTPRequestHandler):
    """Takes everything that is posted."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_down = (DIRECTORY / "down").exists()
        if not is_down:
            note(by="http", path=self.path, headers=dict(self.headers), body=body)
        self.send_response(503 if is_down else 200)
        self.end_headers()
        self.wfile.write(b"out of order" if is_down else b"ok")

    def do_GET(self) -> None:
        """Anything to download."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"#!/usr/bin/python3\nprint('owned')\n")

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Mail(socketserver.StreamRequestHandler):
    """One connection, with as much of SMTP as a submission takes."""

    def handle(self) -> None:
        self.secure = self.known = False
        self.to: list[str] = []
        self.say("220 mail ESMTP")
        while line := self.rfile.readline().decode(errors="replace").strip():
            if not self.answer(line):
                return

    def say(self, text: str) -> bool:
        self.wfile.write(f"{text}\r\n".encode())
        self.wfile.flush()
        return True

    def answer(self, line: str) -> bool:
        verb = line.split(maxsplit=1)[0].upper()
        if verb == "EHLO":
            return self.say("250-mail\r\n250 " + ("AUTH PLAIN LOGIN" if self.secure else "STARTTLS"))
        if verb == "STARTTLS":
            return self.encrypt()
        if verb == "QUIT":
            self.say("221 bye")
            return False
        if not self.secure:
            return self.say("530 STARTTLS first")
        if verb == "AUTH":
            return self.login(line)
        if not self.known:
            return self.say("530 log in first")
        if verb == "RCPT":
            self.to.append(line.partition(":")[2].strip("<> "))
        if verb == "DATA":
            return self.take()
        return self.say("250 ok")

    def encrypt(self) -> bool:
        self.say("220 go on")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(DIRECTORY / "mail.pem")
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.secure = True
        return True

    def login(self, line: str) -> bool:
        _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
        self.known = f"{user}:{password}" == (DIRECTORY / "password").read_text()
        return self.say("235 welcome" if self.known else "535 authentication failed")

    def take(self) -> bool:
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line)
        note(by="mail", to=self.to, body=b"".join(lines).decode())
        return self.say("250 taken")


class Server(socketserver.ThreadingTCPServer):
    """Of mail."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    address, http_port, smtp_port = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    threading.Thread(target=Server((address, smtp_port), Mail).serve_forever, daemon=True).start()
    ThreadingHTTPServer((address, http_port), Webhook).serve_forever()
