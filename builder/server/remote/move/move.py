"""The two hosts of an `er server move`: the old one stops and is held, the new one takes the data and is tried.

Never do both run. The old host stays stopped for as long as er is heard of now and then; after `lease` seconds without
a word it starts again by itself, until `move-handover` makes it stay stopped. The new host runs on trial for a shorter
time than that after each word, until `move-commit`; what comes in between, a cut of power too, makes it what it was.
All that takes time is the work of one unit on either host, `move-run`, which does what the state says:

old    stopping -> stopped -> moved, or resuming -> none
new    filling -> quieting -> quiet -> switching -> starting -> ready -> done, or undoing -> filling
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import apply, common, held, locks, release_record, status
from builder.server.remote.common import RemoteError
from builder.server.remote.move import data_list, move_new, move_old
from builder.server.remote.move.move_state import BEGUN, age_of_word, exclusive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value


_SITE: Final = re.compile(r"^([^\s#(&].*) \{$", re.MULTILINE)


def move_facts() -> Value:
    """Who this host is, what is on it, and how far a move is here."""
    common.check_data()
    domains = {name for file in Path(facts.ETC, "caddy/sites").glob("*.caddy") for name in site_names(file.read_text())}
    return {
        "id": hashlib.sha256(Path("/etc/machine-id").read_bytes()).hexdigest()[:16],
        "name": common.server_env().get("NAME", ""),
        "stacks": {stack: _numbers(stack) for stack in common.stacks()},
        "format": _format(),
        "state": held.state(),
        "word": age_of_word(),
        "domains": sorted(domains),
        "addresses": addresses(),
        "free": data_list.free(),
        "releases": {stack: found for stack in common.stacks() if (found := release_record.deployed(stack))},
        "own": [*_own_data()],
        "host_keys": [*status.host_keys()],
        "ill": [] if held.is_held() else sorted(apply.unhealthy_stacks()),
    }


def site_names(text: str) -> Iterator[str]:
    """The names of the sites in a file for Caddy."""
    for names in _SITE.findall(text):
        yield from (name for name in names.split(", ") if re.fullmatch(r"[a-z0-9*.-]+\.[a-z0-9-]+", name))


def _numbers(stack: str) -> list[str]:
    """Of a stack's user: its id, its group's, and its range."""
    user = common.user_of(stack)
    try:
        ids = [str(common.uid(user)), str(common.gid(user))]
    except KeyError:
        ids = []
    return [*ids, Path(facts.STACKS, stack, "subids").read_text().split("\n")[0]]


def _format() -> str:
    """The number of the form of the data, empty where none is said."""
    try:
        return Path(facts.DATA_FORMAT).read_text().partition(" ")[0].strip()
    except FileNotFoundError:
        return ""


def addresses() -> list[str]:
    """The global addresses of this host, of both families."""
    found = json.loads(common.run(["ip", "-json", "address", "show", "scope", "global"], check=False) or "[]")
    every = (one for link in found for one in link.get("addr_info", ()))
    return [one["local"] for one in every if "local" in one and not one.get("temporary")]


# A first start writes for so many seconds after the host was made; what is written later is somebody's.
_FIRST_START: Final = 3600


def _own_data() -> Iterator[Value]:
    """The stacks here with data that is not a first start's: `bytes`, and when it was written last."""
    made = next((path.stat().st_mtime for path in map(Path, _MADE) if path.exists()), 0.0)
    sizes: dict[str, list[float]] = {}
    for path, kind, _, _, _, size, mtime, *_ in data_list.listed():
        parts = path.split("/")
        if kind != "d" and parts[0] == "stacks" and len(parts) > 2:
            found = sizes.setdefault(parts[1], [0, 0])
            found[0], found[1] = found[0] + size, max(found[1], mtime / 1e9)
    visited = _visited()
    for stack, (size, newest) in sorted(sizes.items()):
        if newest > made + _FIRST_START or stack in visited:
            yield {"stack": stack, "bytes": int(size), "written": int(newest), "visited": stack in visited}


_MADE: Final = (f"{facts.STATE}/complete", "/etc/machine-id")
_LOG: Final = Path("/var/log/easyrunner/caddy/access.log")


def _visited() -> set[str]:
    """The stacks one of whose sites has answered somebody, er's own questions left out."""
    try:
        lines = _LOG.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return set()
    hosts = set()
    for line in lines:
        if '"status":2' in line and '"user_agent":"er"' not in line:
            hosts |= set(re.findall(r'"host":"([^"]*)"', line))
    sites = Path(facts.ETC, "caddy/sites")
    return {file.stem for file in sites.glob("*.caddy") if hosts & {*site_names(file.read_text())}}


def move_list(what: str) -> Value:
    """What there is to move, `here`, or what has come, `incoming`, as `entries`; and what else a pass has to know.

    `since`: from this time on, by this host's clock, a write to mapped memory changes the time of its file. `free`: how
    many bytes more may come.
    """
    since = time.time()
    if what == "here":
        os.sync()
    entries = data_list.listed(incoming=what == "incoming")
    return {"since": since, "free": data_list.free(), "entries": entries}


# Images that no registry has.


def move_images_missing() -> list[list[str]]:
    """Of stdin's list of stack, service and name, those whose image is not here."""
    wanted: list[list[str]] = json.load(sys.stdin.buffer)
    stores = {stack: release_record.store(stack) for stack, _, _ in wanted}
    return [one for one in wanted if release_record.find(stores[one[0]], one[2]) is None]


def move_image(stack: str, name: str) -> None:
    """Write an image of a stack to stdout, as an OCI archive. Raises RemoteError."""
    argv = [*common.in_session(common.stack_user(stack)), "podman", "save", "--quiet", "--format", "oci-archive", name]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as giver:
        if giver.stdout is not None:
            shutil.copyfileobj(giver.stdout, sys.stdout.buffer)
    if giver.returncode != 0:
        raise RemoteError(f"Podman does not give the image {name} of {stack}")
    sys.stdout.buffer.flush()
    raise SystemExit(0)


def move_run() -> Value:
    """The work of the unit."""
    state = held.state()
    try:
        with locks.host("er server move", 900, moves=True):
            move_old.keep_stopped() if state.get("role") == "old" else move_new.run()
    except RemoteError as error:
        with exclusive() as state:
            _after_failure(state, str(error), error.hint)
        raise
    return {}


def _after_failure(state: Value, why: str, hint: str | None) -> None:
    """The unit is started again after this: what has not begun does not begin then."""
    phase = state.get("phase", "")
    if phase == "quieting" and BEGUN.exists():
        phase = "filling"
    BEGUN.unlink(missing_ok=True)
    instead = {"stopping": "resuming", "quieting": "undoing"}
    held.set_state({**state, "phase": instead.get(phase, phase), "failed": why, "hint": hint})
