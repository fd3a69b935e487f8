"""The proxy that takes patch releases by itself: the key of the spec, and what a night decides."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts, host, quadlet
from builder.server.remote import proxy_update
from builder.server.remote.changed_files import Change
from builder.server.remote.common import RemoteError
from builder.server.remote.images import images
from builder.server.remote.proxy_update import Settings
from builder.spec.model import ProxyUpdate
from tests.unit.test_spec import HEAD, errors, load

if TYPE_CHECKING:
    from pathlib import Path

_DAY = 86_400
_UNITS = ("easyrunner-update.service", "easyrunner-update.timer")


def test_the_proxy_stays_as_it_is_unless_the_spec_says_otherwise() -> None:
    assert load(HEAD).proxy.update is None
    assert load(HEAD + "update: {proxy: patch}\n").proxy.update == ProxyUpdate(3 * _DAY)
    assert load(HEAD + "update: {proxy: patch, min_age: 2w}\n").proxy.update == ProxyUpdate(14 * _DAY)
    assert errors(HEAD + "update: {proxy: minor}\n")[0].startswith("update.proxy: ")
    (archive,) = errors(HEAD + "proxy: {image: 'docker.io/library/caddy:2.11'}\nupdate: {proxy: patch}\n")
    assert "has no patch releases" in archive


def test_it_needs_a_podman_that_reads_drop_ins() -> None:
    ubuntu = HEAD.replace("server: {name: web1", "server: {name: web1, base: ubuntu-24.04")
    refused = "update.proxy: Podman of ubuntu-24.04 reads no drop-ins"
    assert errors(ubuntu + "update: {proxy: patch}\n")[-1].startswith(refused)
    assert {base: podman.drop_ins for base, podman in quadlet.BASES.items()} == {
        "debian-13": True,
        "ubuntu-24.04": False,
    }


def test_the_host_gets_the_timer_of_updates() -> None:
    found = {file.path: file.content for file in host.build(load(HEAD + "update: {proxy: patch}\n")).files}
    assert {f"/etc/systemd/system/{unit}" for unit in _UNITS} <= found.keys()
    assert json.loads(found[facts.UPDATES]) == {"proxy": {"min_age": 3 * _DAY}}


def test_patches_are_of_the_same_minor_version_and_form() -> None:
    offered = ("2.11.7", "2.11.9", "2.11.10", "2.12.0", "3.0.0", "2.11", "2.11.9-alpine", "v2.11.99", "latest")
    assert images.patch_tags("2.11.7", offered) == ["2.11.10", "2.11.9"]
    assert images.patch_tags("2.11.7-alpine", offered) == ["2.11.9-alpine"]
    assert images.patch_tags("2.11.10", offered) == []
    assert images.patch_tags("2.11", offered) == []


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A proxy that runs caddy:2.11.7; `offered` are releases with their digests, `fails` is how the next one does."""
    at = SimpleNamespace(now=1_000_000.0, runs="caddy:2.11.7", offered={}, fails=[], told=[], restarts=0)
    change = Change(tmp_path / "apply-proxy")
    before: list[str] = []

    def patches(image: str) -> list[str]:
        tags = images.patch_tags(image.partition("@")[0].partition(":")[2], at.offered)
        return [f"caddy:{tag}" for tag in tags]

    def install(pinned: str) -> None:
        before[:] = [at.runs]
        at.runs = pinned

    def restore(_: Change) -> None:
        at.runs = before[0]
        change.pending.unlink()

    def check(seconds: float = 60) -> None:
        if seconds and at.fails:
            raise RemoteError(at.fails.pop())

    def restart() -> None:
        at.restarts += 1

    monkeypatch.setattr(facts, "UPDATED", str(tmp_path))
    monkeypatch.setattr(proxy_update, "CHANGE", change)
    monkeypatch.setattr("builder.server.remote.changed_files.write", lambda path, content: path.write_bytes(content))
    monkeypatch.setattr(Change, "restore_old", restore)
    monkeypatch.setattr("builder.server.remote.locks.host", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(images, "running_proxy", lambda: at.runs)
    monkeypatch.setattr(images, "patches", patches)
    monkeypatch.setattr(images, "pinned", lambda image: f"{image}@{at.offered[image.partition(':')[2]]}")
    monkeypatch.setattr(proxy_update, "_install", install)
    monkeypatch.setattr(proxy_update, "_check", check)
    monkeypatch.setattr("builder.server.remote.reload.restart_proxy", restart)
    monkeypatch.setattr("builder.server.remote.common.look_again", lambda: None)
    monkeypatch.setattr(proxy_update, "_tell", lambda title, text: at.told.append(f"{title}. {text}"))
    monkeypatch.setattr("builder.server.remote.proxy_update.time.time", lambda: at.now)
    monkeypatch.setattr(images, "PROXY_RELEASE", str(tmp_path / "release.conf"))
    return at


def _said(days: float = 3) -> str:
    return proxy_update.update(Settings(days * _DAY))


def test_a_release_is_taken_once_it_has_been_there_for_long_enough(night: Any) -> None:
    assert _said() == "nothing is newer"
    night.offered = {"2.11.8": "sha256:eight"}
    assert _said() == "caddy:2.11.8 is taken in 3.0 days, if it is unchanged then"
    night.now += 2 * _DAY
    assert _said() == "caddy:2.11.8 is taken in 1.0 days, if it is unchanged then"
    assert (night.runs, night.told) == ("caddy:2.11.7", [])
    night.now += _DAY
    assert _said() == "updated to caddy:2.11.8@sha256:eight"
    assert night.runs == "caddy:2.11.8@sha256:eight"
    assert night.told[0].startswith("The proxy was updated to caddy:2.11.8@sha256:eight. It ran caddy:2.11.7.")
    assert _said() == "nothing is newer"
    assert not proxy_update.CHANGE.pending.exists()


def test_a_release_that_is_made_anew_waits_anew_and_is_told(night: Any) -> None:
    night.offered = {"2.11.8": "sha256:eight"}
    _said()
    night.now += 4 * _DAY
    night.offered = {"2.11.8": "sha256:other"}
    assert _said() == "caddy:2.11.8 is taken in 3.0 days, if it is unchanged then"
    assert night.told[0].startswith("The release caddy:2.11.8 was made anew under its name. It was sha256:eight")
    assert night.runs == "caddy:2.11.7"


def test_what_does_not_stay_up_is_taken_back_and_the_one_below_it_is_next(night: Any) -> None:
    night.offered = {"2.11.8": "sha256:eight", "2.11.9": "sha256:nine"}
    night.fails = ["the proxy fell over after a while"]
    assert _said(days=0) == "caddy:2.11.9@sha256:nine was taken back: the proxy fell over after a while"
    assert (night.runs, night.restarts) == ("caddy:2.11.7", 2)
    assert "it runs caddy:2.11.7. It is not tried again." in night.told[0]
    assert _said(days=0) == "updated to caddy:2.11.8@sha256:eight"
    night.offered["2.11.9"] = "sha256:mended"
    assert _said(days=0) == "updated to caddy:2.11.9@sha256:mended"


def test_what_was_cut_off_is_taken_back_first(night: Any) -> None:
    night.offered = {"2.11.8": "sha256:eight"}
    _said()
    proxy_update.CHANGE.directory.mkdir()
    proxy_update.CHANGE.save_old([])
    proxy_update._install("caddy:2.11.8@sha256:eight")
    assert proxy_update.CHANGE.pending.exists()
    assert _said() == "caddy:2.11.8 is taken in 3.0 days, if it is unchanged then"
    assert (night.runs, night.restarts) == ("caddy:2.11.7", 1)
