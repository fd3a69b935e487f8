"""The firewall: one model, rendered for iptables and ip6tables.

Fragments of iptables-restore input, one file a table and family, which /usr/lib/easyrunner/firewall joins and loads
whole: `base` (every host), `lockdown` (when base does not load), and what this host adds: who may use SSH, what each
stack may reach. Only chains named ER-* are ours; Fail2Ban's live beside them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from builder import facts
from builder.host.model import File, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.stack import EgressRule, Stack

Table = Literal["filter", "nat"]
FAMILIES: Final = (4, 6)

BASE: Final = f"{facts.LIB}/firewall.d/base"
LOCKDOWN: Final = f"{facts.LIB}/firewall.d/lockdown"
HOST: Final = f"{facts.ETC}/firewall.d"

# Addresses that answer with credentials or a machine's identity. Link-local covers nearly every cloud; the others are
# AWS over IPv6, Google over IPv6, and Azure's WireServer.
METADATA: Final = ("169.254.0.0/16", "168.63.129.16/32", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128")
# The stub resolvers of systemd-resolved; Podman's DNS goes there as the stack's user.
STUB_RESOLVERS: Final = ("127.0.0.53/32", "127.0.0.54/32")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `match` and `target` are iptables words; `families` says where it stands; `why` is for the reader."""

    chain: str
    match: str
    target: str
    families: tuple[int, ...] = FAMILIES
    why: str = ""

    def line(self) -> str:
        """The rule as iptables-restore reads it."""
        return " ".join(word for word in ("-A", self.chain, self.match, "-j", self.target) if word)


@dataclass(frozen=True, slots=True)
class Fragment:
    """Chains and rules of one table.

    `policies` are built-in chains with their policy; `chains` are ours, emptied first.
    """

    table: Table
    rules: tuple[Rule, ...]
    chains: tuple[str, ...] = ()
    policies: tuple[tuple[str, str], ...] = ()

    def render(self, family: int) -> bytes:
        """Input for iptables-restore without the table's first line and COMMIT, which the loader adds."""
        lines = [f":{chain} {policy} [0:0]" for chain, policy in self.policies]
        lines += [f":{chain} - [0:0]" for chain in self.chains]
        for rule in self.rules:
            if family in rule.families:
                lines.append(rule.line())
        return ("\n".join(lines) + "\n").encode()


def base() -> Iterator[File]:
    """The files that every host has: the rules, and the lockdown that replaces them when they do not load."""
    yield from _files(f"{BASE}/10-base", (_base_filter(), _base_nat()), Part.BAKED)
    yield from _files(
        f"{LOCKDOWN}/10-lockdown", (_lockdown_filter(), Fragment("nat", (), ("ER-REDIRECT",))), Part.BAKED
    )


def host(allow_from: Sequence[str], stacks: Iterable[Stack], acme_port: int | None) -> Iterator[File]:
    """The files that this host adds.

    `allow_from` are networks in CIDR form; `acme_port` is set when the certificate authority is not on port 443.
    """
    yield from _files(f"{HOST}/20-ssh", (_ssh(allow_from),), Part.FIRST_BOOT)
    if acme_port not in (None, facts.HTTP, facts.HTTPS):
        rule = Rule(
            "ER-OUT-PROXY", f"-p tcp --dport {acme_port}", "ACCEPT", why="the certificate authority of the spec"
        )
        yield from _files(f"{HOST}/25-acme", (Fragment("filter", (rule,)),), Part.FIRST_BOOT)
    for stack in stacks:
        yield from _files(f"{HOST}/30-{stack.name}", (_stack(stack),), Part.FIRST_BOOT, stack.name)


def _files(stem: str, fragments: Iterable[Fragment], part: Part, stack: str = "") -> Iterator[File]:
    for fragment in fragments:
        for family in FAMILIES:
            yield File(f"{stem}.{fragment.table}.v{family}", fragment.render(family), part, stack=stack)


_POLICIES: Final = (("INPUT", "DROP"), ("FORWARD", "DROP"), ("OUTPUT", "ACCEPT"))
_USERS: Final = f"{facts.PROXY_UID}-{facts.UID_BASE + facts.LAST_SLOT}"
_SUBIDS: Final = f"{facts.FIRST_SLOT * facts.SUBID_SIZE}-{(facts.LAST_SLOT + 1) * facts.SUBID_SIZE - 1}"


def _base_filter() -> Fragment:
    chains = (
        "ER-INPUT",
        "ER-SSH",
        "ER-OUTPUT",
        "ER-OUT-STACKS",
        "ER-OUT-PROXY",
        "ER-OUT-GUARD",
        "ER-OUT-WEB",
        "ER-OUT-DENY",
    )
    rules = (*_proxy_ports(), *_input(), *_icmp(), *_output(), *_user_output())
    return Fragment("filter", tuple(rules), chains, _POLICIES)


def _proxy_ports() -> Iterator[Rule]:
    for protocol, world, local in _REDIRECTS:
        match = f"-p {protocol} --dport {local} -m conntrack --ctstate DNAT --ctorigdstport {world}"
        yield Rule("ER-INPUT", match, "ACCEPT", why=f"{protocol} {world}, through the redirect")
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
    for kind in ("router-advertisement", "neighbour-solicitation", "neighbour-advertisement"):
        yield Rule("ER-INPUT", f"-p ipv6-icmp --icmpv6-type {kind} -m hl --hl-eq 255", "ACCEPT", (6,))
    yield Rule("ER-INPUT", "-s fe80::/10 -p ipv6-icmp --icmpv6-type 130", "ACCEPT", (6,), "multicast listener query")
    dhcp = "-s fe80::/10 -p udp --sport 547 --dport 546"
    yield Rule("ER-INPUT", dhcp, "ACCEPT", (6,), "DHCPv6 answers a multicast, which conntrack cannot relate")


