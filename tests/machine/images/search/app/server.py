"""A search engine as far as the host can tell: takes its heap at start, keeps documents as files."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOME = pathlib.Path("/usr/share/elasticsearch")
DATA = HOME / "data"
# As the published image does, beside its volume.
(HOME / "config/elasticsearch.keystore").touch()
(HOME / "logs/gc.log").touch()
# Written to page by page, so that it is really there.
HEAP = bytearray(int(os.environ.get("HEAP_MB", "1536")) << 20)
for page in range(0, len(HEAP), 4096):
    HEAP[page] = 1


class Handler(BaseHTTPRequestHandler):
    """GET / tells how large it is and what it holds; PUT /NAME keeps a document."""

    def do_GET(self) -> None:
        status = pathlib.Path("/proc/self/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) >> 10
        documents = {path.name: path.read_text() for path in sorted(DATA.iterdir())}
        name = os.environ["cluster.name"]  # noqa: SIM112
        self._answer({"cluster_name": name, "resident_mb": resident, "documents": documents, "uid": os.getuid()})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        (DATA / pathlib.PurePath(self.path).name).write_text(body)
        self._answer("created")

    def _answer(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


# The first process of a container is not ended by a signal that it does not handle.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("0.0.0.0", 9200), Handler).serve_forever()
