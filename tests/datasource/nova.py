"""OpenStack: the same files in a metadata service and on a config drive."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from tests.datasource.protocol import Route, Tree, json_bytes, tree

if TYPE_CHECKING:
    from tests.datasource.instance import Server
    from tests.datasource.protocol import Routes


_NOVA_VERSIONS: Final = ("2012-08-10", "2013-04-04", "2015-10-15", "2016-06-30", "2017-02-22", "2018-08-27", "latest")


def _leased(server: Server) -> list[dict[str, object]]:
    networks: list[dict[str, object]] = [{"id": "network0", "type": "ipv4_dhcp"}] if server.ipv4 else []
    return [*networks, {"id": "network1", "type": "ipv6_dhcpv6-stateful"}] if server.ipv6 else networks


def _fixed(server: Server) -> list[dict[str, object]]:
    networks: list[dict[str, object]] = []
    if server.ipv4:
        route = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": server.gateway4}
        four = {"id": "network0", "type": "ipv4", "ip_address": server.ipv4, "netmask": "255.255.255.0"}
        networks.append({**four, "routes": [route]})
    if server.ipv6:
        route = {"network": "::", "netmask": "::", "gateway": server.gateway6}
        six = {"id": "network1", "type": "ipv6", "ip_address": server.ipv6, "netmask": "ffff:ffff:ffff:ffff::"}
        networks.append({**six, "routes": [route]})
    return networks


def nova_files(server: Server, *, fixed: bool = False) -> dict[str, bytes]:
    """The files of an OpenStack server, in the metadata service and on a config drive alike.

    Addresses are leased, or `fixed` in the files.
    """
    networks = [{**network, "link": "tap0"} for network in (_fixed if fixed else _leased)(server)]
    link = {"id": "tap0", "type": "ovs", "mtu": 1500, "ethernet_mac_address": server.hardware, "vif_id": "v"}
    services = [{"type": "dns", "address": address} for address in server.resolvers]
    metadata = {
        "uuid": server.uuid,
        "hostname": f"{server.name}.novalocal",
        "name": server.name,
        "launch_index": 0,
        "availability_zone": "nova",
        "public_keys": {"provider": server.root_keys[0]},
        "project_id": "p",
        "random_seed": base64.b64encode(bytes(range(256)) * 2).decode(),
    }
    return {
        "meta_data.json": json_bytes(metadata),
        "network_data.json": json_bytes({"links": [link], "networks": networks, "services": services}),
        "user_data": server.user_data,
        "vendor_data.json": b"{}",
        "vendor_data2.json": b"{}",
    }


def openstack(server: Server) -> Routes:
    """Nova: the files by version, and the EC2 view that old guests read."""
    listing = "\n".join(_NOVA_VERSIONS).encode()
    routes = [Route("/openstack", listing), Route("/openstack/", listing)]
    for version in _NOVA_VERSIONS:
        files = nova_files(server)
        routes.extend(Route(f"/openstack/{version}/{name}", content) for name, content in files.items())
    ec2_view: Tree = {"instance-id": "i-00000001", "hostname": f"{server.name}.novalocal", "ami-id": "None"}
    return (*routes, *tree("/latest/meta-data", ec2_view))
