"""What is told of a host, and when: the rules and the ledger by themselves, with a clock of their own.

A day of normal traffic goes through the real evaluation, a look each twenty seconds: nothing is told. Each fault that
is planted in such a day is told once, within a minute, with the stack, what, and what to do.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from builder import facts, host
from builder.server.remote import common, host_secrets
from builder.server.remote.notify import audit_log, ledger, notices, rules, send, watch
from builder.server.remote.notify.ledger import Finding
from builder.server.remote.notify.notices import HAPPENED, RESOLVED, WRONG
from tests.unit.test_host import STACK, spec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
_LOOK, _DAY = 20, 86_400
# A Monday, at midnight.
_BEGIN: Final = 1_700_438_400
_STACKS: Final = ("blog", "shop")
_SERVICES: Final = (("proxy", "proxy"), ("blog", "web"), ("shop", "db"), ("shop", "web"))


def _entry(text: str, **fields: str) -> dict[str, str]:
    return {"MESSAGE": text, "_SYSTEMD_UNIT": "ssh.service", "_UID": "0", **fields}


@dataclass
class Day:
    """A host whose looks are made here: what every look sees, and what was told."""

    now: int = _BEGIN
    state: dict[str, Any] = field(default_factory=lambda: {"memory": {}, "ledger": ledger.empty()})
    told: list[tuple[int, ledger.Told]] = field(default_factory=list)
    quiet: tuple[str, str] | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(21))
    refused: dict[str, int] = field(default_factory=lambda: {"proxy": 0, "blog": 0, "shop": 0})
    restarts: dict[str, int] = field(default_factory=dict)

    def seen(self) -> dict[str, Any]:
        """A host that serves, with what the Internet does to every host: failed logins, bans, and clients."""
        normal = self._normal()
        return {
            "now": self.now,
            "uptime": self.now - _BEGIN + 30 * _DAY,
            "name": "web1",
            "starting": False,
            "held": False,
            "busy": [],
            "installing": False,
            "filled": [],
            "activity": [],
            "checks": {name: {"wrong": "", "remedy": "er server doctor HOST --fix"} for name in rules.CHECKS},
            "services": [
                {
                    "id": f"{stack}/{service}", "stack": stack, "service": service, "state": "active", "up": True,
                    "restarts": self.restarts.get(f"{stack}/{service}", 0),
                }
                for stack, service in _SERVICES
            ],
            "memory": {"total": 2 << 30, "available": self.chance.randrange(300 << 20, 1 << 30)},
            "reboot": False,
            "lists_at": self.now - self.now % _DAY,
            "killed": dict.fromkeys(_STACKS, 3),
            "refused": dict(self.refused),
            "destinations": {},
            "listeners": [],
            "bans": [],
            "logins": [],
            "integrity": [],
            "changes": [],
            "programs": [],
            "allow_exec": ["forge"],
            **normal,
        }  # fmt: skip

    def _normal(self) -> dict[str, Any]:
        """An app asks for NTP now and then; hosts of the Internet are banned; the admin and a deploy key log in."""
        self.refused["shop"] += self.chance.random() < 0.05
        entries = [*self._journal()]
        udp = {"port": self.chance.randrange(32_768, 61_000), "protocol": "udp", "program": "pasta.avx2"}
        return {"bans": [*watch.bans(entries)], "logins": [*watch.logins(entries)], "listeners": [udp]}

    def _journal(self) -> Iterator[dict[str, str]]:
        """What sshd and Fail2Ban say meanwhile."""
        for _ in range(3):
            address = f"203.0.113.{self.chance.randrange(250)}"
            yield _entry(f"Invalid user admin from {address} port 4711")
            yield _entry(f"Connection closed by invalid user admin {address} port 4711 [preauth]")
            if self.chance.random() < 0.03:
                yield _entry(f"NOTICE [sshd] Ban {address}", _SYSTEMD_UNIT="fail2ban.service")
                yield _entry(f"NOTICE [sshd] Unban {address}", _SYSTEMD_UNIT="fail2ban.service")
        if self.now % 7200 < _LOOK:
            yield _entry("Accepted publickey for er from 198.51.100.7 port 50000 ssh2: ED25519 SHA256:x")
            address = f"192.0.{self.chance.randrange(250)}.9"
            yield _entry(f"Accepted publickey for deploy from {address} port 50001 ssh2: ED25519 SHA256:y")

    def look(self, plant: Callable[[dict[str, Any]], object] | None = None) -> None:
        """One, with what was planted in it."""
        seen = self.seen()
        if plant:
            plant(seen)
        found, unknown, memory = rules.judge(seen, self.state["memory"])
        quiet = notices.quiet_until(list(self.quiet) if self.quiet else None, self.now) > 0
        new, told = ledger.step(self.state["ledger"], found, self.now, quiet=quiet, unknown=unknown)
        self.told += [(self.now, one) for one in told]
        # As it is on the disk between two looks.
        self.state = {"memory": memory, "ledger": new}
        if told or self.now % 1000 == 0:
            self.state = json.loads(json.dumps(self.state))
        self.now += _LOOK

    def lasts(self, seconds: int, plant: Callable[[dict[str, Any]], object] | None = None) -> None:
        for _ in range(0, seconds, _LOOK):
            self.look(plant)


def _sleeps_by_night(day: Day) -> Iterator[Callable[[dict[str, Any]], object] | None]:
    """What happens in a day of a host that is looked after: updates, a deploy, an apply, a backup, a reboot."""

    def deploy(seen: dict[str, Any]) -> None:
        seen["busy"] = ["shop"]
        seen["services"][3] |= {"up": False, "state": "activating"}
        seen["activity"] = [[seen["now"], seen["now"]]]

    def apply(seen: dict[str, Any]) -> None:
        seen["busy"] = ["proxy", *_STACKS]
        seen["activity"] = [[seen["now"], seen["now"]]]
        seen["changes"] = [_change("/etc/easyrunner/caddy/sites/shop.caddy", seen["now"])]

    def install(seen: dict[str, Any]) -> None:
        seen["installing"] = True
        _wrong("fail2ban", "it does not run")(seen)
        seen["activity"] = [[seen["now"], seen["now"]]]
        seen["changes"] = [_change("/etc/ssh/sshd_config.d/x.conf", seen["now"], "/usr/bin/dpkg")]

    def compare(seen: dict[str, Any]) -> None:
        seen["integrity"] = [{"path": "/usr/bin/curl", "how": "changed", "times": [_BEGIN + 3.5 * 3600 + 30]}]

    def one_look_down(seen: dict[str, Any]) -> None:
        seen["services"][1] |= {"up": False, "state": "activating"}

    def boots(seen: dict[str, Any]) -> None:
        seen["starting"], seen["activity"] = True, [[seen["now"] - 20, seen["now"]]]
        for one in seen["services"]:
            one |= {"up": False, "state": "inactive"}
        day.refused = seen["refused"] = dict.fromkeys(seen["refused"], 0)

    def waits(seen: dict[str, Any]) -> None:
        seen["checks"]["security updates"]["wrong"] = "2 security updates wait for the next night"

    at = {3.5: install, 5: compare, 9: deploy, 11: apply, 12: one_look_down, 14: boots, 18: waits}
    for second in range(0, _DAY, _LOOK):
        since = {plant: second - begin * 3600 for begin, plant in at.items()}
        yield next(
            (plant for plant, past in since.items() if 0 <= past < (120 if plant in (boots, install) else _LOOK)), None
        )


def _change(path: str, at: int, program: str = "/usr/bin/python3.13") -> dict[str, Any]:
    return {"at": at, "path": path, "program": program, "user": "root"}


def test_a_day_of_normal_traffic_tells_nothing() -> None:
    day = Day()
    for plant in _sleeps_by_night(day):
        day.look(plant)
    assert day.told == []
    assert day.now - _BEGIN == _DAY


def _wrong(name: str, text: str) -> Callable[[dict[str, Any]], None]:
    def plant(seen: dict[str, Any]) -> None:
        seen["checks"][name]["wrong"] = text

    return plant


def _service(number: int, state: str) -> Callable[[dict[str, Any]], None]:
    def plant(seen: dict[str, Any]) -> None:
        seen["services"][number] |= {"up": False, "state": state}

    return plant


def _sets(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda seen: seen.update(values)


_FAILED: Final = "er-firewall.service, cron.service, firewall-unconfined.service"
# By the rule's key: what is planted, the stack, and words of the notice. Those last, and have an end that is told.
CONDITIONS: Final = {
    "stack": (_service(3, "failed"), "shop", "shop is down: web (failed)"),
    "data-disk": (_wrong("disk for data", "it was taken away"), "", "disk for data: it was taken away"),
    "firewall": (_wrong("firewall in force", "only SSH is open"), "", "firewall in force: only SSH is open"),
    "ssh": (_wrong("ssh by key only", "passwordauthentication is yes, not no"), "", "passwordauthentication is yes"),
    "password": (_wrong("no passwords", "these users have a password: er"), "", "have a password: er"),
    "fail2ban": (_wrong("fail2ban", "the jails sshd are missing"), "", "the jails sshd are missing"),
    "unit": (_wrong("system services", _FAILED), "", "the unit cron.service has failed"),
    "disk": (_wrong("room on the disk", "900 MiB of 20000 are left"), "", "900 MiB of 20000 are left"),
    "memory": (_sets(memory={"total": 2 << 30, "available": 9 << 20}), "", "9 MiB of 2048 are available"),
    "backup": (_wrong("backups", "shop: the repository is locked"), "", "backups: shop: the repository is locked"),
    "drill": (_wrong("restores tried", "shop: the dump does not load"), "", "shop: the dump does not load"),
    "certificate": (_wrong("certificates", "shop.example.com (9 days)"), "", "shop.example.com (9 days)"),
    "reboot": (_sets(reboot=True), "", "updates are installed that need a reboot"),
    "update": (_sets(lists_at=_BEGIN - 9 * _DAY), "", "not looked for in 9 days"),
}  # fmt: skip


@pytest.mark.parametrize("key", CONDITIONS)
def test_what_is_wrong_is_told_once_and_its_end_once(key: str) -> None:
    plant, stack, words = CONDITIONS[key]
    day = Day()
    day.lasts(3600)
    begun = day.now
    day.lasts(3 * 3600, plant)
    ((at, one),) = day.told
    assert at - begun < 60
    assert (one.kind, one.key, one.stack) == (WRONG, key, stack)
    assert words in one.title
    assert re.search(r"er server \w+ web1", one.text)
    day.lasts(3600)
    _, (_, end) = day.told
    assert (end.kind, end.key, end.stack) == (RESOLVED, key, stack)
    assert end.text == "it lasted 3 h"


def _with(**lists: Any) -> Callable[[dict[str, Any]], None]:
    def plant(seen: dict[str, Any]) -> None:
        seen.update(lists)

    return plant


_NEW: Final = {"port": 4444, "protocol": "tcp", "program": "nc"}
_LOGIN: Final = {"user": "er", "address": "192.0.2.66", "key": "ED25519 SHA256:stolen"}
# Those have happened: how many looks see them, and what is told.
EVENTS: Final = {
    "egress": (_with(refused={"proxy": 0, "blog": 0, "shop": 90_000}), 1, "shop", "shop was refused"),
    "killed": (_with(killed={"blog": 3, "shop": 5}), 1, "shop", "2 of its processes ended by the kernel"),
    "bans": (_with(bans=["203.0.113.9"] * 60), 1, "", "has banned"),
    "listener": (_with(listeners=[_NEW]), 2, "", "a new listener: nc on port 4444/tcp"),
    "login": (_with(logins=[_LOGIN]), 1, "", "er has logged in from 192.0.2.66, where nobody has before"),
    "changed": (_with(changes=[_change("/etc/sudoers.d/x", _BEGIN + 3600, "/usr/bin/tee")]), 1, "", "by /usr/bin/tee"),
    "program": (_with(programs=[{"stack": "blog", "path": "/tmp/x", "ran": False}]), 1, "blog", "tried to run /tmp/x"),
}  # fmt: skip


@pytest.mark.parametrize("key", EVENTS)
def test_what_has_happened_is_told_once(key: str) -> None:
    plant, looks, stack, words = EVENTS[key]
    day = Day()
    day.lasts(3600)
    begun = day.now
    day.lasts(looks * _LOOK, plant)
    day.lasts(600)
    ((at, one),) = day.told
    assert at - begun < 60
    assert (one.kind, one.key, one.stack) == (HAPPENED, key, stack)
    assert words in one.title
    assert re.search(r"er server [\w-]+ web1", one.text)


def test_a_service_that_restarts_for_ever_is_told_once() -> None:
    """It is seen up as often as down."""
    day = Day()
    day.lasts(600)

    def crash(seen: dict[str, Any]) -> None:
        day.restarts["blog/web"] = day.restarts.get("blog/web", 0) + 2
        seen["services"][1] |= {"up": day.now % 40 == 0, "restarts": day.restarts["blog/web"], "state": "activating"}

    begun = day.now
    day.lasts(3600, crash)
    ((at, one),) = day.told
    assert at - begun < 60
    assert (one.key, one.stack) == ("stack", "blog")


def test_each_rule_speaks_for_itself() -> None:
    """A stack that a full disk has stopped is no second notice; nor all that does not run without its data."""
    day = Day()

    def full(seen: dict[str, Any]) -> None:
        seen["filled"] = ["shop"]
        _service(3, "inactive")(seen)
        _wrong("room on the disk", "shop was stopped, as it holds most of it")(seen)

    day.lasts(600, full)
    assert [one.key for _, one in day.told] == ["disk"]
    day = Day()

    def gone(seen: dict[str, Any]) -> None:
        for number in range(len(_SERVICES)):
            _service(number, "inactive")(seen)
        for name in ("disk for data", "fail2ban", "backups", "certificates"):
            _wrong(name, "not there")(seen)

    day.lasts(600, gone)
    assert [one.key for _, one in day.told] == ["data-disk"]


def test_a_lockdown_is_one_notice() -> None:
    day = Day()

    def lockdown(seen: dict[str, Any]) -> None:
        _wrong("firewall in force", "only SSH is open")(seen)
        _wrong("firewall complete", "iptables: -A INPUT -j ER-INPUT is missing")(seen)

    day.lasts(600, lockdown)
    assert [one.title for _, one in day.told] == ["firewall in force: only SSH is open"]


def test_a_boot_and_an_apply_are_no_end_of_what_was_told() -> None:
    day = Day()
    day.lasts(600, _service(3, "failed"))

    def changed(seen: dict[str, Any]) -> None:
        seen["busy"] = ["proxy", *_STACKS]

    def boots(seen: dict[str, Any]) -> None:
        seen["starting"] = True

    day.lasts(300, changed)
    day.lasts(300, boots)
    day.lasts(300, _service(3, "failed"))
    assert [one.kind for _, one in day.told] == [WRONG]


def test_the_quiet_time_holds_back_what_can_wait() -> None:
    day = Day(quiet=("00:00", "07:00"))
    day.state["memory"] = {}
    day.lasts(3600, _wrong("certificates", "shop.example.com (9 days)"))
    assert day.told == []
    day.lasts(600, _service(3, "failed"))
    assert [one.key for _, one in day.told] == ["stack"]
    day = Day(quiet=("00:00", "07:00"))
    day.lasts(8 * 3600, _wrong("certificates", "shop.example.com (9 days)"))
    ((at, one),) = day.told
    assert (at - _BEGIN, one.key) == (7 * 3600, "certificate")


def test_what_comes_and_goes_is_not_told_each_time() -> None:
    day = Day()
    for _ in range(40):
        day.lasts(60, _wrong("fail2ban", "it sees nothing"))
        day.lasts(90)
    hours = (day.now - _BEGIN) / 3600
    assert len(day.told) <= 2 * 4 * hours
    assert [one.kind for _, one in day.told[:3]] == [WRONG, RESOLVED, WRONG]


def test_events_are_grouped_and_bounded() -> None:
    """A scan of logins from everywhere, each new: few notices, and how many were not told is said."""
    day = Day()
    day.look()
    for number in range(200):
        logins = [{"user": "er", "address": f"10.{number}.{one}.1", "key": ""} for one in range(15)]
        day.look(_with(logins=logins))
    assert len(day.told) == 6
    assert day.told[0][1].title.endswith("and 14 more")
    assert len(day.told[0][1].text.splitlines()) == 12
    day.lasts(7 * 3600)
    day.look(_with(logins=[{"user": "er", "address": "11.0.0.1", "key": ""}]))
    assert "more in the hours before, which were not told" in day.told[-1][1].text


def test_a_steady_refusal_is_told_once() -> None:
    """An app that asks for a port that it must not have, again and again, for a day."""
    day = Day()

    def asks(seen: dict[str, Any]) -> None:
        day.refused["shop"] += 30
        seen["refused"]["shop"] = day.refused["shop"]

    day.lasts(_DAY, asks)
    assert [one.key for _, one in day.told] == ["egress"]


def test_logins_of_before_are_known() -> None:
    day = Day()
    day.look(_with(logins=[_LOGIN]))
    day.look(_with(logins=[{**_LOGIN, "address": "192.0.2.7"}]))
    assert day.told == []
    day.look(_with(logins=[{**_LOGIN, "user": facts.DEPLOY_LOGIN, "address": "10.9.9.9"}]))
    assert day.told == []


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.66", "192.0.2.0/24"), ("2001:db8:1:2ff::9", "2001:db8:1:200::/56"), ("fe80::1%eth0", "fe80::/56"),
    ("UNKNOWN", ""),
])  # fmt: skip
def test_an_address_counts_by_its_network(address: str, network: str) -> None:
    assert rules.network_of(address) == network


@pytest.mark.parametrize(("at", "quiet"), [(21.9, 0), (22, 9 * 3600), (2, 5 * 3600), (7, 0)])
def test_quiet_over_midnight(at: float, quiet: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    now = int(_BEGIN + at * 3600)
    assert notices.quiet_until(["22:00", "07:00"], now) == (now + quiet if quiet else 0)


# ---- the audit system


AUDIT: Final = """\
type=SYSCALL msg=audit(1700000000.123:77): arch=c000003e syscall=59 success=no exit=-13 ppid=2 pid=3 auid=4294967295 \
uid=32994 gid=32994 comm="python3" exe="/usr/bin/python3.13" subj=unconfined key="er-exec"\x1dARCH=x86_64 UID="er-blog"
type=CWD msg=audit(1700000000.123:77): cwd="/srv"
type=PATH msg=audit(1700000000.123:77): item=0 name=2F746D702F0A78 inode=5 dev=00:3b mode=0100755 ouid=0 nametype=NORMAL
type=SYSCALL msg=audit(1700000000.500:78): arch=c000003e syscall=59 success=no exit=-13 uid=32994 auid=4294967295 \
comm="sh" exe="/bin/sh" key="er-exec"
type=PATH msg=audit(1700000000.500:78): item=0 name="/etc/readme" inode=6 mode=0100644 nametype=NORMAL
type=SYSCALL msg=audit(1700000001.000:79): arch=c000003e syscall=59 success=yes exit=0 uid=850458000 auid=4294967295 \
comm="hook" exe="/data/hook" key="er-exec-data"
type=CWD msg=audit(1700000001.000:79): cwd="/data"
type=PATH msg=audit(1700000001.000:79): item=0 name="./hook" inode=7 mode=0100755 nametype=NORMAL
type=SYSCALL msg=audit(1700000002.000:80): arch=c000003e syscall=257 success=yes exit=3 uid=0 auid=1000 comm="tee" \
exe="/usr/bin/tee" key="sudo"
type=CWD msg=audit(1700000002.000:80): cwd="/etc"
type=PATH msg=audit(1700000002.000:80): item=0 name="sudoers.d/" inode=8 mode=040750 nametype=PARENT
type=PATH msg=audit(1700000002.000:80): item=1 name="sudoers.d/evil" inode=9 mode=0100644 nametype=CREATE
type=USER_LOGIN msg=audit(1700000003.000:81): pid=1 uid=0 auid=1000 msg='op=login key="sudo" exe="/usr/sbin/sshd"'
"""


def test_records_of_the_audit_system() -> None:
    events = [*audit_log.events(AUDIT)]
    assert [*audit_log.programs(events)] == [
        {"at": 1_700_000_000, "uid": 32994, "path": "/tmp/\nx", "ran": False},
        {"at": 1_700_000_001, "uid": 850_458_000, "path": "/data/hook", "ran": True},
    ]
    assert [*audit_log.changes(events)] == [
        {"at": 1_700_000_002, "path": "/etc/sudoers.d/evil", "program": "/usr/bin/tee", "uid": 0, "auid": 1000}
    ]


def test_a_program_of_a_container_is_its_stacks() -> None:
    assert watch.owner(32994) == 32994
    first = (32994 - facts.UID_BASE) * facts.SUBID_SIZE
    assert watch.owner(first + 999) == 32994


def test_allowed_programs_are_not_told() -> None:
    day = Day()
    day.look(_with(programs=[{"stack": "forge", "path": "/data/hook", "ran": True}]))
    assert day.told == []
    day.look(_with(programs=[{"stack": "blog", "path": "/data/hook", "ran": True}]))
    assert "allow_exec: [blog]" in day.told[0][1].text


REPORT: Final = """\
AIDE found differences between database and filesystem!!
Added entries:
f+++++++++++++++++: /usr/local/bin/evil
Removed entries:
f-----------------: /etc/gone
Changed entries:
f > ...    .H   : /etc/passwd
"""


def test_a_report_of_aide() -> None:
    found = dict(audit_log.compared(REPORT.splitlines()))
    assert found == {"/usr/local/bin/evil": "added", "/etc/gone": "removed", "/etc/passwd": "changed"}


# ---- the queue


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in place of the host's, with a spec that tells a webhook and by mail."""
    for name, path in (("DIRECTORY", "."), ("QUEUE", "queue"), ("_DROPPED", "dropped"), ("_TOLD", "told.json")):
        monkeypatch.setattr(notices, name, tmp_path / path)
    settings = {"webhook": "auto", "email": {"to": ["a@b.example"]}, "heartbeat": False}
    monkeypatch.setattr(notices, "settings", lambda: settings)
    monkeypatch.setattr(notices, "OWNER", None)
    return tmp_path


