"""Services that sleep, as systemd and the files beside their sockets say it; and what every command does about them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from builder.cli.server import status as shown
from builder.server.remote import (
    common,
    host_readiness,
    image_updates,
    readiness,
    release_record,
    report,
    secrets,
    services,
    session,
    sleepers,
    start_first,
)
from builder.server.remote.common import RemoteError
from builder.server.remote.notify import rules
from builder.server.remote.sleepers import Marks, Sleeper, Unit
from builder.server.report import outside_rows, promises

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_WEB, _DB = Unit("shop-web.service", is_public=True), Unit("shop-db.service", is_public=False)
_UNITS = {"web": _WEB, "db": _DB}
_SERVICES = [
    ("sleep", "web", "shop-web.service"),
    ("sleep", "db", "shop-db.service"),
    ("web", "api", "shop-api.service"),
    ("unit", "mail", "shop-mail.service"),
]


def _systemd(**changed: dict[str, str]) -> dict[str, dict[str, str]]:
    """A stack that is asleep, but for what has changed, by the kinds of units."""
    rest = {"ActiveState": "inactive", "Result": "success", "StopWhenUnneeded": "yes"}
    idle = {"ActiveState": "inactive", "Result": "success", "StopWhenUnneeded": "no"}
    units = {
        "web": ("shop-web.service", rest),
        "db": ("shop-db.service", rest),
        "socket": ("er-ingress-web.socket", {**idle, "ActiveState": "active"}),
        "ingress": ("er-ingress-web.service", idle),
    }
    return {name: {"Id": name, **found, **changed.get(kind, {})} for kind, (name, found) in units.items()}


_ACTIVE, _FAILED = {"ActiveState": "active"}, {"ActiveState": "failed", "Result": "exit-code"}

# What has changed, whose ingress has joined; then the states of web and of db.
_STATES: dict[str, tuple[dict[str, dict[str, str]], set[str], str, str]] = {
    "asleep": ({}, set(), "asleep", "asleep"),
    "awake": ({"web": _ACTIVE, "db": _ACTIVE, "ingress": _ACTIVE}, {"web"}, "up", "up"),
    "woken by a command": ({"web": _ACTIVE, "db": _ACTIVE}, set(), "up", "up"),
    "waking": ({"web": _ACTIVE, "db": _ACTIVE, "ingress": _ACTIVE}, set(), "waking", "up"),
    "starting": ({"web": {"ActiveState": "activating"}, "ingress": _ACTIVE}, set(), "waking", "asleep"),
    "tried again": ({"db": {"ActiveState": "activating", "Result": "exit-code"}}, set(), "asleep", "down"),
    "crashed": ({"web": _FAILED}, set(), "down", "asleep"),
    "never in time": ({"ingress": _FAILED}, set(), "down", "asleep"),
    "again in time": ({"web": _ACTIVE, "ingress": {**_ACTIVE, "Result": "success"}}, {"web"}, "up", "asleep"),
    "stopped by the admin": ({"socket": {"ActiveState": "inactive"}}, set(), "down", "down"),
    "its socket has failed": ({"socket": _FAILED}, set(), "down", "down"),
    "not read yet": ({"web": {"StopWhenUnneeded": "no"}}, set(), "down", "asleep"),
}  # fmt: skip


def _word(one: Sleeper) -> str:
    assert not (one.is_asleep and not one.is_up)
    return "asleep" if one.is_asleep else "waking" if one.is_waking else "up" if one.is_up else "down"


@pytest.mark.parametrize("case", _STATES)
def test_who_is_asleep_and_who_is_down(case: str) -> None:
    changed, joined, web, db = _STATES[case]
    found = sleepers.judge(_UNITS, _systemd(**changed), Marks({"web": 7}, {"web": 3}, frozenset(joined)))
    assert {name: _word(one) for name, one in found.items()} == {"web": web, "db": db}
    assert found["web"].since == (7 if web == "asleep" else None)
    assert found["web"].woken == 3


def test_a_unit_that_systemd_does_not_know_is_down() -> None:
    assert not any(one.is_up for one in sleepers.judge(_UNITS, {}, Marks({}, {})).values())


def test_who_is_asleep_is_so_since_its_unit_stopped() -> None:
    at = time.clock_gettime(time.CLOCK_MONOTONIC) - 60
    found = _systemd(db={"InactiveEnterTimestampMonotonic": str(int(at * 1e6))})
    for marks in (Marks({}, {}), Marks({"db": 7}, {})):  # the second was woken by a command since
        since = sleepers.judge(_UNITS, found, marks)["db"].since
        assert since is not None
        assert abs(time.time() - 60 - since) < 5


def test_the_files_beside_a_socket_are_the_stacks_and_may_be_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "shop"
    place.mkdir()
    (tmp_path / "secret").write_text("42")
    (place / "web.asleep").touch()
    os.utime(place / "web.asleep", (5, 5))
    (place / "web.woken").write_text("12\n")
    (place / "link.woken").symlink_to(tmp_path / "secret")
    os.mkfifo(place / "pipe.woken")
    (place / "text.woken").write_text("many")
    (place / "long.woken").write_text("9" * 100_000)
    (place / "directory.woken").mkdir()
    monkeypatch.setattr("builder.facts.PROXY_SOCKETS", str(tmp_path))
    names = ("web", "link", "pipe", "text", "directory", "none")
    assert Marks.of_stack("shop", names) == Marks({"web": 5}, {"web": 12})
    assert len(str(Marks.of_stack("shop", ["long"]).woken["long"])) == 20


class Host:
    """A stack `shop` whose sleepers are as `changed` says; notes the commands of its user."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changed: dict[str, str]) -> None:
        self.ran: list[list[str]] = []
        self.shown = _systemd(**changed)
        monkeypatch.setattr(common, "stacks", lambda: ["shop"])
        monkeypatch.setattr(common, "services", lambda _: iter(_SERVICES))
        monkeypatch.setattr(sleepers, "units_of", lambda stack: _UNITS if stack == "shop" else {})
        monkeypatch.setattr(common, "as_user", self.as_user)
        monkeypatch.setattr(common, "show", lambda *_, **__: {"LoadState": "loaded", "ActiveState": "active"})

    def as_user(self, _: str, argv: Sequence[str], **__: object) -> str:
        if "show" in argv:
            up = {"ActiveState": "active", "Result": "success"}
            every = {
                **self.shown,
                **{f"shop-{one}.service": {"Id": f"shop-{one}.service", **up} for one in ("api", "mail")},
            }
            named = [every[word] for word in argv if word in every]
            return "\n\n".join("\n".join(f"{key}={value}" for key, value in one.items()) for one in named)
        self.ran.append([word for word in argv if word not in {"systemctl", "--user", "--no-block"}])
        return ""

    def said(self, verb: str) -> list[str]:
        """The units that were told this."""
        return [unit for first, *units in self.ran for unit in units if first == verb]


