"""Needs its database when it starts; says what it got; answers an upgrade with each line again."""

import hashlib
import http.server
import signal
import socket
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
socket.create_connection(("db", 3000), 5).close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.close_connection = True
            for line in iter(self.rfile.readline, b""):
                self.wfile.write(line)
        else:
            self._say(b"hello\n")

    def do_POST(self) -> None:
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            part = self.rfile.read(min(left, 65536))
            if not part:
                return
            digest.update(part)
            left -= len(part)
        self._say(f"{digest.hexdigest()}\n".encode())

    def _say(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words: object) -> None:
        pass


http.server.ThreadingHTTPServer(("", 3000), Handler).serve_forever()
