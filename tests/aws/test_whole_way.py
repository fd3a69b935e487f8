"""The whole way: from `er launch` to a site over HTTPS, on a host that boots here from what the API was given.

The account is moto's. The user-data that it stored is handed out by an emulated IMDSv2 to a host under systemd-nspawn
that takes itself for an EC2 instance; that host's own console is what GetConsoleOutput returns, and its address is
the instance's. `er` is a process of its own and knows nothing of all this.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from builder import host, process
from builder import spec as specs
from builder.host import Part
from builder.lab import base, plan, preload
from builder.lab.guise import Guise
from builder.lab.machine import Machine
from builder.lab.net import Card
from builder.lab.polling import until
from tests.aws import run
from tests.aws.cloud import environment
from tests.datasource import boots, cloud
from tests.datasource.providers import ROWS
from tests.datasource.services import Server
from tests.machine.hosts import IMAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.lab.net import Plan
    from tests.aws.cloud import Account
    from tests.aws.wire import Wire

pytestmark = pytest.mark.machine

ROW = ROWS["aws"]
SPEC = ROOT / "tests" / "datasource" / "spec.yaml"


class Instance:
    """The host behind the instance. It is laid out before the launch, and powered on once the API has its user-data."""

    def __init__(self, stack: ExitStack, spec: Path, tmp: Path) -> None:
        self.stack, self.tmp = stack, tmp
        self.spec, _ = specs.load(spec)
        self.server: Server | None = None
        built = host.build(self.spec)
        preloads = tuple(preload.prepare(base.tree(built.packages), *owned) for owned in plan.owned_images(self.spec))
        self.machine = Machine(
            base.tree(built.packages), name="unnamed", preloads=preloads, internet=False, guise=self._guise
        )
        stack.enter_context(self.machine)
        for file in built.only(Part.BAKED):
            self.machine.files.write(file.path, file.content, int(file.mode, 8))

    def _guise(self, lab: Plan) -> Guise:
        gateway = cloud.place(lab)
        self.server = Server(
            name="ip-10-0-0-1",
            id=ROW.id,
            uuid=ROW.dmi["product_uuid"],
            hardware=ROW.hardware,
            ipv4=lab.machine.ipv4,
            ipv6="",
            gateway4=gateway.ipv4,
            gateway6="",
            root_keys=(run.KEY,),
            user_data=b"",
        )
        dmi = {name: value.format_map(boots.vars_of(self.server)) for name, value in ROW.dmi.items()}
        return Guise(dmi, Card(ROW.card, ROW.hardware, addressed=False), ROW.driver, ROW.image)

    def power_on(self, instance: str, user_data: bytes) -> cloud.Cloud:
        """With the metadata that the API has of it."""
        assert self.server is not None
        known = Server(**{**vars_of(self.server), "id": instance, "user_data": user_data})
        running = self.stack.enter_context(cloud.running(self.machine, ROW, known, self.tmp))
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


@pytest.mark.usefixtures("example_images")
def test_from_launch_to_https(account: Account, wire: Wire, spec: Path, stack: ExitStack, tmp_path: Path) -> None:
    image = account.bake()
    there = Instance(stack, spec, tmp_path)
    wire.console, wire.address = there.machine.console_text, there.machine.ipv4
    known_hosts = tmp_path / "known_hosts"
    argv = [str(run.PROGRAM), "launch", str(spec), "--image", image, "--json", "--timeout", "240"]
    argv += ["--known-hosts", str(known_hosts), "--identity", str(tmp_path / "id")]
    started = time.monotonic()
    er = subprocess.Popen(
        argv, env=environment(wire.url, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    stack.callback(er.kill)
    until(lambda: er.poll() is not None or account.instances(), timeout=60, what="the instance")
    assert er.poll() is None, er.communicate()[1]
    instance, user_data = stored(account)
    api = time.monotonic() - started
    assert len(user_data) <= 16384
    metadata = there.power_on(instance, user_data)
    out, err = er.communicate(timeout=300)
    assert er.returncode == 0, (err, there.machine.console_text()[-3000:])
    print(err)
    found = json.loads(out)
    # The host asked the metadata service with a token, and got what the API had stored.
    asked = [r for r in metadata.requests if r["path"].endswith("/user-data") and r["status"] == 200]
    assert asked
    assert all("x-aws-ec2-metadata-token" in request["headers"] for request in asked)
    # Served, and trusted by a chain that begins on the console: host key, SSH, the host's own CA.
    assert found["servers"][0]["id"] == instance
    assert found["sites"] == [
        {
            "url": "https://hello.example.com/",
            "status": 200,
            "trust": "by the host's own CA, fetched by SSH",
            "problem": None,
        }
    ]
    assert found["servers"][0]["host_keys"][0] in there.machine.console_text()
    login = ["ssh", "-i", str(tmp_path / "id"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    login += ["-o", f"UserKnownHostsFile={known_hosts}", f"er@{there.machine.ipv4}", "hostname"]
    assert process.run(login).stdout == f"{there.spec.server.name}\n"
    seconds = {"to the instance": api, **found["seconds"], "all": time.monotonic() - started}
    print("\n".join(f"{step:<16} {value:6.1f} s" for step, value in seconds.items()))
    gone = subprocess.run(
        [str(run.PROGRAM), "destroy", there.spec.server.name, "--yes", "--known-hosts", str(known_hosts)],
        env=environment(wire.url, tmp_path), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert gone.returncode == 0, gone.stderr
    assert not account.instances()
    assert not account.groups()
    assert known_hosts.read_text() == ""
