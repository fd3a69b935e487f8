"""stock == baked + first boot, on two really booted hosts: equal but for the few differences listed here.

A run of the tests makes the host from the stock image alone; `make sweeps` compares both.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

import pytest

from builder.lab import base_tree, preload, trial
from builder.lab.machine import Machine
from tests.machine import hosts
from tests.packer import bake_without_packer, host_contents
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.spec import Spec
    from tests.packer.bake_without_packer import Baked
    from tests.packer.host_contents import Facts

pytestmark = pytest.mark.machine


@dataclass(frozen=True)
class Difference:
    """Names (with wildcards) that may differ in one list, and why.

    Of a file only the content may differ, unless `existence` says that one host may lack it. By `chance` it may also be
    the same.
    """

    list: str
    names: str
    why: str
    existence: bool = False
    chance: bool = False


_RESOLVER = "the lab's: where each machine finds a resolver; two may have had the same place one after the other"
_UPDATED = "runs once after /usr has changed (ConditionNeedsUpdate=): for the image that was in the bake"
_BOOT = "made by a boot with Podman on the disk; the stock host's first boot began without it"
_RECORD = "cloud-init's record of this instance: its id, times, and the user-data, which is meant to differ"

DIFFERENCES: tuple[Difference, ...] = (
    Difference("units", "ldconfig.service", _UPDATED),
    Difference("units", "systemd-journal-catalog-update.service", _UPDATED),
    Difference("units", "systemd-sysusers.service", _UPDATED),
    Difference("units", "systemd-update-done.service", _UPDATED),
    Difference("files", "/etc/*-", "copies that the user tools keep of the state before their last change"),
    Difference("files", "/etc/machine-id", "every host's own"),
    Difference("files", "/etc/ssh/ssh_host_ed25519_key*", "every host's own"),
    Difference("files", "/etc/sudoers.d/90-cloud-init-users", "cloud-init writes the time into it"),
    Difference("files", "/etc/systemd/resolved.conf.d/50-lab.conf", _RESOLVER, chance=True),
    Difference("files", "/var/cache/apt/*", "packages that the stock host fetched; an image carries none", True),
    Difference("files", "/var/lib/apt/lists/*", "package lists likewise", True),
    Difference("files", "/var/cache/ldconfig/aux-cache", "inode numbers of libraries"),
    Difference("files", "/var/lib/cloud/*", _RECORD, True),
    Difference("files", "/var/lib/cni*", _BOOT, True),
    Difference("files", "/var/lib/containers/storage*", _BOOT, True),
    Difference("files", "/var/lib/dpkg/status-old", "the package list before the last change"),
    Difference(
        "files", "/var/lib/easyrunner/data/caddy/caddy/*", "the host's own authority, its keys and certificates"
    ),
    Difference("files", "/var/lib/easyrunner/room/*", "how much of the disk a stack takes, in KiB"),
    Difference("files", "/var/lib/easyrunner/data/fail2ban/fail2ban.sqlite3", "times"),
    Difference("files", "/var/log/*", "logs of two different hours", True),
)


@dataclass(frozen=True)
class Two:
    """What was found out of both hosts, list by list; `again`: whether the stock one serves after another boot."""

    stock: Mapping[str, Facts]
    baked: Mapping[str, Facts]
    again: bool


def come_up(host: hosts.Host) -> None:
    """Power on, and wait until it is done and its sites answer."""
    host.boot(timeout=600)
    host.machine.wait(host.machine.cloud_init_done, timeout=120, what="cloud-init")
    for site in trial.sites(host.spec):
        host.machine.wait(partial(answers, host, f"https://{site.domain}/"), timeout=60, what=site.domain)


def portray(host: hosts.Host) -> dict[str, Facts]:
    """Power on, look, power off, and read its disk."""
    come_up(host)
    users = ("er-proxy", *(f"er-{stack.name}" for stack in host.spec.stacks))
    facts = {"ended": ended(host.machine), **host_contents.running(host.machine, users)}
    host.machine.poweroff()
    return {**facts, "files": host_contents.at_rest(host.machine)}


def ended(machine: Machine) -> Facts:
    """How its start-up came to its end."""
    failed = machine.run("systemctl --failed --no-legend", check=False).stdout
    return {"cloud-init": machine.run("cloud-init status", check=False).stdout.strip(), "failed units": failed}


def answers(host: hosts.Host, url: str) -> bool:
    """Whether a site has its certificate and its app."""
    return host.curl(url).stdout.startswith("HTTP/2 200")


@contextmanager
def from_stock(spec: Spec, key: Path) -> Iterator[hosts.Host]:
    """The stock image with the whole user-data, off; its archives are brought, as a lab must."""
    wanted = trial.plan(spec, timeout=300)
    loader = base_tree.tree(wanted.packages)
    preloads = tuple(preload.prepare(loader, owner, images) for owner, images in wanted.images)
    extra = dict(wanted.extra_files)
    with Machine(base_tree.tree(), wanted.user_data, name=wanted.name, extra_files=extra, preloads=preloads) as machine:
        yield hosts.Host(spec, machine, key)


def from_baked(baked: Baked) -> dict[str, Facts]:
    """The baked image with the small user-data."""
    with bake_without_packer.laid_out(baked) as host:
        return portray(host)


@pytest.fixture(scope="module")
def two(baked: Baked) -> Two:
    with from_stock(baked.spec, baked.key) as host:
        stock = portray(host)
        host.boot()
        again = answers(host, "https://shop.example.com/")
    return Two(stock, from_baked(baked), again)


LISTS = (
    *("ended", "packages", "unit files", "units", "rules, IPv4", "rules, IPv6", "jails", "sshd", "kernel", "files"),
    *(f"{what} of er-{name}" for what in ("units", "images") for name in ("proxy", "shop", "hello", "notes")),
)


@of_a_sweep
@pytest.mark.parametrize("name", LISTS)
def test_both_hosts_are_the_same(two: Two, name: str) -> None:
    stock, baked = two.stock[name], two.baked[name]
    unexplained = [show(stock, baked, key) for key in differing(stock, baked) if not explained(two, name, key)]
    assert not unexplained, "\n".join(unexplained)


_WELL = {"cloud-init": "status: done", "failed units": ""}


@pytest.mark.usefixtures("example_images")
def test_a_stock_image_becomes_the_host_over_the_network(tmp_path: Path) -> None:
    """Without any of our packages: cloud-init alone installs them, and the stacks answer."""
    with from_stock(*hosts.written("three", tmp_path)) as host:
        come_up(host)
        assert ended(host.machine) == _WELL


@of_a_sweep
def test_it_serves_after_another_boot(two: Two) -> None:
    assert two.stock["ended"] == _WELL
    assert two.again


@of_a_sweep
def test_every_list_is_compared(two: Two) -> None:
    assert set(two.stock) == set(two.baked) == set(LISTS)
    assert all(two.stock.values()), "an empty list shows nothing"


@of_a_sweep
def test_every_explanation_is_needed(two: Two) -> None:
    """A difference that is gone leaves the table too."""
    for row in DIFFERENCES:
        found = differing(two.stock[row.list], two.baked[row.list])
        assert row.chance or any(fnmatchcase(key, row.names) for key in found), row


def differing(stock: Facts, baked: Facts) -> list[str]:
    """The names that are not the same on both, or on one only."""
    return sorted(key for key in stock.keys() | baked.keys() if stock.get(key) != baked.get(key))


def show(stock: Facts, baked: Facts, key: str) -> str:
    return f"{key}\n    stock {stock.get(key, 'nothing')}\n    baked {baked.get(key, 'nothing')}"


def explained(two: Two, name: str, key: str) -> bool:
    """Whether a row of the table allows this difference."""
    stock, baked = two.stock[name].get(key), two.baked[name].get(key)
    for row in DIFFERENCES:
        if row.list == name and fnmatchcase(key, row.names):
            return row.existence or name != "files" or (stock is not None and baked is not None and same(stock, baked))
    return False


def same(stock: str, baked: str) -> bool:
    """Whether two files differ in nothing but their content: kind, mode and owner are equal."""
    return stock.split()[:2] == baked.split()[:2]
