"""An app that speaks HTTP/2 without TLS: it sends back what it is sent, trailers last.

A request of gRPC is answered message by message, as servers of it do, any other one when it is whole: who asks over
HTTP/1 may be told nothing before, as Go's servers, and Caddy is one, then read no more of a body.
"""

from __future__ import annotations

import asyncio

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

_PORT = 3000


class Echo(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.http = H2Connection(H2Configuration(client_side=False))
        self.whole: dict[int, bytes] = {}
        self.http.initiate_connection()
        self._send()

    def data_received(self, data: bytes) -> None:
        for event in self.http.receive_data(data):
            if isinstance(event, RequestReceived):
                if (b"content-type", b"application/grpc") in event.headers:
                    self._begin(event.stream_id)
                else:
                    self.whole[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.stream_id in self.whole:
                    self.whole[event.stream_id] += event.data
                else:
                    self.http.send_data(event.stream_id, event.data)
            elif isinstance(event, StreamEnded):
                self._end(event.stream_id)
        self._send()

    def _begin(self, stream: int) -> None:
        self.http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])

    def _end(self, stream: int) -> None:
        if stream in self.whole:
            self._begin(stream)
            self.http.send_data(stream, self.whole.pop(stream))
        self.http.send_headers(stream, [("grpc-status", "0"), ("grpc-message", "well")], end_stream=True)

    def _send(self) -> None:
        self.transport.write(self.http.data_to_send())


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "0.0.0.0", _PORT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
