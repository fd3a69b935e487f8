"""The firewall: one model for iptables and ip6tables.

Fragments of iptables-restore input, one file a table, which /usr/lib/easyrunner/firewall joins and loads whole into
both families; a line for one of them alone begins with `-4` or `-6`, as iptables-restore(8) has it. There are `bans`
(what a ban closes), `base` (every host), `stack` (once for the proxy and each stack), `lockdown` (when those do not
load), and what this host adds: who may use SSH, what each stack may reach. Only chains named ER-* are ours.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from builder import facts
from builder.host.model import File, Part
from builder.stack import user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.stack.model import EgressRule, Stack

BANS: Final = f"{facts.LIB}/firewall.d/bans"
BASE: Final = f"{facts.LIB}/firewall.d/base"
LOCKDOWN: Final = f"{facts.LIB}/firewall.d/lockdown"
HOST: Final = facts.FIREWALL
TEMPLATE: Final = f"{facts.LIB}/firewall.d/stack"
# The addresses of names are found on the host: /usr/lib/easyrunner/names writes them beside a list with this ending.
NAMES_SUFFIX: Final = ".names"
# Open connections of one user, by address family. The host's table of connections has room for 131,072 (modprobe.d):
# a flood must not keep others, or SSH, from having new ones.
CONNECTIONS: Final = 4096


def base_files() -> Iterator[File]:
    """The files that every host has: the rules, and the lockdown that replaces them when they do not load."""
    yield from _files(f"{BANS}/10-bans", (_bans(),), Part.BAKED)
    yield from _files(f"{BASE}/10-base", (_base_filter(), _base_nat()), Part.BAKED)
    yield stack_template()
    yield from _files(
        f"{LOCKDOWN}/10-lockdown",
        (_lockdown_filter(), Fragment("nat", (), (REDIRECT, OWN_SITES, OWN_SOURCE))),
        Part.BAKED,
    )


def host_files(
    allow_from: Sequence[str], stacks: Iterable[Stack], acme_port: int | None, unlimited: Sequence[str] = ()
) -> Iterator[File]:
    """The files that this host adds.

    `allow_from` and `unlimited` are networks in CIDR form; `acme_port` is set when the certificate authority is not on
    port 443.
    """
    yield from _files(f"{HOST}/20-ssh", (_ssh(allow_from),), Part.FIRST_BOOT)
    if unlimited:
        # Inserted before the rate limits of the baked part.
        rules = (Rule(WEB, f"-s {network}", "ACCEPT", family_of(network), first=True) for network in unlimited)
        yield from _files(f"{HOST}/22-web", (Fragment("filter", tuple(rules)),), Part.FIRST_BOOT)
    if acme_port not in (None, facts.HTTP, facts.HTTPS):
        chain = chain_of_user(facts.PROXY_UID)
        rule = Rule(chain, f"-p tcp --dport {acme_port}", "ACCEPT", why="the certificate authority of the spec")
        yield from _files(f"{HOST}/25-acme", (Fragment("filter", (rule,)),), Part.FIRST_BOOT)
    for stack in stacks:
        yield from stack_files(stack)


def _files(stem: str, fragments: Iterable[Fragment], part: Part) -> Iterator[File]:
    for fragment in fragments:
        yield File(f"{stem}.{fragment.table}", fragment.render(), part)


# What is open to everybody: protocol, public port, port of the proxy behind the redirect.
REDIRECTS: Final = (
    ("tcp", facts.HTTP, facts.PROXY_HTTP),
    ("tcp", facts.HTTPS, facts.PROXY_HTTPS),
    ("udp", facts.HTTPS, facts.PROXY_HTTPS),
)


# Chains of nat: what came from outside, what the host's own users send, and where both end.
REDIRECT: Final = "ER-REDIRECT"
OWN_SITES: Final = "ER-OWN"
# Where such a call of its own comes from, on hosts behind an edge.
OWN_SOURCE: Final = "ER-OWN-SOURCE"
_PROXY: Final = "ER-PROXY"
_STACKS: Final = f"{facts.PROXY_UID + 1}-{facts.UID_BASE + facts.LAST_SLOT}"


def _base_nat() -> Fragment:
    """Redirects of the public ports to the proxy, which needs no privilege for its own.

    Stacks reach this host's sites through the same ones, at its own addresses and at those that its domains have in
    their containers.
    """
    own = f"-m owner --uid-owner {_STACKS}"
    rules = (
        Rule(REDIRECT, "-m addrtype --dst-type LOCAL", _PROXY),
        Rule(OWN_SITES, f"{own} -m addrtype --dst-type LOCAL", _PROXY),
        *(Rule(OWN_SITES, f"{own} -d {address}", _PROXY, family_of(address)) for address in facts.OWN_SITES),
        *(
            Rule(_PROXY, f"-p {protocol} --dport {public}", f"REDIRECT --to-ports {local}")
            for protocol, public, local in REDIRECTS
        ),
    )
    return Fragment("nat", rules, (REDIRECT, OWN_SITES, OWN_SOURCE, _PROXY))


_POLICIES: Final = (("INPUT", "DROP"), ("FORWARD", "DROP"), ("OUTPUT", "ACCEPT"))
_USERS: Final = f"{facts.DEPLOY_UID}-{facts.UID_BASE + facts.LAST_SLOT}"
_SUBIDS: Final = f"{facts.FIRST_SLOT * facts.SUBID_SIZE}-{(facts.LAST_SLOT + 1) * facts.SUBID_SIZE - 1}"
# New connections from outside to the proxy.
WEB: Final = "ER-WEB"


def _base_filter() -> Fragment:
    chains = (
        "ER-INPUT",
        WEB,
        "ER-SSH",
        "ER-OUTPUT",
        "ER-OUT-STACKS",
        "ER-OUT-GUARD",
        "ER-OUT-WEB",
        "ER-OUT-DENY",
        "ER-OUT-LOG",
        "ER-OUT-REJECT",
    )
    rules = (*_clients(), *_proxy_ports(), *_input(), *_icmp(), *_output(), *_user_output())
    return Fragment("filter", tuple(rules), chains, _POLICIES)


def _clients() -> Iterator[Rule]:
    """What one client may have: new connections a second, and connections at the same time.

    What an earlier rule of the chain accepts is not limited. A client is an address in IPv4, which is the default of
    both matches, and a /64 in IPv6. The host's own stacks come over the loopback, and have limits of their own.
    """
    new = "! -i lo -m conntrack --ctstate NEW -m conntrack --ctstate DNAT"
    yield Rule("ER-INPUT", new, WEB, why="a new connection through the redirect")
    # The burst is twice the rate, so a client's allowance is whole again after two seconds and its entry can go.
    table = "--hashlimit-name w --hashlimit-htable-max 65536 --hashlimit-htable-expire 2000"
    for family, more in ((4, ""), (6, "64")):
        rate = f"--hashlimit-above {facts.CLIENT_RATE}/sec --hashlimit-burst {2 * facts.CLIENT_RATE}"
        mask = more and f" --hashlimit-srcmask {more}"
        match = f"-m hashlimit {rate} --hashlimit-mode srcip{mask} {table}"
        yield Rule(WEB, match, "DROP", (family,), "too many a second")
        mask = more and f" --connlimit-mask {more}"
        match = f"-m connlimit --connlimit-above {facts.CLIENT_CONNECTIONS}{mask}"
        yield Rule(WEB, match, "DROP", (family,), "too many at the same time")


def _proxy_ports() -> Iterator[Rule]:
    """The proxy's ports are open for what came through a redirect, and for nothing else."""
    for protocol, public, local in REDIRECTS:
        match = f"-p {protocol} --dport {local} -m conntrack --ctstate DNAT --ctorigdstport {public}"
        yield Rule("ER-INPUT", match, "ACCEPT", why=f"{protocol} {public}, through the redirect")
    for protocol, ports in (("tcp", f"{facts.PROXY_HTTP},{facts.PROXY_HTTPS}"), ("udp", f"{facts.PROXY_HTTPS}")):
        match = f"-p {protocol} -m multiport --dports {ports}"
        yield Rule("ER-INPUT", match, "DROP", why="straight to the proxy's own port, from outside or from here")