def test_a_notice_is_queued_once_and_printable(queue: Path) -> None:
    for _ in range(3):
        notices.tell("update", "shop was \x1b[31mtaken\u202e back\nnow", "a\x00b\n" * 900, stack="shop")
    ((path, one),) = notices.queued()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (queue / "queue").stat().st_mode & 0o777 == 0o700
    assert one.title == "shop was ?[31mtaken? back now"
    assert one.left == ("webhook", "email")
    assert len(one.text) == 2000
    assert one.text.isprintable() or set(one.text) - {"\n"} <= set("a?b…")


def test_the_queue_is_bounded_and_says_so(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "MOST", 5)
    for number in range(9):
        notices.tell("update", f"number {number}", "x")
    assert [one.title for _, one in notices.queued()] == [f"number {number}" for number in range(5)]
    assert notices.dropped() == 4
    monkeypatch.setattr(notices, "MOST", 50)
    monkeypatch.setattr(common, "server_env", dict)
    notices.tell_dropped()
    assert [one.title for _, one in notices.queued()][5:] == ["4 notices are lost: 50 others waited"]
    assert notices.dropped() == 0


def test_a_host_without_notices_is_told_nothing(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "settings", lambda: None)
    notices.tell("update", "x", "y")
    assert [*queue.iterdir()] == []


