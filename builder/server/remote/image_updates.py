"""Images that update themselves: each night the tags of stacks with `update:` are asked for.

A tag that names another image by now is a release. What does not come up is taken back by the release, and what does
not stay up for a while is taken back here; neither is tried again. Whatever is done, or is there and not done, is told.
Who has switched a service by hand decides for it: it updates itself again when it runs what the spec names.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import (
    changed_files,
    common,
    held,
    locks,
    next_units,
    proxy_update,
    readiness,
    release_images,
    release_record,
    releases,
    sleepers,
)
from builder.server.remote.common import RemoteError
from builder.server.remote.images import images
from builder.server.remote.notify import notices

if TYPE_CHECKING:
    from builder.server.remote.common import Value
    from builder.server.remote.release_record import Image

# Who has made its releases.
BY: Final = "nightly update"
# How long a release may take to come up, how long another change is waited for, and between two looks, in seconds.
_READY, _TURN, _LOOK = 300.0, 600.0, 1.0


class Settings(NamedTuple):
    """What the spec says of a stack's updates: see stack/model.Update."""

    volumes: bool
    watch: float


def settings() -> dict[str, Settings]:
    """By stack."""
    try:
        found = json.loads(Path(facts.UPDATES).read_bytes())
    except FileNotFoundError:
        return {}
    return {stack: Settings(**one) for stack, one in found.items() if stack != "proxy"}


def state() -> list[Value]:
    """Each service that updates itself: `stack`, `service`, `image`, the `digest` that runs, what was `said` last."""
    return [
        {
            "stack": stack,
            "service": service,
            "image": release_record.of_spec(stack, service),
            **_running(stack, service),
        }
        for stack in sorted(settings())
        for service in _services(stack)
    ]


def _running(stack: str, service: str) -> Value:
    now = release_record.running(stack).get(service, "")
    image = next((one for one in release_record.store(stack) if one.id == now), None)
    return {"digest": image.digest if image else "", "said": _noted(stack).get(service, {}).get("said", "")}


def update_run() -> Value:
    """The work of one night, stack by stack and the proxy; what cannot be asked is told of, and stops no other."""
    found = _update_proxy()
    for stack, wanted in settings().items():
        if held.is_held() or stack not in common.uids([stack]):
            continue
        for service in _services(stack):
            try:
                said = _update(stack, service, wanted)
            except (RemoteError, OSError, LookupError, ValueError) as error:
                said = f"it could not be updated: {error}"
            found[f"{stack}/{service}"] = said
            _note(stack, service, said=said, at=int(time.time()))
    return found


def _update_proxy() -> Value:
    wanted = proxy_update.settings()
    if wanted is None or held.is_held():
        return {}
    try:
        said = proxy_update.update(wanted)
    except (RemoteError, OSError, LookupError, ValueError) as error:
        said = f"it could not be updated: {error}"
    return {"proxy": said}


def _services(stack: str) -> list[str]:
    """Those whose image is a tag of a registry."""
    named = {service: images.split_reference(release_record.of_spec(stack, service)) for service in _names(stack)}
    return [service for service, one in named.items() if one.tag and not one.digest and _is_fetched(one.name)]


def _names(stack: str) -> list[str]:
    return release_record.services(stack) if stack in common.stacks() else []


def _is_fetched(name: str) -> bool:
    return not name.startswith("localhost/")


def _update(stack: str, service: str, wanted: Settings) -> str:
    """What became of a service, in words."""
    if not _is_its_own(stack, service):
        return "it runs what somebody has switched it to, and is left alone"
    running = release_record.running(stack).get(service)
    if running is None:
        return "it does not run"
    name = release_record.of_spec(stack, service)
    new = release_images.pulled(stack, name)
    if new.id == running:
        return "nothing is newer"
    if new.digest in _noted(stack).get(service, {}).get("bad", ()):
        return f"{name} is still the image that did not stay up"
    where = f"{stack}/{service}"
    if not wanted.volumes and next_units.reason_against(_unit(stack, service)) == "it has a volume":
        if _noted(stack).get(service, {}).get("told") != new.digest:
            text = f"{name} is {new.digest} by now. It has a volume, so nothing was changed; to take it:"
            _tell(stack, service, f"There is a new image of {where}", f"{text} er deploy HOST {stack} --image {name}")
            _note(stack, service, told=new.digest)
        return f"there is {new.digest}; it has a volume, and is left alone"
    return _taken(stack, service, name, new, wanted)


