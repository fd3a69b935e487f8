"""`er server apply`: what differs between a host and its spec, and the change.

The client sends the whole tree. The host (builder/server/remote/apply.py) changes its files in a unit of its own and
waits until everything answers, then for the client's confirmation over a new connection; without one it restores the
old files.
"""

from __future__ import annotations

import base64
import difflib
import itertools
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder import facts
from builder.host.build import archive_path
from builder.oci import image_reference
from builder.problems import UserError
from builder.server.ssh import CALL_SECONDS, KeyRefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.host import Host
    from builder.server.ssh import Remote
    from builder.spec import Spec

# How long an unconfirmed change stands, in seconds.
CONFIRM_WITHIN: Final = 90


@dataclass(frozen=True, slots=True)
class Difference:
    """One file: rights (mode, owner and group) and content, `old` on the host, `new` in the spec; None if missing."""

    path: str
    old: tuple[str, bytes] | None
    new: tuple[str, bytes] | None

    @property
    def kind(self) -> str:
        """add, remove or change."""
        return "add" if self.old is None else "remove" if self.new is None else "change"

    def lines(self) -> Iterator[str]:
        """As `diff -u` shows it; a change of rights as a line of its own."""
        if self.old and self.new and self.old[0] != self.new[0]:
            yield f"rights {self.old[0]} -> {self.new[0]}  {self.path}"
        before, after = (self.path if side else "/dev/null" for side in (self.old, self.new))
        diff = difflib.unified_diff(_lines(self.old), _lines(self.new), before, after, n=1)
        yield from (line.rstrip("\n") for line in diff)


def _lines(side: tuple[str, bytes] | None) -> list[str]:
    if side is None:
        return []
    try:
        return side[1].decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return [f"{len(side[1])} bytes that are no text\n"]


def differences(remote: Remote, host: Host) -> tuple[Difference, ...]:
    """What differs between the host and its spec's tree, in order of path.

    Raises UserError when it is another server, or when something else than a file is at one of the paths.
    """
    desired = {file.path: (file.rights, file.content) for file in host.files}
    inventory = remote.ask("inventory", stdin=json.dumps(sorted(desired)).encode())
    if inventory["name"] != host.name:
        raise UserError(
            f"{remote.host} is the server {inventory['name']}, the spec is of {host.name}",
            "is it the right HOST, and the right SPEC?",
        )
    return _differing(inventory["files"], desired)


def _differing(inventory: dict[str, list[str]], desired: dict[str, tuple[str, bytes]]) -> tuple[Difference, ...]:
    existing = {path: _existing(path, *entry) for path, entry in inventory.items()}
    paths = sorted({*desired, *existing})
    every = (Difference(path, existing.get(path), desired.get(path)) for path in paths)
    return tuple(one for one in every if one.old != one.new)


class Before(NamedTuple):
    """The tree of before the last apply: since `when` (seconds since 1970) it is not the host's, and its plan."""

    when: int
    plan: dict[str, Any]


def before(remote: Remote) -> Before:
    """What a host keeps to go back to. Raises UserError where it has nothing, or cannot run that any more."""
    found = remote.ask("apply-before")
    return Before(found.pop("when"), found)


def differences_from(remote: Remote, plan: dict[str, Any]) -> tuple[Difference, ...]:
    """What differs between the host and the tree of a plan, in order of path."""
    desired = {file["path"]: (file["rights"], base64.b64decode(file["content"])) for file in plan["files"]}
    inventory = remote.ask("inventory", stdin=json.dumps(sorted(desired)).encode())
    return _differing(inventory["files"], desired)


def changed_images(found: Iterable[Difference]) -> frozenset[str]:
    """The paths of the units that name another image than before."""
    return frozenset(one.path for one in found if one.old and one.new and _image(one.old[1]) != _image(one.new[1]))


def _image(content: bytes) -> list[bytes]:
    return [line for line in content.splitlines() if line.startswith(b"Image=")]


def _existing(path: str, rights: str, content: str, problem: str = "") -> tuple[str, bytes]:
    if problem:
        raise UserError(f"{path} is {problem} on the host", "look at it there; er lays down plain files only")
    return rights, base64.b64decode(content)


def with_newest_proxy(remote: Remote, spec: Spec, *, bring: bool) -> Spec:
    """The spec with the newest release of its proxy that the registry offers.

    With `bring` the host pulls the image, and the spec names it by its digest too.
    """
    found = remote.ask("proxy-newest", spec.proxy.image, "bring" if bring else "name", timeout=1000)
    return replace(spec, proxy=replace(spec.proxy, image=found["image"]))


class Archive(NamedTuple):
    """An image that a spec gives as an archive: whose it is, its name and path on the host, and its path here."""

    stack: str
    image: str
    remote_path: str
    path: Path