def _output() -> Iterator[Rule]:
    admin = f"-o lo -p tcp --dport {facts.PROXY_ADMIN}"
    yield Rule("ER-OUTPUT", "-m conntrack --ctstate ESTABLISHED,RELATED", "ACCEPT")
    for uid in (0, facts.PROXY_UID):
        yield Rule("ER-OUTPUT", f"{admin} -m owner --uid-owner {uid}", "ACCEPT", why="admin API: root and the proxy")
    yield Rule("ER-OUTPUT", admin, "REJECT --reject-with tcp-reset", why="admin API: nobody else")
    yield Rule("ER-OUTPUT", f"-m owner --uid-owner {facts.PROXY_UID}", "ER-OUT-PROXY")
    yield Rule("ER-OUTPUT", _owner(facts.PROXY_SLOT), "ER-OUT-PROXY", why="its subordinate ids")
    yield Rule("ER-OUTPUT", "", "ER-OUT-STACKS")
    yield Rule(
        "ER-OUTPUT", f"-m owner --uid-owner {_USERS}", "ER-OUT-DENY", why="a user of ours without rules of its own"
    )
    subids = f"-m owner --uid-owner {_SUBIDS}"
    yield Rule("ER-OUTPUT", subids, "ER-OUT-DENY", why="a container's user on the host's network")


def _user_output() -> Iterator[Rule]:
    """What every user of ours may and may not reach, the proxy included; a stack's own wishes stand between the two."""
    for network in STUB_RESOLVERS:
        for protocol in ("udp", "tcp"):
            yield Rule("ER-OUT-GUARD", f"-d {network} -p {protocol} --dport 53", "ACCEPT", (4,), "the host's resolver")
    yield Rule("ER-OUT-GUARD", "-o lo", "ER-OUT-DENY", why="nothing else of the host's own, by any of its addresses")
    for network in METADATA:
        yield Rule("ER-OUT-GUARD", f"-d {network}", "ER-OUT-DENY", _families(network), "cloud metadata, link-local")
    for protocol, ports in (("udp", "53,443"), ("tcp", "53,80,443")):
        yield Rule("ER-OUT-WEB", f"-p {protocol} -m multiport --dports {ports}", "ACCEPT", why="DNS, HTTP, HTTPS")
    yield Rule("ER-OUT-PROXY", "", "ER-OUT-GUARD")
    yield Rule("ER-OUT-PROXY", "", "ER-OUT-WEB")
    # The log names the uid, and so the stack: limited, or an app could fill the journal.
    yield Rule("ER-OUT-DENY", "-m limit --limit 30/min --limit-burst 20", 'LOG --log-prefix "er-egress " --log-uid')
    yield Rule("ER-OUT-DENY", "-p tcp", "REJECT --reject-with tcp-reset")
    yield Rule("ER-OUT-DENY", "", "REJECT")


_REDIRECTS: Final = (
    ("tcp", facts.HTTP, facts.PROXY_HTTP),
    ("tcp", facts.HTTPS, facts.PROXY_HTTPS),
    ("udp", facts.HTTPS, facts.PROXY_HTTPS),
)


def _base_nat() -> Fragment:
    rules = tuple(
        Rule(
            "ER-REDIRECT", f"-p {protocol} --dport {world} -m addrtype --dst-type LOCAL", f"REDIRECT --to-ports {local}"
        )
        for protocol, world, local in _REDIRECTS
    )
    return Fragment("nat", rules, ("ER-REDIRECT",))


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
    rules = tuple(Rule("ER-SSH", f"-s {network}", "ACCEPT", _families(network)) for network in allow_from)
    return Fragment("filter", rules)


def _stack(stack: Stack) -> Fragment:
    """A stack's egress. Its user sends for every container: rootless networking has the user's own sockets.

    What the chain does not accept returns to ER-OUTPUT, whose last rules refuse it.
    """
    chain = f"ER-OUT-{stack.uid}"
    rules = [
        Rule("ER-OUT-STACKS", f"-m owner --uid-owner {stack.uid}", chain, why=f"stack {stack.name}"),
        Rule("ER-OUT-STACKS", _owner(stack.uid - facts.UID_BASE), chain, why="its subordinate ids"),
        Rule(chain, "", "ER-OUT-GUARD"),
        Rule(chain, "-m connlimit --connlimit-above 4096 --connlimit-mask 0", "ER-OUT-DENY"),
        *(rule for wish in stack.egress for rule in _egress(chain, wish)),
        Rule(chain, "", "ER-OUT-WEB"),
    ]
    return Fragment("filter", tuple(rules), (chain,))


def _egress(chain: str, wish: EgressRule) -> Iterator[Rule]:
    ports = f" -m multiport --dports {','.join(map(str, wish.ports))}" if wish.ports else ""
    yield Rule(chain, f"-d {wish.to} -p {wish.protocol}{ports}", "ACCEPT", _families(wish.to), "egress of the spec")


def _owner(slot: int) -> str:
    first = slot * facts.SUBID_SIZE
    return f"-m owner --uid-owner {first}-{first + facts.SUBID_SIZE - 1}"


def _families(network: str) -> tuple[int, ...]:
    return (ipaddress.ip_network(network, strict=False).version,)
