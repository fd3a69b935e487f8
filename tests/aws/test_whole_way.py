"""The whole way: an AMI by `er build-image`, a server by `er launch`, a site over HTTPS; all of it really booted, here.

The account is moto's. Packer bakes a machine under systemd-nspawn, to which its SSH is led; the disk of that machine is
the AMI's. The user-data that the API stored is handed out by an emulated IMDSv2 to a host on that disk that takes
itself for an EC2 instance; that host's own console is what GetConsoleOutput returns, and its address is the
instance's. `er` is a process of its own and knows nothing of all this.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import host as hosts
from builder import process
from builder import spec as specs
from builder.aws import machine_image, tags
from builder.lab.machine import Machine
from builder.lab.network import Card
from builder.lab.provider_machine import ProviderMachine
from builder.polling import until
from tests.aws import er_command
from tests.aws.moto_account import environment
from tests.datasource import boots, provider_network
from tests.datasource.instance import Server
from tests.datasource.providers import ROWS
from tests.machine.hosts import IMAGES, ROOT
from tests.packer import bake_without_packer
from tests.packer.conftest import standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.network import Network
    from tests.aws.moto_account import Account
    from tests.aws.wire import Wire

pytestmark = pytest.mark.machine

ROW = ROWS["aws"]
SPEC = ROOT / "tests" / "datasource" / "spec.yaml"
SECRET = "not-to-be-seen-anywhere"


class Instance:
    """The host behind the instance. It is laid out before the launch, and powered on once the API has its user-data."""

    def __init__(self, stack: ExitStack, tree: Path, tmp: Path) -> None:
        self.stack, self.tmp = stack, tmp
        self.server: Server | None = None
        self.machine = stack.enter_context(Machine(tree, name="unnamed", internet=False, provider=self._provider))

    def _provider(self, lab: Network) -> ProviderMachine:
        gateway = provider_network.place(lab)
        self.server = Server(
            name="ip-10-0-0-1",
            id=ROW.id,
            uuid=ROW.dmi["product_uuid"],
            hardware=ROW.hardware,
            ipv4=lab.machine.ipv4,
            ipv6="",
            gateway4=gateway.ipv4,
            gateway6="",
            root_keys=(er_command.KEY,),
            user_data=b"",
        )
        dmi = {name: value.format_map(boots.vars_of(self.server)) for name, value in ROW.dmi.items()}
        return ProviderMachine(dmi, Card(ROW.card, ROW.hardware, addressed=False), ROW.driver, ROW.image)

    def power_on(self, instance: str, user_data: bytes) -> provider_network.Cloud:
        """With the metadata that the API has of it."""
        assert self.server is not None
        known = Server(**{**vars_of(self.server), "id": instance, "user_data": user_data})
        running = self.stack.enter_context(provider_network.running(self.machine, ROW, known, self.tmp))
        self.machine.boot()
        return running


def vars_of(server: Server) -> dict[str, Any]:
    return {name: getattr(server, name) for name in Server.__slots__}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec with a key that is made now."""
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(tmp_path / "id")])
    file = tmp_path / "easyrunner.yaml"
    file.write_text(SPEC.read_text().replace("IMAGES", str(IMAGES)))
    return file


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def stored(account: Account) -> tuple[str, bytes]:
    """The instance, and its user-data as the API has it."""
    (instance,) = account.instances()
    answer = account.ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    return instance["InstanceId"], base64.b64decode(answer["UserData"]["Value"])


def bake(account: Account, wire: Wire, spec: Path, tmp: Path) -> tuple[str, Path]:
    """`er build-image --target aws`; the AMI, and its disk as a tree."""
    key = tmp / "id"
    account.ec2.import_key_pair(KeyName="mine", PublicKeyMaterial=key.with_name("id.pub").read_bytes())
    subnet = account.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    with standing(key, "ami") as machine:
        values = {"ssh_host": machine.ipv4, "ssh_username": "root", "ssh_keypair_name": "mine", "subnet_id": subnet}
        values |= {"ssh_private_key_file": str(key), "instance_type": "t3.micro"}
        (tmp / "mine.pkrvars.json").write_text(json.dumps({**values, "skip_checks": True}))
        words = ["build-image", spec, "--target", "aws", "--with-stacks", "--var-file", tmp / "mine.pkrvars.json"]
        done = er(wire, tmp, *words, "-o", tmp / "made", "--json")
        (ami,) = json.loads(done)["ids"]
        _is_found_and_alone(account, spec, ami, done)
        machine.poweroff()
        bake_without_packer.copy(machine, tmp / "disk")
    account.ec2.delete_key_pair(KeyName="mine")
    # What the lab gave the machine instead of a provider.
    shutil.rmtree(tmp / "disk/var/lib/cloud/seed", ignore_errors=True)
    return ami.partition(":")[2], tmp / "disk"


