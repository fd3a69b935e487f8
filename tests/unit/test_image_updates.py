"""Images that update themselves: what the spec says, what the host gets of it, and what a night decides."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts, host
from builder.server.remote import image_updates, release_images, release_record
from builder.server.remote.image_updates import BY, Settings
from builder.server.remote.release_record import Image
from builder.stack.model import Update
from tests.unit.test_spec import HEAD, errors, load

if TYPE_CHECKING:
    from pathlib import Path

_STACK = "stacks: [{name: blog, image: 'ghcr.io/me/blog:1.4', domain: a.example.org, port: 8080%s}]\n"
_UNITS = ("easyrunner-update.service", "easyrunner-update.timer", "er-first-boot.service.d/60-update.conf")


def _files(more: str) -> dict[str, bytes]:
    return {file.path: file.content for file in host.build(load(HEAD + _STACK % more)).files}


def test_a_stack_says_whether_it_updates_itself() -> None:
    assert load(HEAD + _STACK % "").stacks[0].update is None
    assert load(HEAD + _STACK % ", update: {images: nightly}").stacks[0].update == Update()
    said = ", update: {images: nightly, volumes: true, watch: 90s}"
    assert load(HEAD + _STACK % said).stacks[0].update == Update(volumes=True, watch=90)
    assert errors(HEAD + _STACK % ", update: {images: hourly}")[0].startswith("stacks[0].update.images: ")
    assert errors(HEAD + _STACK % ", update: {}")[0].startswith("stacks[0].update.images: ")


def test_only_hosts_with_such_a_stack_get_the_timer() -> None:
    """User-data of all others stays as it is."""
    paths = [facts.UPDATES, *(f"/etc/systemd/system/{unit}" for unit in _UNITS)]
    assert not _files("").keys() & set(paths)
    found = _files(", update: {images: nightly}")
    assert set(paths) <= found.keys()
    assert json.loads(found[facts.UPDATES]) == {"blog": {"volumes": False, "watch": 600}}
    assert not [path for path in paths if found[path].endswith(b"\n\n")], "YAML has it otherwise"
    assert image_updates.Settings(**json.loads(found[facts.UPDATES])["blog"]) == Settings(volumes=False, watch=600)


_OLD = Image("old", ("ghcr.io/me/blog:1.4",), "sha256:old", 0)
_NEW = Image("new", (), "sha256:new", 1)


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A host on which `blog/web` runs an image while its tag names another one."""
    at = SimpleNamespace(
        running={"web": "old"}, new=_NEW, deployed={}, releases=[], unit="", ends=[], falls="", switched=[], told=[]
    )

    def release(_: str, names: dict[str, str], again: Any = None) -> dict[str, Any]:
        at.switched.append((names, again))
        return dict(at.ends.pop(0))

    def tell(_: str, __: str, title: str, text: str) -> None:
        at.told.append(f"{title}. {text}")

    monkeypatch.setattr(facts, "UPDATED", str(tmp_path))
    monkeypatch.setattr("builder.server.remote.changed_files.write", lambda path, content: path.write_bytes(content))
    monkeypatch.setattr(release_record, "running", lambda _: at.running)
    monkeypatch.setattr(release_record, "deployed", lambda _: at.deployed)
    monkeypatch.setattr(release_record, "releases", lambda _: at.releases)
    monkeypatch.setattr(release_record, "of_spec", lambda *_: "ghcr.io/me/blog:1.4")
    monkeypatch.setattr(release_images, "pulled", lambda *_: at.new)
    monkeypatch.setattr(image_updates, "_unit", lambda *_: at.unit)
    monkeypatch.setattr(image_updates, "_falls", lambda *_: at.falls)
    monkeypatch.setattr(image_updates, "_release", release)
    monkeypatch.setattr(image_updates, "_tell", tell)
    return at


def _said(*, volumes: bool = False) -> str:
    return image_updates._update("blog", "web", Settings(volumes, 600))


def test_the_same_image_is_nothing_new(night: SimpleNamespace) -> None:
    night.new = _OLD
    assert _said() == "nothing is newer"
    assert (night.switched, night.told) == ([], [])


def test_another_image_is_a_release_by_its_digest(night: SimpleNamespace) -> None:
    night.ends = [{"phase": "done"}]
    assert _said() == "updated to sha256:new"
    assert night.switched == [({"web": "ghcr.io/me/blog@sha256:new"}, None)]
    assert night.told[0].startswith("blog/web was updated. ghcr.io/me/blog:1.4 was another image: it runs sha256:new")


def test_what_does_not_come_up_is_told_once_and_not_tried_again(night: SimpleNamespace) -> None:
    night.ends = [{"phase": "rolled back", "why": "blog/web does not come up"}]
    assert _said() == "sha256:new was taken back: blog/web does not come up"
    assert "it runs the image of before. It is not tried again." in night.told[0]
    assert _said() == "ghcr.io/me/blog:1.4 is still the image that did not stay up"
    assert (len(night.switched), len(night.told)) == (1, 1)
    night.new, night.ends = Image("next", (), "sha256:next", 2), [{"phase": "done"}]
    assert _said() == "updated to sha256:next"


def test_what_falls_over_later_goes_back_to_the_release_of_before(night: SimpleNamespace) -> None:
    """By its name in the store, as the tag names the bad image now."""
    before = {"number": 1, "images": {"web": {"name": "localhost/blog/web:old", "id": "old"}}}
    night.falls, night.ends = "blog/web fell over after a while", [{"phase": "done"}, {"phase": "done"}]
    night.releases = [before, {"number": 2, "by": BY}]
    assert _said() == "sha256:new was taken back: blog/web fell over after a while"
    assert night.switched[1] == ({"web": "localhost/blog/web:old"}, before)


def test_a_way_back_that_fails_is_said(night: SimpleNamespace) -> None:
    night.ends = [{"phase": "failed", "why": "not ready", "then": "the disk is full"}]
    _said()
    assert "not ready; and the way back failed: the disk is full" in night.told[0]


def test_a_service_with_a_volume_is_told_of_and_left_alone(night: SimpleNamespace) -> None:
    night.unit = "[Service]\nType=notify\nExecStart=/usr/bin/podman run --name web -v blog_data:/data x\n"
    assert _said() == "there is sha256:new; it has a volume, and is left alone"
    assert night.told[0].startswith("There is a new image of blog/web. ")
    assert _said() == "there is sha256:new; it has a volume, and is left alone"
    assert (len(night.told), night.switched) == (1, []), "it is told once"
    night.ends = [{"phase": "done"}]
    assert _said(volumes=True) == "updated to sha256:new"


@pytest.mark.parametrize(("by", "itself"), [("er", False), ("ci of blog", False), (BY, True)])
def test_what_somebody_has_switched_by_hand_stays(night: SimpleNamespace, by: str, itself: bool) -> None:
    night.deployed, night.releases = {"web": "localhost/blog/web:x"}, [{"number": 3, "by": by}]
    night.ends = [{"phase": "done"}]
    assert _said() == (
        "updated to sha256:new" if itself else "it runs what somebody has switched it to, and is left alone"
    )
    assert bool(night.switched) == itself
