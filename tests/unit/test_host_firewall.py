"""The firewall as text: golden files of both families, and what must hold whatever the spec says."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import data, facts
from builder.host import edge as edges
from builder.host import firewall
from builder.host.firewall import FAMILIES
from builder.host.model import Part
from builder.spec import rules as rules_of
from builder.spec.model import Edge
from builder.stack import user
from builder.stack.model import Build, EgressRule, Service, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

GOLDEN = Path(__file__).parents[1] / "golden/firewall"
STACKS = (
    Stack(
        "blog", 20_100, (Service("web", "localhost/x"),), egress=(EgressRule("203.0.113.0/24", "tcp", (5432, 6379)),)
    ),
    Stack("shop", 20_200, (), egress=(EgressRule("2001:db8::/32", "udp"), EgressRule("198.51.100.7", "tcp", (25,)))),
)


def files() -> dict[str, str]:
    """Every rule file of a host with these stacks, by its path."""
    made = [*firewall.base_files(), *firewall.host_files(["0.0.0.0/0", "2001:db8::/32"], STACKS, 14_000)]
    return {file.path: file.content.decode() for file in made}


def golden_name(path: str) -> str:
    return path.replace(f"{facts.LIB}/firewall.d/", "").replace(firewall.HOST, "host")


def test_the_files_are_the_golden_ones_and_no_others() -> None:
    """After a wanted change: `python -m tests.unit.test_host_firewall` writes them anew; read the difference."""
    expected = {str(file.relative_to(GOLDEN)): file.read_text() for file in GOLDEN.rglob("*") if file.is_file()}
    assert {golden_name(path): text for path, text in files().items()} == expected


# Reading the text as iptables-restore would.


def rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("-A")]


def chains(text: str) -> dict[str, str]:
    return dict(line[1:].split()[:2] for line in text.splitlines() if line.startswith(":"))


def of(family: int, text: str) -> str:
    """What one family's restore takes of a text: the other's lines are skipped, its own mark says nothing."""
    other = f"-{10 - family} "
    lines = [line.removeprefix(f"-{family} ") for line in text.splitlines() if not line.startswith(other)]
    return "".join(f"{line}\n" for line in lines)


def whole(
    family: int, made: dict[str, str], folders: tuple[str, ...], table: str = "filter", stacks: Sequence[Stack] = ()
) -> str:
    """What the loader joins: the files of some folders, in the order of their names; before the host's, its users'."""
    ending = f".{table}"
    texts = []
    for folder in folders:
        if (folder, table) == (firewall.HOST, "filter"):
            texts += [firewall.stack_rules(facts.PROXY_USER, facts.PROXY_UID)]
            texts += [firewall.stack_rules(f"er-{stack.name}", stack.uid) for stack in stacks]
        texts += [made[path] for path in sorted(made) if path.startswith(folder) and path.endswith(ending)]
    return of(family, "".join(texts))


def targets(text: str) -> set[str]:
    return {re.findall(r"-j (\S+)", line)[-1] for line in rules(text)}


BUILT_IN = {"ACCEPT", "DROP", "REJECT", "LOG", "REDIRECT"}
NETWORKS = st.one_of(
    st.ip_addresses(v=4).map(lambda address: str(IPv4Network(address))),
    st.ip_addresses(v=6).map(lambda address: str(IPv6Network(address))),
    st.builds(
        lambda address, bits: str(ip_network((address, bits), strict=False)), st.ip_addresses(v=4), st.integers(0, 32)
    ),
    st.builds(
        lambda address, bits: str(ip_network((address, bits), strict=False)), st.ip_addresses(v=6), st.integers(0, 128)
    ),
)
EGRESS = st.builds(
    EgressRule,
    NETWORKS,
    st.sampled_from(("tcp", "udp")),
    st.lists(st.integers(1, 65_535), max_size=4, unique=True).map(tuple),
)
SLOTS = st.lists(st.integers(facts.FIRST_SLOT + 1, facts.LAST_SLOT), max_size=6, unique=True)


@st.composite
def hosts(draw: st.DrawFn) -> tuple[list[str], list[Stack]]:
    """SSH's sources and some stacks."""
    stacks = [
        Stack(f"s{slot}", facts.UID_BASE + slot, (), egress=tuple(draw(st.lists(EGRESS, max_size=3))))
        for slot in draw(SLOTS)
    ]
    return draw(st.lists(NETWORKS, max_size=4)), stacks


