"""The values behind `er launch`: requests with ==, and what is read of answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from builder import host as hosts
from builder import spec as specs
from builder.aws import (
    console,
    dns,
    existing,
    known_hosts,
    launch,
    machine_image,
    permissions,
    plan,
    readiness,
    subnet,
    tags,
)
from builder.aws import request as requests
from builder.aws.errors import ROWS, translate
from builder.aws.request import Options, Request
from builder.aws.resources import instance, security_group
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop"
OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="
TEXT = f"server: {{name: web1}}\nadmin: {{ssh_keys: ['{KEY}']}}\n"
IMAGE = machine_image.Image("ami-1", "debian-13-amd64-1", "x86_64", "/dev/xvda", 8, "baked")
TYPE = requests.InstanceType("t3.small", ("x86_64",), ipv6=True, spot=True)
SUBNET = subnet.Subnet("eu-central-1a", "subnet-1", "vpc-1", ipv6=False)


def request(text: str = TEXT, **options: Any) -> Request:
    spec, _ = specs.loads(text, Path("easyrunner.yaml"))
    return Request(spec, hosts.build(spec), Options(**options))


def found_for(wanted: Request, *zone_ids: str) -> requests.Prerequisites:
    zones = tuple(dns.Zone(zone_id, "example.com") for zone_id in zone_ids)
    return requests.Prerequisites(wanted, "1", "eu-central-1", IMAGE, TYPE, (SUBNET,), b"#cloud-config", "run-1", zones)


def parameters(wanted: Request, ids: Mapping[str, tuple[str, ...]], count: int, *zone_ids: str) -> dict[str, Any]:
    """Of the call that runs so many instances."""
    resource = instance.Instance(found_for(wanted, *zone_ids), ids)
    resource.missing = count
    return resource.parameters()


def test_the_whole_request_for_a_server() -> None:
    tags_ = [
        {"Key": "Name", "Value": "web1"},
        {"Key": "er:admin", "Value": "er"},
        {"Key": "er:part", "Value": "server"},
        {"Key": "er:project", "Value": "easyrunner"},
        {"Key": "er:run", "Value": "run-1"},
        {"Key": "er:server", "Value": "web1"},
        {"Key": "er:spec", "Value": request().digests},
    ]
    ids = {"firewall": ("sg-1",), "key": ("er-web1-1",)}
    assert parameters(request(), ids, 2) == {
        "ImageId": "ami-1",
        "InstanceType": "t3.small",
        "MinCount": 2,
        "MaxCount": 2,
        "UserData": b"#cloud-config",
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeType": "gp3", "VolumeSize": 20, "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "SubnetId": "subnet-1", "AssociatePublicIpAddress": True, "Groups": ["sg-1"]}
        ],
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpProtocolIpv6": "disabled",
            "InstanceMetadataTags": "disabled",
        },
        "TagSpecifications": [
            {"ResourceType": type_, "Tags": tags_} for type_ in ("instance", "volume", "network-interface")
        ],
        "DisableApiTermination": False,
        "KeyName": "er-web1-1",
    }


def test_every_option_is_in_the_request() -> None:
    wanted = request(
        type="t3.large", disk=4, spot=True, ipv6=True, protect=True, profile_arn="arn:aws:iam::1:instance-profile/x"
    )
    found = parameters(wanted, {}, 1, "Z1", "Z2")
    assert found["InstanceType"] == "t3.large"
    assert found["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 8
    assert found["InstanceMarketOptions"]["SpotOptions"]["SpotInstanceType"] == "one-time"
    assert found["NetworkInterfaces"][0]["Ipv6AddressCount"] == 1
    assert found["MetadataOptions"]["HttpProtocolIpv6"] == "enabled"
    assert found["DisableApiTermination"] is True
    assert found["IamInstanceProfile"] == {"Arn": "arn:aws:iam::1:instance-profile/x"}
    assert {"Key": tags.ZONES, "Value": "Z1 Z2"} in found["TagSpecifications"][0]["Tags"]
    assert [s["ResourceType"] for s in found["TagSpecifications"]][-1] == "spot-instances-request"
    assert "KeyName" not in found
    assert "Groups" not in found["NetworkInterfaces"][0]


def test_options_of_the_spec_and_the_order_of_precedence() -> None:
    assert request(f"{TEXT}aws: {{type: m7i.large}}\n").type == "m7i.large"
    assert request(f"{TEXT}aws: {{type: m7i.large}}\n", type="t3.nano").type == "t3.nano"
    assert request(TEXT.replace("name: web1", "name: web1, arch: arm64")).type == "t4g.small"


def test_only_keys_that_ec2_takes_become_a_key_pair() -> None:
    assert request().key == KEY
    hardware = "sk-ssh-ed25519@openssh.com"
    blob = b"".join(len(p).to_bytes(4, "big") + p for p in (hardware.encode(), bytes(32), b"ssh:"))
    line = f"{hardware} {base64.b64encode(blob).decode()} me"
    assert request(TEXT.replace(KEY, line)).key is None


def test_the_token_is_the_same_until_something_has_changed() -> None:
    first = instance.token("sg-1", [], 1)
    assert first == instance.token("sg-1", [], 1)
    assert len(first) <= 64
    others = {instance.token("sg-2", [], 1), instance.token("sg-1", ["i-1"], 1), instance.token("sg-1", [], 2)}
    assert len(others | {first}) == 4


def test_the_security_group_mirrors_the_host() -> None:
    assert security_group.permissions(security_group.desired_rules(["203.0.113.0/24", "2001:db8::/32"])) == [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]},
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "203.0.113.0/24"}]},
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        {"IpProtocol": "udp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        {"IpProtocol": "udp", "FromPort": 443, "ToPort": 443, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
    ]


def test_rules_that_are_there_are_read_and_strange_ones_kept_apart() -> None:
    desired = security_group.desired_rules(["0.0.0.0/0"])
    rules, others = security_group.read_rules(security_group.permissions(desired))
    assert (rules, others) == (desired, [])
    every = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}], "UserIdGroupPairs": []}
    assert security_group.read_rules([every]) == (
        frozenset(),
        [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}],
    )


def test_the_youngest_image_and_what_it_is() -> None:
    old = {"ImageId": "ami-1", "CreationDate": "2026-01-01T00:00:00.000Z", "Architecture": "x86_64"}
    ours = [{"Key": "er:project", "Value": "easyrunner"}]
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 12}}
    new = old | {"ImageId": "ami-2", "CreationDate": "2026-02-01T00:00:00.000Z", "Tags": ours}
    new |= {"RootDeviceName": "/dev/sda1", "BlockDeviceMappings": [disk]}
    assert machine_image.newest([new, old]) == machine_image.Image("ami-2", "", "x86_64", "/dev/sda1", 12, "baked")
    assert machine_image.newest([]) is None


def test_stock_images_are_asked_of_their_makers_only() -> None:
    assert machine_image.stock_query("debian-13", "arm64") == {
        "Owners": ["136693071363"],
        "Filters": [
            {"Name": "architecture", "Values": ["arm64"]},
            {"Name": "state", "Values": ["available"]},
            {"Name": "name", "Values": ["debian-13-arm64-*"]},
        ],
    }


def _subnet(name: str, zone: str, ipv6: bool = False) -> dict[str, Any]:
    blocks = [{"Ipv6CidrBlockState": {"State": "associated"}}] if ipv6 else []
    return {"SubnetId": name, "VpcId": "vpc-1", "AvailabilityZone": zone, "Ipv6CidrBlockAssociationSet": blocks}


def test_a_subnet_in_a_zone_that_has_the_type() -> None:
    subnets = [_subnet("subnet-2", "b", ipv6=True), _subnet("subnet-1", "a"), _subnet("subnet-3", "c")]
    assert [one.id for one in subnet.pick(subnets, {"b", "c"}, "t3.small", ipv6=False)] == ["subnet-2", "subnet-3"]
    assert [one.id for one in subnet.pick(subnets, {"a", "b"}, "t3.small", ipv6=True)] == ["subnet-2"]
    with pytest.raises(UserError, match=r"t3.small is not to be had in a, b, c"):
        subnet.pick(subnets, set(), "t3.small", ipv6=False)
    with pytest.raises(UserError, match="no subnet here has IPv6"):
        subnet.pick(subnets, {"a"}, "t3.small", ipv6=True)


def test_a_public_subnet_by_its_own_table_or_the_main_one() -> None:
    out = {"Routes": [{"GatewayId": "local"}, {"GatewayId": "igw-1"}]}
    main = {"Associations": [{"Main": True}], **out}
    closed = {"Associations": [{"SubnetId": "subnet-1"}], "Routes": [{"NatGatewayId": "nat-1"}]}
    assert subnet.is_public([main], "subnet-1")
    assert not subnet.is_public([main, closed], "subnet-1")
    assert subnet.is_public([main, closed], "subnet-2")


def test_ipv6_has_a_route_of_its_own() -> None:
    """An egress-only gateway lets nobody in."""
    out = {"DestinationIpv6CidrBlock": "::/0"}
    by_ipv4 = {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1"}
    own = [{"SubnetId": "subnet-1"}]
    good = {"Associations": own, "Routes": [by_ipv4, {**out, "GatewayId": "igw-1"}]}
    closed = {"Associations": own, "Routes": [by_ipv4, {**out, "EgressOnlyInternetGatewayId": "eigw-1"}]}
    assert subnet.is_public_by_ipv6([good], "subnet-1")
    assert subnet.is_public([closed], "subnet-1")
    assert not subnet.is_public_by_ipv6([closed], "subnet-1")
    with pytest.raises(UserError, match=r"subnet-1 has no route for ::/0"):
        subnet.reachable([SUBNET], [closed], ipv6=True)
    other = subnet.Subnet("eu-central-1b", "subnet-2", "vpc-1", ipv6=True)
    tables = [closed, {**good, "Associations": [{"SubnetId": "subnet-2"}]}]
    assert subnet.reachable([SUBNET, other], tables, ipv6=True) == (other,)
    assert subnet.reachable([SUBNET, other], tables, ipv6=False) == (SUBNET, other)


def test_the_digest_of_what_is_baked_is_of_er_and_the_base() -> None:
    """Not of the spec; the mode and the bytes of each file count."""

    def baked(text: str) -> str:
        return hosts.digest(request(text).host.only(hosts.Part.BAKED))

    stacks = "stacks: [{name: a, image: 'docker.io/library/caddy:2', domain: a.example.com, port: 8080}]\n"
    assert baked(TEXT) == baked(TEXT.replace("web1", "web2") + stacks)
    assert baked(TEXT) != baked(TEXT.replace("name: web1", "name: web1, base: ubuntu-24.04"))
    one = hosts.File("/a", b"1", hosts.Part.BAKED)
    others = (replace(one, content=b"2"), replace(one, mode="0755"), replace(one, path="/b"))
    assert len({hosts.digest([file]) for file in (one, *others)}) == 4


# The console.

BLOB = KEY.split()[1]
PRINT = known_hosts.HostKey("ssh-ed25519", BLOB).fingerprint
BOOT = f"""
[    3.1] kernel says something
-----BEGIN SSH HOST KEY KEYS-----\r
ssh-ed25519 {BLOB} root@web1\r
-----END SSH HOST KEY KEYS-----\r
easyrunner: ssh 256 {PRINT} root@web1 (ED25519)\r
easyrunner: ready name=web1 stacks=2 boot=12s\r
"""


def test_the_console_of_a_good_first_boot() -> None:
    found = console.read(BOOT)
    assert (found.ready, found.failure) == ("web1", None)
    assert found.trusted == {known_hosts.HostKey("ssh-ed25519", BLOB)}
    assert "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(BLOB)).digest()).decode().rstrip("=") == PRINT


def test_the_last_boot_counts() -> None:
    failed = "easyrunner: not ready: name=web1 missing: blog/web\n"
    assert console.read(failed).failure == "not ready: name=web1 missing: blog/web"
    assert console.read(failed + BOOT).ready == "web1"
    assert console.read(BOOT + failed).ready is None


def test_a_printed_key_counts_only_with_the_hosts_own_fingerprint() -> None:
    assert console.read(BOOT.replace(PRINT, "SHA256:" + "A" * 43)).trusted == frozenset()
    assert console.read("").trusted == frozenset()


def test_known_hosts_keeps_what_is_not_about_these_addresses() -> None:
    key = known_hosts.HostKey("ssh-ed25519", BLOB)
    salt = b"0123456789"
    digest = base64.b64encode(hmac.digest(salt, b"192.0.2.1", hashlib.sha1)).decode()
    hashed = f"|1|{base64.b64encode(salt).decode()}|{digest} ssh-rsa AAAA old"
    kept = ["# mine", "", "host.example.com ssh-rsa AAAA", "|1|broken ssh-rsa AAAA", "@revoked * ssh-rsa AAAA"]
    text = "\n".join([*kept[:2], "192.0.2.1 ssh-rsa AAAA old", hashed, *kept[2:]]) + "\n"
    entry = f"192.0.2.1 ssh-ed25519 {BLOB} er:web1"
    assert known_hosts.merge(text, ["192.0.2.1"], [key], "web1").splitlines() == [*kept, entry]
    assert known_hosts.merge("", ["2001:db8::1"], [], "web1") == ""


def test_a_known_hosts_file_is_private_and_written_once(tmp_path: Path) -> None:
    path = tmp_path / ".ssh" / "known_hosts"
    key = known_hosts.HostKey("ssh-ed25519", BLOB)
    assert known_hosts.update(path, ["192.0.2.1"], [key], "web1")
    assert not known_hosts.update(path, ["192.0.2.1"], [key], "web1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_after_a_replacement_whoever_deploys_is_given_the_new_keys(tmp_path: Path) -> None:
    """The lines that are in the file for the new server's addresses, and no other's."""
    path = tmp_path / "known_hosts"
    path.write_text("192.0.2.9 ssh-rsa AAAA er:other\n")
    known_hosts.update(path, ["192.0.2.1"], [known_hosts.HostKey("ssh-ed25519", BLOB)], "web1")
    assert known_hosts.entries(path, ["192.0.2.1", "2001:db8::1"]) == [f"192.0.2.1 ssh-ed25519 {BLOB} er:web1"]
    launched: Any = SimpleNamespace(servers=[SimpleNamespace(addresses=("192.0.2.1", "2001:db8::1"))])
    settings: Any = SimpleNamespace(known_hosts=path)
    said = f"it has its own; for the known_hosts of who deploys:\n192.0.2.1 ssh-ed25519 {BLOB} er:web1"
    assert [*launch.host_key_rows(launched, settings)] == [("host key", said)]


def test_how_ssh_is_called() -> None:
    login = readiness.Login("er", "192.0.2.1", Path("/known"), Path("/id"))
    assert login.argv[-3:] == ["-i", "/id", "er@192.0.2.1"]
    assert "StrictHostKeyChecking=yes" in login.argv
    assert login.shown(Path("/known")) == "ssh -i /id er@192.0.2.1"
    assert login.shown(Path("/other")) == "ssh -o UserKnownHostsFile=/known -i /id er@192.0.2.1"


# DNS.


def test_the_closest_zone_holds_a_domain() -> None:
    known = [dns.Zone("Z1", "example.com"), dns.Zone("Z2", "eu.example.com")]
    assert dns.zones_of(["a.eu.example.com", "example.com"], known) == (known[1], known[0])
    with pytest.raises(UserError, match=r"holds badexample.com"):
        dns.zones_of(["badexample.com"], known)


def test_records_of_both_families() -> None:
    one = instance.read({"InstanceId": "i-1", "PublicIpAddress": "192.0.2.1", "Ipv6Address": "2001:db8::1"})
    (first, second) = dns.records(["a.example.com"], one.addresses)
    assert first == dns.Record("a.example.com", "A", ("192.0.2.1",))
    assert second.change("UPSERT") == {
        "Action": "UPSERT",
        "ResourceRecordSet": {
            "Name": "a.example.com.",
            "Type": "AAAA",
            "TTL": 300,
            "ResourceRecords": [{"Value": "2001:db8::1"}],
        },
    }


def test_a_record_is_only_the_servers_when_it_leads_nowhere_else() -> None:
    def found(**more: Any) -> dns.RecordSet:
        return dns.RecordSet({"Name": "\\052.example.com.", "Type": "A", "TTL": 60, **more})

    own, other = [{"Value": "192.0.2.1"}], [{"Value": "192.0.2.9"}]
    record = dns.Record("*.example.com", "A", ("192.0.2.1",))
    assert found(ResourceRecords=own).is_(record)
    assert not found(ResourceRecords=own, SetIdentifier="blue").is_(record)
    assert found(ResourceRecords=own).leads_only_to({"192.0.2.1", "192.0.2.2"})
    assert not found(ResourceRecords=own + other).leads_only_to({"192.0.2.1"})
    alias = found(AliasTarget={"DNSName": "d1.cloudfront.net."})
    assert not alias.leads_only_to({"192.0.2.1"})
    assert alias.leads_only_to({"d1.cloudfront.net"})
    assert str(alias) == "*.example.com A d1.cloudfront.net"


# What is there.

_STACK = "{{name: {0}, image: 'docker.io/library/caddy:2', domain: {0}.example.com, port: 8080}}"


def _stacks(*names: str) -> str:
    return f"{TEXT}stacks: [{', '.join(_STACK.format(name) for name in names)}]\n"


def test_what_differs_between_two_specs_is_told_by_stack() -> None:
    def parsed(text: str) -> dict[str, str]:
        return existing.parse(request(text).digests)

    before = parsed(_stacks("a", "b"))
    assert existing.changes(before, parsed(_stacks("a", "b"))) == []
    assert existing.changes(before, parsed(_stacks("a", "b").replace("caddy:2'", "caddy:3'", 1))) == ["stack a differs"]
    assert "the host itself differs" in existing.changes(before, parsed(_stacks("a", "b") + "tls: {ca: internal}\n"))
    assert {"stack b is gone", "stack c is new"} <= {*existing.changes(before, parsed(_stacks("a", "c")))}
    other_key = request(_stacks("a", "b").replace("name: web1", "name: web1, timezone: Europe/Berlin"))
    assert existing.changes(before, existing.parse(other_key.digests)) == ["the host itself differs"]


def test_the_digests_fit_a_tag() -> None:
    many = request(_stacks(*(f"stack-of-twenty-{number:02}" for number in range(12))))
    assert len(many.digests) <= 256
    assert [*existing.parse(many.digests)] == ["", "@"]


def test_a_server_with_domains_has_an_elastic_ip() -> None:
    assert request(_stacks("a")).eip
    assert not request(_stacks("a"), eip=False).eip
    assert not request(TEXT).eip
    assert request(TEXT, eip=True).eip


def test_several_servers_behind_one_name_cannot_have_certificates_of_a_public_ca() -> None:
    for ca in ("letsencrypt", "letsencrypt-staging", "https://ca.example.com/directory"):
        with pytest.raises(UserError, match="--count 2: every server would order its own") as refused:
            requests.check(request(_stacks("a") + f"tls: {{ca: '{ca}'}}\n", count=2))
        assert "`fleet: {min: …, max: …}`" in (refused.value.hint or "")
    requests.check(request(_stacks("a") + "tls: {ca: internal}\n", count=2))
    requests.check(request(TEXT, count=2))
    requests.check(request(_stacks("a")))


# Prices, permissions, errors.


def test_a_price_of_the_list() -> None:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": "0.0240"}}
    product = json.dumps({"terms": {"OnDemand": {"A.B": {"priceDimensions": {"C": dimension}}}}})
    assert plan.hourly_price(["{}", product]) == 0.024
    assert plan.hourly_price([]) is None
    assert plan.price_line(0.024, 2).startswith("about $0.0240 an hour x 2, $35.04 a month")


def test_the_policy_allows_every_call_and_binds_removal_to_our_tag() -> None:
    statements = [*permissions.policy()["Statement"], *permissions.role_policy()["Statement"]]
    allowed = {action for statement in statements for action in statement["Action"]}
    of_servers = [call for name, call in permissions.OPERATIONS.items() if name not in permissions.FLEET_OPERATIONS]
    assert allowed == {action for call in of_servers for action in call.needs}
    tag = "aws:ResourceTag/er:project"
    bound = {action for each in statements if tag in str(each.get("Condition")) for action in each["Action"]}
    made = ("AllocateAddress", "CreateSecurityGroup", "CreateTags", "CreateVolume", "ImportKeyPair")
    making = {f"ec2:{name}" for name in made}
    changing = {need for call in of_servers if call.writes for need in call.needs if "ec2:" in need}
    assert changing - making <= bound
    unbound = {action for each in statements if "Condition" not in each for action in each["Action"]}
    assert unbound & changing == {"ec2:CreateSecurityGroup", "ec2:RunInstances"}


def test_every_text_of_an_error_fits() -> None:
    for row in ROWS:
        code = row.codes.split("|")[0].replace(r"\.", ".").replace(".*", "x").replace("(Exception)?", "")
        found = translate(code, "said so.", operation="RunInstances", needs=("ec2:RunInstances",), region="eu-north-1")
        assert "{" not in found.message + (found.hint or ""), row.codes
        assert found.transient == row.transient, row.codes


def test_what_is_unsure_is_also_worth_another_look() -> None:
    assert all(row.transient for row in ROWS if row.unsure)
