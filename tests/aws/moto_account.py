"""An account at moto's server, which runs as a process of its own, as it would look on a good day."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from builder import host as hosts
from builder import spec as specs
from builder.aws import tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.aws.autoscaling import AutoScaling

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop"
DEBIAN, CANONICAL = "136693071363", "099720109477"
# Nothing of the person's who runs the tests is looked at.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": REGION,
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "*",
    "no_proxy": "*",
    "NO_COLOR": "1",
    "COLUMNS": "120",
}
_FAMILIES = (
    (DEBIAN, "debian-13-{arch}-20260101-2000", "/dev/xvda", 8),
    (DEBIAN, "debian-13-{arch}-20260801-2200", "/dev/xvda", 8),
    (CANONICAL, "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-20260601", "/dev/sda1", 8),
)


def environment(url: str, home: Path) -> dict[str, str]:
    """What a process of er gets."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return {**kept, **ENVIRONMENT, "AWS_ENDPOINT_URL": url, "HOME": str(home)}


def images() -> list[dict[str, Any]]:
    """The public images of this small world, as moto reads them."""
    return [
        {
            "ami_id": f"ami-{index}{column}",
            "name": name.format(arch=arch),
            "owner_id": owner,
            "public": True,
            "description": "",
            "architecture": machine,
            "virtualization_type": "hvm",
            "hypervisor": "xen",
            "root_device_name": root,
            "root_device_type": "ebs",
            "image_location": f"{owner}/{index}{column}",
            "image_type": "machine",
            "platform": "",
            "sriov": "simple",
            "state": "available",
            "creation_date": f"2026-0{index + 1}-01T00:00:00.000Z",
        }
        for index, (owner, name, root, _) in enumerate(_FAMILIES)
        for column, (arch, machine) in enumerate((("amd64", "x86_64"), ("arm64", "arm64")))
    ]


@cache
def baked_part(base: str, arch: str) -> str:
    """The digest of what this er bakes."""
    text = f'server: {{name: x, base: {base}, arch: {arch}}}\nadmin: {{ssh_keys: ["{KEY}"]}}\n'
    spec, _ = specs.loads(text, Path("easyrunner.yaml"))
    return hosts.digest(hosts.build(spec).only(hosts.Part.BAKED))


@contextmanager
def moto(directory: Path) -> Iterator[int]:
    """moto's server on a port of its own choice; ends with the block."""
    amis = directory / "amis.json"
    amis.write_text(json.dumps(images()))
    env = {**os.environ, "MOTO_AMIS_PATH": str(amis), "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-m", "tests.aws.moto_server", "-H", "127.0.0.1", "-p", "0"]
    silent, said = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(argv, env=env, cwd=ROOT, stdout=silent, stderr=said, text=True) as server:
        assert server.stderr is not None
        try:
            lines = []
            for line in server.stderr:
                lines.append(line)
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    break
            else:
                raise AssertionError("".join(lines))
            drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
            yield int(found[1])
        finally:
            server.terminate()
            server.wait(30)
    drain.wait(10)