def _input() -> Iterator[Rule]:
    admin = f"-p tcp --dport {facts.PROXY_ADMIN}"
    yield Rule("ER-INPUT", f"! -i lo {admin}", "DROP", why="the proxy's admin API is for loopback only")
    yield Rule("ER-INPUT", "-i lo", "ACCEPT")
    yield Rule("ER-INPUT", "-m conntrack --ctstate ESTABLISHED,RELATED", "ACCEPT")
    yield Rule("ER-INPUT", "-m conntrack --ctstate INVALID", "DROP")
    yield Rule("ER-INPUT", f"-p tcp --dport {facts.SSH} -m conntrack --ctstate NEW", "ER-SSH")


def _icmp() -> Iterator[Rule]:
    yield Rule("ER-INPUT", "-p icmp --icmp-type echo-request", "ACCEPT", (4,), "ping; errors come as RELATED")
    yield Rule("ER-INPUT", "-p ipv6-icmp --icmpv6-type echo-request", "ACCEPT", (6,), "ping; errors come as RELATED")
    # RFC 4890: without these IPv6 has no neighbours. A hop limit of 255 proves that the sender is on this link.
    for message in ("router-advertisement", "neighbour-solicitation", "neighbour-advertisement"):
        yield Rule("ER-INPUT", f"-p ipv6-icmp --icmpv6-type {message} -m hl --hl-eq 255", "ACCEPT", (6,))
    yield Rule("ER-INPUT", "-s fe80::/10 -p ipv6-icmp --icmpv6-type 130", "ACCEPT", (6,), "multicast listener query")
    dhcp = "-s fe80::/10 -p udp --sport 547 --dport 546"
    yield Rule("ER-INPUT", dhcp, "ACCEPT", (6,), "DHCPv6 answers a multicast, which conntrack cannot relate")


