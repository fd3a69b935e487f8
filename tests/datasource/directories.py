"""Services in EC2's style: directories of text, one value a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.datasource.protocol import Route, Tokens, Tree, direct, header, number, tree

if TYPE_CHECKING:
    from tests.datasource.instance import Server
    from tests.datasource.protocol import Routes


_EC2_VERSIONS: Final = ("2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest")


def _ec2_data(server: Server) -> Tree:
    card: Tree = {"device-number": "0", "mac": server.hardware, "interface-id": "eni-0a1b2c3d", "vpc-id": "vpc-1"}
    if server.ipv4:
        card |= {"local-ipv4s": server.ipv4, "subnet-ipv4-cidr-block": f"{server.ipv4.rsplit('.', 1)[0]}.0/24"}
    if server.ipv6:
        card |= {"ipv6s": server.ipv6}
    keys: Tree = {f"{number}={name}": "" for number, name in enumerate(["provider"])}
    return {
        "ami-id": "ami-0123456789abcdef0",
        "ami-launch-index": "0",
        "hostname": f"{server.name}.ec2.internal",
        "instance-id": server.id,
        "instance-type": "t3.small",
        "local-hostname": f"{server.name}.ec2.internal",
        "mac": server.hardware,
        "network": {"interfaces": {"macs": {server.hardware: card}}},
        "placement": {"availability-zone": "eu-central-1a", "region": "eu-central-1"},
        "public-keys": keys,
    }


def ec2(server: Server) -> Routes:
    """Amazon: a token first (IMDSv2, nothing without), then directories of text."""
    tokens = Tokens("X-aws-ec2-metadata-token")
    lifetime = number("X-aws-ec2-metadata-token-ttl-seconds", 1, 21600, 400)
    routes = [Route("/latest/api/token", tokens.make, (direct(403), lifetime), "PUT")]
    document = {"instanceId": server.id, "region": "eu-central-1", "availabilityZone": "eu-central-1a"}
    for version in _EC2_VERSIONS:
        routes.append(Route(f"/{version}/user-data", server.user_data, (tokens.rule,)))
        key = Route(f"/{version}/meta-data/public-keys/0/openssh-key", server.root_keys[0].encode(), (tokens.rule,))
        routes.append(key)
        routes.extend(tree(f"/{version}/meta-data", _ec2_data(server), (tokens.rule,)))
        identity: Tree = {"document": json.dumps(document)}
        routes.extend(tree(f"/{version}/dynamic/instance-identity", identity, (tokens.rule,)))
    return tuple(routes)


def exoscale(server: Server) -> Routes:
    """CloudStack's: directories like EC2's without a token, and passwords on a port of their own."""
    sends = Route("/1.0/", b"", (header("DomU_Request", "send_my_password", 400),), port=8080)
    metadata: Tree = {
        "instance-id": server.id,
        "local-hostname": server.name,
        "availability-zone": "de-fra-1",
        "public-keys": server.root_keys[0],
    }
    return (Route("/1.0/user-data", server.user_data), sends, *tree("/1.0/meta-data", metadata))
