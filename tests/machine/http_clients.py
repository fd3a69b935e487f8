"""Clients of HTTP/3, and of a stream of HTTP/2 both ways, by the libraries for them. A program for the namespaces.

    python http_clients.py h3 ADDRESS NAME CA PATH [HEADER...]
    python http_clients.py talk ADDRESS NAME CA PATH

A HEADER is `Name: value`. Each prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from typing import TYPE_CHECKING

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from h2.connection import H2Connection
from h2.events import DataReceived as H2Data
from h2.events import ResponseReceived, StreamEnded, TrailersReceived

if TYPE_CHECKING:
    from typing import Any

    from aioquic.quic.events import QuicEvent


class _Http3(QuicConnectionProtocol):
    """Collects the events of one request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.events: list[H3Event] = []
        self.done = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        for received in self.http.handle_event(event):
            self.events.append(received)
            if isinstance(received, (HeadersReceived, DataReceived)) and received.stream_ended:
                self.done.set()


async def _h3(address: str, name: str, ca: str, path: str, *claims: str) -> object:
    settings = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=name, cafile=ca)
    async with connect(address, 443, configuration=settings, create_protocol=_Http3) as client:
        assert isinstance(client, _Http3)
        stream = client._quic.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", name), (":path", path)]
        more = [(key.lower(), value.strip()) for key, _, value in (claim.partition(":") for claim in claims)]
        client.http.send_headers(
            stream, [(key.encode(), value.encode()) for key, value in (*head, *more)], end_stream=True
        )
        client.transmit()
        await asyncio.wait_for(client.done.wait(), 25)
        headers = [
            (key.decode(), value.decode())
            for event in client.events
            if isinstance(event, HeadersReceived)
            for key, value in event.headers
        ]
        body = b"".join(event.data for event in client.events if isinstance(event, DataReceived))
    status = int(dict(headers)[":status"])
    return {"status": status, "headers": [pair for pair in headers if pair[0] != ":status"], "body": body.decode()}


def _talk(address: str, name: str, ca: str, path: str) -> object:
    """A stream both ways: each message is sent when the one before has come back; then the end, and the trailers."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    found: dict[str, Any] = {"headers": [], "echoes": [], "trailers": []}
    with (
        socket.create_connection((address, 443), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        http = H2Connection()
        http.initiate_connection()
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", name), (":path", path)]
        http.send_headers(1, [*pseudo, ("content-type", "application/grpc"), ("te", "trailers")])
        left = [b"one", b"two", b"three"]
        http.send_data(1, left.pop(0))
        while True:
            secure.sendall(http.data_to_send())
            for event in http.receive_data(secure.recv(65536)):
                if isinstance(event, ResponseReceived):
                    found["headers"] = [[key.decode(), value.decode()] for key, value in event.headers]
                elif isinstance(event, H2Data):
                    http.acknowledge_received_data(event.flow_controlled_length, 1)
                    if event.data:
                        found["echoes"].append(event.data.decode())
                        http.send_data(1, left.pop(0)) if left else http.end_stream(1)
                elif isinstance(event, TrailersReceived):
                    found["trailers"] = [[key.decode(), value.decode()] for key, value in event.headers]
                elif isinstance(event, StreamEnded):
                    return found


def main() -> None:
    command, *words = sys.argv[1:]
    print(json.dumps(asyncio.run(_h3(*words)) if command == "h3" else _talk(*words)))


if __name__ == "__main__":
    main()
