"""What the firewall refused, as `er server status` reads it from counters and the kernel's log, and shows it."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from builder import facts
from builder.cli.server import firewall as shown
from builder.cli.server import logs
from builder.host import firewall
from builder.server.remote import egress
from builder.server.remote.reload import affected, shares_words
from builder.stack.model import EgressRule, Stack

# As the kernel's nf_log_syslog writes them.
_V4 = (
    "er-blog: IN= OUT=eth0 SRC=192.0.2.10 DST=203.0.113.7 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=41012 DF PROTO=TCP"
    " SPT=40000 DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0 UID=20100 GID=20100 "
)
_V6 = (
    "er-a-long-name-with-numbers-1: IN= OUT=eth0 SRC=2001:0db8:0000:0000:0000:0000:0000:0010"
    " DST=2001:0db8:0000:0000:0000:0000:0000:0019 LEN=56 TC=0 HOPLIMIT=64 FLOWLBL=1 PROTO=UDP SPT=4 DPT=9999 LEN=16"
    " UID=20101 GID=20101 "
)
_PING = (
    "er-shop: IN= OUT=eth0 SRC=192.0.2.10 DST=203.0.113.7 LEN=84 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=ICMP TYPE=3"
    " CODE=1 [SRC=198.51.100.1 DST=198.51.100.2 LEN=60 PROTO=TCP SPT=1 DPT=2 ] UID=6618136 GID=20101 "
)
_OTHER = _V4.replace("er-blog: ", "er-egress ")
_SAVED = """\
*filter
:ER-NO-20100 - [0:0]
[20:1200] -A ER-NO-20100 -m limit --limit 10/min --limit-burst 20 -j LOG --log-prefix "er-blog: " --log-uid
[41:2460] -A ER-NO-20100 -j ER-OUT-REJECT
[7:420] -A ER-OUT-LOG -m owner --uid-owner 20100 -j ER-NO-20100
[3:180] -A ER-OUT-DENY -j ER-OUT-REJECT
[3:180] -A ER-OUT-DENY -j ER-OUT-LOG
[9:9] -A ER-OUT-REJECT -p tcp -j REJECT --reject-with tcp-reset
COMMIT
"""


def journal(*messages: object) -> str:
    """Entries a second apart, as `journalctl -o json` prints them."""
    entries = ({"MESSAGE": one, "__REALTIME_TIMESTAMP": str((1000 + at) * 10**6)} for at, one in enumerate(messages))
    return "".join(f"{json.dumps(entry)}\n" for entry in entries)


def test_packets_are_counted_by_user_over_both_families() -> None:
    assert egress.counts(_SAVED) == {20_100: 41, 0: 3}
    assert egress.counts(_SAVED + _SAVED) == {20_100: 82, 0: 6}
    assert egress.counts("") == {}


def test_the_count_is_that_of_the_rule_that_is_made() -> None:
    """The pattern fits what the template of the firewall holds."""
    rules = firewall.stack_rules("er-blog", 20_100).splitlines()
    assert egress.counts("".join(f"[5:1] {line}\n" for line in rules)) == {20_100: 5}


def test_a_line_of_the_log_says_who_wanted_where() -> None:
    found = list(egress.refusals(journal(_V4, _V6, _PING, _OTHER)))
    assert found == [
        egress.Refusal("er-blog", 1000, "203.0.113.7", "tcp", 25),
        egress.Refusal("er-a-long-name-with-numbers-1", 1001, "2001:db8::19", "udp", 9999),
        egress.Refusal("er-shop", 1002, "203.0.113.7", "icmp", None),
        egress.Refusal("", 1003, "203.0.113.7", "tcp", 25),
    ]


@pytest.mark.parametrize(
    "message", ["er-blog: not of the firewall", "", [1, 2, 255], None, f"x {_V4}", "er-egress: IN="]
)
def test_what_is_none_of_ours_is_left_out(message: object) -> None:
    assert list(egress.refusals(journal(message))) == []


def test_destinations_are_the_most_frequent_first() -> None:
    again = _V4.replace("DPT=25 ", "DPT=26 ")
    found = egress.destinations(egress.refusals(journal(_V4, again, again)))
    assert found == [
        {"address": "203.0.113.7", "protocol": "tcp", "port": 26, "logged": 2, "last": 1002},
        {"address": "203.0.113.7", "protocol": "tcp", "port": 25, "logged": 1, "last": 1000},
    ]


@given(st.lists(st.sampled_from([_V4, _V6, _PING, _OTHER]), max_size=30))
def test_every_line_is_counted_once(messages: list[str]) -> None:
    found = list(egress.refusals(journal(*messages)))
    for user in {one.user for one in found}:
        mine = [one for one in found if one.user == user]
        assert sum(row["logged"] for row in egress.destinations(mine)) == len(mine)


def row(
    user: str, refused: int | None, *destinations: dict[str, object], since: int | None = 1000
) -> dict[str, object]:
    """As the server's part hands it over."""
    return {"user": user, "since": since, "refused": refused, "destinations": list(destinations), "names": []}


