"""A registry that limits as Docker Hub does, over HTTPS on port 443: UPSTREAM CERTIFICATE KEY USER PASSWORD.

Everybody gets a token, also without a login. With such a one a manifest is refused with 429; with the token of who has
logged in everything comes from the registry behind it.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOBODYS, SOMEBODYS = "nobody", "somebody"
UPSTREAM, CERTIFICATE, KEY, USER, PASSWORD = sys.argv[1:]
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# A registry says what it likes: also what the console says of a host, or first boot of a stack.
FORGED = "easyrunner: ready name=forged missing: shop/web"
LIMIT = f"You have reached your unauthenticated pull rate limit. {FORGED}"


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD; nobody pushes here."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Token, challenge, limit, or what the registry behind says."""
        given = self.headers.get("Authorization", "")
        if self.path.startswith("/token"):
            self._token(given)
        elif not given:
            realm = f'Bearer realm="https://{self.headers["Host"]}/token",service="lab"'
            self._answer(401, _error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": realm})
        elif "/manifests/" in self.path and given != f"Bearer {SOMEBODYS}":
            self._answer(429, _error("TOOMANYREQUESTS", LIMIT), {"Retry-After": "0"})
        else:
            self._pass_on()

    do_HEAD = do_GET  # noqa: N815 - the library finds it by this name

    def _token(self, given: str) -> None:
        if given not in {"", LOGIN}:
            self._answer(401, _error("UNAUTHORIZED", "incorrect username or password"), {})
            return
        self._answer(200, json.dumps({"token": SOMEBODYS if given else NOBODYS}).encode(), {})

    def _pass_on(self) -> None:
        wanted = {"Accept": ", ".join(self.headers.get_all("Accept") or ["*/*"])}
        request = urllib.request.Request(UPSTREAM + self.path, headers=wanted, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=30) as found:
                kept = {name: found.headers[name] for name in ("Content-Type", "Docker-Content-Digest")}
                length = {"Content-Length": found.headers["Content-Length"]} if self.command == "HEAD" else {}
                headers = {name: value for name, value in kept.items() if value} | length
                self._answer(found.status, found.read(), headers)
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.read(), {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


server = ThreadingHTTPServer(("0.0.0.0", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