def test_a_damaged_file_is_no_notice(queue: Path) -> None:
    notices.tell("update", "x", "y")
    (queue / "queue" / "0.json").write_text("{")
    assert [one.title for _, one in notices.queued()] == ["x"]


BATCH: Final = (
    notices.Notice("stack", "shop is down: web <!channel>", "er server logs web1 shop says why", "shop", WRONG, 9, ()),
    notices.Notice("reboot", "für später", "er server doctor web1", "", WRONG, 9, ()),
)


def test_forms_of_a_webhook() -> None:
    """As receivers take them: Slack's own markup is none, ntfy's headers are ASCII."""
    body, headers = send.FORMS["json"]("web1", BATCH)
    found = json.loads(body)
    assert found["title"] == "web1: shop is down: web <!channel>, and 1 more"
    assert [one["stack"] for one in found["notices"]] == ["shop", ""]
    body, _ = send.FORMS["slack"]("web1", BATCH)
    assert json.loads(body).keys() == {"text"}
    assert "&lt;!channel&gt;" in json.loads(body)["text"]
    body, headers = send.FORMS["ntfy"]("web1", BATCH[1:])
    assert headers["Title"] == "=?UTF-8?B?d2ViMTogZsO8ciBzcMOkdGVy?="
    assert body.decode().startswith("web1: für später\n")


