"""The proxy takes patch releases of its minor version by itself, where the spec says `update: {proxy: patch}`.

A release is fetched when it is first seen, and taken once the registry has had it unchanged for as long as the spec
says. It is a file beside the proxy's unit, as a stack's release is, and taken back where the proxy then does not start,
answers no more or falls over; such a one is not tried again. What the spec names next takes its place.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts, files
from builder.server.remote import (
    background,
    changed_files,
    common,
    host_readiness,
    locks,
    readiness,
    release_record,
    reload,
)
from builder.server.remote.changed_files import Change
from builder.server.remote.common import RemoteError
from builder.server.remote.images import images
from builder.server.remote.notify import notices

if TYPE_CHECKING:
    from builder.server.remote.common import Value


class Settings(NamedTuple):
    """What the spec says: see spec/model.ProxyUpdate."""

    min_age: float


# The place of a change on its way: a boot takes back what was cut off there, as of an apply.
CHANGE: Final = Change(Path(f"{changed_files.APPLY.directory}-proxy"))
# How long it may take to come up, how long it has to stay up, and how long another change is waited for, in seconds.
_READY, _WATCH, _TURN = 120.0, 60.0, 600.0


def settings() -> Settings | None:
    """What the spec says; None where the proxy stays as it is."""
    try:
        found = json.loads(Path(facts.UPDATES).read_bytes()).get("proxy")
    except FileNotFoundError:
        return None
    return Settings(**found) if found else None


def update(wanted: Settings) -> str:
    """The work of one night; what became of it, in words. Raises RemoteError where nothing could be asked."""
    with locks.host("an update of the proxy", _TURN):
        recover()
        image = images.running_proxy()
        found = _newest(image)
        said = "nothing is newer" if found is None else _waits(found, wanted.min_age) or _taken(image, found)
    _note(said=said, at=int(time.time()))
    return said


def _newest(image: str) -> str | None:
    """The highest patch release with its digest, fetched; those that did not stay up are left out."""
    bad = _noted()["bad"]
    offered = (images.pinned(one) for one in images.patches(image))
    return next((one for one in offered if _digest(one) not in bad), None)


def _digest(pinned: str) -> str:
    return pinned.partition("@")[2]


def update_recover() -> Value:
    """After the work was ended in the middle: take back what it has left."""
    with locks.host("taking back an update of the proxy", _TURN):
        recover()
    return {}


def recover() -> None:
    """Take back what was cut off; for who holds the host's lock."""
    if CHANGE.pending.exists():
        _undo()


def is_left() -> bool:
    """Whether an update is half-way, and nobody is at it."""
    return CHANGE.pending.exists() and not background.is_running("easyrunner-update")


def current() -> list[Value]:
    """As release_record.current has it of stacks: what the proxy runs and its spec does not name, or nothing."""
    image, of_spec = images.running_proxy(), images.image_of_unit(Path(images.PROXY_UNIT).read_text())
    if image == of_spec:
        return []
    return [{"stack": "proxy", "service": "caddy", "image": image, "of_spec": of_spec, "unit": images.PROXY_UNIT}]


def _waits(pinned: str, min_age: float) -> str:
    """Why a release is not taken yet; nothing where it is."""
    image, _, digest = pinned.partition("@")
    now, seen = int(time.time()), _noted()["seen"].get(image)
    if seen is None or seen["digest"] != digest:
        if seen is not None:
            text = f"It was {seen['digest']}, and is {digest} now. It is taken once it has been so for long enough."
            _tell(f"The release {image} was made anew under its name", text)
        seen = {"digest": digest, "at": now}
        _note(seen={image: seen})
    left = seen["at"] + min_age - now
    return f"{image} is taken in {left / 86_400:.1f} days, if it is unchanged then" if left > 0 else ""


def _taken(before: str, pinned: str) -> str:
    """Run a release, and see whether the proxy stays up; else go back."""
    CHANGE.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    CHANGE.save_old([images.PROXY_RELEASE])
    try:
        _install(pinned)
        reload.restart_proxy()
        _check()
    except (RemoteError, OSError, subprocess.SubprocessError) as error:
        return _taken_back(before, pinned, str(error) or type(error).__name__)
    CHANGE.commit()
    common.look_again()
    text = f"It ran {before}. To pin it in your spec: er server apply HOST SPEC --newest-proxy"
    _tell(f"The proxy was updated to {pinned}", text)
    return f"updated to {pinned}"


def _taken_back(before: str, pinned: str, why: str) -> str:
    _note(bad=[*_noted()["bad"][-9:], _digest(pinned)])
    try:
        _undo()
        end = f"it runs {before}"
    except (RemoteError, OSError, subprocess.SubprocessError) as error:
        end = f"and the way back failed: {error}"
    _tell(f"An update of the proxy to {pinned} was taken back", f"{why}; {end}. It is not tried again.")
    return f"{pinned} was taken back: {why}"


def _undo() -> None:
    CHANGE.restore_old()
    reload.restart_proxy()
    _check(seconds=0)


def _install(pinned: str) -> None:
    file = Path(images.PROXY_RELEASE)
    file.parent.mkdir(mode=0o755, exist_ok=True)
    content = release_record.override(Path(images.PROXY_UNIT).read_text(), pinned)
    files.replace(file, content, 0o644, owner=(0, 0), name=f".{file.name}.part")


# Seconds between two looks, and how often it may fall over on its way up: its unit tries for ever.
_LOOK, _FALLS = 1.0, 3


def _check(seconds: float = _WATCH) -> None:
    """Until the proxy runs and has taken over its sockets; then it stays up for so long. Raises RemoteError."""
    deadline, began = time.monotonic() + _READY, _state()
    while (state := _state())[1] != "running" or not _answers():
        if state[0] >= began[0] + _FALLS or time.monotonic() > deadline:
            raise RemoteError("the proxy does not come up")
        time.sleep(_LOOK)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(_LOOK, max(deadline - time.monotonic(), 0)))
        if _state() != state:
            raise RemoteError("the proxy fell over after a while")
    host_readiness.check_proxy()


def _state() -> tuple[int, str]:
    """How often systemd has restarted it, and how it is."""
    found = {name: (restarts, state) for name, restarts, state in readiness.unit_states(set())}
    return found.get("proxy", (0, ""))


def _answers() -> bool:
    try:
        host_readiness.check_proxy()
    except RemoteError:
        return False
    return True


# ---- what is written down, and told


_STATE: Final = "proxy.json"
_EMPTY: Final = {"seen": {}, "bad": [], "said": ""}


def _noted() -> Value:
    """By release its digest and since when it is `seen`; the digests that were `bad`; what was `said`."""
    try:
        return {**_EMPTY, **json.loads(Path(facts.UPDATED, _STATE).read_bytes())}
    except (FileNotFoundError, ValueError):
        return dict(_EMPTY)


def _note(**more: object) -> None:
    file = Path(facts.UPDATED, _STATE)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed_files.write(file, json.dumps({**_noted(), **more}).encode())


def _tell(title: str, text: str) -> None:
    print(f"{title}. {text}")  # noqa: T201 - a unit's output
    notices.tell("update:proxy", title, text)