def _output() -> Iterator[Rule]:
    admin = f"-o lo -p tcp --dport {facts.PROXY_ADMIN}"
    yield Rule("ER-OUTPUT", "-m conntrack --ctstate ESTABLISHED,RELATED", "ACCEPT")
    for uid in (0, facts.PROXY_UID):
        yield Rule("ER-OUTPUT", f"{admin} -m owner --uid-owner {uid}", "ACCEPT", why="admin API: root and the proxy")
    yield Rule("ER-OUTPUT", admin, "ER-OUT-DENY", why="admin API: nobody else")
    yield Rule("ER-OUTPUT", "", "ER-OUT-STACKS")
    yield Rule(
        "ER-OUTPUT", f"-m owner --uid-owner {_USERS}", "ER-OUT-DENY", why="a user of ours without rules of its own"
    )
    subids = f"-m owner --uid-owner {_SUBIDS}"
    yield Rule("ER-OUTPUT", subids, "ER-OUT-DENY", why="a container's user on the host's network")


# The stub resolvers of systemd-resolved; Podman's DNS goes there as the stack's user.
STUB_RESOLVERS: Final = ("127.0.0.53/32", "127.0.0.54/32")


# What every user of ours may reach elsewhere, where its stack has a way out at all.
WAYS_OUT: Final = (("udp", (53, 443)), ("tcp", (53, 80, 443)))
# A packet of a connection that nat OUTPUT has redirected. What the proxy answers to visitors is DNAT as well.
_OWN_CALL: Final = "-m conntrack --ctstate DNAT --ctdir ORIGINAL"


def _user_output() -> Iterator[Rule]:
    """What every user of ours may and may not reach, the proxy included; a stack's own rules stand between the two."""
    for network in STUB_RESOLVERS:
        for protocol in ("udp", "tcp"):
            yield Rule("ER-OUT-GUARD", f"-d {network} -p {protocol} --dport 53", "ACCEPT", (4,), "the host's resolver")
    yield Rule("ER-OUT-GUARD", _OWN_CALL, "ER-OUT-DENY", why="this host's sites, more than a stack may have at once")
    yield Rule("ER-OUT-GUARD", "-o lo", "ER-OUT-DENY", why="nothing else of the host's own, by any of its addresses")
    # Not link-local, as the other one is, nor anybody's: what is not redirected would leave the host.
    own_site = f"{facts.OWN_SITES[1]}/128"
    for network in (*facts.METADATA, own_site):
        yield Rule("ER-OUT-GUARD", f"-d {network}", "ER-OUT-DENY", family_of(network), "cloud metadata, link-local")
    for protocol, ports in WAYS_OUT:
        match = f"-p {protocol} -m multiport --dports {','.join(map(str, ports))}"
        yield Rule("ER-OUT-WEB", match, "ACCEPT", why="DNS, HTTP, HTTPS")
    # Each stack and the proxy log and count in a chain of their own; only a user without rules of its own comes here.
    yield Rule("ER-OUT-DENY", "", "ER-OUT-LOG")
    yield _log("ER-OUT-DENY", "er-egress ")
    yield Rule("ER-OUT-DENY", "", "ER-OUT-REJECT")
    yield Rule("ER-OUT-REJECT", "-p tcp", "REJECT --reject-with tcp-reset")
    yield Rule("ER-OUT-REJECT", "", "REJECT")


