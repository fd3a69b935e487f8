"""Services that want a header, and one that wants nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.datasource.protocol import Route, direct, header, json_bytes

if TYPE_CHECKING:
    from tests.datasource.instance import Server
    from tests.datasource.protocol import Routes


def gcp(server: Server) -> Routes:
    """Google: a header on every request, and none that a proxy would add."""
    needs = (header("Metadata-Flavor", "Google", 403), direct(403))
    flavor = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
    attributes = {"user-data": server.base64 if server.encoded else server.text}
    if server.encoded:
        attributes["user-data-encoding"] = "base64"
    attributes["ssh-keys"] = "\n".join(f"provider:{key}" for key in server.root_keys)
    top = "/computeMetadata/v1"
    values: dict[str, bytes] = {
        "instance/id": server.id.encode(),
        "instance/zone": b"projects/1/zones/europe-west3-a",
        "instance/hostname": f"{server.name}.europe-west3-a.c.project.internal".encode(),
    }
    refused = Route(f"{top}/instance/guest-attributes/hostkeys/ssh-ed25519", b"", needs, "PUT", status=403)
    return (
        *(Route(f"{top}/{path}", value, needs, headers=flavor) for path, value in values.items()),
        Route(f"{top}/instance/attributes/", json_bytes(attributes), needs, query="recursive=True", headers=flavor),
        Route(f"{top}/project/attributes/", b"{}", needs, query="recursive=True", headers=flavor),
        refused,
    )


def oracle(server: Server) -> Routes:
    """Version 2 only, with its header; user-data in base64 among the metadata."""
    needs = (header("Authorization", "Bearer Oracle", 401), direct(403))
    instance = {
        "id": server.id,
        "displayName": server.name,
        "hostname": server.name,
        "ociAdName": "EU-FRANKFURT-1-AD-1",
        "region": "eu-frankfurt-1",
        "metadata": {"user_data": server.base64, "ssh_authorized_keys": "\n".join(server.root_keys)},
    }
    card = {"macAddr": server.hardware.upper(), "vnicId": "ocid1.vnic.oc1..1", "vlanTag": 1}
    if server.ipv4:
        card |= {"privateIp": server.ipv4, "subnetCidrBlock": f"{server.ipv4.rsplit('.', 1)[0]}.0/24"}
    if server.ipv6:
        card |= {"ipv6Addresses": [server.ipv6], "ipv6SubnetCidrBlock": f"{server.ipv6.rsplit('::', 1)[0]}::/64"}
    return (
        Route("/opc/v2/instance/", json_bytes(instance), needs),
        Route("/opc/v2/vnics/", json_bytes([card]), needs),
    )


def nocloud(server: Server) -> Routes:
    """Four files on any web server, named by the serial number of the machine's firmware."""
    addresses: dict[str, object] = {"dhcp4": bool(server.ipv4), "dhcp6": bool(server.ipv6)}
    card = {"match": {"macaddress": server.hardware}, **addresses}
    return (
        Route("/meta-data", json_bytes({"instance-id": server.id, "local-hostname": server.name})),
        Route("/user-data", server.user_data),
        Route("/vendor-data", b""),
        Route("/network-config", json_bytes({"version": 2, "ethernets": {"eth0": card}})),
    )


def nothing(server: Server) -> Routes:
    """No service: everything is on a disk."""
    return ()