def test_one_question_a_stack_says_all(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, db=_FAILED)
    asked = []

    def as_user(user: str, argv: Sequence[str], **more: object) -> str:
        asked.append(user)
        return host.as_user(user, argv, **more)

    monkeypatch.setattr(common, "as_user", as_user)
    found = {one.where: (one.state, one.is_up) for one in services.states()}
    assert found == {
        "proxy": ("unknown", False),
        "shop/web": ("asleep", True),
        "shop/db": ("failed", False),
        "shop/api": ("active", True),
        "shop/mail": ("active", True),
    }
    assert asked == ["er-proxy", "er-shop"]


def test_a_wake_that_failed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch, ingress={**_FAILED, "Result": "timeout"})
    assert {one.where: one.state for one in services.down()}["shop/web"] == "its wake failed: timeout"


_AWAKE = {"web": _ACTIVE, "db": _ACTIVE, "ingress": _ACTIVE}


@pytest.mark.parametrize(
    ("action", "changed", "told"),
    [
        ("restart", {}, ["shop-api.service", "shop-mail.service"]),
        ("restart", _AWAKE, [f"shop-{name}.service" for name in ("web", "db", "api", "mail")]),
        ("start", {}, ["shop-api.service", "shop-mail.service"]),
        ("stop", {}, [f"shop-{name}.service" for name in ("web", "db", "api", "mail")]),
    ],
)
def test_who_is_asleep_is_not_started_by_hand(
    monkeypatch: pytest.MonkeyPatch, action: str, changed: dict[str, dict[str, str]], told: list[str]
) -> None:
    host = Host(monkeypatch, **changed)
    services.act(action, "shop", ["web", "db", "api", "mail"])
    assert [unit for unit in host.said(action) if not unit.endswith(".socket")] == told
    assert "er-ingress-web.socket" in host.said("stop" if action == "stop" else "start")