# ---- the host


def test_only_a_host_that_tells_has_what_it_takes() -> None:
    plain = {file.path: file for file in host.build(spec_of(more=STACK)).files}
    files = {file.path: file for file in host.build(spec_of(more=STACK + "notify: {webhook: true}")).files}
    assert files.keys() - plain.keys() == {
        facts.NOTIFY,
        f"{facts.ETC}/notify.rules",
        "/etc/systemd/system/er-notify.path",
        "/etc/systemd/system/er-notify.service",
        "/etc/systemd/system/er-notify-watch.service",
        "/etc/systemd/system/er-first-boot.service.d/60-notify.conf",
    }
    assert {path: files[path].content for path in plain} == {path: file.content for path, file in plain.items()}
    assert files[facts.NOTIFY].mode == "0600"
    assert json.loads(files[facts.NOTIFY].content)["secrets"] == ["notify-webhook"]
    assert all("http" not in file.content.decode() for path, file in files.items() if "notify" in path)


def test_the_docs_have_every_rule() -> None:
    page = (ROOT / "docs/notify.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)
    keys = {row.key for row in rules.CHECKS.values()} | {*CONDITIONS, *EVENTS}
    assert sorted(rows) == sorted(keys)


def test_a_finding_that_cannot_be_looked_at_is_not_over() -> None:
    found = [Finding("clock", "x", "y")]
    first, _ = ledger.step(ledger.empty(), found, 0, quiet=False)
    later, told = ledger.step(first, [], 9999, quiet=False, unknown={"clock"})
    assert told == []
    assert later["open"]


# ---- what a look believes


_CAME: Final = "Accepted publickey for er from 192.0.2.66 port 4711 ssh2: ED25519 SHA256:abc"


def test_only_roots_own_units_are_believed() -> None:
    """A stack's words, whatever they are and whatever they claim, come with its own number or unit."""
    assert [*watch.logins([_entry(_CAME)])] == [{"user": "er", "address": "192.0.2.66", "key": "ED25519 SHA256:abc"}]
    forged = [
        _entry(_CAME, _UID="32994"),
        _entry(_CAME, _SYSTEMD_UNIT="user@32994.service"),
        _entry(f"Failed password for {_CAME}"),
        _entry("Invalid user Accepted publickey for er from 192.0.2.66 port 1 ssh2"),
    ]
    assert [*watch.logins(forged)] == []
    ban = _entry("NOTICE [sshd] Ban 192.0.2.9", _SYSTEMD_UNIT="fail2ban.service")
    assert [*watch.bans([ban, {**ban, "_UID": "1000"}, _entry("NOTICE [sshd] Restore Ban 192.0.2.9")])] == ["192.0.2.9"]


def test_the_audit_log_is_read_once_also_when_it_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "audit.log"
    monkeypatch.setattr(watch, "AUDIT_LOG", log)
    log.write_text("old\n")
    state: dict[str, Any] = {"audit": [0, 0]}
    assert watch.audit(state) == ""
    with log.open("a") as file:
        file.write("one\ntw")
    assert watch.audit(state) == "one\n"
    with log.open("a") as file:
        file.write("o\nthree\n")
    log.rename(tmp_path / "audit.log.1")
    log.write_text("four\n")
    assert watch.audit(state) == "two\nthree\nfour\n"
    assert watch.audit(state) == ""


def test_secrets_are_known_while_their_disk_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is one of the things to tell. A host without such a disk keeps no copy."""
    disk: dict[str, str] | None = None
    there = {"notify-webhook": b"https://hooks.example.org/x\n"}
    monkeypatch.setattr(send, "KEPT", tmp_path / "secrets")
    monkeypatch.setattr(notices, "OWNER", None)
    monkeypatch.setattr(common, "data_disk", lambda: disk)
    monkeypatch.setattr(host_secrets, "read", there.__getitem__)
    assert send.secret("notify-webhook") == "https://hooks.example.org/x"
    assert [*tmp_path.iterdir()] == []
    disk = {"device": "/dev/vdb", "said": ""}
    send.secret("notify-webhook")
    disk = {"device": "", "said": "it was taken away"}
    there.clear()
    assert send.secret("notify-webhook") == "https://hooks.example.org/x"
    assert (tmp_path / "secrets/notify-webhook").stat().st_mode & 0o777 == 0o600
