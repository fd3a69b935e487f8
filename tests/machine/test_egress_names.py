"""Names in `egress:`, on a booted host whose name server changes its mind, falls silent, and lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.polling import until
from tests.machine.egress_host import BY_NAME, FAMILIES, Walls
from tests.machine.probes import Agent, inside, serving, tcp, udp
from tests.sweeps import WHOLE, of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine
GONE = "blog: gone.example.com of egress does not resolve, it is refused"


@pytest.fixture(autouse=True)
def usual(walls: Walls) -> Iterator[None]:
    """Every test starts from the usual answers, in force."""
    yield
    walls.answers()
    walls.client.er("reapply-firewall")


def rules(walls: Walls, family: int) -> str:
    """What is in force."""
    return walls.machine.run([{4: "iptables-save", 6: "ip6tables-save"}[family], "-t", "filter"]).stdout


def names(walls: Walls) -> dict[str, dict[str, object]]:
    """What status says of each name."""
    rows = walls.client.json("status")["egress"]
    return {one["name"]: one for row in rows for one in row["names"]}


def test_first_boot_resolves_opens_and_says_what_it_could_not(walls: Walls) -> None:
    """Without waiting for what has no answer."""
    for family in FAMILIES:
        for port in BY_NAME:
            assert walls.open("blog", tcp(walls.there(family), port))
            assert walls.outcome("shop", tcp(walls.there(family), port)) != "open"
        assert walls.outcome("blog", tcp(walls.there(family), 8080)) != "open", "another port"
    assert walls.open("blog", udp(walls.there(4), 9999))
    assert walls.outcome("blog", udp(walls.there(6), 9999)) != "open", "it has no address of IPv6"
    console = walls.machine.console_text()
    assert "egress: gone.example.com does not resolve; it is refused" in console
    assert "easyrunner: ready name=walls" in console
    state = walls.machine.run(["systemctl", "is-system-running"], check=False).stdout
    assert state == "running\n"


def test_status_and_doctor_name_what_does_not_resolve_and_the_way_out(walls: Walls) -> None:
    done = walls.client.er("status")
    assert done.returncode == 1
    assert f"{GONE}; mend the name or its DNS, then: er server reapply-firewall HOST" in done.stderr
    found = names(walls)
    assert found["db.example.com"]["addresses"] == sorted([walls.neighbour.ipv4, walls.neighbour.ipv6])
    assert (found["gone.example.com"]["addresses"], found["gone.example.com"]["resolved"]) == ([], None)
    assert found["gone.example.com"]["failing_since"]
    check = next(one for one in walls.client.json("doctor") if one["check"] == "egress resolves")
    assert not check["ok"]
    assert check["wrong"] == "gone.example.com of blog (it is refused)"
    assert check["remedy"]


def test_a_name_does_not_open_what_no_stack_may_reach(walls: Walls) -> None:
    """Its rules are there, and the guard stands before them."""
    addresses = {
        4: ["169.254.169.254", "127.0.0.1", walls.machine.ipv4],
        6: ["fd00:ec2::254", "::1", walls.machine.ipv6],
    }
    uid = walls.machine.user("er-blog").uid
    user = [f"tcp:{end}:9999" for ends in addresses.values() for end in ends[1:]]
    with serving(inside(walls.machine), *user), Agent(inside(walls.machine, "er-blog")) as agent:
        for family, ends in addresses.items():
            for end, port in zip(ends, (80, 9999, 9999), strict=True):
                bits = {4: 32, 6: 128}[family]
                assert f"-A ER-OUT-{uid} -d {end}/{bits} -p tcp" in rules(walls, family)
                assert walls.outcome("blog", tcp(end, port)) != "open"
                assert agent.ask(tcp(end, port)) == ["refused"], (end, port)
    assert "metadata.example.com of egress is 169.254.169.254, which stays refused" in walls.client.er("status").stderr


def test_an_answer_that_has_changed_counts_from_the_next_reapply(walls: Walls) -> None:
    walls.answers({"db": ["203.0.113.9", "2001:db8::9"], "log": ["203.0.113.10"]})
    assert walls.open("blog", tcp(walls.there(4), 3306)), "until it is asked for"
    done = walls.client.er("reapply-firewall")
    assert "blog: db.example.com is 2001:db8::9, 203.0.113.9" in done.stderr
    assert "log.example.com is 203.0.113.10" in done.stderr
    for family, address in ((4, "203.0.113.9/32"), (6, "2001:db8::9/128")):
        assert f"-d {address} -p tcp" in rules(walls, family)
        assert walls.outcome("blog", tcp(walls.there(family), 3306)) != "open"


def test_without_an_answer_the_last_one_stays_also_over_a_boot(walls: Walls) -> None:
    """No name, and then no name server: the rules are in force before there is a network.

    They are a file as all others, which `machine/test_reboot.py` has over a boot: here it is of the sweep.
    """
    walls.answers({"db": None})
    done = walls.client.er("reapply-firewall")
    assert done.returncode == 1
    kept = f"its last answer stays: {walls.neighbour.ipv4}, {walls.neighbour.ipv6}"
    assert f"db.example.com of egress does not resolve, {kept}" in done.stderr
    assert all(walls.open("blog", tcp(walls.there(family), 3306)) for family in FAMILIES)
    walls.answers(dict.fromkeys(("db", "log", "metadata", "self", "gone")))
    before = walls.machine.path(f"{facts.FIREWALL}/30-blog.names.filter").read_bytes()
    walls.leave()
    if WHOLE:
        walls.machine.poweroff()
        walls.host.boot()
    else:
        walls.machine.run("systemctl restart er-firewall")
    assert walls.machine.path(f"{facts.FIREWALL}/30-blog.names.filter").read_bytes() == before
    assert all(walls.open("blog", tcp(walls.there(family), 3306)) for family in FAMILIES)
    assert walls.open("blog", udp(walls.there(4), 9999))


def test_a_name_that_comes_back_is_asked_for_by_itself(walls: Walls) -> None:
    """Nobody has to say anything: the unit goes on asking."""
    walls.answers({"db": None})
    walls.client.er("reapply-firewall")
    walls.answers({"db": ["203.0.113.11"]})
    until(lambda: "-d 203.0.113.11/32" in rules(walls, 4), timeout=60, what="the new answer in force")


@of_a_sweep
def test_apply_takes_names_away_and_brings_them_back(walls: Walls) -> None:
    """With all that belongs to them."""
    spec = walls.client.spec.read_text()
    without = "".join(line for line in spec.splitlines(keepends=True) if "to: db." not in line)
    nothing = "".join(line for line in spec.splitlines(keepends=True) if ".example.com, " not in line)
    for text, there in ((without, False), (nothing, False), (spec, True)):
        file = walls.client.spec.with_name("changed.yaml")
        file.write_text(text)
        done = walls.client.er("apply", file, "--yes")
        assert done.returncode == 0, done.stderr
        assert walls.client.er("verify", file).returncode in {0, 1}
        for family in FAMILIES:
            assert (walls.outcome("blog", tcp(walls.there(family), 3306), 2) == "open") is there
        left = walls.machine.run(f"ls {facts.FIREWALL} {facts.NAMES}; systemctl cat er-names", check=False).stdout
        assert ("names" in left) is (text is not nothing)
    assert GONE in done.stderr