def test_who_is_asleep_counts_as_running_when_a_stack_stops_for_its_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch)
    assert services.running("shop") == ["web", "db", "api", "mail"]


@pytest.mark.parametrize(
    ("changed", "restarted", "forgotten"),
    [
        ({}, [], True),
        (_AWAKE, ["shop-web.service", "shop-db.service"], False),
        ({"web": _FAILED}, [], True),
    ],
)
def test_a_changed_unit_of_who_is_asleep_is_read_when_it_wakes(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, dict[str, str]], restarted: list[str], forgotten: bool
) -> None:
    host = Host(monkeypatch, **changed)
    start_first.restart("shop", ["web", "db"])
    assert host.said("restart") == restarted
    assert host.said("start") == ["er-ingress-web.socket"]
    assert ("er-ingress-web.service" in host.said("reset-failed")) == forgotten


def test_its_socket_is_never_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    for changed in ({}, _AWAKE, {"web": _FAILED}):
        host = Host(monkeypatch, **changed)
        start_first.restart("shop", ["web", "db", "api"])
        assert not [unit for unit in host.said("restart") if unit.endswith(".socket")]


def test_no_next_container_of_who_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch, **_AWAKE)
    monkeypatch.setattr(secrets, "missing", lambda _: {})
    monkeypatch.setattr(start_first, "_text", lambda *_: "")
    chosen, reasons = start_first._choose({"shop": ["web"]})
    assert (chosen, [*reasons]) == ([], ["shop/web"])
    Host(monkeypatch)
    assert start_first._choose({"shop": ["web"]}) == ([], {})  # nobody has waited


def test_a_secret_restarts_nobody_who_is_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    monkeypatch.setattr(secrets, "_needed", lambda _: {"token": ["web", "mail"]})
    monkeypatch.setattr(common, "look_again", lambda: None)
    assert secrets._restart("shop", "er-shop", ["token"]) == {"restarted": ["mail"], "asleep": ["web"]}
    assert host.said("restart") == ["shop-mail.service"]


def test_only_what_has_changed_is_tried_and_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {stack: [("sleep", f"s{number}", f"{stack}-s{number}.service") for number in range(3)] for stack in "abcd"}
    monkeypatch.setattr(common, "stacks", lambda: [*every])
    monkeypatch.setattr(common, "services", lambda stack: iter(every[stack]))
    monkeypatch.setattr(common, "uids", lambda stacks: dict.fromkeys(stacks, 33_000))
    monkeypatch.setattr("builder.server.remote.images.first_images.each", lambda: {"b": ["s2"]})
    monkeypatch.setattr(host_readiness, "_waiting_for_secrets", lambda: {"c": ["token"]})
    monkeypatch.setattr(host_readiness, "waiting_for_logins", set)
    tried: list[list[str]] = []
    monkeypatch.setattr(readiness, "wait", lambda parts, _: tried.append([one.where for one in parts]))
    host_readiness.try_sleepers({"a": {"s1", "other"}, "b": None, "c": None, "d": None, "gone": None}, 5, ["d"])
    assert [sorted(one) for one in tried] == [["a/s1", "b/s0", "b/s1"]]
    tried.clear()
    host_readiness.try_sleepers({"a": None, "b": None}, 5, [])
    assert [len(one) for one in tried] == [4, 1]


