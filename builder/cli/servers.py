"""`er servers`: what er runs on AWS."""

from __future__ import annotations

from builder.cli import output as say
from builder.cli.launch import Region
from builder.cli.options import AsJson

NAME = "servers"


def command(region: Region = None, as_json: AsJson = False) -> int:
    """List the servers that er launched in a region of AWS."""
    from builder.aws import inventory, output
    from builder.aws.api import Api

    door = Api(region)
    found = inventory.servers(door)
    if as_json:
        say.json([output.server_json(one) for one in found])
        return 0
    for one in found:
        say.data(f"{output.server_line(one)}\n".encode())
    if not found:
        say.note(f"no servers of er in {door.region}")
    return 0
