"""A small app: notes in PostgreSQL, a counter in Valkey, attachments as files below /data."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis

FILES = pathlib.Path("/data")
CACHE = redis.Redis.from_url(os.environ["REDIS_URL"])


def ask(statement: str, *values: str) -> list:
    """Run one statement, and return its rows."""
    with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]


class Handler(BaseHTTPRequestHandler):
    """GET / shows everything; POST / adds a note; PUT /NAME keeps a file."""

    def do_GET(self) -> None:
        self._answer(
            {
                "title": os.environ.get("TITLE"),
                "notes": ask("SELECT text FROM notes ORDER BY id"),
                "migrations": ask("SELECT count(*) FROM migrations")[0],
                "visits": CACHE.incr("visits"),
                "files": {path.name: path.read_text() for path in sorted(FILES.iterdir())},
                "uid": os.getuid(),
                "secret": len(os.environ["SECRET_KEY"]),
            }
        )

    def do_POST(self) -> None:
        self._answer(ask("INSERT INTO notes (text) VALUES (%s) RETURNING id", self._body()))

    def do_PUT(self) -> None:
        (FILES / pathlib.PurePath(self.path).name).write_text(self._body())
        self._answer("kept")

    def _body(self) -> str:
        return self.rfile.read(int(self.headers["Content-Length"])).decode()

    def _answer(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


# The first process of a container is not ended by a signal that it does not handle.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
