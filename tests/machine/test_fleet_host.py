"""A host of a fleet, booted, with AWS's services in the lab's network: nothing of it was ever run on AWS."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from builder.polling import until
from tests.machine import fleet_world
from tests.machine.clients import get
from tests.server.conftest import client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.machine.fleet_world import World
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

READY = "/.well-known/easyrunner/ready"


@pytest.fixture(scope="module")
def world(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One host, up, and one that was never on."""
    with fleet_world.world(tmp_path_factory.mktemp("fleet"), 2) as found:
        found.boot(0)
        yield found


@pytest.fixture
def host(world: World) -> Host:
    """The host."""
    return world.hosts[0]


@pytest.fixture
def other(world: World) -> Host:
    """The host that is refused at first."""
    return world.hosts[1]


def health(host: Host, name: str = "10.0.0.7") -> int:
    """What a balancer is told, who asks by the host's address."""
    return get(host, f"http://{name}{READY}").status


def test_secrets_come_before_the_stacks_start(world: World, host: Host) -> None:
    """Page by page, from the fleet's own path; what is no stack's stays away."""
    assert "greeting: hello-grüße" in get(host, "https://shop.example.com/").body
    pages = world.requests("ssm", host)
    assert [one["said"].get("NextToken") for one in pages] == [None, "2"]
    assert all(one["said"]["Path"] == "/er/web/" for one in pages)
    machine = host.machine
    value = "podman exec web cat /run/secrets/session"
    assert machine.run(value, user="er-shop").stdout == "s3cret-of-the-session"
    kept = machine.run("podman secret ls --format '{{.Name}}'", user="er-shop").stdout.split()
    assert {"greeting", "session"} < set(kept)
    assert "old" not in machine.run("cat /var/lib/easyrunner/data/stacks/*/secrets/secrets.json").stdout
    told = machine.run(
        "journalctl -b --no-pager; cat /etc/easyrunner/fleet; systemctl show '*' -p ExecStart -p Environment"
    )
    assert "s3cret-of-the-session" not in told.stdout


def test_the_group_is_told_once_everything_answers(world: World, host: Host) -> None:
    until(lambda: world.hooks(host), timeout=60, what="the end of the launch")
    assert world.hooks(host) == [("er-launching", "CONTINUE")]
    [told] = [one for one in world.requests("autoscaling", host) if one["status"] == 200]
    assert told["said"]["AutoScalingGroupName"] == "er-web"
    assert health(host) == health(host, "shop.example.com") == 200
    assert get(host, "http://shop.example.com/").status == 308


# A health check of a Network Load Balancer stands for nobody: version 2, LOCAL, no addresses.
_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def test_a_health_check_has_a_header_that_stands_for_nobody(host: Host) -> None:
    with socket.create_connection((host.machine.ipv4, 80), timeout=10) as line:
        line.sendall(
            _LOCAL + f"GET {READY} HTTP/1.1\r\nHost: {host.machine.ipv4}:80\r\nConnection: close\r\n\r\n".encode()
        )
        assert line.recv(100).startswith(b"HTTP/1.1 200 ")


def test_no_host_of_a_fleet_is_changed_by_itself(host: Host, tmp_path: Path) -> None:
    web = client(host, tmp_path)
    for way in ("--dry-run", "--yes"):
        done = web.er("apply", web.spec, way)
        assert done.returncode == 1
        assert "this host is one of a fleet" in done.stderr
        assert "er launch SPEC replaces them all" in done.stderr


def test_no_stack_reaches_the_metadata(host: Host) -> None:
    """Whoever has its keys reads every secret of the fleet."""
    asked = "podman exec web wget -q -T 3 -O - http://169.254.169.254/latest/meta-data/"
    assert host.machine.run(asked, user="er-shop", check=False).returncode != 0
    direct = ["curl", "-s", "--max-time", "3", "http://169.254.169.254/latest/meta-data/"]
    assert host.machine.run(direct, user="er-shop", check=False).returncode != 0


def test_a_host_that_is_taken_away_serves_on(world: World, host: Host) -> None:
    """It fails its health check at once, and tells the group when visitors had their time."""
    until(lambda: world.hooks(host), timeout=60, what="the end of the launch")
    world.says(h0="Terminated")
    until(lambda: health(host) == 503, timeout=60, what="a health check that fails")
    assert get(host, "https://shop.example.com/").status == 200
    assert get(host, "http://shop.example.com/").status == 308
    until(lambda: len(world.hooks(host)) > 1, timeout=60, what="the end of the drain")
    assert world.hooks(host)[1] == ("er-terminating", "CONTINUE")
    assert get(host, "https://shop.example.com/").status == 200
    assert "it fails its health check, and serves on for 4 s" in host.machine.console_text()


