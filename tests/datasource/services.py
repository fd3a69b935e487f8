"""The metadata services, one function a protocol: from what a provider knows of a server to its routes.

Paths, headers and encodings are those that cloud-init 25.1's datasource of the name asks for; what a provider
is known to refuse is refused.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import yaml

from tests.datasource import azure
from tests.datasource.protocol import (
    Route,
    Routes,
    Tokens,
    Tree,
    direct,
    header,
    low_port,
    number,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Server:
    """What a provider knows of a server. `user_data` is what its API was given, base64 taken off.

    `root_keys` are the keys that were chosen in the provider's console; `gateway4` and `gateway6` also answer DNS.
    An address that the server does not have is empty.
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


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


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


def digitalocean(server: Server) -> Routes:
    """One JSON document, reached by a link-local address; its vendor-data wants root to log in."""
    card: dict[str, object] = {"mac": server.hardware, "type": "public"}
    if server.ipv4:
        card["ipv4"] = {"ip_address": server.ipv4, "netmask": "255.255.255.0", "gateway": server.gateway4}
    if server.ipv6:
        card["ipv6"] = {"ip_address": server.ipv6, "cidr": 64, "gateway": server.gateway6}
    document = {
        "droplet_id": int(server.id),
        "hostname": server.name,
        "vendor_data": "#cloud-config\ndisable_root: false\n",
        "user_data": server.text,
        "public_keys": list(server.root_keys),
        "region": "fra1",
        "interfaces": {"public": [card]},
        "dns": {"nameservers": server.resolvers},
    }
    return (Route("/metadata/v1.json", _json(document)),)


def hetzner(server: Server) -> Routes:
    """YAML metadata, and user-data beside it."""
    subnets: list[dict[str, object]] = [{"type": "dhcp", "ipv4": True}] if server.ipv4 else []
    if server.ipv6:
        subnets.append({"type": "static", "ipv6": True, "address": f"{server.ipv6}/64", "gateway": server.gateway6})
        subnets[-1]["dns_nameservers"] = [server.gateway6]
    card = {"type": "physical", "name": "eth0", "mac_address": server.hardware, "subnets": subnets}
    document = {
        "instance-id": int(server.id),
        "hostname": server.name,
        "public-keys": list(server.root_keys),
        "network-config": {"version": 1, "config": [card]},
        "vendor_data": "",
        "region": "eu-central",
    }
    top = "/hetzner/v1"
    return (
        Route(f"{top}/metadata", yaml.safe_dump(document).encode()),
        Route(f"{top}/metadata/instance-id", server.id.encode()),
        Route(f"{top}/userdata", server.user_data),
    )


def vultr(server: Server) -> Routes:
    """One JSON document; vendor-data, which opens root's login, only for those who say that they are cloud-init."""
    nothing: list[str] = []
    ipv4 = {"address": server.ipv4, "netmask": "255.255.255.0", "gateway": server.gateway4, "additional": nothing}
    ipv6 = {"address": server.ipv6, "network": server.ipv6.rsplit("::", 1)[0] + "::", "prefix": "64"}
    card = {"mac": server.hardware, "network-type": "public", "ipv4": ipv4, "ipv6": {**ipv6, "additional": nothing}}
    document = {
        "hostname": server.name,
        "instance-v2-id": server.id,
        "instanceid": "42",
        "interfaces": [card],
        "public-keys": "\n".join(server.root_keys) + "\n",
        "region": {"regioncode": "FRA", "countrycode": "DE"},
        "user-data": server.text,
        "vendor-data": "#cloud-config\ndisable_root: false\n",
    }
    return (Route("/v1.json", _json(document), (header("Metadata-Token", "cloudinit", 403),)),)


