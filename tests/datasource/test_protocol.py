"""The metadata services refuse what their providers refuse: otherwise a boot against them would show little."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from tests.datasource import azure, directories, instance, table
from tests.datasource.instance import Server
from tests.datasource.protocol import Request, Response, answer
from tests.datasource.providers import ROWS, UUID
from tests.datasource.services import SERVICES

_BYTES = bytes(range(256))
_SERVER = Server(
    name="web",
    id="123",
    uuid=UUID,
    hardware="02:65:00:00:00:02",
    ipv4="10.0.0.2",
    ipv6="fd00::2",
    gateway4="10.0.0.1",
    gateway6="fd00::1",
    root_keys=("ssh-ed25519 AAAA provider",),
    user_data=b"#cloud-config\n{}\n",
)


def ask(service: str, path: str, *, server: Server = _SERVER, method: str = "GET", **more: object) -> Response:
    """One request to a fresh service."""
    where, _, query = path.partition("?")
    return answer(SERVICES[service](server), Request(method, where, query, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("service", "path", "headers", "status"),
    [
        ("ec2", "/latest/user-data", {}, 401),
        ("ec2", "/2021-03-23/meta-data/", {}, 401),
        ("ec2", "/latest/user-data", {"x-aws-ec2-metadata-token": "guessed"}, 401),
        ("linode", "/v1/user-data", {}, 401),
        ("linode", "/v1/instance", {"metadata-token": "guessed"}, 401),
        ("vultr", "/v1.json", {}, 403),
        ("gcp", "/computeMetadata/v1/instance/id", {}, 403),
        ("gcp", "/computeMetadata/v1/instance/id", {"metadata-flavor": "google"}, 403),
        ("gcp", "/computeMetadata/v1/instance/id", {"metadata-flavor": "Google", "x-forwarded-for": "::1"}, 403),
        ("oracle", "/opc/v2/instance/", {}, 401),
        ("oracle", "/opc/v1/instance/", {}, 404),
        ("scaleway", "/user_data/cloud-init", {}, 403),
        ("digitalocean", "/metadata/v1/user-data", {}, 404),
        ("hetzner", "/hetzner/v1/nothing", {}, 404),
    ],
)
def test_a_request_that_breaks_the_protocol_is_refused(
    service: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Each rule by itself."""
    assert ask(service, path, headers=headers).status == status


@pytest.mark.parametrize(
    ("service", "path", "name", "status"),
    [
        ("ec2", "/latest/api/token", "x-aws-ec2-metadata-token-ttl-seconds", 400),
        ("linode", "/v1/token", "metadata-token-expiry-seconds", 400),
    ],
)
def test_a_token_needs_a_lifetime(service: str, path: str, name: str, status: int) -> None:
    """A whole number in the range that the provider names."""
    for value in ("0", "999999", "-1", "x", ""):
        assert ask(service, path, method="PUT", headers={name: value}).status == status
    assert ask(service, path, method="PUT").status == status
    assert ask(service, path, method="GET", headers={name: "300"}).status == 404
    assert ask(service, path, method="PUT", headers={name: "300"}).status == 200


def test_a_token_opens_what_is_behind_it() -> None:
    """The one that was handed out, and no other service's."""
    routes = directories.ec2(_SERVER)
    token = answer(routes, Request("PUT", "/latest/api/token", "", {"x-aws-ec2-metadata-token-ttl-seconds": "60"})).body
    headers = {"x-aws-ec2-metadata-token": token.decode()}
    assert answer(routes, Request("GET", "/latest/user-data", "", headers)) == Response(200, _SERVER.user_data)
    assert ask("ec2", "/latest/user-data", headers=headers).status == 401


def test_scaleway_gives_user_data_to_low_ports_alone() -> None:
    """1023 is the last."""
    assert ask("scaleway", "/user_data/cloud-init", source=1024).status == 403
    assert ask("scaleway", "/user_data/cloud-init", source=1023).body == _SERVER.user_data


def test_azure_has_each_service_at_its_own_address() -> None:
    """With its own header."""
    instance = "/metadata/instance?api-version=2021-08-01&extended=true"
    imds, wire = {"metadata": "true"}, {"x-ms-version": "2012-11-30"}
    assert ask("azure", instance, host="169.254.169.254", headers=imds).status == 200
    assert ask("azure", instance, host="169.254.169.254").status == 400
    assert ask("azure", instance, host=azure.WIRE, headers=imds).status == 404
    assert ask("azure", "/machine/?comp=goalstate", host=azure.WIRE, headers=wire).status == 200
    assert ask("azure", "/machine/?comp=goalstate", host=azure.WIRE).status == 400
    assert (
        ask("azure", "/machine?comp=health", method="POST", host=azure.WIRE, headers=wire, body=b"<x/>").status == 400
    )


def test_the_password_server_knows_its_header() -> None:
    """On a port of its own."""
    assert ask("exoscale", "/1.0/", port=8080).status == 400
    assert ask("exoscale", "/1.0/", port=8080, headers={"domu_request": "send_my_password"}).status == 200
    assert ask("exoscale", "/1.0/", headers={"domu_request": "send_my_password"}).status == 404


def test_bytes_survive_where_a_provider_takes_bytes() -> None:
    """All of them, in the provider's own encoding."""
    server = replace(_SERVER, user_data=_BYTES)
    assert ask("hetzner", "/hetzner/v1/userdata", server=server).body == _BYTES
    assert ask("exoscale", "/1.0/user-data", server=server).body == _BYTES
    assert ask("openstack", "/openstack/latest/user_data", server=server).body == _BYTES
    assert ask("scaleway", "/user_data/cloud-init", server=server, source=1).body == _BYTES
    bearer = {"authorization": "Bearer Oracle"}
    metadata = json.loads(ask("oracle", "/opc/v2/instance/", server=server, headers=bearer).body)["metadata"]
    assert base64.b64decode(metadata["user_data"]) == _BYTES


def test_google_is_told_of_base64() -> None:
    """Bytes pass by an attribute beside them, text as it is."""
    where, flavor = "/computeMetadata/v1/instance/attributes/?recursive=True", {"metadata-flavor": "Google"}
    text = json.loads(ask("gcp", where, headers=flavor).body)
    assert text["user-data"].encode() == _SERVER.user_data
    assert "user-data-encoding" not in text
    server = replace(_SERVER, user_data=_BYTES, encoded=True)
    packed = json.loads(ask("gcp", where, server=server, headers=flavor).body)
    assert packed["user-data-encoding"] == "base64"
    assert base64.b64decode(packed["user-data"]) == _BYTES


def test_values_survive_the_way_to_the_process() -> None:
    """Bytes too."""
    server = replace(_SERVER, user_data=_BYTES)
    assert instance.read(instance.write("ec2", server)) == ("ec2", server)


def test_every_row_has_a_service() -> None:
    """And what it says must be asked is there to be asked."""
    for row in ROWS.values():
        routes = SERVICES[row.service](_SERVER)
        known = {(route.method, route.path) for route in routes}
        for method, path in row.asked:
            assert (method, path.format(hardware=_SERVER.hardware)) in known, (row.name, path)


def test_the_page_is_made_from_the_table() -> None:
    """Of every row, by the run that has booted them."""
    seen = json.loads(table.DATA.read_text())
    assert list(seen) == list(ROWS)
    assert table.PAGE.read_text() == table.page(seen)
