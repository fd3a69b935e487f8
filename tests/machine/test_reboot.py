"""A second boot: everything as it was, by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from builder import facts
from tests.machine.clients import get
from tests.machine.test_firewall import rules
from tests.machine.test_first_boot import answers, identities, tree
from tests.machine.test_stacks import assert_original, remove_shadows, write_shadows

if TYPE_CHECKING:
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine


def _serials(host: Host) -> dict[str, bytes]:
    """Of each site its certificate's file, by name, and the authority's."""
    place = host.machine.path(facts.CADDY_DATA)
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*.crt"))}


class _Before:
    def __init__(self, host: Host) -> None:
        self.identities = identities(host)
        self.tree = tree(host)
        self.certificates = _serials(host)
        self.rules = rules(host.machine)
        self.ready = host.machine.console_text().count("easyrunner: ready")
        self.host_keys = host.machine.run("cat /etc/ssh/ssh_host_*_key.pub /etc/machine-id").stdout


@pytest.fixture(scope="module")
def again(three: Host) -> tuple[Host, _Before]:
    """A host that has been off since, and what it was before."""
    answers(three)
    before = _Before(three)
    three.machine.run(["podman", "exec", "api", "sh", "-c", "echo kept >/srv/data/note"], user="er-shop")
    write_shadows(three, "hello", "hello-web")
    three.reboot()
    return three, before


def test_every_site_answers_again(again: tuple[Host, _Before]) -> None:
    """Over both families; and SSH."""
    answers(again[0])


def test_users_and_files_are_the_same(again: tuple[Host, _Before]) -> None:
    """Nothing of /etc, no user, range or directory has changed."""
    host, before = again
    assert identities(host) == before.identities
    assert tree(host) == before.tree


def test_keys_and_certificates_are_the_same(again: tuple[Host, _Before]) -> None:
    """Made once: SSH's, the machine's id, the authority's and the sites'."""
    host, before = again
    assert host.machine.run("cat /etc/ssh/ssh_host_*_key.pub /etc/machine-id").stdout == before.host_keys
    now = _serials(host)
    roots = {name for name in before.certificates if "root" in name}
    assert roots
    assert {name: now[name] for name in roots} == {name: before.certificates[name] for name in roots}
    assert set(now) == set(before.certificates)


def test_the_firewall_is_the_same_and_there_before_there_is_a_network(again: tuple[Host, _Before]) -> None:
    """Every rule of both families."""
    machine, before = again[0].machine, again[1]
    assert rules(machine) == before.rules
    moment = "ActiveEnterTimestampMonotonic"
    times = {}
    for unit in ("er-firewall.service", "network-pre.target", "ssh.service"):
        shown = machine.run(["systemctl", "show", unit, "-p", f"{moment},ActiveState"]).stdout
        assert "ActiveState=active" in shown, unit
        times[unit] = int(re.search(rf"{moment}=(\d+)", shown)[1])  # type: ignore[index]
    first, *others = times.values()
    assert 0 < first <= min(others)
    assert "er-firewall.service" in machine.run(["systemctl", "show", "network-pre.target", "-p", "After"]).stdout


def test_a_named_volume_keeps_its_data(again: tuple[Host, _Before]) -> None:
    """What the app wrote before is there."""
    assert again[0].machine.run(["podman", "exec", "api", "cat", "/srv/data/note"], user="er-shop").stdout == "kept\n"


def test_a_user_cannot_shadow_its_units(again: tuple[Host, _Before]) -> None:
    """Everything it wrote before, where it would be read at start-up, has no effect."""
    host, _ = again
    assert_original(host, "hello", "hello-web", "web")
    assert get(host, "https://hello.example.com/").status == 200
    remove_shadows(host, "hello")


def test_what_stacks_said_until_the_end_is_kept(again: tuple[Host, _Before]) -> None:
    """Their journal ends after their managers: Podman would not outlive it, and so leave apps that ignore SIGTERM."""
    host, _ = again
    said = host.machine.run("journalctl --namespace=stacks -b -1 -o cat --no-pager").stdout
    assert said.count("Finished systemd-exit.service") == len(host.spec.stacks)


def test_no_unit_has_failed(again: tuple[Host, _Before]) -> None:
    """Of the host, and of every user manager."""
    host, _ = again
    assert host.machine.run("systemctl --failed --quiet --no-legend").stdout == ""
    for user in ("er-proxy", *(f"er-{stack.name}" for stack in host.spec.stacks)):
        assert host.machine.run("systemctl --user --failed --quiet --no-legend", user=user).stdout == "", user


def test_it_says_that_it_is_ready_once_a_boot(again: tuple[Host, _Before]) -> None:
    """Once more."""
    host, before = again
    assert host.machine.console_text().count("easyrunner: ready") == before.ready + 1
