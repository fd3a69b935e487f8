"""An AMI, made for real but for the cloud: Packer's own builder, moto's server, SSH to a machine booted here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import host as hosts
from builder import process
from builder import spec as specs
from builder.aws import machine_image, tags
from builder.polling import until
from tests.aws import moto_account
from tests.packer.bake_program import ROOT, SPEC
from tests.packer.conftest import standing
from tests.sweeps import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

# `make packer` runs it with another one; aws/test_whole_way.py bakes and looks at the same, and serves from it.
_ASKED = WHOLE or bool(os.environ.get("ER_PACKER"))
pytestmark = [pytest.mark.machine, pytest.mark.skipif(not _ASKED, reason="aws/test_whole_way.py bakes; `make sweeps`")]
SECRET = "not-to-be-seen-anywhere"


@dataclass(frozen=True, slots=True)
class Region:
    """An account, and how `er` is run in it."""

    account: moto_account.Account
    argv: list[str]
    environment: dict[str, str]
    directory: Path

    def left(self) -> tuple[list[Any], list[str], list[str]]:
        """Instances, security groups and key pairs that are there."""
        ec2 = self.account.ec2
        groups = [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]]
        return self.account.instances(), groups, [pair["KeyName"] for pair in ec2.describe_key_pairs()["KeyPairs"]]


@pytest.fixture
def region(key: Path, tmp_path: Path) -> Iterator[Region]:
    with moto_account.moto(tmp_path) as port, standing(key, "ami") as machine:
        account = moto_account.Account(port)
        account.reset()
        account.ec2.import_key_pair(KeyName="mine", PublicKeyMaterial=key.with_name("id.pub").read_bytes())
        subnet = account.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        values = {
            "ssh_host": machine.ipv4,
            "ssh_username": "root",
            "ssh_keypair_name": "mine",
            "ssh_private_key_file": str(key),
            "skip_checks": True,
            "subnet_id": subnet,
            "instance_type": "t3.micro",
        }
        variables = tmp_path / "mine.pkrvars.json"
        variables.write_text(json.dumps(values))
        directory = tmp_path / "made"
        argv = [str(Path(sysconfig.get_path("scripts"), "er")), "build-image", str(SPEC), "--target", "aws"]
        argv += ["--var-file", str(variables), "-o", str(directory), "--json", "--keep-log"]
        environment = moto_account.environment(f"http://127.0.0.1:{port}", tmp_path) | {"AWS_SECRET_ACCESS_KEY": SECRET}
        yield Region(account, argv, environment, directory)


def test_an_ami_that_a_launch_finds(region: Region) -> None:
    done = process.run(region.argv, env=region.environment, cwd=ROOT, timeout=240)
    (name,) = json.loads(done.stdout)["ids"]
    where, _, ami = name.partition(":")
    assert where == moto_account.REGION
    found = region.account.ec2.describe_images(**machine_image.baked_query("debian-13", "amd64"))["Images"]
    assert [image["ImageId"] for image in found] == [ami]
    baked = hosts.build(specs.load(SPEC)[0]).only(hosts.Part.BAKED)
    assert tags.read(found[0])[tags.BAKED] == hosts.digest(baked)
    assert region.left() == ([], ["default"], ["mine"])
    manifest = json.loads(Path(json.loads(done.stdout)["manifest"]).read_text())
    assert manifest["image"]["file"] == name
    assert [step["name"] for step in manifest["steps"]][-2:] == ["80-verify", "export"]
    written = "".join(path.read_text() for path in region.directory.iterdir()) + done.stdout + done.stderr
    assert SECRET not in written


def test_an_interrupt_leaves_nothing_at_the_provider(region: Region, tmp_path: Path) -> None:
    talk = tmp_path / "talk"
    with talk.open("wb") as file:
        bake = subprocess.Popen(region.argv, env=region.environment, cwd=ROOT, stdout=file, stderr=file)
    until(lambda: "20-files" in talk.read_text(), timeout=120, what="a step in the instance")
    assert region.left()[0]
    os.kill(bake.pid, signal.SIGINT)
    assert bake.wait(120) == 130, talk.read_text()
    assert region.left() == ([], ["default"], ["mine"])
    assert [path.suffix for path in region.directory.iterdir()] == [".log"]
