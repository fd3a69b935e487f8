"""Releases as values: the record, the file that overrides a unit, the locks, and how a client follows one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder.problems import UserError
from builder.server import releases
from builder.server.remote import common, locks, release_record, secrets
from builder.server.remote.common import RemoteError
from builder.server.remote.images import pushes, registries
from builder.server.remote.release_record import override, refreshed, unit_of, with_release
from builder.server.ssh import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_UNITS = Path(__file__).parents[1] / "golden" / "compose" / "mastodon-like" / "expected" / "ubuntu-24.04"


def _images(*ids: str) -> dict[str, Any]:
    return {f"service{number}": {"id": one} for number, one in enumerate(ids)}


def test_five_releases_are_kept() -> None:
    found: list[dict[str, Any]] = []
    for number in range(8):
        found = with_release(found, _images(str(number)), "push", "me")
    assert [(one["number"], one["images"]["service0"]["id"]) for one in found] == [
        (4, "3"), (5, "4"), (6, "5"), (7, "6"), (8, "7"),
    ]  # fmt: skip


def test_a_roll_back_takes_the_place_of_what_it_brings_back() -> None:
    """Going to and fro between two must not push out the other three."""
    found: list[dict[str, Any]] = []
    for number in range(5):
        found = with_release(found, _images(str(number), "same"), "push", "key")
    for _ in range(6):
        found = with_release(found, found[-2]["images"], "rollback", "me", found[-2])
    assert [one["images"]["service0"]["id"] for one in found] == ["0", "1", "2", "3", "4"]
    assert found[-1]["again"]["number"] == found[-1]["number"] - 2


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/20100/app-web.container.d/90-release.conf", "/20100/app-web.container"),
        ("/20100/app-web.container.d/10-mine.conf", None),
        ("/20100/app-web.container", None),
        ("/20100/../x.container.d/90-release.conf", None),
    ],
)
def test_a_release_is_known_by_its_path(path: str, unit: str | None) -> None:
    assert unit_of(f"{facts.QUADLETS}{path}") == (f"{facts.QUADLETS}{unit}" if unit else None)


def test_a_whole_unit_is_known_by_its_path() -> None:
    assert unit_of("/etc/easyrunner/releases/20100/app-web.container") == f"{facts.QUADLETS}/20100/app-web.container"


def test_before_podman_5_all_but_the_image_is_the_specs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And it is made anew when the unit changes."""
    monkeypatch.setattr(release_record, "_reads_drop_ins", lambda: False)
    unit = (_UNITS / "app-web.container").read_text()
    made = override(unit, "localhost/app/web:1").decode()
    assert set(unit.splitlines()) - set(made.splitlines()) == {"Image=ghcr.io/mastodon/mastodon:v4.4.3", "Pull=missing"}
    assert set(made.splitlines()) - set(unit.splitlines()) == {
        "Image=localhost/app/web:1", "Pull=never", "Label=io.containers.autoupdate=disabled",
    }  # fmt: skip
    # What stands last for a label counts: also where the Compose file has it.
    assert made.index("Label=io.containers.autoupdate=disabled") > made.rindex("PodmanArgs=")
    monkeypatch.setattr(facts, "QUADLETS", str(tmp_path))
    copy = tmp_path / "20100" / "app-web.container.d" / "90-release.conf"
    monkeypatch.setattr(release_record, "unit_of", lambda _: "unit")
    copy.parent.mkdir(parents=True)
    copy.write_text(made)
    assert refreshed([str(copy)], {"unit": unit.encode()}) == {}
    changed = unit.replace("DB_HOST=db", "DB_HOST=other")
    again = refreshed([str(copy)], {"unit": changed.encode()})[str(copy)].decode()
    assert again == made.replace("DB_HOST=db", "DB_HOST=other")


@pytest.fixture
def _locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(locks, "_DIRECTORY", tmp_path)


@pytest.mark.usefixtures("_locks")
def test_the_second_is_told_who_holds_the_lock() -> None:
    waited: list[str] = []
    with locks.stack("shop", "a push by ci"):
        with pytest.raises(locks.BusyError, match="shop is being changed: a push by ci, since") as busy:
            _take(locks.stack("shop", "another", 0.2, waited.append))
        assert waited == [busy.value.holder]
        _take(locks.stack("blog", "its own", 0))
        with pytest.raises(locks.BusyError, match="the server is being changed: a push by ci"):
            _take(locks.host("er server apply", 0))
    with locks.host("er server apply", 0), pytest.raises(locks.BusyError, match="er server apply, since"):
        _take(locks.stack("shop", "another", 0))
    _take(locks.stack("shop", "another", 0))