@of_a_sweep
def test_a_host_that_boots_again_asks_nobody_for_its_secrets(world: World, host: Host) -> None:
    """AWS may be away then: it serves, and is healthy, with what it had."""
    before = len(world.requests("ssm"))
    world.says("nothing")
    host.reboot()
    assert health(host) == 200
    assert "greeting: hello-grüße" in get(host, "https://shop.example.com/").body
    assert len(world.requests("ssm")) == before


def test_a_host_without_its_secrets_is_given_up(world: World, other: Host) -> None:
    """It starts nothing, and refuses visitors; who looks at its console reads what to do."""
    machine = other.machine
    world.says(parameters={name: value for name, value in fleet_world.PARAMETERS.items() if "greeting" not in name})
    machine.boot()
    machine.wait(lambda: world.hooks(other), timeout=120, what="the end of the launch")
    assert world.hooks(other) == [("er-launching", "ABANDON")]
    assert "er secret set SPEC shop greeting" in machine.console_text()
    for port in (80, 443):
        asked = machine.attacker(0).run(["nc", "-z", "-w", "3", machine.ipv4, str(port)], check=False)
        assert asked.returncode != 0
    assert machine.run(["pgrep", "-c", "-u", "er-plain"], check=False).stdout.strip() == "0"


def test_a_host_that_is_not_whole_serves_nobody(world: World, other: Host) -> None:
    """Its power was cut, its secrets are there by now, and one of its stacks never answers: the other one waits."""
    machine = other.machine
    machine.cut()
    world.says()
    uid = machine.files.path("/etc/passwd").read_text().partition("\ner-shop:x:")[2].partition(":")[0]
    soon = b"[Service]\nEnvironment=READY_TIMEOUT=15\n"
    machine.files.write("/etc/systemd/system/er-first-boot.service.d/60-lab.conf", soon)
    machine.files.write(f"/etc/easyrunner/units/{uid}/er-ingress-web.socket", b"[Socket]\nListenStream=/run/nowhere\n")
    machine.boot()
    machine.wait_console("not ready: name=web missing: shop/web", timeout=120)
    until(
        lambda: "HTTP/2 503" in other.curl("https://plain.example.com/").stdout, timeout=60, what="an answer of Caddy"
    )
    assert health(other) == 503
    assert get(other, "http://plain.example.com/").status == 503
    assert ("er-launching", "CONTINUE") not in world.hooks(other)


def test_what_is_mended_serves(other: Host) -> None:
    """By hand, before the group takes it away."""
    machine = other.machine
    uid = machine.user("er-shop").uid
    socket = f"/etc/easyrunner/units/{uid}/er-ingress-web.socket"
    good = f"/etc/easyrunner/units/{machine.user('er-plain').uid}/er-ingress-web.socket"
    machine.run(f"sed s,/plain/,/shop/, {good} >{socket}")
    machine.run(["systemctl", "--user", "daemon-reload"], user="er-shop")
    machine.run(["systemctl", "--user", "restart", "er-ingress-web.socket"], user="er-shop")
    machine.run(["systemctl", "restart", "er-first-boot.service"], timeout=90)
    assert health(other) == get(other, "https://plain.example.com/").status == 200


@of_a_sweep
@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8, 1.2, 1.6, 2.4, 4, 8])
def test_a_cut_of_power_is_made_good_by_the_next_boot(example_images: None, tmp_path: Path, seconds: float) -> None:
    """So many seconds after its secrets were asked for."""
    with fleet_world.world(tmp_path) as there:
        one = there.hosts[0]
        one.machine.boot()
        one.machine.wait(lambda: there.requests("ssm"), timeout=120, what="a question for secrets")
        time.sleep(seconds)
        one.machine.cut()
        one.boot(timeout=200)
        assert "greeting: hello-grüße" in get(one, "https://shop.example.com/").body
        until(lambda: there.hooks(one), timeout=60, what="the end of the launch")
        assert there.hooks(one) == [("er-launching", "CONTINUE")]
        assert health(one) == 200
