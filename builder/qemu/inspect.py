"""What a host that is up is asked, and what is wrong with the answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from builder import facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Question -> command line. All are asked in one visit.
QUESTIONS: Final = {
    "state": "systemctl is-system-running --wait",
    "failed": "systemctl --failed --plain --no-legend --no-pager",
    "firewall unit": "systemctl is-active er-firewall.service",
    "iptables": "sudo iptables -S",
    "ip6tables": "sudo ip6tables -S",
    "nat": "sudo iptables -t nat -S",
    "listeners": "ss -Hltun",
}
_UNASKED: Final = "not asked"
_POLICIES: Final = ("-P INPUT DROP", "-P FORWARD DROP")
_LOOPBACK: Final = ("127.", "[::1]", "[::ffff:127.")
# Who may listen: to the world SSH, the proxy behind its redirect and the client sides of DHCP; to the host itself DNS
# and the proxy's admin.
_WORLD: Final = {
    ("tcp", facts.SSH),
    ("tcp", facts.PROXY_HTTP),
    ("tcp", facts.PROXY_HTTPS),
    ("udp", facts.PROXY_HTTPS),
    ("udp", 68),
    ("udp", 546),
}
_OWN: Final = {("tcp", 53), ("udp", 53), ("udp", 323), ("tcp", facts.PROXY_ADMIN)}
# Above this, a UDP socket without a peer is a client's: the default of net.ipv4.ip_local_port_range.
_EPHEMERAL: Final = 32_768


def faults(said: str) -> tuple[str, ...]:
    """Everything that is not as on a good host; empty for a good one. `said` is what the script has printed there."""
    return tuple(judge(json.loads(said)))


def script(*, settled: bool = True) -> str:
    """Asks all questions there and prints the answers as JSON; not `settled` does not wait for the boot's last job."""
    questions = QUESTIONS if settled else {**QUESTIONS, "state": f"echo {_UNASKED}"}
    return f"""
import json, subprocess
questions = json.loads({json.dumps(json.dumps(questions))})
def ask(line):
    return subprocess.run(line, shell=True, capture_output=True, text=True).stdout.strip()
print(json.dumps({{name: ask(line) for name, line in questions.items()}}))
"""


def judge(answers: Mapping[str, str]) -> Iterator[str]:
    """What is wrong, a line each; `answers` by the names of QUESTIONS."""
    failed = [line.split()[0] for line in answers["failed"].splitlines() if line.strip()]
    yield from (f"the unit {unit} has failed" for unit in failed)
    if answers["state"] not in {"running", _UNASKED} and not failed:
        yield f"systemd says {answers['state']!r}, not running"
    if answers["firewall unit"] != "active":
        yield f"the firewall's unit is {answers['firewall unit']}"
    for family in ("iptables", "ip6tables"):
        rules = answers[family].splitlines()
        yield from (f"{family}: {policy} is not set" for policy in _POLICIES if policy not in rules)
    if f"--to-ports {facts.PROXY_HTTPS}" not in answers["nat"]:
        yield f"nothing leads from {facts.HTTPS} to the proxy"
    yield from _listeners(answers["listeners"])


def _listeners(text: str) -> Iterator[str]:
    for line in sorted(set(text.splitlines())):
        protocol, _, _, _, local, *_ = line.split()
        address, _, number = local.rpartition(":")
        port = int(number)
        own = address.startswith(_LOOPBACK)
        if (protocol, port) in _WORLD or (own and (protocol, port) in _OWN):
            continue
        if not (protocol == "udp" and port >= _EPHEMERAL):
            yield f"somebody listens on {protocol} {local}"
