"""`er servers`: what er runs on AWS."""

from __future__ import annotations

from builder.cli import output
from builder.cli.launch import Region
from builder.cli.options import AsJson

NAME = "servers"


def command(region: Region = None, as_json: AsJson = False) -> int:
    """List what er launched in a region of AWS; of a fleet each host: its health, and what in it is older."""
    from builder.aws import fleet_state, tags
    from builder.aws.api import Api
    from builder.aws.resources import instance

    client = Api(region)
    servers = [server for server in instance.servers(client) if server.part != tags.HOST]
    fleets = fleet_state.fleets(client)
    if as_json:
        output.json([*(server.json for server in servers), *(fleet.json for fleet in fleets)])
        return 0
    for line in (*map(str, servers), *(line for fleet in fleets for line in fleet.lines)):
        output.data(f"{line}\n".encode())
    if not servers and not fleets:
        output.note(f"no servers of er in {client.region}")
    return 0