def test_where_nothing_sleeps_nothing_more_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "stacks", lambda: ["a"])
    monkeypatch.setattr(common, "services", lambda _: iter([("web", "web", "a-web.service")]))
    host_readiness.try_sleepers({"a": None}, 5, [])
    assert sleepers.of_stack("a") == {}
    with sleepers.awake("a", ["web"]) as held:
        assert held == []
    assert sleepers.wake("a", ["web"], 60) == []


def test_what_would_run_counts_as_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch)
    image = release_record.Image("id-of-web", ("localhost/er/web:1",), "sha256:1", 0)
    monkeypatch.setattr(release_record, "store", lambda _: [image])
    monkeypatch.setattr(release_record, "_asked", lambda _, service: f"localhost/er/{service}:1")
    assert release_record.running("shop") == {"web": "id-of-web"}


def test_an_update_that_does_not_stay_up_is_taken_back_also_of_who_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held:
        def __enter__(self) -> list[str]:
            return ["web"]

        def __exit__(self, *_: object) -> None: ...

    def fails(*_: object) -> None:
        raise RemoteError("not ready: shop/web")

    monkeypatch.setattr(sleepers, "awake", lambda *_: Held())
    monkeypatch.setattr(readiness, "wait_for", fails)
    assert image_updates._falls("shop", "web", 1) == "not ready: shop/web"


def _request(action: str, service: str) -> session.Request:
    return session.Request(action, "shop", service, [], {}, "", "", tty=False)


def test_a_command_keeps_awake_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch)
    web, mail = (session.Unit(f"shop-{name}.service", [], "", {}) for name in ("web", "mail"))
    assert session._needed(_request("exec", "web"), "er-shop", web) == {"web": "shop-web.service"}
    assert session._needed(_request("exec", "mail"), "er-shop", mail) == {}
    monkeypatch.setattr(common, "show", lambda *_, **__: {"Requires": "shop-db.service x.slice", "Wants": ""})
    assert session._needed(_request("run", "web"), "er-shop", web) == {"db": "shop-db.service"}
    words = session.scope_argv(_request("exec", "web"), web, "1", ["shop-web.service"])
    assert [word for word in words if word.startswith("--property=")] == [
        "--property=Wants=shop-web.service",
        "--property=After=shop-web.service",
    ]


def test_a_command_wakes_nobody_whom_the_admin_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch, socket={"ActiveState": "inactive"})
    web = session.Unit("shop-web.service", [], "", {})
    assert session._needed(_request("exec", "web"), "er-shop", web) == {}


@pytest.mark.parametrize(
    ("local", "reached"),
    [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("*:80", "127.0.0.1:80"),
        ("[::]:80", "[::1]:80"),
        ("10.1.2.3%eth0:80", "10.1.2.3:80"),
        ("127.0.0.1:80", "127.0.0.1:80"),
    ],
)
def test_an_app_is_asked_where_it_listens(local: str, reached: str) -> None:
    assert readiness.reached(local) == reached


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("/usr/lib/easyrunner/wake %t/shop-web.pid 3000 %p shop-web.service 900 60", "3000"),
        ("/usr/lib/easyrunner/wake %t/shop-web.pid %t/er-listen-web.sock %p shop-web.service 900 60", "SOCKET"),
        ("", ""),
    ],
)
def test_an_app_is_asked_behind_its_ingress(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, target: str
) -> None:
    uid = os.getuid()
    monkeypatch.setattr("builder.facts.ETC", str(tmp_path))
    monkeypatch.setattr(common, "uid", lambda _: uid)
    unit = tmp_path / f"units/{uid}/er-ingress-web.service"
    unit.parent.mkdir(parents=True)
    if line:
        unit.write_text(f"[Service]\nExecStart={line}\n")
    assert readiness.ingress_target("shop", "web") == target.replace("SOCKET", f"/run/user/{uid}/er-listen-web.sock")