def _is_its_own(stack: str, service: str) -> bool:
    """Whether nobody has switched it to another image by hand since it last ran the spec's, or an update."""
    if not release_record.deployed(stack).get(service):
        return True
    last = release_record.releases(stack)[-1:]
    return bool(last) and last[0]["by"] == BY


def _unit(stack: str, service: str) -> str:
    uid = common.uid(common.user_of(stack))
    return Path(f"/run/user/{uid}/systemd/generator", f"{stack}-{service}.service").read_text()


def _taken(stack: str, service: str, name: str, new: Image, wanted: Settings) -> str:
    where = f"{stack}/{service}"
    end = _release(stack, {service: f"{images.split_reference(name).name}@{new.digest}"})
    why = "" if end["phase"] == "done" else str(end.get("why", end["phase"]))
    if not why and (why := _falls(stack, service, wanted.watch)):
        end = _back(stack, service)
    if not why:
        text = f"{name} was another image: it runs {new.digest} now. The way back: er server rollback HOST {stack}"
        _tell(stack, service, f"{where} was updated", text)
        return f"updated to {new.digest}"
    bad = _noted(stack).get(service, {}).get("bad", [])
    _note(stack, service, bad=[*bad[-9:], new.digest])
    good = end["phase"] in ("done", "rolled back")
    back = "it runs the image of before" if good else f"and the way back failed: {end.get('then') or end.get('why')}"
    text = f"{name} is {new.digest} by now, which does not stay up: {why}; {back}. It is not tried again."
    _tell(stack, service, f"An update of {where} was taken back", text)
    return f"{new.digest} was taken back: {why}"


def _back(stack: str, service: str) -> Value:
    """To what ran before the update, which is the release before it: that is written down when one begins."""
    before = release_record.releases(stack)[-2]
    return _release(stack, {service: before["images"][service]["name"]}, before)


def _release(stack: str, names: dict[str, str], again: Value | None = None) -> Value:
    """Switch to images and wait for the end; in its turn."""
    request = releases.Request(names, "update", BY, _READY, again)
    deadline = time.monotonic() + _TURN
    while (state := releases.begin(stack, request))["phase"] == locks.WAITING:
        if time.monotonic() > deadline:
            raise RemoteError(f"the stack is being changed: {state['holder']}")
        time.sleep(_LOOK)
    while state["phase"] not in facts.APPLY_ENDS:
        state = releases.release_wait(stack, state["phase"], "20")
    return state


def _falls(stack: str, service: str, seconds: float) -> str:
    """Why a service does not stay up for so long, or nothing; one that sleeps is kept awake meanwhile."""
    with sleepers.awake(stack, [service]) as held:
        try:
            readiness.wait_for(stack, held, _READY)
        except RemoteError as error:
            return str(error)
        return _watched(stack, service, seconds)


def _watched(stack: str, service: str, seconds: float) -> str:
    where, before = f"{stack}/{service}", _look(stack, service)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(_LOOK)
        restarts, state = _look(stack, service)
        if restarts > before[0] or state in readiness.FAILED:
            return f"{where} fell over after a while"
        time.sleep(min(5 * _LOOK, max(deadline - time.monotonic(), 0)))
    kind = next(kind for kind, name, _ in common.services(stack) if name == service)
    if kind in common.PUBLIC and not readiness.answers(stack, service, kind):
        return f"{where} does not answer any more"
    return ""


def _look(stack: str, service: str) -> tuple[int, str]:
    found = {name: (restarts, state) for name, restarts, state in readiness.unit_states({stack})}
    return found.get(f"{stack}/{service}", (0, ""))


# ---- what is written down, and told


def _noted(stack: str) -> dict[str, Value]:
    """By service: the digests that were `bad`, and what was last `said`."""
    try:
        found: dict[str, Value] = json.loads(Path(facts.UPDATED, f"{stack}.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _note(stack: str, service: str, **more: object) -> None:
    file, found = Path(facts.UPDATED, f"{stack}.json"), _noted(stack)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed_files.write(file, json.dumps({**found, service: {**found.get(service, {}), **more}}).encode())


def _tell(stack: str, service: str, title: str, text: str) -> None:
    """By the notices of the host, where it has any; it is in the journal anyway."""
    print(f"{title}. {text}")  # noqa: T201 - a unit's output
    notices.tell(f"update:{stack}/{service}", title, text, stack=stack)
