"""Several booted hosts of a fleet behind a balancer: shared certificates, pebble, and visitors who ask all the time.

haproxy passes connections on as a Network Load Balancer does, with PROXY v2, and `Balancer` gives it that one's delays,
`SPED` times as fast, as the drain of the hosts is. All of it is part of `make sweeps`: four hosts are booted at once.
"""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from builder import spec as specs
from builder.polling import until
from tests.machine import fleet_proxies, fleet_world
from tests.machine.clients import parse
from tests.machine.fleet_proxies import Authority, Served, Visitor
from tests.machine.test_fleet_certificates import SECOND_TRIES
from tests.machine.test_fleet_host import READY
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.spec import Spec
    from tests.machine.fleet_world import World

pytestmark = [pytest.mark.machine, of_a_sweep]

NAMES: Final = ("shop.example.com", "plain.example.com")
_MOUNTED: Final = "/mnt/certificates"
SPED: Final = 10
# AWS's, in seconds (aws-load-balancer-controller#1834, containers-roadmap#470): until a new target gets its first
# connection, until one that is unhealthy gets no more, until one that was taken out gets no more.
REGISTRATION, UNHEALTHY, DEREGISTRATION = 240 / SPED, 40 / SPED, 120 / SPED
DRAIN: Final = 300 // SPED


