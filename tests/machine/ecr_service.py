"""EC2's metadata service and ECR's API as a server sees them, and who hands passwords to a registry: DIRECTORY.

Started in a namespace that has 169.254.169.254. Metadata wants a token first (IMDSv2) and has the credentials of a
role; the API, over HTTPS, takes a request that is signed by these, checked with botocore, and makes a new password each
time, which the registry behind DIRECTORY/htpasswd takes from then on. DIRECTORY/mode.json says what goes wrong, and how
many seconds a password is said to be good; DIRECTORY/requests has a line for each request.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.datasource.protocol import Request, Response, Route, Tokens, Tree, answer, direct, number, tree
from tests.machine.registry import Registry

ROLE, REGION, API = "er-web", "eu-central-1", "api.ecr.eu-central-1.amazonaws.com"
_KEYS = Credentials("ASIAEXAMPLE", "k3y-of-the-role", "t0ken-of-the-role")
_TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"


def metadata(mode: dict[str, Any]) -> tuple[Route, ...]:
    """What this service needs of EC2's."""
    held = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z"}
    held |= {"AccessKeyId": _KEYS.access_key, "SecretAccessKey": _KEYS.secret_key, "Token": _KEYS.token}
    held |= {"Expiration": "2099-01-01T00:00:00Z"}
    role: Tree = {ROLE: json.dumps(held)}
    found = tuple(tree("/latest/meta-data/iam/security-credentials", role, (_TOKENS.rule,)))
    return () if mode["says"] == "no role" else found


_TOKENS = Tokens("X-aws-ec2-metadata-token")
_TOKEN = Route(
    "/latest/api/token",
    _TOKENS.make,
    (direct(403), number("X-aws-ec2-metadata-token-ttl-seconds", 1, 21600, 400)),
    "PUT",
    headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "300"},
)


class Handler(BaseHTTPRequestHandler):
    """Both services; the port tells them apart."""

    protocol_version = "HTTP/1.1"
    # An answer is sent whole: a client that has read a refusal's head does not wait long for the rest.
    wbufsize = -1
    directory: Path
    registry: Registry
    lock = threading.Lock()

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        mode = json.loads((self.directory / "mode.json").read_text())
        port = self.connection.getsockname()[1]
        request = Request(self.command, self.path.partition("?")[0], "", headers, body, port=port)
        if port == 80 and mode["says"] == "no metadata":
            self.close_connection = True
            return
        found = answer((_TOKEN, *metadata(mode)), request) if port == 80 else self._api(request, mode)
        with self.lock, (self.directory / "requests").open("a") as log:
            log.write(f"{port} {request.method} {request.path} {found.status}\n")
        self.send_response(found.status)
        for name, value in {**found.headers, "Content-Length": str(len(found.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found.body)

    do_GET = do_PUT = do_POST = _do  # noqa: N815 - as http.server calls them

    def _api(self, request: Request, mode: dict[str, Any]) -> Response:
        if request.headers.get("x-amz-target") != _TARGET:
            return _refusal("UnknownOperationException", "")
        if not _is_signed(request):
            return _refusal("InvalidSignatureException", "The request signature we calculated does not match")
        if mode["says"] == "denied":
            return _refusal(
                "AccessDeniedException", f"assumed-role/{ROLE} is not authorized: ecr:GetAuthorizationToken"
            )
        # No longer than what bcrypt looks at.
        password = secrets.token_urlsafe(54)
        self.registry.set_passwords({"AWS": password})
        token = base64.b64encode(f"AWS:{password}".encode()).decode()
        data = {"authorizationToken": token, "expiresAt": time.time() + mode["seconds"]}
        data["proxyEndpoint"] = f"https://123456789012.dkr.ecr.{REGION}.amazonaws.com"
        return _json(200, {"authorizationData": [data]})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: requests are recorded."""


def _is_signed(request: Request) -> bool:
    """Whether the role's credentials have signed it."""
    said = request.headers.get("authorization", "")
    fields = dict(word.split("=", 1) for word in said.partition(" ")[2].split(", ") if "=" in word)
    signed = {name: request.headers[name] for name in fields.get("SignedHeaders", "").split(";") if name}
    again = AWSRequest("POST", f"https://{API}{request.path}", signed, request.body)
    again.context["timestamp"] = request.headers.get("x-amz-date", "")
    auth = SigV4Auth(_KEYS, "ecr", REGION)
    wanted = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    return bool(wanted == fields.get("Signature")) and request.headers.get("x-amz-security-token") == _KEYS.token


def _refusal(code: str, message: str) -> Response:
    return _json(400, {"__type": code, "message": message})


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.1"})


def main() -> None:
    """Serve until ended."""
    directory, chain, key = map(Path, sys.argv[1:])
    Handler.directory = directory
    Handler.registry = Registry(None, directory)  # type: ignore[arg-type]
    plain = ThreadingHTTPServer(("0.0.0.0", 80), Handler)
    closed = ThreadingHTTPServer(("0.0.0.0", 443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    closed.socket = context.wrap_socket(closed.socket, server_side=True)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    closed.serve_forever()


if __name__ == "__main__":
    main()
