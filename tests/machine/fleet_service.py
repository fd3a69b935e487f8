"""What AWS is to the hosts of a fleet: metadata (IMDSv2), Parameter Store and Auto Scaling. For a namespace: DIRECTORY.

    python -m tests.machine.fleet_service DIRECTORY CHAIN KEY API_ADDRESS...

Metadata is served at 169.254.169.254, each host's by the address that it asks from; the APIs at API_ADDRESS by HTTPS,
where a request has to be signed with the role's keys, checked with botocore. DIRECTORY/mode.json has the parameters,
what goes wrong, and where the group wants which instance; DIRECTORY/requests a line of JSON for each call of an API.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.datasource.protocol import Request, Response, Route, Tokens, Tree, answer, direct, number, tree

ROLE, REGION, DOMAIN = "er-web", "eu-central-1", "amazonaws.com"
METADATA: Final = "169.254.169.254"
SSM, SCALING = f"ssm.{REGION}.{DOMAIN}", f"autoscaling.{REGION}.{DOMAIN}"
_KEYS = Credentials("ASIAEXAMPLE", "k3y-of-the-role", "t0ken-of-the-role")
# Parameter Store gives ten at most; with fewer, tests come to a second page.
_PAGE: Final = 2


def instance(address: str) -> str:
    """The id of the instance with this address."""
    return "i-" + "".join(f"{int(part):02x}" for part in address.split(".")).rjust(17, "0")


_TOKENS = Tokens("X-aws-ec2-metadata-token")
_TOKEN = Route(
    "/latest/api/token",
    _TOKENS.make,
    (direct(403), number("X-aws-ec2-metadata-token-ttl-seconds", 1, 21600, 400)),
    "PUT",
)


def metadata(address: str, mode: dict[str, Any]) -> tuple[Route, ...]:
    """What a host is told of itself."""
    held = {"Code": "Success", "Type": "AWS-HMAC", "Expiration": "2099-01-01T00:00:00Z"}
    held |= {"AccessKeyId": _KEYS.access_key, "SecretAccessKey": _KEYS.secret_key, "Token": _KEYS.token}
    its: Tree = {
        "iam": {"security-credentials": {ROLE: json.dumps(held)}},
        "instance-id": mode.get("instances", {}).get(address) or instance(address),
        "placement": {"region": REGION},
        "services": {"domain": DOMAIN},
        "autoscaling": {"target-lifecycle-state": mode["targets"].get(address, "InService")},
    }
    return (_TOKEN, *tree("/latest/meta-data", its, (_TOKENS.rule,)))


class Handler(BaseHTTPRequestHandler):
    """All of them; the port tells metadata from the APIs, the name the APIs."""

    protocol_version = "HTTP/1.1"
    directory: Path
    lock = threading.Lock()
    completed: Final[set[tuple[str, str]]] = set()

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        mode = json.loads((self.directory / "mode.json").read_text())
        port = self.connection.getsockname()[1]
        request = Request(self.command, self.path.partition("?")[0], "", headers, body, port=port)
        address = self.client_address[0]
        if mode["says"] == "nothing" or (port == 80 and mode["says"] == "no metadata"):
            self.close_connection = True
            return
        found = answer(metadata(address, mode), request) if port == 80 else self._api(address, request, mode)
        self.send_response(found.status)
        for name, value in {**found.headers, "Content-Length": str(len(found.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found.body)

    do_GET = do_PUT = do_POST = _do  # noqa: N815 - as http.server calls them

    def _api(self, address: str, request: Request, mode: dict[str, Any]) -> Response:
        name = request.headers.get("host", "")
        service = name.partition(".")[0]
        said = dict(parse_qsl(request.body.decode())) if service == "autoscaling" else json.loads(request.body)
        if not _is_signed(request, name, service):
            found = _refusal(service, "InvalidSignatureException", "The request signature we calculated does not match")
        elif mode["says"] in ("AccessDeniedException", "ThrottlingException"):
            found = _refusal(service, mode["says"], f"{ROLE} may not, or not so often")
        else:
            found = self._scaling(said, mode, address) if service == "autoscaling" else _parameters(request, said, mode)
        what = {"at": time.time(), "from": address, "to": service, "said": said, "status": found.status}
        with self.lock, (self.directory / "requests").open("a") as log:
            log.write(f"{json.dumps(what)}\n")
        return found

    def _scaling(self, said: dict[str, str], mode: dict[str, Any], address: str) -> Response:
        """A hook is waited for once: that of the launch, and that of the end when the group takes the instance away."""
        hook, its = said["LifecycleHookName"], said["InstanceId"]
        is_ending = hook == "er-terminating" and mode["targets"].get(address) == "Terminated"
        with self.lock:
            is_waited_for = (is_ending or hook == "er-launching") and (its, hook) not in self.completed
            if not is_waited_for or said["Action"] != "CompleteLifecycleAction" or its != instance(address):
                text = f"No active Lifecycle Action found with instance ID {its}"
                return _refusal("autoscaling", "ValidationError", text)
            self.completed.add((its, hook))
        return Response(200, b"<CompleteLifecycleActionResponse/>", {"Content-Type": "text/xml"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: requests are recorded."""


def _parameters(request: Request, said: dict[str, Any], mode: dict[str, Any]) -> Response:
    """A page of GetParametersByPath."""
    if request.headers.get("x-amz-target") != "AmazonSSM.GetParametersByPath" or not said["WithDecryption"]:
        return _refusal("ssm", "UnknownOperationException", "")
    found = [
        {"Name": name, "Value": value} for name, value in mode["parameters"].items() if name.startswith(said["Path"])
    ]
    start = int(said.get("NextToken", 0))
    more = {"NextToken": str(start + _PAGE)} if start + _PAGE < len(found) else {}
    return _json(200, {"Parameters": found[start : start + _PAGE], **more})


def _is_signed(request: Request, host: str, service: str) -> bool:
    """Whether the role's credentials have signed it, within five minutes."""
    said = request.headers.get("authorization", "")
    fields = dict(word.split("=", 1) for word in said.partition(" ")[2].split(", ") if "=" in word)
    signed = {name: request.headers[name] for name in fields.get("SignedHeaders", "").split(";") if name}
    again = AWSRequest("POST", f"https://{host}{request.path}", signed, request.body)
    again.context["timestamp"] = request.headers.get("x-amz-date", "")
    auth = SigV4Auth(_KEYS, service, REGION)
    wanted = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    return bool(wanted == fields.get("Signature")) and request.headers.get("x-amz-security-token") == _KEYS.token


def _refusal(service: str, code: str, message: str) -> Response:
    if service == "autoscaling":
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        return Response(400, text.encode(), {"Content-Type": "text/xml"})
    return _json(400, {"__type": code, "message": message})


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/x-amz-json-1.1"})


def main() -> None:
    """Serve until ended."""
    directory, chain, key = map(Path, sys.argv[1:4])
    Handler.directory = directory
    plain = ThreadingHTTPServer((METADATA, 80), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    for address in sys.argv[4:]:
        closed = ThreadingHTTPServer((address, 443), Handler)
        closed.socket = context.wrap_socket(closed.socket, server_side=True)
        threading.Thread(target=closed.serve_forever, daemon=True).start()
    plain.serve_forever()


if __name__ == "__main__":
    main()
