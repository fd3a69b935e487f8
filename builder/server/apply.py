"""`er server apply`: what would change, and the change itself. The host's part is in builder/server/remote/apply.py."""

from __future__ import annotations

import base64
import difflib
import itertools
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.host.build import archive_path
from builder.oci import image_reference
from builder.problems import UserError
from builder.server.failures import KeyRefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.host import Host
    from builder.server.ssh import Remote
    from builder.spec import Spec

# How long an unconfirmed change stands, in seconds.
CONFIRM_WITHIN: Final = 90
# A call that waits on the host ends before anything on the way takes the connection for dead.
_WAIT: Final = 20
# How long a host that went silent is waited for: the change is taken back, the services are told.
_PATIENCE: Final = 4 * CONFIRM_WITHIN
# A host without an answer may be asked often. One that refuses the key is asked when it should have taken the change
# back, and then seldom: at the fifth refusal within ten minutes Fail2Ban would shut this laptop out for an hour.
_ASK_AGAIN, _TAKE_BACK, _ASK_AGAIN_REFUSED = 2.0, 15.0, 120.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One file: its rights (mode, owner and group) and content on the host and as the spec has it; None where not."""

    path: str
    old: tuple[str, bytes] | None
    new: tuple[str, bytes] | None

    @property
    def kind(self) -> str:
        """add, remove or change."""
        return "add" if self.old is None else "remove" if self.new is None else "change"

    def lines(self) -> Iterator[str]:
        """As `diff -u` shows it; a change of rights as a line of its own."""
        old, new = (_text(side) for side in (self.old, self.new))
        if self.old and self.new and self.old[0] != self.new[0]:
            yield f"rights {self.old[0]} -> {self.new[0]}  {self.path}"
        before, after = (self.path if side else "/dev/null" for side in (self.old, self.new))
        yield from (line.rstrip("\n") for line in difflib.unified_diff(old, new, before, after, n=1))


def _text(side: tuple[str, bytes] | None) -> list[str]:
    if side is None:
        return []
    try:
        return side[1].decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return [f"{len(side[1])} bytes that are no text\n"]


def differences(remote: Remote, host: Host) -> tuple[Difference, ...]:
    """What differs between the host and the tree, in order of path."""
    wanted = {file.path: (file.rights, file.content) for file in host.files}
    there = remote.ask("inventory", stdin=json.dumps(sorted(wanted)).encode())
    if there["name"] != host.name:
        raise UserError(
            f"{remote.host} is the server {there['name']}, the spec is of {host.name}",
            "is it the right HOST, and the right SPEC?",
        )
    found = {path: _found(path, *entry) for path, entry in there["files"].items()}
    paths = sorted({*wanted, *found})
    every = (Difference(path, found.get(path), wanted.get(path)) for path in paths)
    return tuple(one for one in every if one.old != one.new)


def _found(path: str, rights: str, content: str, problem: str = "") -> tuple[str, bytes]:
    if problem:
        raise UserError(f"{path} is {problem} on the host", "look at it there; er lays down plain files only")
    return rights, base64.b64decode(content)


def with_newest_proxy(remote: Remote, spec: Spec, *, bring: bool) -> Spec:
    """The spec with the newest release of its proxy that the registry offers.

    With `bring` the host fetches the image, and the spec names it by its digest too.
    """
    found = remote.ask("proxy-newest", spec.proxy.image, "bring" if bring else "name", timeout=1000)
    return replace(spec, proxy=replace(spec.proxy, image=found["image"]))


def plan(spec: Spec, host: Host, *, timeout: float) -> bytes:
    """What the host is sent: the whole tree, its stacks with their users' numbers, who logs in."""
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


def archives(spec: Spec) -> list[tuple[str, str, str, Path]]:
    """Stack, the image's name on the host, where its archive goes there, and the archive here."""
    users: list[tuple[str, tuple[tuple[str, str], ...]]] = [("proxy", (("caddy", spec.proxy.image),))]
    users += [(stack.name, tuple((one.name, one.image) for one in stack.services)) for stack in spec.stacks]
    return [
        (
            stack,
            image_reference.host_name(stack, service, image),
            path,
            Path(image.removeprefix(image_reference.ARCHIVE)),
        )
        for stack, services in users
        for service, image in services
        if (path := archive_path(stack, service, image))
    ]


def bring_archives(remote: Remote, spec: Spec) -> Iterator[Path]:
    """Send the archives that the host lacks; yields each before it goes."""
    wanted = archives(spec)
    if not wanted:
        return
    missing = remote.ask("archives-missing", stdin=json.dumps([one[:3] for one in wanted]).encode())
    for path, here in {(one[2], one[3]) for one in wanted if one[2] in missing}:
        yield here
        remote.ask("archive-put", path, stdin=here.read_bytes(), timeout=3600)


def carry_out(remote: Remote, content: bytes) -> Iterator[dict[str, Any]]:
    """Send the plan and follow it to its end, confirming over a new connection; yields each state once.

    A change that cuts the way to the host is not confirmed: the state `no answer` is yielded, then how it ended.
    """
    within = json.loads(content)["confirm_within"]
    yield from _followed(remote, remote.ask("apply-start", stdin=content), within)


def resume(remote: Remote) -> Iterator[dict[str, Any]]:
    """Follow a change that another client has begun, as if it were ours; yields nothing where there is none."""
    state = remote.ask("apply-state")
    if state["phase"] != "none":
        yield from _followed(remote, state, CONFIRM_WITHIN)


def _followed(remote: Remote, state: dict[str, Any], within: float) -> Iterator[dict[str, Any]]:
    while True:
        yield state
        if state["phase"] in facts.APPLY_ENDS:
            return
        try:
            if state["phase"] == "waiting for you":
                remote.ask("apply-confirm", fresh=True)
            state = _next(remote, state["phase"])
        except UnreachableError as error:
            yield {"phase": "no answer"}
            state = _again(remote, error, within)


def _next(remote: Remote, phase: str) -> dict[str, Any]:
    while True:
        state: dict[str, Any] = remote.ask("apply-wait", phase, str(_WAIT), fresh=True)
        if state["phase"] != phase:
            return state


def _again(remote: Remote, error: UnreachableError, within: float) -> dict[str, Any]:
    """The host, once it has taken back what cut it off. It was not confirmed within that many seconds, so it does."""
    deadline = time.monotonic() + _PATIENCE
    for pause in _pauses(error, within):
        if time.monotonic() + pause > deadline:
            break
        time.sleep(pause)
        try:
            state: dict[str, Any] = remote.ask("apply-wait", "waiting for you", str(_WAIT), fresh=True)
        except UnreachableError as again:
            error = again
        else:
            return state
    raise error


def _pauses(error: UnreachableError, within: float) -> Iterator[float]:
    """Seconds before each further try."""
    if isinstance(error, KeyRefusedError):
        yield within + _TAKE_BACK
        yield from itertools.repeat(_ASK_AGAIN_REFUSED)
    yield from itertools.repeat(_ASK_AGAIN)