# ---- what is said


def _row(**sleep: Any) -> dict[str, Any]:
    sleep = {"asleep": False, "since": None, "woken": None, "failed": "", **sleep}
    unit = {"state": "inactive" if sleep["asleep"] else "active", "detail": "running", "result": "success"}
    return {**unit, "service": "web", "sleep": sleep}


def test_status_says_since_when_and_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 1_796_048_000.0)
    assert shown._state(_row(asleep=True, since=1_796_047_320, woken=3)) == "asleep since 14:02, woken 3 times"
    assert (
        shown._state(_row(asleep=True, since=1_795_788_120, woken=1)) == "asleep since 2026-11-27 14:02, woken 1 time"
    )
    assert shown._state(_row(asleep=True)) == "asleep"
    assert shown._state(_row(woken=96)) == "active (running), woken 96 times"
    assert shown._state({**_row(), "sleep": None}) == "active (running)"


def test_status_says_which_wake_failed() -> None:
    found = {"proxy": _row(), "stacks": [{"stack": "shop", "services": [_row(failed="exit-code")]}]}
    assert [*shown._failed(found)] == [
        "shop/web was not awake in time for its last visitor (exit-code); see er server logs"
    ]


_CADDY = """\
a.example.org, www.example.org {
	import er_app shop/api
}
b.example.org {
	import er_site
	handle {
		import er_route shop/web unix 1GiB
	}
	handle {
		import er_route shop/api unix 1GiB
	}
}
c.example.org {
	import er_moved b.example.org
}
"""


def test_a_report_asks_nothing_at_the_names_of_who_sleeps() -> None:
    assert report.names_of(_CADDY, "shop", {"web": 1}) == {"b.example.org"}
    assert report.names_of(_CADDY, "shop", {}) == set()
    assert report.names_of(_CADDY, "other", {"web": 1}) == set()


def test_a_site_that_was_not_woken_is_no_fault() -> None:
    certificate = {"issuer": "R11", "until": 2_000_000_000, "refusal": ""}
    site = {
        "domain": "b.example.org",
        "address": "198.51.100.7",
        "plain": {"status": 308, "location": "https://b.example.org/"},
        "secure": {"version": "TLSv1.3", "certificate": certificate, "sleeps": True},
    }
    found = {"tried": [], "ports": {}, "sites": [site], "versions": {}, "quic": {}}
    promised = promises.Promises({"b.example.org": "shop"}, ("shop",))
    rows = [row for section in outside_rows.sections(found, promised, 1_796_040_000) for row in section.rows]
    states = {row.what: row.state for row in rows if row.what.endswith("b.example.org/") or row.what == "b.example.org"}
    assert states.pop("http://b.example.org/") == "good"
    assert "bad" not in states.values()
    assert "was not asked" in next(row.seen for row in rows if row.what == "https://b.example.org/")


def _look(judge: Callable[..., Any], state: str, *, up: bool) -> Any:
    service = {"id": "shop/web", "stack": "shop", "service": "web", "state": state, "up": up, "restarts": 0}
    return judge([service])


def test_a_wake_is_no_end_of_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_conditions", lambda *_: [])
    monkeypatch.setattr(rules, "_tripwires", lambda *_: [])
    monkeypatch.setattr(rules, "_is_whole", lambda _: True)

    def unknown(found: list[dict[str, Any]]) -> set[str]:
        return rules.judge({"services": found, "busy": [], "filled": []}, {})[1]

    assert _look(unknown, "waking", up=True) == {"stack:shop:"}
    assert _look(unknown, "active", up=True) == set()
    assert _look(unknown, "its wake failed: timeout", up=False) == set()
