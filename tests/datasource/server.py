"""The process of a metadata service: started in the provider's namespace, it answers and records every request.

Called with a file of values (JSON) and the file to record in (a JSON line a request); says `ready` on its output.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from tests.datasource import instance
from tests.datasource.protocol import Request, Response, answer
from tests.datasource.services import SERVICES

if TYPE_CHECKING:
    from tests.datasource.protocol import Routes


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes: ClassVar[Routes] = ()
    record: ClassVar[Path]
    lock: ClassVar[threading.Lock] = threading.Lock()

    def _do(self) -> None:
        url = urlsplit(self.path)
        local = self.connection.getsockname()
        request = Request(
            self.command,
            url.path,
            url.query,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            local[0].removeprefix("::ffff:"),
            local[1],
            self.client_address[1],
        )
        response = answer(self.routes, request)
        self._record(request, response)
        self._send(response)

    do_GET = do_PUT = do_POST = _do  # noqa: N815

    def _send(self, response: Response) -> None:
        # A client that uses the same low port twice can do so only when the server is the first to close.
        self.send_response(response.status)
        for name, value in {**response.headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.body)

    def _record(self, request: Request, response: Response) -> None:
        line = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": dict(request.headers),
            "body": request.body.decode(errors="replace"),
            "host": request.host,
            "port": request.port,
            "source": request.source,
            "status": response.status,
            "rule": response.rule,
        }
        with self.lock, self.record.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: requests are recorded."""


def main() -> None:
    """Serve until ended."""
    values, record = (Path(word) for word in sys.argv[1:])
    name, server = instance.read(values.read_bytes())
    _Handler.routes = SERVICES[name](server)
    _Handler.record = record
    ports = sorted({80, *(route.port for route in _Handler.routes)})
    for port in ports:
        listener = _Server(("::", port), _Handler)
        threading.Thread(target=listener.serve_forever).start()
    print("ready", flush=True)


if __name__ == "__main__":
    main()