def _is_found_and_alone(account: Account, spec: Path, ami: str, done: str) -> None:
    """A launch finds the image by what it is tagged with; of the bake nothing else is left, and no secret told."""
    found = account.ec2.describe_images(**machine_image.baked_query("debian-13", "amd64"))["Images"]
    assert [image["ImageId"] for image in found] == [ami.partition(":")[2]]
    baked = hosts.build(specs.load(spec)[0]).only(hosts.Part.BAKED)
    assert tags.read(found[0])[tags.BAKED] == hosts.digest(baked)
    groups = [group["GroupName"] for group in account.ec2.describe_security_groups()["SecurityGroups"]]
    pairs = [pair["KeyName"] for pair in account.ec2.describe_key_pairs()["KeyPairs"]]
    assert (account.instances(), groups, pairs) == ([], ["default"], ["mine"])
    text = Path(json.loads(done)["manifest"]).read_text()
    assert json.loads(text)["image"]["file"] == ami
    assert [step["name"] for step in json.loads(text)["steps"]][-2:] == ["80-verify", "export"]
    assert SECRET not in text + done


def er(wire: Wire, tmp: Path, *words: object) -> str:
    """A whole run of `er`; what it wrote."""
    argv = [str(er_command.PROGRAM), *map(str, words)]
    env = environment(wire.url, tmp) | {"AWS_SECRET_ACCESS_KEY": SECRET}
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stderr
    return done.stdout


def launched(
    account: Account, wire: Wire, there: Instance, spec: Path, tmp: Path
) -> tuple[dict[str, Any], str, provider_network.Cloud]:
    """`er launch`, with the power switched on when the instance is made; what it wrote, the id, and the metadata."""
    wire.console, wire.address = there.machine.console_text, there.machine.ipv4
    argv = [str(er_command.PROGRAM), "launch", str(spec), "--json", "--timeout", "300"]
    argv += ["--known-hosts", str(tmp / "known_hosts"), "--identity", str(tmp / "id")]
    env = environment(wire.url, tmp)
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        there.stack.callback(running.kill)
        # moto is not to be asked while it makes something.
        waits = "GetConsoleOutput"
        until(lambda: running.poll() is not None or waits in wire.operations, timeout=120, what="the instance")
        assert running.poll() is None, running.communicate()[1]
        instance, user_data = stored(account)
        assert len(user_data) <= 16384
        metadata = there.power_on(instance, user_data)
        out, err = running.communicate(timeout=400)
    assert running.returncode == 0, (err, there.machine.console_text()[-3000:])
    print(err)
    found: dict[str, Any] = json.loads(out)
    return found, instance, metadata


@pytest.mark.usefixtures("example_images")
def test_from_the_spec_to_https(account: Account, wire: Wire, spec: Path, stack: ExitStack, tmp_path: Path) -> None:
    started = time.monotonic()
    ami, disk = bake(account, wire, spec, tmp_path)
    baked = time.monotonic()
    there = Instance(stack, disk, tmp_path)
    found, instance, metadata = launched(account, wire, there, spec, tmp_path)
    seconds = {"build-image": baked - started, **found["seconds"], "all": time.monotonic() - started}
    print("\n".join(f"{step:<16} {value:6.1f} s" for step, value in seconds.items()))
    assert found["image"] == ami
    # The host asked the metadata service with a token, and got what the API had stored.
    asked = [r for r in metadata.requests if r["path"].endswith("/user-data") and r["status"] == 200]
    assert asked
    assert all("x-aws-ec2-metadata-token" in request["headers"] for request in asked)
    # Served, and trusted by a chain that begins on the console: host key, SSH, the host's own CA.
    trust = "by the host's own CA, fetched by SSH"
    assert found["sites"] == [{"url": "https://hello.example.com/", "status": 200, "trust": trust, "problem": None}]
    assert found["servers"][0]["id"] == instance
    assert found["servers"][0]["host_keys"][0] in there.machine.console_text()
    login = ["ssh", "-i", str(tmp_path / "id"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    login += ["-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}", f"er@{there.machine.ipv4}", "hostname"]
    assert process.run(login).stdout == "web1\n"
    # EC2 keeps the end of a console alone: the server is asked itself then, as its host key is known.
    wire.console = lambda: "[    9.9] nothing of a first boot\n"
    words = ["launch", spec, "--json", "--timeout", "60", "--identity", tmp_path / "id"]
    again = json.loads(er(wire, tmp_path, *words, "--known-hosts", tmp_path / "known_hosts"))
    assert again["sites"] == found["sites"]
    assert again["servers"][0]["host_keys"][0] in there.machine.console_text()
    er(wire, tmp_path, "destroy", "web1", "--yes", "--known-hosts", tmp_path / "known_hosts")
    assert account.everything() == []
    assert (tmp_path / "known_hosts").read_text() == ""