def _log(chain: str, prefix: str) -> Rule:
    """A line in the kernel's log, limited for each user, or an app could fill the journal."""
    return Rule(chain, "-m limit --limit 10/min --limit-burst 20", f'LOG --log-prefix "{prefix}" --log-uid')


def _bans() -> Fragment:
    """Drops what Fail2Ban has banned: each jail has an ipset for each family, which the loader makes by these names.

    The loader jumps here only for connections that a client outside has opened: not for the host's own addresses,
    answers to the host, or neighbour discovery.
    """
    web = f"-p tcp -m multiport --dports {facts.PROXY_HTTP},{facts.PROXY_HTTPS}"
    rules = (
        *_banned("ER-BANS", "", "recidive"),
        *_banned("ER-BANS", f"-p tcp --dport {facts.SSH} ", "sshd"),
        *(Rule("ER-BANS", match, "ER-BANS-WEB") for match in (web, f"-p udp --dport {facts.PROXY_HTTPS}")),
        *_banned("ER-BANS-WEB", "", "er-web-scan"),
        *_banned("ER-BANS-WEB", "", "er-web-flood"),
    )
    return Fragment("filter", rules, ("ER-BANS", "ER-BANS-WEB"))


def _banned(chain: str, match: str, jail: str) -> Iterator[Rule]:
    for family in FAMILIES:
        yield Rule(chain, f"{match}-m set --match-set {jail}-{family} src", "DROP", (family,))


def _lockdown_filter() -> Fragment:
    rules = (
        Rule("ER-INPUT", "-i lo", "ACCEPT"),
        Rule("ER-INPUT", "-m conntrack --ctstate ESTABLISHED,RELATED", "ACCEPT"),
        Rule("ER-INPUT", f"-p tcp --dport {facts.SSH}", "ACCEPT", why="the one way in that is left"),
        *(rule for rule in _icmp() if rule.families == (6,) and "hl-eq" in rule.match),
        *(
            Rule("ER-OUTPUT", f"-m owner --uid-owner {uids}", "REJECT", why="no rules, no way out for apps")
            for uids in (_USERS, _SUBIDS)
        ),
    )
    return Fragment("filter", rules, ("ER-INPUT", "ER-OUTPUT"), _POLICIES)


def _ssh(allow_from: Sequence[str]) -> Fragment:
    rules = tuple(Rule("ER-SSH", f"-s {network}", "ACCEPT", family_of(network)) for network in allow_from)
    return Fragment("filter", rules)


def stack_template() -> File:
    """The rules of one user, a stack's or the proxy's. `@user@`, `@uid@` and `@ids@` are filled in on the host.

    A prefix has room for 29 characters (xt_LOG), which is what the longest stack's user with a colon and a space takes.
    """
    allowed, refused, owners = chain_of_user("@uid@"), "ER-NO-@uid@", ("@uid@", "@ids@")
    # Counted by stack: all of them come to the proxy from the host's one address.
    most = f"-m connlimit --connlimit-upto {facts.STACK_CONNECTIONS} --connlimit-mask 0"
    rate = f"-m limit --limit {facts.STACK_RATE}/sec --limit-burst {2 * facts.STACK_RATE}"
    rules = (
        *(Rule("ER-OUT-STACKS", f"-m owner --uid-owner {one}", allowed) for one in owners),
        Rule(allowed, f"{_OWN_CALL} {most} {rate}", "ACCEPT", why="this host's sites, through the redirect"),
        Rule(allowed, "", "ER-OUT-GUARD"),
        Rule(allowed, f"-m connlimit --connlimit-above {CONNECTIONS} --connlimit-mask 0", "ER-OUT-DENY"),
        Rule(allowed, "", "ER-OUT-WEB"),
        *(Rule("ER-OUT-LOG", f"-m owner --uid-owner {one}", refused) for one in owners),
        _log(refused, "@user@: "),
        Rule(refused, "", "ER-OUT-REJECT", why="its packets are the count of what was refused"),
    )
    return File(TEMPLATE, Fragment("filter", rules, (allowed, refused)).render(), Part.BAKED)


