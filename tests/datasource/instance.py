"""A server as its provider knows it, and how that reaches the process of a metadata service."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Server:
    """What a provider knows of a server. `user_data` is what its API was given, base64 taken off.

    `root_keys` are the keys that were chosen in the provider's console; `gateway4` and `gateway6` also answer DNS.
    An address that the server does not have is empty.
    `encoded`: where a provider takes text and can be told that it is base64, it is.
    """

    name: str
    id: str
    uuid: str
    hardware: str
    ipv4: str
    ipv6: str
    gateway4: str
    gateway6: str
    root_keys: tuple[str, ...]
    user_data: bytes
    encoded: bool = False

    @property
    def resolvers(self) -> list[str]:
        """The addresses that answer DNS."""
        return [address for address in (self.gateway4, self.gateway6) if address]

    @property
    def text(self) -> str:
        """User-data of a provider that takes text only."""
        return self.user_data.decode()

    @property
    def base64(self) -> str:
        """User-data of a provider that wants base64."""
        return base64.b64encode(self.user_data).decode()


def write(service: str, server: Server) -> bytes:
    """The values that a process of `service` is started with."""
    return json.dumps({"service": service, **asdict(server), "user_data": server.base64}).encode()


def read(content: bytes) -> tuple[str, Server]:
    """The inverse of `write`."""
    values = json.loads(content)
    service = values.pop("service")
    values["user_data"] = base64.b64decode(values["user_data"])
    values["root_keys"] = tuple(values["root_keys"])
    return service, Server(**values)