def rendered(sources: list[str], stacks: list[Stack]) -> dict[str, str]:
    return {
        file.path: file.content.decode()
        for file in (*firewall.base_files(), *firewall.host_files(sources, stacks, None))
    }


both = pytest.mark.parametrize("family", FAMILIES)
# Of each family and for each of what must hold.
some = settings(max_examples=40)


@both
@some
@given(hosts())
def test_every_chain_that_is_named_is_made(family: int, host: tuple[list[str], list[Stack]]) -> None:
    text = whole(family, rendered(*host), (firewall.BASE, firewall.HOST), stacks=host[1])
    made = set(chains(text))
    assert targets(text) - BUILT_IN <= made
    assert {line.split()[1] for line in rules(text)} <= made


@both
@some
@given(hosts())
def test_only_our_own_chains_are_touched(family: int, host: tuple[list[str], list[Stack]]) -> None:
    """Fail2Ban's and Podman's rules are not ours to empty; built-in chains get a policy and no rule."""
    made = rendered(*host)
    for folders in ((firewall.BASE, firewall.HOST), (firewall.LOCKDOWN,)):
        for table in ("filter", "nat"):
            text = whole(family, made, folders, table, host[1])
            assert {line.split()[1].split("-")[0] for line in rules(text)} <= {"ER"}
            others = {name: policy for name, policy in chains(text).items() if not name.startswith("ER-")}
            wanted = {"INPUT": "DROP", "FORWARD": "DROP", "OUTPUT": "ACCEPT"} if table == "filter" else {}
            assert others == wanted


@both
@some
@given(hosts())
def test_addresses_stand_in_their_own_family(family: int, host: tuple[list[str], list[Stack]]) -> None:
    made = rendered(*host)
    for text in made.values():
        for network in re.findall(r" -[sd] (\S+)", of(family, text)):
            assert ip_network(network).version == family


@both
@some
@given(hosts())
def test_no_wish_of_a_stack_comes_before_its_guard(family: int, host: tuple[list[str], list[Stack]]) -> None:
    """The host's own addresses, but for its sites, and cloud metadata are refused first, whatever `egress:` opens."""
    sources, stacks = host
    text = whole(family, rendered(sources, stacks), (firewall.BASE, firewall.HOST), stacks=stacks)
    for stack in stacks:
        chain = [line for line in rules(text) if line.startswith(f"-A {firewall.chain_of_user(stack.uid)} ")]
        # What the firewall itself has redirected to the proxy, and no more of it than a stack may have.
        assert re.search(r" --ctstate DNAT --ctdir ORIGINAL -m connlimit .* -m limit .* -j ACCEPT$", chain[0])
        assert chain[1].endswith("-j ER-OUT-GUARD")
        assert "-m connlimit" in chain[2]
        assert chain[3].endswith("-j ER-OUT-WEB")
        wishes = [wish for wish in stack.egress if ip_network(wish.to).version == family]
        assert len(chain) == len(wishes) + 4


@both
@some
@given(hosts())
def test_without_a_way_out_everything_is_refused_before_anything_is_opened(
    family: int, host: tuple[list[str], list[Stack]]
) -> None:
    sources, stacks = host
    shut = [replace(one, egress=(), no_egress=True) for one in stacks]
    lines = whole(family, rendered(sources, shut), (firewall.BASE, firewall.HOST), stacks=shut).splitlines()
    for stack in shut:
        chain = firewall.chain_of_user(stack.uid)
        assert lines.count(f"-I {chain} -j ER-OUT-DENY") == 1
        assert not [line for line in lines if line.startswith(f"-I {chain} ") and "DENY" not in line]
        assert lines.index(f"-I {chain} -j ER-OUT-DENY") > lines.index(f"-A {chain} -j ER-OUT-WEB")


