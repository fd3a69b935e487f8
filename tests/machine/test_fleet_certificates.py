"""Certificates that several proxies share: how often the authority is asked, and what goes wrong with lock and storage.

Real Caddys, haproxy and pebble, without the hosts around them (fleet_proxies.py); with hosts: test_fleet_hosts.py. A
container has no clock of its own, and a static program takes none from libfaketime: a clock that is ahead is the stamp
in a lock that was left behind.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from builder.polling import until
from tests.machine import fleet_proxies
from tests.machine.fleet_proxies import NAMES, Proxies, Served, Visitor
from tests.sweeps import of_a_sweep, sample

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for program in ("pebble", "pebble-challtestsrv", "haproxy", "bindfs"):
        assert shutil.which(program), f"apt-get install {program.partition('-')[0]}"


@pytest.mark.parametrize("count", sample((1, 2, 3, 4, 8), (3,)))
def test_one_order_for_each_name(tmp_path: Path, count: int) -> None:
    """However many begin at once; one that comes later asks for none."""
    with Proxies(tmp_path, count + 1) as proxies:
        proxies.served(range(count), proxies.start(*range(count)))
        orders, certificates = proxies.authority.count()
        assert certificates == len(NAMES)
        assert orders <= len(NAMES) + SECOND_TRIES
        proxies.served([count], proxies.start(count))
        assert proxies.authority.count() == (orders, certificates)
        shown = [proxies.serials(number) for number in range(count + 1)]
        assert all(one == shown[0] for one in shown)


# Of the same holder, where the authority came before a Caddy listened; on a machine that is busy.
SECOND_TRIES = 2
PAGE = Path(__file__).parents[2] / "docs/fleet.md"
_ROWS = re.compile("(?<=<!-- growth -->\n).*?(?=<!-- end of growth -->)", re.DOTALL)
_HEAD = """| hosts | all serve after | one more after | certificates | orders | of one more | lock waits | longest |
|---:|---:|---:|---:|---:|---:|---:|---:|
"""


@of_a_sweep
def test_what_growing_costs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Orders do not grow with the hosts, and waiting for one another hardly; written into docs/fleet.md."""
    rows = []
    for count in (1, 2, 4, 8):
        with Proxies(tmp_path_factory.mktemp("growth"), count + 1) as proxies:
            seconds = max(proxies.served(range(count), proxies.start(*range(count))).values())
            orders, certificates = proxies.authority.count()
            waits = [one for one in proxies.lock_waits(range(count)) if one > 0.1]
            more = proxies.served([count], proxies.start(count))[count]
            again = proxies.authority.count()[0] - orders
        assert (certificates, again) == (len(NAMES), 0)
        assert orders <= len(NAMES) + SECOND_TRIES
        cells = (
            count,
            f"{seconds:.1f} s",
            f"{more:.1f} s",
            certificates,
            orders,
            again,
            len(waits),
            f"{max(waits, default=0):.0f} s",
        )
        rows.append(f"| {' | '.join(map(str, cells))} |\n")
    if os.environ.get("UPDATE"):
        PAGE.write_text(_ROWS.sub(lambda _: _HEAD + "".join(rows), PAGE.read_text()))


@of_a_sweep
def test_the_holder_of_the_lock_is_killed(tmp_path: Path) -> None:
    """While it waits for the authority: another one takes the lock over, and asks once more."""
    with Proxies(tmp_path, 3, slow=True) as proxies:
        proxies.start(0)
        until(lambda: all(proxies.lock(name).exists() for name in NAMES), timeout=30, what="its locks")
        proxies.kill(0)
        proxies.served([1, 2], proxies.start(1, 2), timeout=120)
        waits = proxies.lock_waits([1, 2])
        assert 5 < max(waits) < 60, waits
        orders, certificates = proxies.authority.count()
        assert certificates == len(NAMES)
        assert orders <= 2 * len(NAMES)


@of_a_sweep
def test_the_clock_of_a_dead_holder_was_ahead(tmp_path: Path) -> None:
    """By 20 seconds: so much later is its lock taken over."""
    with Proxies(tmp_path, 2) as proxies:
        proxies.served([0], proxies.start(0))
        proxies.kill(0)
        shutil.rmtree(proxies.shared / "certificates")
        for name in NAMES:
            fleet_proxies.stamped(proxies.lock(name), 20)
        seconds = proxies.served([1], proxies.start(1), timeout=120)[1]
        assert 20 < seconds < 75
        assert proxies.authority.count() == (2 * len(NAMES), 2 * len(NAMES))


@of_a_sweep
@pytest.mark.parametrize("how", ["silent", "gone"])
def test_the_storage_is_away_for_a_minute(tmp_path: Path, how: str) -> None:
    """Visitors notice nothing, as what is served is in memory; a proxy that starts meanwhile serves once it is back."""
    storage = Served(tmp_path)
    try:
        with Proxies(tmp_path, 3, storage=storage.seen) as proxies:
            proxies.to_visitors(2, "maint")
            proxies.served([0, 1], proxies.start(0, 1))
            before = proxies.authority.count()
            with Visitor(proxies.middle.ipv4, NAMES[0], proxies.authority.issued) as visitor:
                with storage.away(how):
                    begun = proxies.start(2)
                    time.sleep(60)  # the minute that is asked about
                    late = proxies.places[2].ipv4
                    assert not fleet_proxies.serial(late, NAMES[0], proxies.authority.issued)
                if how == "gone":  # as on a host, where nothing starts before the storage is there
                    proxies.kill(2)
                    begun = proxies.start(2)
                proxies.served([2], begun, timeout=180)
                proxies.to_visitors(2, "ready")
            assert not visitor.bad
            assert visitor.good > 100
            assert proxies.authority.count() == before
    finally:
        storage.end()