def stack_rules(user: str, uid: int) -> str:
    """The rules of one user, as the host makes them from the template."""
    first = (uid - facts.UID_BASE) * facts.SUBID_SIZE
    words = {"user": user, "uid": uid, "ids": f"{first}-{first + facts.SUBID_SIZE - 1}"}
    text = stack_template().content.decode()
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def chain_of_user(uid: str | int) -> str:
    """The chain of what a user may reach."""
    return f"ER-OUT-{uid}"


def stack_files(stack: Stack) -> Iterator[File]:
    """What the spec's `egress` opens for a stack: rules, and a list of those that name a host, not an address.

    Without a way out, one rule before all others refuses everything, the host's resolver too.
    What a chain does not accept returns to ER-OUTPUT, whose last rules refuse it.
    """
    stem = f"{facts.FIREWALL}/30-{stack.name}"
    rules = (*_ways_out(stack), *_ways_out_of_builds(stack))
    addresses = tuple(rule for rule, by_name in rules if not by_name)
    if addresses:
        yield File(f"{stem}.filter", Fragment("filter", addresses).render(), Part.FIRST_BOOT, stack=stack.name)
    if names := "".join(f"{rule.line()}\n" for rule, by_name in rules if by_name):
        yield File(f"{stem}{NAMES_SUFFIX}", names.encode(), Part.FIRST_BOOT, stack=stack.name)


def _ways_out(stack: Stack) -> Iterator[tuple[Rule, bool]]:
    """Each rule of a stack's egress, and whether it names a host, not an address."""
    if stack.no_egress:
        yield _no_way_out(stack.uid), False
    yield from ((_egress(stack.uid, rule), rule.by_name) for rule in stack.egress)


def _ways_out_of_builds(stack: Stack) -> Iterator[tuple[Rule, bool]]:
    """The same of what is built on the server for a stack, which is another user."""
    uid = user.build_uid(stack.uid)
    if stack.builds and stack.no_build_egress:
        yield _no_way_out(uid), False
    yield from ((_egress(uid, rule), rule.by_name) for rule in stack.build_egress if stack.builds)


def _no_way_out(uid: int) -> Rule:
    return Rule(chain_of_user(uid), "", "ER-OUT-DENY", why="before DNS and the web", first=True)


def _egress(uid: int, rule: EgressRule) -> Rule:
    ports = f" -m multiport --dports {','.join(map(str, rule.ports))}" if rule.ports else ""
    families = FAMILIES if rule.by_name else family_of(rule.to)
    return Rule(chain_of_user(uid), f"-d {rule.to} -p {rule.protocol}{ports}", "ACCEPT", families, "egress of the spec")


Table = Literal["filter", "nat"]
FAMILIES: Final = (4, 6)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `match` and `target` are in the words of iptables; `why` is for the reader of this module.

    `families` are those in which the rule is loaded. `first`: it is inserted before what the chain has.
    """

    chain: str
    match: str
    target: str
    families: tuple[int, ...] = FAMILIES
    why: str = ""
    first: bool = False

    def line(self) -> str:
        """The rule as iptables-restore and ip6tables-restore read it; `-4` or `-6` makes the other one skip it."""
        only = f"-{self.families[0]}" if len(self.families) == 1 else ""
        command = "-I" if self.first else "-A"
        return " ".join(word for word in (only, command, self.chain, self.match, "-j", self.target) if word)


@dataclass(frozen=True, slots=True)
class Fragment:
    """Chains and rules of one table.

    `policies` are built-in chains with their policy; `chains` are ours, emptied first.
    """

    table: Table
    rules: tuple[Rule, ...]
    chains: tuple[str, ...] = ()
    policies: tuple[tuple[str, str], ...] = ()

    def render(self) -> bytes:
        """Input for iptables-restore without the table's first line and COMMIT, which the loader adds."""
        lines = [f":{chain} {policy}" for chain, policy in self.policies]
        lines += [f":{chain} -" for chain in self.chains]
        lines += [rule.line() for rule in self.rules]
        return ("\n".join(lines) + "\n").encode()


def family_of(network: str) -> tuple[int, ...]:
    """The family of a network in CIDR form, as Rule.families has it."""
    return (ipaddress.ip_network(network, strict=False).version,)
