"""An app that speaks HTTP/2 without TLS, as gRPC servers do: it sends each message back as it comes, trailers last."""

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
        self.http.initiate_connection()
        self._send()

    def data_received(self, data: bytes) -> None:
        for event in self.http.receive_data(data):
            if isinstance(event, RequestReceived):
                said = [(":status", "200"), ("content-type", "application/grpc")]
                self.http.send_headers(event.stream_id, said)
            elif isinstance(event, DataReceived):
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.http.send_data(event.stream_id, event.data)
            elif isinstance(event, StreamEnded):
                self.http.send_headers(
                    event.stream_id, [("grpc-status", "0"), ("grpc-message", "well")], end_stream=True
                )
        self._send()

    def _send(self) -> None:
        self.transport.write(self.http.data_to_send())


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "0.0.0.0", _PORT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