@some
@given(hosts())
def test_a_name_is_never_in_a_file_that_is_loaded(host: tuple[list[str], list[Stack]]) -> None:
    """A rule with a name in it would be resolved by iptables, when there is no network yet, and fail the whole load."""
    sources, stacks = host
    named = [replace(one, egress=(*one.egress, EgressRule("db.example.com", "udp", (5432,)))) for one in stacks]
    made, before = rendered(sources, named), rendered(sources, stacks)
    lists = {path: text for path, text in made.items() if path not in before}
    assert {path: text for path, text in made.items() if path not in lists} == before
    assert lists == {
        f"{firewall.HOST}/30-{stack.name}.names": f"-A {firewall.chain_of_user(stack.uid)} -d db.example.com"
        " -p udp -m multiport --dports 5432 -j ACCEPT\n"
        for stack in stacks
    }


@some
@given(hosts())
def test_a_stack_owns_its_uid_and_its_whole_range(host: tuple[list[str], list[Stack]]) -> None:
    for stack in host[1]:
        subids = user.subids(stack.uid)
        text = firewall.stack_rules(f"er-{stack.name}", stack.uid)
        owners = [str(stack.uid), f"{subids.first}-{subids.first + facts.SUBID_SIZE - 1}"]
        assert re.findall(r"STACKS.*--uid-owner (\S+)", text) == owners
        assert re.findall(r"LOG.*--uid-owner (\S+)", text) == owners


def test_the_longest_name_of_a_stack_fits_into_the_logs_prefix() -> None:
    """29 characters (xt_LOG); the kernel refuses more, and nothing would load."""
    longest = "a" * 24
    assert rules_of.stack_name(longest) == longest
    with pytest.raises(rules_of.RuleError):
        rules_of.stack_name(longest + "a")
    prefix = re.findall(r'--log-prefix "(.*)"', firewall.stack_rules(f"er-{longest}", 20_100))
    assert prefix == [f"er-{longest}: "]
    assert len(prefix[0]) == 29


def test_the_loader_finds_a_users_number_as_we_do() -> None:
    """The script knows the first user's number, which has one place here."""
    script = data.tree("images") / f"rootfs{facts.LIB}/firewall"
    assert f"$(({facts.UID_BASE} + first / size))" in script.read_text()


@some
@given(hosts())
def test_ssh_is_for_the_named_sources_only(host: tuple[list[str], list[Stack]]) -> None:
    sources, stacks = host
    made = rendered(sources, stacks)
    texts = {family: of(family, made[f"{firewall.HOST}/20-ssh.filter"]) for family in FAMILIES}
    accepted = [
        network
        for text in texts.values()
        for network in re.findall(r"^-A ER-SSH -s (\S+) -j ACCEPT", text, re.MULTILINE)
    ]
    assert sorted(accepted) == sorted(sources)
    assert sum("-A ER-SSH" in line for text in made.values() for line in text.splitlines()) == len(sources)


@some
@given(hosts())
def test_a_stacks_files_do_not_depend_on_the_others(host: tuple[list[str], list[Stack]]) -> None:
    sources, stacks = host
    made = rendered(sources, stacks)
    for stack in stacks:
        alone = rendered(sources, [stack])
        assert {path: made[path] for path in alone} == alone


def test_the_host_adds_nothing_to_what_is_baked() -> None:
    parts = {
        file.path: file.part for file in (*firewall.base_files(), *firewall.host_files(["0.0.0.0/0"], STACKS, None))
    }
    assert {part for path, part in parts.items() if path.startswith(facts.LIB)} == {Part.BAKED}
    assert {part for path, part in parts.items() if path.startswith(facts.ETC)} == {Part.FIRST_BOOT}


