"""A fleet at the local endpoint: made, rolled, rolled back by a bad image, taken away. What moto lacks is a model's."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from builder.aws.permissions import OPERATIONS
from builder.aws.resources.role import name_of
from tests.aws import moto_account
from tests.aws.moto_account import REGION
from tests.machine import registry
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.autoscaling import Group
    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

HEAD = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{moto_account.KEY}"]}}
fleet: {{min: 2, max: 4, cpu: 60}}
"""
# Without domains there is nothing to ask over HTTPS.
QUIET = HEAD
SPEC = f"""{HEAD}
dns: route53
stacks:
  - {{name: hello, image: "docker.io/library/caddy:2.11", domain: hello.example.com, port: 8080}}
"""
SECRETS = f"""{HEAD}
stacks:
  - {{name: hello, image: "docker.io/library/caddy:2.11", domain: hello.example.com, port: 8080, secrets: [token]}}
"""
SERVER = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{moto_account.KEY}"]}}
"""


@pytest.fixture
def fleet(er: Er, account: Account) -> Er:
    """`er`, with a spec of a fleet and an image for it."""
    er.spec.write_text(QUIET)
    account.bake()
    return er


def group(er: Er) -> Group:
    return er.wire.autoscaling.groups["er-web1"]


def images(er: Er, account: Account) -> list[str]:
    """Of the hosts in service, in order."""
    serving = {one.instance for one in group(er).members if one.state == "InService"}
    return sorted(one["ImageId"] for one in account.instances() if one["InstanceId"] in serving)


def bad(account: Account, image: str) -> Any:
    """A first boot that fails on this image."""

    def told(instance: str) -> str:
        (found,) = account.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
        return "ABANDON" if found["ImageId"] == image else "CONTINUE"

    return told


BROKEN = "easyrunner: not ready: name=web1 missing: hello/web\n"


def test_a_fleet_is_made_of_what_the_table_says_and_taken_away(fleet: Er, account: Account) -> None:
    done = fleet.launch("--json")
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert (shown["fleet"]["min"], shown["fleet"]["max"], shown["fleet"]["desired"]) == (2, 4, 2)
    assert [(host["lifecycle"], host["health"], host["drift"]) for host in shown["hosts"]] == [
        ("InService", "healthy", [])
    ] * 2
    assert sorted({host["zone"] for host in shown["hosts"]}) == ["eu-central-1a", "eu-central-1b"]
    _balancer_is_as_it_should_be(account)
    _firewalls_are_as_they_should_be(account)
    _role_has_two_actions(account)
    _template_is_as_it_should_be(account)
    hooks = group(fleet).hooks
    assert {name: (one["HeartbeatTimeout"], one["DefaultResult"]) for name, one in hooks.items()} == {
        "er-launching": (900, "ABANDON"),
        "er-terminating": (900, "CONTINUE"),
    }
    assert group(fleet).policies["er-cpu"]["TargetTrackingConfiguration"]["TargetValue"] == 60
    again = fleet.launch()
    assert again.code == 0, again.err
    fleet.wire.calls.clear()
    assert fleet.launch().code == 0
    assert [one for one in fleet.wire.operations if OPERATIONS[one].writes] == []
    gone = fleet("destroy", "web1", "--yes")
    assert gone.code == 0, gone.err
    assert account.everything() == []
    assert fleet.wire.autoscaling.groups == {}


def _balancer_is_as_it_should_be(account: Account) -> None:
    (balancer,) = account.elb.describe_load_balancers()["LoadBalancers"]
    assert (balancer["Type"], balancer["Scheme"], balancer["LoadBalancerName"]) == (
        "network", "internet-facing", "er-web1",
    )  # fmt: skip
    assert len(balancer["AvailabilityZones"]) == 2
    groups = account.elb.describe_target_groups()["TargetGroups"]
    for one in groups:
        check = ("Protocol", "HealthCheckProtocol", "HealthCheckPort", "HealthCheckPath", "HealthCheckIntervalSeconds")
        assert [one[key] for key in check] == ["TCP", "HTTP", "80", "/.well-known/easyrunner/ready", 10]
        found = account.elb.describe_target_group_attributes(TargetGroupArn=one["TargetGroupArn"])["Attributes"]
        there = {each["Key"]: each["Value"] for each in found}
        assert there["proxy_protocol_v2.enabled"] == "true"
        assert there["preserve_client_ip.enabled"] == "false"
        assert there["deregistration_delay.timeout_seconds"] == "300"
    listeners = account.elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    ports = {one["TargetGroupArn"]: one["Port"] for one in groups}
    assert {one["Port"]: ports[one["DefaultActions"][0]["TargetGroupArn"]] for one in listeners} == {80: 80, 443: 443}
    assert {one["Protocol"] for one in listeners} == {"TCP"}


def _firewalls_are_as_they_should_be(account: Account) -> None:
    found = {one["GroupName"]: one for one in account.groups()}
    assert {*found} == {"er-web1", "er-web1-lb"}
    balancer, hosts = found["er-web1-lb"], found["er-web1"]
    assert sorted(one["FromPort"] for one in balancer["IpPermissions"]) == [80, 443]
    by_port = {one["FromPort"]: one for one in hosts["IpPermissions"]}
    assert sorted(by_port) == [22, 80, 443, 2049]
    for port, source in ((80, balancer), (443, balancer), (2049, hosts)):
        assert [pair["GroupId"] for pair in by_port[port]["UserIdGroupPairs"]] == [source["GroupId"]]
        assert by_port[port]["IpRanges"] == []
    for target in account.efs.describe_mount_targets(
        FileSystemId=account.efs.describe_file_systems()["FileSystems"][0]["FileSystemId"]
    )["MountTargets"]:
        groups = account.efs.describe_mount_target_security_groups(MountTargetId=target["MountTargetId"])
        assert groups["SecurityGroups"] == [hosts["GroupId"]]


def _role_has_two_actions(account: Account) -> None:
    policy = account.iam.get_role_policy(RoleName=name_of("web1", REGION), PolicyName="pull")["PolicyDocument"]
    found = json.loads(unquote(policy)) if isinstance(policy, str) else policy
    assert [(one["Action"], one["Resource"]) for one in found["Statement"]] == [
        (
            "ssm:GetParametersByPath",
            [f"arn:aws:ssm:{REGION}:123456789012:parameter/er/web1{end}" for end in ("", "/*")],
        ),
        (
            "autoscaling:CompleteLifecycleAction",
            f"arn:aws:autoscaling:{REGION}:123456789012:autoScalingGroup:*:autoScalingGroupName/er-web1",
        ),
    ]


def _template_is_as_it_should_be(account: Account) -> None:
    found = account.ec2.describe_launch_template_versions(LaunchTemplateName="er-web1")["LaunchTemplateVersions"]
    (version,) = found
    data = version["LaunchTemplateData"]
    assert (data["MetadataOptions"]["HttpTokens"], data["MetadataOptions"]["HttpPutResponseHopLimit"]) == (
        "required",
        1,
    )
    assert data["IamInstanceProfile"]["Name"] == name_of("web1", REGION)
    assert {tag["Key"]: tag["Value"] for tag in data["TagSpecifications"][0]["Tags"]}["er:part"] == "host"


def test_a_roll_brings_all_hosts_to_a_new_image_and_nobody_is_without_a_host(fleet: Er, account: Account) -> None:
    assert fleet.launch().code == 0
    (old,) = {*images(fleet, account)}
    new = account.bake()
    least, model = [], fleet.wire.autoscaling

    def watch(*_: object) -> None:
        if "er-web1" in model.groups:
            least.append(len(model.gets_connections("er-web1")))

    fleet.wire.fault = watch
    done = fleet.launch("--image", new)
    assert done.code == 0, done.err
    assert images(fleet, account) == [new, new] != [old, old]
    assert "Successful, 100 %" in done.err
    assert min(least) >= 2
    # Hosts that left have ended, those of before did so after a drain.
    assert len(account.instances()) == 2


def test_a_bad_image_is_rolled_back_and_its_console_is_shown(fleet: Er, account: Account) -> None:
    assert fleet.launch().code == 0
    before = images(fleet, account)
    image = account.bake()
    fleet.wire.autoscaling.first_boot = bad(account, image)
    fleet.wire.console = lambda: BROKEN
    done = fleet.launch("--image", image)
    assert done.code == 1
    assert images(fleet, account) == before
    assert "not ready: name=web1 missing: hello/web; 2 hosts of version 1 serve on" in done.err
    assert "its console ends with:" in done.err
    assert "RollbackSuccessful" in done.err
    assert "the same command goes on" in done.err
    # What was there goes on, and the next good image is rolled to.
    fleet.wire.autoscaling.first_boot = lambda _: "CONTINUE"
    good = account.bake()
    again = fleet.launch("--image", good)
    assert again.code == 0, again.err
    assert images(fleet, account) == [good, good]


def test_a_fleet_whose_first_host_fails_stands_at_no_hosts(fleet: Er, account: Account) -> None:
    """AWS would make hosts for ever."""
    fleet.wire.autoscaling.first_boot = lambda _: "ABANDON"
    fleet.wire.console = lambda: BROKEN
    done = fleet.launch()
    assert done.code == 1
    assert "missing: hello/web; the group is set to 0 hosts" in done.err
    assert (group(fleet).parameters["MinSize"], group(fleet).parameters["DesiredCapacity"]) == (0, 0)
    shown = fleet("servers")
    assert "0 to 4 hosts, 0 wanted, 0 in service" in shown.out
    assert account.instances() == []
    # Another image, the same command.
    fleet.wire.autoscaling.first_boot = lambda _: "CONTINUE"
    good = account.bake()
    again = fleet.launch("--image", good)
    assert again.code == 0, again.err
    assert images(fleet, account) == [good, good]
    assert "refresh" not in again.err


def test_a_refresh_that_is_under_way_is_followed(fleet: Er, account: Account) -> None:
    """Of another launch, that did not wait; and then to the image that is newer still."""
    assert fleet.launch().code == 0
    first = account.bake()
    assert fleet.launch("--no-wait", "--image", first).code == 0
    assert [one.status for one in group(fleet).refreshes] == ["InProgress"]
    followed = fleet.launch("--image", first)
    assert followed.code == 0, followed.err
    assert images(fleet, account) == [first, first]
    assert len(group(fleet).refreshes) == 1
    assert fleet.launch("--no-wait", "--image", account.bake()).code == 0
    newest = account.bake()
    done = fleet.launch("--image", newest)
    assert done.code == 0, done.err
    assert "a refresh to version 3 is under way: it is followed first" in done.err
    assert images(fleet, account) == [newest, newest]


@of_a_sweep
def test_a_bad_refresh_of_another_launch_is_rolled_back_first(fleet: Er, account: Account) -> None:
    assert fleet.launch().code == 0
    image = account.bake()
    fleet.wire.autoscaling.first_boot = bad(account, image)
    assert fleet.launch("--no-wait", "--image", image).code == 0
    good = account.bake()
    done = fleet.launch("--image", good)
    assert done.code == 0, done.err
    assert images(fleet, account) == [good, good]


def test_servers_shows_what_differs_on_each_host(fleet: Er, account: Account) -> None:
    assert fleet.launch().code == 0
    old = images(fleet, account)[0]
    new = account.bake()
    fleet.spec.write_text(QUIET.replace("cpu: 60", "cpu: 50") + "fail2ban: {ignore: [203.0.113.0/24]}\n")
    assert fleet.launch("--no-wait", "--image", new).code == 0
    while "Terminating" not in (shown := fleet("servers").out):
        assert f"older: image {old}, user-data" in shown, shown
    as_json = json.loads(fleet("servers", "--json").out)
    assert [one["name"] for one in as_json] == ["web1"]
    assert group(fleet).policies["er-cpu"]["TargetTrackingConfiguration"]["TargetValue"] == 50


def test_domains_lead_to_the_balancer(fleet: Er, account: Account) -> None:
    fleet.spec.write_text(SPEC)
    done = fleet.launch("--no-wait")
    assert done.code == 0, done.err
    (balancer,) = account.elb.describe_load_balancers()["LoadBalancers"]
    assert account.aliases() == {"A hello.example.com.": f"{balancer['DNSName']}."}
    fleet.wire.calls.clear()
    assert fleet.launch("--no-wait").code == 0
    assert [one for one in fleet.wire.operations if OPERATIONS[one].writes] == []
    gone = fleet("destroy", "web1", "--yes")
    assert gone.code == 0, gone.err
    assert account.aliases() == {}
    assert account.everything() == []


class _Page(http.server.BaseHTTPRequestHandler):
    """What stands behind the balancer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def behind_the_balancer(fleet: Er, tmp_path: Path) -> Iterator[Er]:
    """Whoever connects to the balancer's name meets a site, by a certificate of the spec's own authority."""
    made = registry.certificate(tmp_path, "hello.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.chain, made.key)
    fleet.wire.balancer = "127.0.0.77"
    tls = "tls: {ca: https://ca.example.com/directory, ca_root: ca.crt}\n"
    fleet.spec.write_text(f"{SPEC}{tls}")
    with http.server.ThreadingHTTPServer((fleet.wire.balancer, 443), _Page) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield fleet
        server.shutdown()


def test_every_domain_is_asked_at_the_balancer(behind_the_balancer: Er, account: Account) -> None:
    done = behind_the_balancer.launch("--json")
    assert done.code == 0, done.err
    assert "https://hello.example.com/  200, certificate by this machine's trust store" in done.err
    assert json.loads(done.out)["sites"] == [
        {"url": "https://hello.example.com/", "status": 200, "trust": "by this machine's trust store", "problem": None}
    ]
    assert account.aliases() == {"A hello.example.com.": "127.0.0.77."}
    # Another name's certificate is none.
    text = behind_the_balancer.spec.read_text().replace("hello.example.com", "other.example.com")
    behind_the_balancer.spec.write_text(text)
    refused = behind_the_balancer.launch("--timeout", "1")
    assert refused.code == 1
    assert "waited 1 s in vain" in refused.err


def test_a_record_that_leads_elsewhere_stays_until_the_user_says_so(fleet: Er, account: Account) -> None:
    fleet.spec.write_text(SPEC)
    record = {"Name": "hello.example.com.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.1"}]}
    changes = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    account.route53.change_resource_record_sets(HostedZoneId=account.zone, ChangeBatch=changes)
    refused = fleet.launch("--no-wait")
    assert refused.code == 1
    assert "192.0.2.1: it does not lead to this server" in refused.err
    assert account.of_fleets() == []
    done = fleet.launch("--no-wait", "--overwrite-dns")
    assert done.code == 0, done.err
    assert "replaced: hello.example.com A 192.0.2.1" in done.err
    assert [*account.aliases()] == ["A hello.example.com."]