def text(*rows: dict[str, object]) -> list[list[str]]:
    """The table's words, line by line."""
    console = Console(file=io.StringIO(), width=160)
    console.print(shown.refusals_table(rows))
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_the_table_has_a_line_for_each_user_and_its_destinations() -> None:
    ends = [{"address": "2001:db8::1", "protocol": "tcp", "port": p, "logged": 9 - p, "last": 0} for p in range(1, 6)]
    lines = text(row("er-proxy", 0), row("er-blog", 12_345, *ends), row("", 0))[1:]
    assert lines[0] == ["er-proxy", "0"]
    assert lines[1][:4] == ["er-blog", "12,345", "[2001:db8::1]:1/tcp", "8"]
    assert [line[0] for line in lines[2:]] == ["[2001:db8::1]:2/tcp", "[2001:db8::1]:3/tcp", "and"]
    assert lines[-1] == ["and", "2", "more"]


def test_other_users_are_shown_when_they_did_something() -> None:
    assert ["other", "users", "1"] in text(row("", 1))


def test_a_firewall_in_lockdown_has_no_count() -> None:
    assert text(row("er-blog", None, since=None))[1:] == [["er-blog", "unknown"]]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"address": "203.0.113.7", "protocol": "tcp", "port": 25}, "203.0.113.7:25/tcp"),
        ({"address": "2001:db8::1", "protocol": "udp", "port": 53}, "[2001:db8::1]:53/udp"),
        ({"address": "2001:db8::1", "protocol": "icmpv6", "port": None}, "2001:db8::1 icmpv6"),
    ],
)
def test_a_destination_in_words(end: dict[str, object], words: str) -> None:
    assert shown.destination(end) == words


def name(**more: object) -> dict[str, object]:
    """A name that resolves."""
    usual = {"stack": "blog", "name": "db.example.com", "addresses": ["203.0.113.7"], "refused": []}
    return {**usual, "resolved": 1000, "failing_since": None, **more}


def test_what_is_the_matter_with_a_name_comes_with_the_way_out() -> None:
    assert list(shown.problems_of([name()])) == []
    way = "mend the name or its DNS, then: er server reapply-firewall HOST"
    start = "blog: db.example.com of egress does not resolve"
    assert list(shown.problems_of([name(failing_since=9)])) == [f"{start}, its last answer stays: 203.0.113.7; {way}"]
    assert list(shown.problems_of([name(failing_since=9, addresses=[])])) == [f"{start}, it is refused; {way}"]
    refused = ["blog: db.example.com of egress is 127.0.0.1, which stays refused to every stack"]
    assert list(shown.problems_of([name(refused=["127.0.0.1"])])) == refused


def test_the_files_that_the_host_makes_go_with_their_list() -> None:
    files = firewall.stack_files(Stack("blog", 20_100, (), egress=(EgressRule("db.example.com", "tcp", (1,)),)))
    paths = [file.path for file in files]
    made = egress.generated_from(paths)
    assert made == [f"{paths[0]}.filter"]
    assert all(egress.GENERATED.search(path) for path in made)
    # A stack may be called so: what its spec says is not made on the host.
    assert not egress.GENERATED.search(f"{facts.FIREWALL}/30-names.filter")
    assert egress.generated_from([f"{facts.FIREWALL}/30-blog.filter", f"{facts.FIREWALL}/20-ssh.filter"]) == []


def test_the_firewall_is_told_of_lists_and_of_stacks() -> None:
    for path in (f"{facts.FIREWALL}/30-blog.names", f"{facts.STACKS}/blog/subids"):
        found = affected([path], {20_100: "blog"})
        assert (found.system, found.stacks) == ({"firewall"}, {})


def test_other_shares_of_memory_restart_nobody() -> None:
    """They change with the number of stacks; managers that run are told."""
    found = affected(["/etc/systemd/system/user@.service.d/10-easyrunner.conf"], {20_100: "blog"})
    assert (found.system, found.stacks, found.managers) == ({"systemd", "shares"}, {}, set())


def test_running_managers_are_told_their_shares() -> None:
    drop_in = "# Why.\n[Service]\nMemoryMax=60.5%\nMemoryLow=10%\n"
    words = ["systemctl", "set-property", "--runtime", "user@20100.service", "MemoryMax=60.5%", "MemoryLow=10%"]
    assert shares_words(20_100, drop_in) == words


def test_the_logs_of_refusals_are_asked_of_the_kernel() -> None:
    words = logs.refusals("blog")
    assert words[-1] == "blog"
    assert 'start="^er-$1: "' in words[2]
    assert "--dmesg" in words[2]
    assert logs.options(5, follow=True, since="-1h") == [
        "--no-pager",
        "--no-hostname",
        "--lines=5",
        "--follow",
        "--since=-1h",
    ]
