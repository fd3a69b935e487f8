"""What stands between er and moto: an HTTP server that notes every call, and lets chosen ones fail.

What moto does not do, it adds, as a change of the answer: the console of a server, its address, prices. Amazon EC2
Auto Scaling is a model of its own (autoscaling.py), and so is what a balancer finds of its targets.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import sys
import threading
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.aws.autoscaling import ApiError, AutoScaling

if TYPE_CHECKING:
    from collections.abc import Callable

# Services that take the fields of a form.
_FORMS = ("ec2", "sts", "iam", "autoscaling", "elasticloadbalancing")
# Operations of services that name them by method and path.
_BY_PATH = (
    ("POST", r"/2015-02-01/file-systems", "CreateFileSystem"),
    ("GET", r"/2015-02-01/file-systems", "DescribeFileSystems"),
    ("DELETE", r"/2015-02-01/file-systems/[^/]+", "DeleteFileSystem"),
    ("POST", r"/2015-02-01/mount-targets", "CreateMountTarget"),
    ("GET", r"/2015-02-01/mount-targets", "DescribeMountTargets"),
    ("DELETE", r"/2015-02-01/mount-targets/[^/]+", "DeleteMountTarget"),
    ("GET", r"/2013-04-01/hostedzone/[^/]+/rrset", "ListResourceRecordSets"),
    ("POST", r"/2013-04-01/hostedzone/[^/]+/rrset/?", "ChangeResourceRecordSets"),
    ("GET", r"/2013-04-01/hostedzone", "ListHostedZones"),
)


@dataclass(frozen=True)
class Call:
    """One request: `number` counts from 1; `dry` for EC2's dry runs; `parameters` are EC2's, `body` all of it.

    `region` is the one that it was signed for, `path` names what it is about where the service has it so.
    """

    number: int
    service: str
    operation: str
    dry: bool = False
    token: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    region: str = ""
    path: str = ""


@dataclass(frozen=True)
class Answer:
    """What goes back; a status of 0 closes the connection instead, one of -1 keeps it open without a word."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def refusal(call: Call, status: int, code: str, message: str) -> Answer:
    """An error as the service would put it."""
    if call.service in ("pricing", "ssm", "elasticfilesystem"):
        body = json.dumps({"__type": code, "message": message}).encode()
        return Answer(status, body, (("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-errortype", code)))
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    if call.service == "ec2":
        text = f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>0</RequestID></Response>"
    else:
        text = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error><RequestId>0</RequestId></ErrorResponse>"
    return Answer(status, text.encode(), (("Content-Type", "text/xml"),))


# A fault sees a call before it is done; what it returns replaces the answer. `done` does it and gives moto's answer.
Fault = "Callable[[Call, Callable[[], Answer]], Answer | None]"