def linode(server: Server) -> Routes:
    """Akamai: a token by PUT, JSON metadata, user-data in base64."""
    tokens = Tokens("Metadata-Token")
    lifetime = number("Metadata-Token-Expiry-Seconds", 1, 86400, 400)
    document = {"id": int(server.id), "label": server.name, "region": "eu-central", "type": "g6-nanode-1"}
    keys = {"users": {"root": list(server.root_keys)}}
    accept = header("Accept", "application/json", 406)
    return (
        Route("/v1/token", tokens.make, (lifetime,), "PUT"),
        Route("/v1/instance", _json(document), (tokens.rule, accept)),
        Route("/v1/ssh-keys", _json(keys), (tokens.rule, accept)),
        Route("/v1/user-data", server.base64.encode(), (tokens.rule,)),
    )


def scaleway(server: Server) -> Routes:
    """JSON metadata for anyone on the server; user-data for root alone, known by a low source port."""
    public = [{"address": server.ipv4, "netmask": "24", "gateway": server.gateway4, "family": "inet", "dynamic": False}]
    six = {"address": server.ipv6, "netmask": "64", "gateway": server.gateway6, "family": "inet6", "dynamic": False}
    document = {
        "id": server.uuid,
        "name": server.name,
        "hostname": server.name,
        "tags": [],
        "ssh_public_keys": [{"key": key} for key in server.root_keys],
        "private_ip": None,
        "public_ips": [ip for ip in (*public, six) if ip["address"]],
    }
    return (
        Route("/", b"169.254.42.42"),
        Route("/conf", _json(document), query="format=json"),
        Route("/user_data/cloud-init", server.user_data, (low_port(403),)),
        Route("/vendor_data/cloud-init", b"not set", (low_port(403),), status=404),
    )


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
        "meta_data.json": _json(metadata),
        "network_data.json": _json({"links": [link], "networks": networks, "services": services}),
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


def upcloud(server: Server) -> Routes:
    """One JSON document, for servers whose metadata service is on."""
    addresses = []
    if server.ipv4:
        at4 = {"address": server.ipv4, "gateway": server.gateway4, "network": f"{server.ipv4.rsplit('.', 1)[0]}.0/24"}
        addresses.append({**at4, "dhcp": True, "dns": [server.gateway4], "family": "IPv4", "floating": False})
    if server.ipv6:
        at6 = {"address": server.ipv6, "gateway": server.gateway6, "network": f"{server.ipv6}/64"}
        addresses.append({**at6, "dhcp": True, "dns": [server.gateway6], "family": "IPv6", "floating": False})
    card = {"index": 1, "ip_addresses": addresses, "mac": server.hardware, "network_id": "n", "type": "public"}
    document = {
        "cloud_name": "upcloud",
        "instance_id": server.uuid,
        "hostname": server.name,
        "platform": "servers",
        "public_keys": list(server.root_keys),
        "region": "de-fra1",
        "network": {"interfaces": [card], "dns": server.resolvers},
        "user_data": server.text,
        "vendor_data": "",
    }
    return (Route("/metadata/v1.json", _json(document)),)


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
        Route(f"{top}/instance/attributes/", _json(attributes), needs, query="recursive=True", headers=flavor),
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
        Route("/opc/v2/instance/", _json(instance), needs),
        Route("/opc/v2/vnics/", _json([card]), needs),
    )


def nocloud(server: Server) -> Routes:
    """Four files on any web server, named by the serial number of the machine's firmware."""
    addresses: dict[str, object] = {"dhcp4": bool(server.ipv4), "dhcp6": bool(server.ipv6)}
    card = {"match": {"macaddress": server.hardware}, **addresses}
    return (
        Route("/meta-data", _json({"instance-id": server.id, "local-hostname": server.name})),
        Route("/user-data", server.user_data),
        Route("/vendor-data", b""),
        Route("/network-config", _json({"version": 2, "ethernets": {"eth0": card}})),
    )


def nothing(server: Server) -> Routes:
    """No service: everything is on a disk."""
    return ()


_ALL: Final[tuple[Callable[[Server], Routes], ...]] = (
    azure.routes,
    digitalocean,
    ec2,
    exoscale,
    gcp,
    hetzner,
    linode,
    nocloud,
    nothing,
    openstack,
    oracle,
    scaleway,
    upcloud,
    vultr,
)
SERVICES: Final = {"azure" if service is azure.routes else service.__name__: service for service in _ALL}
