"""Passwords of Amazon ECR by the server's role: a metadata service, an API that checks signatures, a registry.

All over real HTTP, in the lab's network: nothing of it was ever run on AWS.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from builder.polling import until
from tests.machine import ecr_service, hosts, registry
from tests.machine.registry import HTTPS, OPEN, Registry
from tests.server.conftest import Client, client
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from builder.lab.network import Namespace
    from tests.machine.registry import Certificate

pytestmark = pytest.mark.machine

PLAIN = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
DUAL = "123456789012.dkr-ecr.eu-central-1.on.aws"
HELPER = "amazon-ecr-credential-helper"
_METADATA = "169.254.169.254"


@dataclass
class World:
    """The host, the admin's client, the registry, and AWS."""

    web: Client
    registry: Registry
    aws: Namespace
    certificate: Certificate
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def says(self, what: str = "", seconds: int = 43_200) -> None:
        """What AWS answers from now on: passwords good for so long, or what goes wrong."""
        mode = {"says": what, "seconds": seconds}
        (self.registry.directory / "mode.json").write_text(json.dumps(mode))

    def open(self) -> None:
        """Start all of it."""
        self.says()
        self.running += self.registry.start()
        until(self.registry.up, timeout=30, what="the registry")
        self.aws.run(["ip", "addr", "add", f"{_METADATA}/32", "dev", "lan"])
        argv = ["env", f"PYTHONPATH={hosts.ROOT}", sys.executable, "-m", "tests.machine.ecr_service"]
        words = [str(self.registry.directory), str(self.certificate.chain), str(self.certificate.key)]
        self.running.append(self.aws.start([*argv, *words]))

    def close(self) -> None:
        """End all of it."""
        for process in self.running:
            process.kill()
            process.wait()

    def requests(self) -> list[str]:
        """What was asked of AWS."""
        return (self.registry.directory / "requests").read_text().splitlines()

    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What `registry list` says, by stack and registry."""
        return {(one["stack"], one["registry"]): one for one in self.web.json("registry list")}

    def password(self, stack: str, name: str) -> str:
        """What a stack has."""
        uid = self.web.host.machine.run(["id", "-u", f"er-{stack}"]).stdout.strip()
        path = f"/var/lib/easyrunner/config/{uid}/containers/auth.json"
        found = json.loads(self.web.host.machine.run(["cat", path]).stdout)
        return base64.b64decode(found["auths"][name]["auth"]).decode().removeprefix("AWS:")

    def ask(self, *, check: bool = True) -> None:
        """As the timer does."""
        self.web.host.machine.run("systemctl restart er-ecr.service", check=check)

    def answers(self, name: str) -> bool:
        """Whether a visitor of this stack is answered."""
        return self.web.host.curl(f"https://{name}.example.com/").stdout.startswith("HTTP/2 200")

    def comes_up(self, name: str) -> None:
        """Soon: a stack tries again within a minute."""
        until(lambda: self.answers(name), timeout=90, what=f"the stack {name}")


def _files(made: Certificate, aws: Namespace) -> dict[str, bytes]:
    """The lab's authority for Podman and for the helper, and the way to the metadata service, as EC2 has them."""
    route = f"ExecStartPre=+ip route replace {_METADATA} via {aws.ipv4}"
    lab = f"[Service]\nEnvironment=SSL_CERT_FILE=/etc/lab-ca.crt\n{route}\n"
    authority = made.authority.read_bytes()
    return {
        "/etc/systemd/system/er-ecr.service.d/50-lab.conf": lab.encode(),
        "/etc/lab-ca.crt": authority,
        **{f"/etc/containers/certs.d/{name}/ca.crt": authority for name in (PLAIN, DUAL)},
    }