def archives(spec: Spec) -> list[Archive]:
    """The archives of the proxy and of every stack."""
    images = [("proxy", "caddy", spec.proxy.image)]
    images += [(stack.name, service.name, service.image) for stack in spec.stacks for service in stack.services]
    return [
        Archive(
            stack,
            image_reference.host_name(stack, service, image),
            path,
            Path(image.removeprefix(image_reference.ARCHIVE)),
        )
        for stack, service, image in images
        if (path := archive_path(stack, service, image))
    ]


def send_archives(remote: Remote, spec: Spec) -> Iterator[Path]:
    """Send the archives that the host needs and has not; yields each before it goes."""
    every = archives(spec)
    if not every:
        return
    asked = [(one.stack, one.image, one.remote_path) for one in every]
    missing = remote.ask("archives-missing", stdin=json.dumps(asked).encode())
    for remote_path, path in {(one.remote_path, one.path) for one in every if one.remote_path in missing}:
        yield path
        remote.ask("archive-put", remote_path, stdin=path.read_bytes(), timeout=3600)


def plan(spec: Spec, host: Host, *, timeout: float) -> bytes:
    """What the host is sent, as JSON: the whole tree, the stacks with their users' numbers, and who logs in.

    `timeout` is how long the stacks have to become ready, in seconds.
    """
    value = {
        "files": [
            {
                "path": file.path,
                "laid": file.initial_mode,
                "rights": file.rights,
                "content": base64.b64encode(file.content).decode(),
            }
            for file in host.files
        ],
        "stacks": {stack.name: stack.uid for stack in spec.stacks},
        "admin": {"name": spec.admin.name, "ssh_keys": list(spec.admin.ssh_keys)},
        "timeout": timeout,
        "confirm_within": CONFIRM_WITHIN,
    }
    return json.dumps(value).encode()


def carry_out(remote: Remote, content: bytes) -> Iterator[dict[str, Any]]:
    """Send the plan and follow it to its end, confirming over a new connection; yields each state once.

    A change that cuts the way to the host is not confirmed: the state `no answer` is yielded, then how it ended.
    """
    within = json.loads(content)["confirm_within"]
    yield from _follow(remote, remote.ask("apply-start", stdin=content), within)


def resume(remote: Remote) -> Iterator[dict[str, Any]]:
    """Follow a change that another client has begun as if it were ours; yields nothing where there is none."""
    state = remote.ask("apply-state")
    if state["phase"] != "none":
        yield from _follow(remote, state, CONFIRM_WITHIN)


def _follow(remote: Remote, state: dict[str, Any], within: float) -> Iterator[dict[str, Any]]:
    yield state
    while state["phase"] not in facts.APPLY_ENDS:
        try:
            for new in _next_states(remote, state["phase"]):
                if new["phase"] != state["phase"]:
                    yield new
                state = new
        except UnreachableError as error:
            yield {"phase": "no answer"}
            state = _reconnect(remote, error, within)
            yield state


def _next_states(remote: Remote, phase: str) -> Iterator[dict[str, Any]]:
    """The states after this phase, over new connections: what waits for a confirmation is confirmed by a login."""
    state: dict[str, Any] = {"phase": phase}
    if phase == "waiting for you":
        state = remote.ask("apply-confirm", str(CALL_SECONDS), fresh=True)
        yield state
    while state["phase"] == phase:
        for state in remote.follow("apply-wait", phase=phase, fresh=True):
            yield state


# How long a host that has become unreachable is tried, in seconds: it restores the old files, and restarts services.
_RECONNECT_WITHIN: Final = 4 * CONFIRM_WITHIN
# Seconds between attempts. A host without an answer may be tried often. One that refuses the key is tried when it
# should have restored the old files, and then seldom: at the fifth refusal within ten minutes Fail2Ban would ban this
# machine for an hour.
_RETRY, _ROLLBACK, _RETRY_REFUSED = 2.0, 15.0, 120.0


def _reconnect(remote: Remote, error: UnreachableError, within: float) -> dict[str, Any]:
    """The state once the host answers again: not confirmed `within` so many seconds, it restores the old files."""
    deadline = time.monotonic() + _RECONNECT_WITHIN
    for pause in _pauses(error, within):
        if time.monotonic() + pause > deadline:
            break
        time.sleep(pause)
        try:
            state: dict[str, Any] = remote.ask("apply-wait", "waiting for you", str(CALL_SECONDS), fresh=True)
        except UnreachableError as again:
            error = again
        else:
            return state
    raise error


def _pauses(error: UnreachableError, within: float) -> Iterator[float]:
    """Seconds before each further attempt."""
    if isinstance(error, KeyRefusedError):
        yield within + _ROLLBACK
        yield from itertools.repeat(_RETRY_REFUSED)
    yield from itertools.repeat(_RETRY)