@dataclass
class Wire:
    """A context manager. `fault` is asked about every call; `console` and `address` are what moto's servers get.

    `balancer` is the name of a balancer.

    `console_of` has a console for each instance, by its id.
    """

    port_of_moto: int
    calls: list[Call] = field(default_factory=list)
    fault: Callable[[Call, Callable[[], Answer]], Answer | None] | None = None
    console: Callable[[], str] | None = None
    console_of: Callable[[str], str] | None = None
    address: str | None = None
    balancer: str | None = None
    prices: list[str] = field(default_factory=list)

    def __enter__(self) -> Wire:
        self._lock = threading.Lock()
        self.autoscaling = AutoScaling(self.port_of_moto)
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def reset(self) -> None:
        """As new: no calls, no faults."""
        self.calls = []
        self.fault = self.console = self.console_of = self.address = self.balancer = None
        self.prices = []
        self.autoscaling.reset()

    @property
    def operations(self) -> list[str]:
        return [call.operation for call in self.calls]

    def note(self, method: str, path: str, headers: Any, body: bytes) -> Call:
        found = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", headers.get("Authorization", ""))
        region, service = found.groups() if found else ("?", "?")
        form = urllib.parse.parse_qs(body.decode("latin-1")) if service in _FORMS else {}
        operation = form.get("Action", [headers.get("X-Amz-Target", "?").rpartition(".")[2]])[0]
        if service in ("route53", "elasticfilesystem"):
            operation = next(name for verb, where, name in _BY_PATH if verb == method and re.fullmatch(where, path))
        token = form.get("ClientToken", [None])[0]
        with self._lock:
            said = tuple((name, value) for name, values in form.items() for value in values)
            number, dry = len(self.calls) + 1, form.get("DryRun") == ["true"]
            call = Call(number, service, operation, dry, token, said, body, region, path)
            self.calls.append(call)
        return call

    def answer(self, call: Call, method: str, path: str, headers: Any, body: bytes) -> Answer:
        done: list[Answer] = []

        def do() -> Answer:
            if not done:
                done.append(self._done(call, method, path, headers, body))
            return done[0]

        return (self.fault and self.fault(call, do)) or do()

    def _done(self, call: Call, method: str, path: str, headers: Any, body: bytes) -> Answer:
        if not self.autoscaling.answers(call.service, call.operation):
            return self._edited(call, self._forward(method, path, headers, body))
        try:
            said = self.autoscaling.answer(call.service, call.operation, dict(call.parameters))
        except ApiError as error:
            return refusal(call, 400, error.code, error.message)
        return Answer(200, said, (("Content-Type", "text/xml"),))

    def _forward(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        there = http.client.HTTPConnection("127.0.0.1", self.port_of_moto, timeout=60)
        there.request(method, path, body, {key: value for key, value in headers.items() if key.lower() != "connection"})
        got = there.getresponse()
        answer = Answer(got.status, got.read(), (("Content-Type", got.getheader("Content-Type", "text/xml")),))
        there.close()
        return answer

    def _console(self, call: Call) -> str:
        if self.console_of:
            return self.console_of(dict(call.parameters)["InstanceId"])
        return self.console() if self.console else ""

    def _edited(self, call: Call, answer: Answer) -> Answer:
        if call.operation == "GetConsoleOutput" and answer.status == 200 and (shown := self._console(call)):
            text = base64.b64encode(shown.encode())
            return Answer(200, re.sub(rb"(?s)<output>.*?</output>", b"<output>" + text + b"</output>", answer.body))
        if call.operation == "DescribeInstances" and self.address:
            there = b"<ipAddress>" + self.address.encode() + b"</ipAddress>"
            return Answer(answer.status, re.sub(rb"<ipAddress>[^<]+</ipAddress>", there, answer.body))
        if call.operation == "DescribeLoadBalancers" and self.balancer:
            name = b"<DNSName>" + self.balancer.encode() + b"</DNSName>"
            return Answer(answer.status, re.sub(rb"<DNSName>[^<]+</DNSName>", name, answer.body))
        if call.operation == "DescribeSubnets":
            # moto prints a Python value where the state of an IPv6 block belongs.
            return Answer(answer.status, re.sub(rb"{'State': '(\w+)'}", rb"\1", answer.body))
        if call.operation == "GetProducts" and self.prices:
            body = json.dumps({"FormatVersion": "aws_v1", "PriceList": self.prices}).encode()
            return Answer(200, body, (("Content-Type", "application/x-amz-json-1.1"),))
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is part of the game; what the wire itself does wrong is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out whole: its second half would wait for the acknowledgement of the first.
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            raise NotImplementedError
        wire = self.server.wire
        path = self.path
        call = wire.note(self.command, path.partition("?")[0], self.headers, body)
        answer = wire.answer(call, self.command, path, self.headers, body)
        if answer.status <= 0:
            self.close_connection = True
            if answer.status < 0:
                # Until who asked has given up.
                self.rfile.read(1)
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        for key, value in answer.headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)
        self.wfile.flush()

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - as http.server calls them