def _take(lock: AbstractContextManager[None]) -> None:
    """Hold it for a moment."""
    with lock:
        pass


@pytest.mark.usefixtures("_locks")
def test_a_lock_ends_with_an_error_inside() -> None:
    def fail() -> None:
        with locks.stack("shop", "a push", 0):
            raise RemoteError("no")

    with pytest.raises(RemoteError, match="no"):
        fail()
    _take(locks.stack("shop", "another", 0))


_CHANGES: dict[str, Callable[[], object]] = {
    "er server secret rm": lambda: secrets.secret_rm("shop", "key"),
    "er server registry logout": lambda: registries.registry_logout("ghcr.io"),
    "er server push": lambda: pushes.push_finish("shop", "web", "1"),
}


@pytest.mark.usefixtures("_locks")
@pytest.mark.parametrize("name", _CHANGES)
def test_who_changes_a_stack_waits_for_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """And has not looked at anything before its turn, nor changed it."""
    took, asked = locks.stack, list[object]()
    monkeypatch.setattr(locks, "stack", lambda stack, what, *_: took(stack, what, 0))
    monkeypatch.setattr(common, "stacks", lambda: ["shop"])
    monkeypatch.setattr(common, "gid", lambda _: os.getgid())
    monkeypatch.setattr(common, "as_user", lambda *words, **_: asked.append(words))
    monkeypatch.setattr(registries, "_usernames", lambda stack: {"ghcr.io": "me"} if stack == "shop" else {})
    monkeypatch.setattr(registries, "_forget", lambda *words: asked.append(words))
    monkeypatch.setattr(release_record, "services", lambda _: ["web"])
    monkeypatch.setattr(release_record, "repository", lambda *_: "localhost/shop/web")
    monkeypatch.setattr(pushes, "DIRECTORY", tmp_path / "pushes")
    with took("shop", "a release", 0), pytest.raises(locks.BusyError, match="shop is being changed: a release, since"):
        _CHANGES[name]()
    assert asked == []


class _Server:
    """Answers in turn; the words of each question are kept."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, ...]] = []
        self.stdin: list[bytes] = []

    def ask(self, verb: str, *words: str, stdin: Any = b"", timeout: float = 120, **_: Any) -> Any:
        self.asked.append((verb, *words))
        self.stdin.append(stdin)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def follow(self, verb: str, *words: str, phase: str) -> Iterator[dict[str, Any]]:
        while True:
            state = self.ask(verb, *words, phase)
            yield state
            phase = state["phase"]
            if phase == "done":
                return


def test_a_release_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a turn that somebody else has, a call that brought nothing new, and a connection that was lost."""
    monkeypatch.setattr(releases, "_PAUSE", 0.0)
    busy = {"phase": "waiting for its turn", "holder": "a push"}
    lost = UnreachableError("no answer")
    started, switching, done = {"phase": "started"}, {"phase": "switching"}, {"phase": "done"}
    server = _Server(busy, busy, started, started, lost, switching, done)
    states = list(releases.switch(server, "shop", {"web": "localhost/shop/web:1"}, source="push", by="me", timeout=9))
    assert states == [busy, started, switching, done]
    assert server.asked == [("release-start", "shop")] * 3 + [
        ("release-wait", "shop", "started"),
        ("release-wait", "shop", "started"),
        ("release-wait", "shop", "started"),
        ("release-wait", "shop", "switching"),
    ]
    sent = {"images": {"web": "localhost/shop/web:1"}, "source": "push", "by": "me", "timeout": 9}
    assert [json.loads(one) for one in server.stdin[:3]] == [sent] * 3


def test_who_waits_too_long_for_a_turn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "_TURN", 0.0)
    busy = {"phase": "waiting for its turn", "holder": "a push, since 10:00:00 UTC"}
    with pytest.raises(UserError, match="shop is still being changed: a push, since 10:00:00 UTC"):
        list(releases.roll_back(_Server(busy, busy), "shop"))
