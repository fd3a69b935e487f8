"""A server on a socket that is passed (`fd`), that it makes at a path, or at a port; it ends what it has begun."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, ThreadingTCPServer, UnixStreamServer

STARTED = time.monotonic_ns()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(1)
        body = f"{file_of(serving.socket) if self.path == '/file' else os.getuid()} {STARTED}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "proxy"


def file_of(listening: socket.socket) -> str:
    try:
        return str(fcntl.ioctl(listening, 0x89E0))  # SIOCUNIXFILE
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class UnixServer(ThreadingMixIn, UnixStreamServer):
    request_queue_size = 100


def server(where: str) -> UnixServer | ThreadingTCPServer:
    os.umask(0o022)
    if where.isdigit():
        return ThreadingTCPServer(("127.0.0.1", int(where)), Handler)
    made = UnixServer(where, Handler, bind_and_activate=where != "fd")
    if where == "fd":
        assert (os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"]) == (str(os.getpid()), "1")
        made.socket.close()
        made.socket = socket.socket(fileno=3)
    return made


serving = server(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=serving.shutdown).start())
serving.serve_forever(0.05)
serving.server_close()