def test_who_is_never_banned_is_not_limited_either() -> None:
    """Before the limits; only what came through the redirect is there."""
    made = {
        file.path: file.content.decode()
        for file in firewall.host_files([], (), None, ["203.0.113.0/24", "2001:db8::/48"])
    }
    assert made[f"{firewall.HOST}/22-web.filter"].splitlines() == [
        f"-4 -I {firewall.WEB} -s 203.0.113.0/24 -j ACCEPT",
        f"-6 -I {firewall.WEB} -s 2001:db8::/48 -j ACCEPT",
    ]
    jumps = [line for line in rules(files()[f"{firewall.BASE}/10-base.filter"]) if line.endswith(f"-j {firewall.WEB}")]
    assert len(jumps) == 1
    assert all("--ctstate DNAT" in line and "! -i lo" in line for line in jumps)


@pytest.mark.parametrize("port", [None, facts.HTTP, facts.HTTPS])
def test_a_certificate_authority_on_the_webs_ports_needs_no_rule(port: int | None) -> None:
    assert not [file for file in firewall.host_files([], (), port) if "acme" in file.path]


if __name__ == "__main__":
    for place, content in files().items():
        target = GOLDEN / golden_name(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


def test_builds_on_the_server_have_a_way_out_of_their_own() -> None:
    """Not that of their stack, which may be wider or none; and only where something is built."""
    built = Service("web", "localhost/app/web", build=Build(Path("app")))
    stack = Stack(
        "app",
        20_100,
        (built,),
        egress=(EgressRule("203.0.113.7"),),
        build_egress=(EgressRule("198.51.100.7", "tcp", (5000,)),),
    )
    uid = user.build_uid(20_100)
    (file,) = firewall.stack_files(stack)
    assert file.content.decode().splitlines() == [
        "-4 -A ER-OUT-20100 -d 203.0.113.7 -p tcp -j ACCEPT",
        f"-4 -A ER-OUT-{uid} -d 198.51.100.7 -p tcp -m multiport --dports 5000 -j ACCEPT",
    ]
    (file,) = firewall.stack_files(replace(stack, egress=(), build_egress=(), no_build_egress=True))
    assert file.content.decode() == f"-I ER-OUT-{uid} -j ER-OUT-DENY\n"
    assert not list(firewall.stack_files(replace(stack, egress=(), services=())))


EDGE = Edge(None, ("203.0.113.0/24", "2001:db8::/48"), "X-Forwarded-For")


def rules_behind(edge: Edge) -> dict[str, list[str]]:
    """The lines of the files that an edge adds to the firewall, by table."""
    return {
        file.path.rpartition(".")[2]: file.content.decode().splitlines()
        for file in edges.files(edge)
        if file.path.startswith(firewall.HOST)
    }


def test_an_edge_has_many_visitors_and_http_3_does_not_come_through_it() -> None:
    """Each line is put before those above it, and all before the limits."""
    assert rules_behind(EDGE)["filter"] == [
        f"-I {firewall.WEB} -p udp -j DROP",
        f"-4 -I {firewall.WEB} -p tcp -s 203.0.113.0/24 -j ACCEPT",
        f"-6 -I {firewall.WEB} -p tcp -s 2001:db8::/48 -j ACCEPT",
    ]
    assert rules_behind(replace(EDGE, only=True))["filter"][0] == f"-I {firewall.WEB} -j DROP"
    assert rules_behind(replace(EDGE, networks=(), only=True))["filter"] == [f"-I {firewall.WEB} -j DROP"]


def test_the_hosts_own_calls_come_from_no_edge() -> None:
    """Both families; the chain is there on every host, in the lockdown as well, as the loader jumps to it."""
    assert rules_behind(EDGE)["nat"] == [
        f"-4 -A {firewall.OWN_SOURCE} -j SNAT --to-source 127.0.0.1",
        f"-6 -A {firewall.OWN_SOURCE} -j SNAT --to-source ::1",
    ]
    made = files()
    for place in (firewall.BASE, firewall.LOCKDOWN):
        (nat,) = (text for path, text in made.items() if path.startswith(place) and path.endswith(".nat"))
        assert f":{firewall.OWN_SOURCE} -" in nat.splitlines()


def test_without_an_edge_there_is_nothing() -> None:
    assert list(edges.files(None)) == []