class Account:
    """The account itself, seen past er and past the wire."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        # As the last reset has made them.
        self.vpc = self.zone = ""
        session = boto3.session.Session("testing", "testing", region_name=REGION)
        self.ec2 = session.client("ec2", endpoint_url=self._url)
        self.route53 = session.client("route53", endpoint_url=self._url)
        self.iam = session.client("iam", endpoint_url=self._url)
        # The wire's own, where a test has to know of it.
        self.autoscaling: AutoScaling | None = None
        self.elb = session.client("elbv2", endpoint_url=self._url)
        self.efs = session.client("efs", endpoint_url=self._url)
        self.ssm = session.client("ssm", endpoint_url=self._url)

    def _ask(self, what: str, method: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self._url}/moto-api/{what}", method=method)
        answer: bytes = opener.open(request, timeout=30).read()
        return answer

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """After the block the account is as it was before. The time is what a fork takes."""
        before = int(self._ask("process", "GET"))
        os.kill(before, signal.SIGUSR1)
        while (now := int(self._ask("process", "GET"))) == before:
            pass
        zone, vpc = self.zone, self.vpc
        try:
            yield
        finally:
            os.kill(now, signal.SIGKILL)
            self.zone, self.vpc = zone, vpc
            while self._answers_as(now):
                pass

    def _answers_as(self, process: int) -> bool:
        try:
            return int(self._ask("process", "GET")) == process
        except (OSError, http.client.HTTPException):
            # It ended with the question in hand.
            return True

    def reset(self) -> None:
        """A new account: a default VPC that leads to the internet, as AWS makes it, and a hosted zone."""
        self._ask("reset", "POST")
        vpc = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        table = self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"][0]
        self.ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        self.vpc = vpc
        self.zone = self.route53.create_hosted_zone(Name="example.com", CallerReference="1")["HostedZone"]["Id"]

    def bake(self, base: str = "debian-13", arch: str = "amd64", baked: str | None = None) -> str:
        """An image as `er build-image --target aws` leaves it; `baked` is the digest of another er's."""
        stock = {"amd64": "ami-10", "arm64": "ami-11"}[arch]
        builder = self.ec2.run_instances(ImageId=stock, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        name = f"er-{base}-{arch}-{len(self.ec2.describe_images(Owners=['self'])['Images'])}"
        made: str = self.ec2.create_image(InstanceId=builder, Name=name)["ImageId"]
        self.ec2.terminate_instances(InstanceIds=[builder])
        given = tags.image(base, arch, baked=baked_part(base, arch) if baked is None else baked)
        labels = [{"Key": key, "Value": value} for key, value in given.items()]
        self.ec2.create_tags(Resources=[made], Tags=labels)
        return made

    def instances(self) -> list[dict[str, Any]]:
        """What is alive."""
        found = [i for r in self.ec2.describe_instances()["Reservations"] for i in r["Instances"]]
        return [i for i in found if i["State"]["Name"] != "terminated"]

    def groups(self) -> list[dict[str, Any]]:
        """Security groups besides the VPCs' own."""
        found = self.ec2.describe_security_groups()["SecurityGroups"]
        return [group for group in found if group["GroupName"] != "default"]

    def key_pairs(self) -> list[str]:
        return [pair["KeyName"] for pair in self.ec2.describe_key_pairs()["KeyPairs"]]

    def addresses(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ec2.describe_addresses()["Addresses"]
        return found

    def records(self) -> dict[str, list[str]]:
        """The address records by name."""
        found = self.route53.list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]
        return {
            f"{r['Type']} {r['Name']}": [value["Value"] for value in r["ResourceRecords"]]
            for r in found
            if r["Type"] in ("A", "AAAA") and "AliasTarget" not in r
        }

    def tags(self, kind: str, name: str) -> dict[str, str]:
        """Of a resource that is there, by its type and id; a key pair's id is its name."""
        if kind in {"image", "subnet", "vpc"}:
            return {}
        if kind == "key-pair":
            found = self.ec2.describe_key_pairs(KeyNames=[name])["KeyPairs"][0].get("Tags", [])
        else:
            found = self.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [name]}])["Tags"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def association(self, name: str) -> list[tuple[str, str]]:
        """The address and the instance that an association ties."""
        [found] = [address for address in self.addresses() if address.get("AssociationId") == name]
        return [("elastic-ip", found["AllocationId"]), ("instance", found["InstanceId"])]

    def profile(self, role: str) -> str:
        """An instance profile with a role, both of that name; its ARN."""
        self.iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
        made: str = self.iam.create_instance_profile(InstanceProfileName=role)["InstanceProfile"]["Arn"]
        self.iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        return made

    def roles(self) -> list[str]:
        return [role["RoleName"] for role in self.iam.list_roles()["Roles"]]

    def profiles(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.iam.list_instance_profiles()["InstanceProfiles"]
        return found

    def iam_tags(self, kind: str, name: str) -> dict[str, str]:
        """Of a role or an instance profile; none where there is none of that name."""
        try:
            if kind == "role":
                found = self.iam.list_role_tags(RoleName=name)["Tags"]
            else:
                found = self.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"].get("Tags", [])
        except self.iam.exceptions.NoSuchEntityException:
            return {}
        return {tag["Key"]: tag["Value"] for tag in found}

    def everything(self) -> list[object]:
        """All that a launch may have made."""
        own = [*self.instances(), *self.groups(), *self.key_pairs(), *self.addresses(), *self.records()]
        return [*own, *self.roles(), *self.profiles(), *self.of_fleets()]

    def of_fleets(self) -> list[object]:
        """What only fleets have, but for their groups, which are the wire's."""
        balancers = self.elb.describe_load_balancers()["LoadBalancers"]
        targets = self.elb.describe_target_groups()["TargetGroups"]
        templates = self.ec2.describe_launch_templates()["LaunchTemplates"]
        systems = self.efs.describe_file_systems()["FileSystems"]
        return [*balancers, *targets, *templates, *systems, *self.parameters()]

    def parameters(self) -> list[str]:
        """The names of secrets."""
        found = self.ssm.get_parameters_by_path(Path="/er", Recursive=True)["Parameters"]
        return [one["Name"] for one in found]

    def aliases(self) -> dict[str, str]:
        """The names that aliases lead to."""
        found = self.route53.list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]
        return {f"{r['Type']} {r['Name']}": r["AliasTarget"]["DNSName"] for r in found if "AliasTarget" in r}
