"""Lines of logs as sshd, Caddy and Fail2Ban write them, with hostile texts in each place that a client may fill.

The forms are those that real ones wrote: test_fail2ban.py makes some of each for real and holds them against these.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whom the texts name, and who must never be found.
VICTIMS: Final = ("203.0.113.77", "2001:db8:bad::77")
# How a connection ends: what the client wrote is USER, SERVICE and TEXT.
ENDINGS: Final = (
    "Connection closed by {kind} user {user} {address} port {port} [preauth]",
    "Connection reset by {kind} user {user} {address} port {port} [preauth]",
    "Disconnected from {kind} user {user} {address} port {port} [preauth]",
    "Disconnecting {kind} user {user} {address} port {port}: Too many authentication failures [preauth]",
    (
        "Disconnecting {kind} user {user} {address} port {port}: Change of username or service not allowed:"
        " ({user},{service}) -> ({user},{service} [preauth]"
    ),
)
# What is said on the way there.
ASIDES: Final = (
    "Invalid user {user} from {address} port {port}",
    "Failed publickey for {user} from {address} port {port} ssh2: ED25519 SHA256:x",
    "Failed none for invalid user {user} from {address} port {port} ssh2",
    "maximum authentication attempts exceeded for invalid user {user} from {address} port {port} ssh2 [preauth]",
    "Received disconnect from {address} port {port}:11: {text} [preauth]",
    "userauth_pubkey: signature algorithm {text} not in PubkeyAcceptedAlgorithms [preauth]",
)
# Connections that never named a user: sshd's own limits are for those.
NAMELESS: Final = (
    "Connection closed by {address} port {port} [preauth]",
    "Connection reset by {address} port {port} [preauth]",
    "banner exchange: Connection from {address} port {port}: invalid format",
    "Unable to negotiate with {address} port {port}: no matching MAC found. Their offer: {text} [preauth]",
    "Bad remote protocol version identification: '{text}'",
    "Disconnected from {address} port {port} [preauth]",
)
_PIECES: Final = (
    *VICTIMS,
    *(f" {victim} port 22: " for victim in VICTIMS),
    *(f" {victim} port 22 [preauth]" for victim in VICTIMS),
    *(f" from {victim} port 22" for victim in VICTIMS),
    " port 22",
    " port 22: ",
    " port 22 [preauth]",
    " from ",
    " user ",
    "Connection closed by invalid user ",
    "Connection from ",
    "Disconnecting authenticating user a ",
    "Timeout before authentication for connection from ",
    "Accepted publickey for er from ",
    ", pid = 1000",
    "[sshd] Ban ",
    " 404 - /.env",
    ": ",
    " ",
    "\\n",
    "::ffff:203.0.113.77",
    "[2001:db8:bad::77]",
    '"remote_ip":"203.0.113.77"',
    '"client_ip":"203.0.113.77"',
    '","status":404,"uri":"/.env"}',
    '{"level":"info"',
    "\\",
    '"',
    "%",
    "(",
    "/.env",
    "wp-login.php",
    "a",
    "é",
    "\x1b[2J",
)


@dataclass(frozen=True)
class Case:
    """Raw lines, and whom they are of; None where nobody is to be counted."""

    lines: tuple[str, ...]
    who: str | None


def counted(address: str) -> str:
    """As a client counts: itself, or the /64 of an IPv6 one."""
    found = ip_address(address)
    return address if found.version == 4 else str(ip_network((found, 64), strict=False))


class Writer:
    """Writes cases from one seed, so that a case that fails can be had again."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        """What a client may send."""
        return "".join(self.random.choices(_PIECES, k=self.random.randint(1, 8)))

    def address(self) -> str:
        """Where it really is, of either family: in all spellings that there are of an IPv6 network."""
        if self.random.random() < 0.5:
            return f"198.18.{self.random.randrange(256)}.{self.random.randrange(1, 255)}"
        groups = [0x2001, *(self.random.choice((0, 1, 0xA0, 0xFFFF)) for _ in range(7))]
        return str(ip_address(sum(group << (112 - 16 * place) for place, group in enumerate(groups))))

    def ssh(self, number: int) -> Case:
        """A connection, as `journalctl -o short-unix` shows it."""
        address, pid = self.address(), 1000 + number
        words = {
            "address": address,
            "port": 1024 + number % 60_000,
            "kind": self.random.choice(("authenticating", "invalid")),
            **{name: _escaped(self.text())[:100] for name in ("user", "service", "text")},
        }
        forms = [f'Connection from {address} port {words["port"]} on 10.0.0.1 port 22 rdomain ""']
        forms += self.random.choices(ASIDES, k=self.random.randrange(3))
        end = self.random.choice((*ENDINGS, *NAMELESS, ""))
        named = [one.format(**words) if "{" in one else one for one in [*forms[1:], *([end] if end else [])]]
        lines = [_sshd(pid, one) for one in [forms[0], *named]]
        if not end:
            late = f"Timeout before authentication for connection from {address} to 10.0.0.1, pid = {pid}"
            lines.append(_sshd(1, late))
        return Case(tuple(lines), None if end in NAMELESS else counted(address))

    def web(self) -> Case:
        """A request, as Caddy logs it."""
        address = self.address()
        status = self.random.choice((200, 308, 404, 403, 421))
        page = self.random.random() < 0.2
        # An edge may write an IPv4 address as IPv6 does.
        mapped = "." in address and self.random.random() < 0.1
        request = {
            # An edge's, where there is one.
            "remote_ip": self.random.choice((address, "192.0.2.77")),
            "remote_port": "4711",
            "client_ip": f"::ffff:{address}" if mapped else address,
            "proto": "HTTP/2.0",
            "method": self.random.choice(("GET", "POST", self.text())),
            "host": self.random.choice(("hello.example.com", self.text())),
            "uri": self.random.choice(("/.env", "/a/wp-login.php?x=", "/")) + self.text(),
        }
        line = {
            "level": "info",
            "ts": 1.5,
            "logger": "http.log.access.er",
            "msg": "handled request",
            "request": request,
            "bytes_read": 0,
            "user_id": self.random.choice(("", self.text())),
            "duration": 0.1,
            "size": 0,
            "status": status,
            "sec_fetch_site": self.random.choice(("cross-site", "same-origin")) if page else self.text(),
            "referer": self.text(),
            "user_agent": self.text(),
        }
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        return Case((text,), counted(address) if 400 <= status < 500 and not page else None)

    def fail2ban(self) -> Case:
        """A line of Fail2Ban's own, as its systemd backend reads it."""
        address = counted(self.address())
        forms = (
            (f"[sshd] Ban {address}", address),
            (f"[er-web-scan] Ban {address}", None),
            (f"[sshd] Unban {address}", None),
            (f"[sshd] Restore Ban {address}", None),
            (f"[sshd] Found {address} - 2026-01-01 10:00:00", None),
            (f"[sshd] Please check a jail for a timing issue. Line with odd timestamp: {self.text()}", None),
            (f"[er-web-scan] {self.text()}", None),
            (self.text().replace("[sshd] Ban ", "x[sshd] Ban "), None),
        )
        text, who = self.random.choice(forms)
        return Case((f"web1 fail2ban[126]: {text}",), who)


def _sshd(pid: int, text: str) -> str:
    return f"1764400000.123456 web1 {'sshd' if pid == 1 else 'sshd-session'}[{pid}]: {text}"


def _escaped(text: str) -> str:
    """As sshd does: no control character, nothing beyond ASCII."""
    return re.sub(r"[^ -~]", lambda found: "".join(f"\\{byte:03o}" for byte in found[0].encode()), text)


def cases(kind: str, count: int, seed: int) -> Iterator[Case]:
    """So many cases of a kind: ssh, web or fail2ban."""
    writer = Writer(seed)
    for number in range(count):
        yield {"ssh": lambda: writer.ssh(number), "web": writer.web, "fail2ban": writer.fail2ban}[kind]()  # noqa: B023