class Balancer:
    """Health checks of the hosts on port 80, and to which of them haproxy sends visitors, with those delays."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world, self.directory = world, directory
        self._since: dict[int, float] = {}
        self._out: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._healthy: set[int] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Balancer:
        addresses = [host.machine.ipv4 for host in self.world.hosts]
        self._haproxy = fleet_proxies.balancer(self.world.middle, addresses, self.directory)
        until((self.directory / "haproxy.sock").exists, timeout=20, what="haproxy")
        self._send(set())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._haproxy.kill()
        self._haproxy.wait()

    def register(self, number: int, delay: float = REGISTRATION) -> None:
        """As Auto Scaling does once a host's launch is over."""
        self._since[number] = time.monotonic() + delay

    def deregister(self, number: int) -> None:
        """As it does when it takes a host away."""
        self._out[number] = time.monotonic() + DEREGISTRATION

    def serves(self, number: int) -> bool:
        """Whether it is known to be healthy, and in."""
        return number in self._healthy

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            now = time.monotonic()
            there = {one for one, since in self._since.items() if since <= now < self._out.get(one, now + 1)}
            self._healthy = {one for one in there if self._is_well(one, now)}
            # With no healthy target a balancer of AWS's sends connections to all.
            self._send(self._healthy or there)

    def _is_well(self, number: int, now: float) -> bool:
        """Or was a moment ago."""
        if self._is_healthy(number):
            self._seen[number] = now
        return now - self._seen.get(number, -UNHEALTHY) < UNHEALTHY

    def _is_healthy(self, number: int) -> bool:
        url = f"http://{self.world.hosts[number].machine.ipv4}{READY}"
        asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--haproxy-protocol", "--max-time", "1", url]
        return self.world.middle.run(asked, check=False).stdout == "200"

    def _send(self, chosen: set[int]) -> None:
        """A server in haproxy's maintenance gets no new connections; those that it has go on."""
        states = {number: "ready" if number in chosen else "maint" for number in range(len(self.world.hosts))}
        words = (
            f"set server {name}/s{one} state {state}" for name in ("http", "https") for one, state in states.items()
        )
        fleet_proxies.told(self.directory, *words)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A directory that a server shows, which can be stopped: what is below hangs then, as on NFS."""
    for program in ("pebble", "haproxy", "bindfs"):
        assert shutil.which(program), f"apt-get install {program}"
    served = fleet_proxies.Served(tmp_path_factory.mktemp("storage"))
    yield served
    served.end()


def edited(number: int, text: str, root: Path) -> str:
    """The spec of a host: the first two are of the release before."""
    ca = f'"https://{fleet_proxies.ACME}:{fleet_proxies.PORT}/dir"'
    text += f"tls: {{ca: {ca}, ca_root: {root}, email: a@b.test}}\n"
    return text.replace("hello-{greeting}", f"release-{1 if number < 2 else 2}-{{greeting}}")


def shared(spec: Spec) -> Spec:
    """With certificates that hosts share."""
    return specs.with_storage(spec, None, _MOUNTED)


@pytest.fixture(scope="module")
def fleet(
    example_images: None, storage: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Authority, Balancer]]:
    """Two hosts of one release, up; two of the next one, off."""
    tmp = tmp_path_factory.mktemp("fleet")
    authority = Authority(tmp_path_factory.mktemp("pebble"))
    authority.sign()
    made = fleet_world.world(
        tmp,
        4,
        complete=shared,
        edit=lambda number, text: edited(number, text, authority.root),
        shared={_MOUNTED: storage.seen},
        drain=DRAIN,
    )
    with made as world:
        authority.start(world.middle)
        try:
            with Balancer(world, tmp) as balancer:
                balancer.register(0, 0)
                balancer.register(1, 0)
                world.boot(0, 1)
                yield world, authority, balancer
        finally:
            authority.end()


Fleet = tuple["World", Authority, Balancer]


def serials(world: World, authority: Authority, *numbers: int) -> set[tuple[str, ...]]:
    """Of the names, as these hosts show them."""
    addresses = [world.hosts[number].machine.ipv4 for number in numbers]
    return {tuple(fleet_proxies.serial(address, name, authority.issued) for name in NAMES) for address in addresses}


def test_one_order_for_each_name(fleet: Fleet) -> None:
    """Two hosts began at once, behind a balancer that leads the authority to either of them."""
    world, authority, _ = fleet
    until(lambda: all(all(one) for one in serials(world, authority, 0, 1)), timeout=120, what="every certificate")
    assert len(serials(world, authority, 0, 1)) == 1
    orders, certificates = authority.count()
    assert certificates == len(NAMES)
    assert orders <= len(NAMES) + SECOND_TRIES


def test_an_app_sees_the_visitor(fleet: Fleet) -> None:
    """Through balancer and proxy."""
    world, authority, _ = fleet
    visitor = world.hosts[0].machine.attacker(3)
    asked = ["curl", "-si", "--max-time", "10", "--cacert", str(authority.issued)]
    asked += ["--resolve", f"{NAMES[0]}:443:{world.middle.ipv4}", f"https://{NAMES[0]}/"]
    assert f"forwarded-for: {visitor.ipv4}\n" in parse(visitor.run(asked).stdout).body


def test_the_storage_is_away_for_a_minute(fleet: Fleet, storage: Served) -> None:
    """Visitors notice nothing; a host that boots meanwhile is not ready before it is back, and asks for no order."""
    world, authority, _ = fleet
    machine, before = world.hosts[2].machine, authority.count()
    with Visitor(world.middle.ipv4, NAMES[0], authority.issued) as visitor:
        machine.boot()  # its mount is there, and silent before it is looked at
        with storage.away("silent"):
            time.sleep(60)  # the minute that is asked about
            assert machine.attacker(0).run(["nc", "-z", "-w", "3", machine.ipv4, "443"], check=False).returncode != 0
            assert not world.hooks(world.hosts[2])
        until(lambda: world.hooks(world.hosts[2]), timeout=200, what="the end of the launch")
    assert not visitor.bad
    assert visitor.good > 100
    assert authority.count() == before


def test_a_roll_loses_no_request(fleet: Fleet) -> None:
    """One by one: a new host is registered, then an old one is taken away, whose drain outlasts the balancer's."""
    world, authority, balancer = fleet
    before = authority.count()
    visitors = [Visitor(world.middle.ipv4, name, authority.issued, 0.05) for name in NAMES]
    with visitors[0], visitors[1]:
        for new, old in ((2, 0), (3, 1)):
            if new == 3:
                world.boot(new)
            until(lambda new=new: world.hooks(world.hosts[new]), timeout=200, what="the end of the launch")  # type: ignore[misc]
            assert world.hooks(world.hosts[new]) == [("er-launching", "CONTINUE")]
            balancer.register(new)
            until(lambda new=new: balancer.serves(new), timeout=120, what="a target that is healthy")  # type: ignore[misc]
            balancer.deregister(old)
            world.says(h0="Terminated", h1="Terminated" if old == 1 else "InService")
            until(lambda old=old: len(world.hooks(world.hosts[old])) > 1, timeout=120, what="the end of the drain")  # type: ignore[misc]
            world.hosts[old].machine.poweroff()
    assert not visitors[0].bad + visitors[1].bad
    assert visitors[0].good + visitors[1].good > 500
    assert "release-2" in visitors[0].last
    assert authority.count() == before