@pytest.fixture(scope="module")
def world(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A first boot of an image that lacks the helper."""
    tmp = tmp_path_factory.mktemp("ecr")
    made = registry.certificate(tmp, PLAIN, DUAL, ecr_service.API)
    with hosts.booted("ecr", tmp, start=False) as host:
        machine = host.machine
        closed, aws = Registry(machine.attacker(50), tmp, (OPEN, HTTPS), made), machine.attacker(51)
        closed.set_passwords({"AWS": "nobody-knows"})
        for path, content in _files(made, aws).items():
            machine.files.write(path, content, 0o644)
        known = machine.files.path("/etc/hosts").read_text()
        lines = f"{known}\n{closed.place.ipv4} {PLAIN} {DUAL}\n{aws.ipv4} {ecr_service.API}\n"
        machine.files.write("/etc/hosts", lines.encode())
        world = World(client(host, tmp), closed, aws, made)
        try:
            world.open()
            closed.push(hosts.IMAGES / "app.tar", "team/app")
            host.boot(timeout=240)
            yield world
        finally:
            world.close()


def test_first_boot_installs_the_helper_and_fetches_as_the_role(world: World) -> None:
    """Said on the console; nobody typed a password; and again at each boot, from a list that `er render` shows."""
    machine = world.web.host.machine
    assert f"easyrunner: installing {HELPER}" in machine.console_text()
    assert machine.run(["cat", "/etc/easyrunner/packages"]).stdout == f"{HELPER}\n"
    for name in ("shop", "blog", "near"):
        assert world.answers(name)
    assert "POST / 200" in world.requests()[-1]
    rows = world.rows()
    assert rows.keys() == {("shop", PLAIN), ("blog", DUAL)}
    for row in rows.values():
        assert (row["state"], row["by_role"], row["said"]) == ("set", True, "")
        assert 11 * 3600 < row["until"] - time.time() < 13 * 3600
    assert "by the server's role, good until 20" in world.web.er("registry list").stdout
    until(lambda: world.web.er("status").returncode == 0, timeout=60, what="a status in which nothing is wrong")
    assert machine.run("systemctl is-active er-ecr.timer").stdout == "active\n"


def test_nobody_else_reads_it(world: World) -> None:
    """Only root and the stack; it is nowhere but in the two files; and a stack cannot ask as the role itself."""
    machine = world.web.host.machine
    password = world.password("shop", PLAIN)
    assert password == world.password("blog", DUAL), "one account, asked once"
    uid = machine.run(["id", "-u", "er-shop"]).stdout.strip()
    path = f"/var/lib/easyrunner/config/{uid}/containers/auth.json"
    assert machine.run(["stat", "-c", "%U %G %a", path]).stdout == "root er-shop 640\n"
    for stack in ("blog", "near", "proxy"):
        assert machine.run(["cat", path], user=f"er-{stack}", check=False).returncode != 0
        assert (
            machine.run(["cat", "/var/lib/easyrunner/ecr/state.json"], user=f"er-{stack}", check=False).returncode != 0
        )
    word = base64.b64encode(f"AWS:{password}".encode()).decode()
    for value in (password, word, "k3y-of-the-role", "t0ken-of-the-role"):
        places = ["/etc", "/var/lib/cloud", "/var/log", "/run", "/tmp", "/root"]
        assert machine.run(["grep", "-rlF", "-s", value, *places], check=False).stdout == ""
        logs = "journalctl --no-pager -o verbose; journalctl --namespace=stacks --no-pager -o verbose"
        assert value not in machine.run(logs).stdout
    asks = ["curl", "-sS", "-m", "5", "-X", "PUT", f"http://{_METADATA}/latest/api/token"]
    for user in ("er-shop", "er-proxy"):
        done = machine.run(asks, user=user, check=False)
        assert done.returncode == 7, (user, done.stdout, done.stderr)


def test_a_password_that_changes_is_renewed_before_it_ends(world: World) -> None:
    """By the timer alone: the one of before is refused from then on, and the next image is fetched with the new one."""
    machine = world.web.host.machine
    before = world.password("shop", PLAIN)
    often = b"[Timer]\nOnUnitInactiveSec=\nOnUnitInactiveSec=3s\n"
    machine.run(
        "mkdir -p /run/systemd/system/er-ecr.timer.d && cat >/run/systemd/system/er-ecr.timer.d/lab.conf", stdin=often
    )
    machine.run("systemctl daemon-reload && systemctl restart er-ecr.timer er-ecr.service")
    until(lambda: world.password("shop", PLAIN) != before, timeout=30, what="another password")
    after = world.password("shop", PLAIN)
    until(lambda: world.password("shop", PLAIN) != after, timeout=30, what="one more, by the timer")
    machine.run(
        "rm /run/systemd/system/er-ecr.timer.d/lab.conf && systemctl daemon-reload && systemctl restart er-ecr.timer"
    )
    machine.run("podman rmi --force --all; systemctl --user restart shop-web.service", user="er-shop")
    world.comes_up("shop")


_WRONG = (
    ("no role", "the server has no role"),
    ("no metadata", "no metadata service answers"),
    ("denied", "the role may not log in: its policy lacks ecr:GetAuthorizationToken"),
)


# The metadata service and what a server without a role is told are the next tests' as well.
@pytest.mark.parametrize(("says", "said"), sample(_WRONG, (_WRONG[2],)))
def test_what_goes_wrong_is_said_and_what_runs_goes_on(world: World, says: str, said: str) -> None:
    """On the console, by the list, by doctor; the password of before is good until its end."""
    world.says(says)
    machine = world.web.host.machine
    console = machine.console_text().count("shop has no new login")
    world.ask(check=False)
    row = world.rows()["shop", PLAIN]
    assert row["state"] == "set", "it has not ended yet"
    assert said in row["said"]
    talk = world.web.er("registry list").stderr
    assert f"shop: asked last, AWS gave no new password for {PLAIN}: {said}" in talk
    assert machine.console_text().count(f"easyrunner: shop has no new login to {PLAIN}") > console
    assert world.answers("shop")
    world.says()
    until(lambda: not world.rows()["shop", PLAIN]["said"], timeout=90, what="the next attempt, by itself")


@of_a_sweep
def test_one_that_has_ended_is_missing_until_it_is_renewed(world: World) -> None:
    """A change of image waits for it, as for any login, and goes through by itself once the role is back."""
    web, machine = world.web, world.web.host.machine
    world.says("", seconds=2)
    world.ask()
    world.says("no role")
    world.ask(check=False)
    time.sleep(2)
    world.registry.set_passwords({"AWS": "nobody-knows"})
    assert world.rows()["shop", PLAIN]["state"] == "missing"
    listed = web.er("registry list")
    assert listed.returncode == 1
    assert "MISSING, by the server's role, ended 20" in listed.stdout
    status = web.er("status")
    assert f"shop has no login to {PLAIN} by the server's role: the server has no role" in status.stderr
    assert "by the server's role: the server has no role" in web.er("doctor").stdout
    machine.run("podman rmi --force --all; systemctl --user --no-block restart shop-web.service", user="er-shop")
    until(lambda: not world.answers("shop"), timeout=30, what="the stack to wait")
    refused = web.er("registry login", PLAIN, stdin="x\n")
    assert "the server's role logs in" in refused.stderr
    world.says()
    assert web.er("doctor", "--fix").returncode == 0
    world.comes_up("shop")


@of_a_sweep
def test_a_boot_asks_anew(world: World) -> None:
    """A machine that was off for more than twelve hours has no good password left."""
    machine = world.web.host.machine
    before = world.password("shop", PLAIN)
    world.registry.set_passwords({"AWS": "nobody-knows"})
    machine.run("podman rmi --force --all", user="er-shop")
    world.web.host.reboot()
    world.comes_up("shop")
    assert world.password("shop", PLAIN) != before


def _cannot_install(world: World) -> None:
    web, machine = world.web, world.web.host.machine
    machine.run("rm -rf /var/lib/apt/lists/*; mv /etc/apt /etc/apt.away; cp -a /etc/apt.away /etc/apt")
    machine.run(
        "rm -f /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] http://127.0.0.1:9 x main' >/etc/apt/sources.list"
    )
    failed = web.er("apply", web.spec, "--yes", "--timeout", "60")
    assert failed.returncode == 1
    assert f"not installed: {HELPER}: " in failed.stderr
    assert "the server is as before" in failed.stderr
    assert machine.run("ls /etc/easyrunner/ecr", check=False).returncode != 0
    machine.run("rm -rf /etc/apt && mv /etc/apt.away /etc/apt")


# As a first boot does.
@of_a_sweep
def test_apply_installs_what_a_change_needs(world: World) -> None:
    """And says so; where it cannot, nothing has changed and the reason is there."""
    web, machine = world.web, world.web.host.machine
    text = web.spec.read_text()
    plain = web.edited(
        f"  {PLAIN}: aws\n  {DUAL}: aws\n", f"  {PLAIN}: {{username: AWS}}\n  {DUAL}: {{username: AWS}}\n"
    )
    done = web.er("apply", plain, "--yes", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    assert machine.run("systemctl is-active er-ecr.timer", check=False).stdout != "active\n"
    machine.run(f"dpkg --purge {HELPER}")
    web.spec.write_text(text)
    _cannot_install(world)
    done = web.er("apply", web.spec, "--yes", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    assert f"the server lacks {HELPER}" in done.stderr
    assert "installing packages" in done.stderr
    assert {row["state"] for row in world.rows().values()} == {"set"}
    assert web.er("verify", web.spec).returncode == 0
