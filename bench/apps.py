"""The apps that are measured: Caddy as an app on each kind of listener, and small ones in Python and Node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.oci import image_archive
from builder.oci.image_archive import ImageConfig, ImageFile
from examples import make_images
from tests.machine import package_images

if TYPE_CHECKING:
    from pathlib import Path

SOCKET: Final = "/run/er/http.sock"
# What the app of the examples listens on instead of a port: a socket of its own, one that systemd passes.
_LISTENERS: Final = {"own": f"unix/{SOCKET}|0666", "passed": "fd/3"}
_PORT: Final = ":{$PORT:3000} {"


def caddy(target: Path, listener: str) -> Path:
    """The app of the examples as an OCI archive; `listener` is port, own or passed."""
    files = {file.path: file for file in make_images.app_files()}
    path = "etc/caddy/Caddyfile"
    text = files[path].content.decode()
    assert _PORT in text
    if listener in _LISTENERS:
        text = text.replace(_PORT, f"http:// {{\n\tbind {_LISTENERS[listener]}")
    files[path] = ImageFile(path, text.encode())
    image_archive.write(target, files.values(), make_images.APP_CONFIG, compressed=False)
    return target


_PYTHON: Final = b"""\
import http.server, os, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        text = b"hello\\n"
        if "DATABASE_URL" in os.environ:
            import psycopg2
            with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 'hello'")
                text = cursor.fetchone()[0].encode() + b"\\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", 3000), Handler).serve_forever()
"""
_NODE: Final = b"""\
const server = require('node:http').createServer((request, answer) => answer.end('hello\\n'));
process.on('SIGTERM', () => process.exit(0));
server.listen(3000);
"""
_ENV: Final = (("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),)
_NODE_FAMILY: Final = package_images.Family(("nodejs",), ("app:x:1000:1000::/home/app:/bin/sh",))


def python(target: Path) -> Path:
    """A server in Python; with DATABASE_URL each answer asks PostgreSQL."""
    base = package_images.base(package_images.FAMILIES["python"])
    return _script(target, base, "python3", ImageFile("app/server.py", _PYTHON))


def node(target: Path) -> Path:
    """A server in Node."""
    return _script(target, package_images.base(_NODE_FAMILY), "node", ImageFile("app/server.js", _NODE))


def _script(target: Path, base: Path, program: str, script: ImageFile) -> Path:
    config = ImageConfig((), (program, f"/{script.path}"), _ENV, ("3000/tcp",), working_dir="/app")
    image_archive.write(target, (script,), config, base=base, compressed=False)
    return target
