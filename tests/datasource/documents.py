"""Services that answer with one document, and user-data in it or beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.datasource.protocol import Route, Tokens, header, json_bytes, low_port, number

if TYPE_CHECKING:
    from tests.datasource.instance import Server
    from tests.datasource.protocol import Routes


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
    return (Route("/metadata/v1.json", json_bytes(document)),)


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
    return (Route("/v1.json", json_bytes(document), (header("Metadata-Token", "cloudinit", 403),)),)


def linode(server: Server) -> Routes:
    """Akamai: a token by PUT, JSON metadata, user-data in base64."""
    tokens = Tokens("Metadata-Token")
    lifetime = number("Metadata-Token-Expiry-Seconds", 1, 86400, 400)
    document = {"id": int(server.id), "label": server.name, "region": "eu-central", "type": "g6-nanode-1"}
    keys = {"users": {"root": list(server.root_keys)}}
    accept = header("Accept", "application/json", 406)
    return (
        Route("/v1/token", tokens.make, (lifetime,), "PUT"),
        Route("/v1/instance", json_bytes(document), (tokens.rule, accept)),
        Route("/v1/ssh-keys", json_bytes(keys), (tokens.rule, accept)),
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
        Route("/conf", json_bytes(document), query="format=json"),
        Route("/user_data/cloud-init", server.user_data, (low_port(403),)),
        Route("/vendor_data/cloud-init", b"not set", (low_port(403),), status=404),
    )


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
    return (Route("/metadata/v1.json", json_bytes(document)),)
