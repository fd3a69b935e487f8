"""Rules of iptables and ip6tables as values, and the text that iptables-restore reads."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Literal

Table = Literal["filter", "nat"]
FAMILIES: Final = (4, 6)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `match` and `target` are iptables words; `families` says where it stands; `why` is for the reader.

    `first`: before what the chain has."""

    chain: str
    match: str
    target: str
    families: tuple[int, ...] = FAMILIES
    why: str = ""
    first: bool = False

    def line(self) -> str:
        """The rule as iptables-restore and ip6tables-restore read it: the other family skips what is for one alone."""
        only = f"-{self.families[0]}" if len(self.families) == 1 else ""
        word = "-I" if self.first else "-A"
        return " ".join(word for word in (only, word, self.chain, self.match, "-j", self.target) if word)


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
    """The family in which a network's rules stand."""
    return (ipaddress.ip_network(network, strict=False).version,)
