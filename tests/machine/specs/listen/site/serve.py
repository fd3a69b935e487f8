"""A small server on a socket that is passed (`fd`) or made at a path; it ends what it has begun before it ends itself."""

from __future__ import annotations

import os
import signal

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # process 1 has no default for it

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer

STARTED = time.monotonic_ns()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(1)
        body = f"{os.getuid()} {STARTED}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "proxy"


class Server(ThreadingUnixStreamServer):
    request_queue_size = 100
    daemon_threads = False

    def __init__(self, where: str) -> None:
        os.umask(0o022)
        super().__init__(where, Handler, bind_and_activate=where != "fd")
        if where == "fd":
            assert (os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"]) == (str(os.getpid()), "1")
            self.socket.close()
            self.socket = socket.socket(fileno=3)


server = Server(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(0.05)
server.server_close()
