"""`er servers`: what er runs on AWS."""

from __future__ import annotations

from builder.cli import output
from builder.cli.launch import Region
from builder.cli.options import AsJson

NAME = "servers"


def command(region: Region = None, as_json: AsJson = False) -> int:
    """List the servers that er launched in a region of AWS."""
    from builder.aws.api import Api
    from builder.aws.resources import instance

    client = Api(region)
    servers = instance.servers(client)
    if as_json:
        output.json([server.json for server in servers])
        return 0
    for server in servers:
        output.data(f"{server}\n".encode())
    if not servers:
        output.note(f"no servers of er in {client.region}")
    return 0