def test_secrets_are_kept_for_hosts_that_come(fleet: Er, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.spec.write_text(SECRETS)
    refused = fleet.launch("--no-wait")
    assert refused.code == 1
    assert "no host would get ready without token of hello" in refused.err
    assert "er secret set SPEC hello token" in refused.err
    assert account.of_fleets() == []
    secret = fleet.directory / "token"
    secret.write_text("s3cret")
    listed = fleet("secret", "list", fleet.spec, "hello")
    assert (listed.code, "MISSING" in listed.out + listed.err) == (1, True)
    done = fleet("secret", "set", fleet.spec, "hello", "token", "--file", secret)
    assert done.code == 0, done.err
    assert "s3cret" not in done.out + done.err
    (there,) = account.ssm.get_parameters_by_path(Path="/er", Recursive=True, WithDecryption=True)["Parameters"]
    assert (there["Name"], there["Value"], there["Type"]) == ("/er/web1/hello/token", "s3cret", "SecureString")
    listed = fleet("secret", "list", fleet.spec, "hello", "--json")
    assert listed.code == 0
    assert [one["name"] for one in json.loads(listed.out)] == ["token"]
    assert "s3cret" not in listed.out + listed.err
    assert fleet.launch("--no-wait").code == 0
    # A new value is another version of the template, which hosts are replaced by.
    secret.write_text("newer")
    again = fleet("secret", "set", fleet.spec, "hello", "token", "--file", secret)
    assert "replaced" in again.err
    assert f"er launch {fleet.spec} replaces them" in again.err.replace("\n", " ")
    for _ in range(10):
        fleet("servers")
    assert fleet.launch("--no-wait").code == 0
    assert [one.version for one in group(fleet).refreshes] == ["2"]
    gone = fleet("destroy", "web1", "--yes")
    assert gone.code == 0, gone.err
    assert account.everything() == []


def test_a_secret_that_the_store_does_not_take_is_refused(fleet: Er, account: Account) -> None:
    fleet.spec.write_text(SECRETS)
    secret = fleet.directory / "token"
    for content, said in (
        (b"x" * 4097, "4,097 bytes: the Parameter Store takes 4,096"),
        (b"", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ):
        secret.write_bytes(content)
        done = fleet("secret", "set", fleet.spec, "hello", "token", "--file", secret)
        assert (done.code, said in done.err) == (1, True), done.err
    secret.write_bytes(b"x" * 4096)
    assert fleet("secret", "set", fleet.spec, "hello", "token", "--file", secret).code == 0
    assert account.parameters() == ["/er/web1/hello/token"]
    assert fleet("secret", "rm", fleet.spec, "hello", "token").code == 0
    assert account.parameters() == []
    assert fleet("secret", "set", fleet.spec, "other", "token", "--file", secret).code == 1
    fleet.spec.write_text(SERVER)
    refused = fleet("secret", "set", fleet.spec, "hello", "token", "--file", secret)
    assert (refused.code, "er server secret set HOST" in refused.err) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ("--count", "2"), ("--eip",), ("--no-eip",), ("--ipv6",), ("--protect",), ("--replace",), ("--spot",),
        ("--subnet", "subnet-1"), ("--profile-arn", "arn:aws:iam::123456789012:instance-profile/er-x"),
        ("--data-disk", "10"), ("--image", "stock"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_options_of_one_server_are_refused_by_name(fleet: Er, words: tuple[str, ...]) -> None:
    done = fleet.launch(*words)
    named = " ".join(words) if words[0] == "--image" else "--eip" if words[0] == "--no-eip" else words[0]
    assert (done.code, f"{named}: not with a fleet" in done.err) == (1, True), done.err
    assert fleet.wire.calls == []


def test_a_name_is_a_server_or_a_fleet(fleet: Er, account: Account) -> None:
    fleet.spec.write_text(SERVER)
    assert fleet.launch("--no-wait").code == 0
    fleet.spec.write_text(QUIET)
    refused = fleet.launch("--no-wait")
    assert (refused.code, "web1 is a server (i-" in refused.err) == (1, True), refused.err
    assert account.of_fleets() == []
    assert fleet("destroy", "web1", "--yes").code == 0
    assert fleet.launch("--no-wait").code == 0
    fleet.spec.write_text(SERVER)
    refused = fleet.launch("--no-wait")
    assert (refused.code, "web1 is a fleet of 2 hosts" in refused.err) == (1, True), refused.err
    # Also of one that has no hosts.
    group(fleet).parameters |= {"MinSize": 0, "DesiredCapacity": 0}
    for _ in range(80):
        fleet("servers")
    refused = fleet.launch("--no-wait")
    assert (refused.code, "web1 is a fleet, and the spec has no `fleet:`" in refused.err) == (1, True), refused.err


def test_a_dry_run_shows_every_part_and_the_price(fleet: Er, account: Account) -> None:
    terms = {"OnDemand": {"a": {"priceDimensions": {"b": {"unit": "Hrs", "pricePerUnit": {"USD": "0.0200"}}}}}}
    fleet.wire.prices = [json.dumps({"terms": terms})]
    done = fleet.launch("--dry-run")
    assert done.code == 0, done.err
    for part in (
        "security group of the balancer: 80/tcp, 443/tcp", "22/tcp, 80/tcp from the balancer, 443/tcp",
        "file system: EFS", "mount target: eu-central-1a, eu-central-1b", "load balancer: network, internet-facing",
        "make 2     target group: TCP 80 and 443",
        "Auto Scaling group: 2 to 4 hosts in eu-central-1a, eu-central-1b, more above 60 % CPU",
        "role: may read the fleet's secrets and answer its lifecycle hooks",
    ):  # fmt: skip
        assert part in done.err, done.err
    assert "server:" not in done.err
    assert "$0.0200 an hour x 2 to 4 + $0.0200 of the balancer, $43.80 to $73.00 a month" in done.err
    assert account.everything() == []
    assert [one for one in fleet.wire.calls if OPERATIONS[one.operation].writes and not one.dry] == []
    assert fleet.launch("--no-wait").code == 0
    again = fleet.launch("--dry-run")
    assert again.code == 0, again.err
    assert "would make" not in again.err


def test_a_fleet_needs_a_baked_image(er: Er, account: Account) -> None:
    er.spec.write_text(QUIET)
    done = er.launch()
    assert (done.code, "er build-image --target aws" in done.err) == (1, True), done.err
    stock = account.ec2.describe_images(Owners=[moto_account.DEBIAN])["Images"][0]["ImageId"]
    done = er.launch("--image", stock)
    assert (done.code, "is no image that er has baked" in done.err) == (1, True), done.err
