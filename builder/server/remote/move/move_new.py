"""The new host of an `er server move`: it takes what comes, runs on trial, and keeps it or becomes what it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, held, host_readiness, release_record, services
from builder.server.remote.common import RemoteError
from builder.server.remote.images import first_images, kept_images
from builder.server.remote.move import data_copy, data_list
from builder.server.remote.move.data_list import INCOMING
from builder.server.remote.move.move_state import (
    BEGUN,
    UNTIL,
    advance,
    asked,
    clock,
    exclusive,
    hear,
    is_over,
    move_state,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value

# What the new host had, until its data is here to stay.
_BEFORE: Final = Path(facts.DATA, ".before")
# Seconds that a host which has made way waits for the old one's stop.
_QUIET: Final = 1800
_LOST: Final = "er was heard of no more"


def move_begin() -> Value:
    """Something of the move `pair` is to come here; returns the state. Raises RemoteError."""
    pair = asked()["pair"]
    with exclusive() as state:
        if state.get("phase") == "undoing":
            raise RemoteError("this server is just becoming what it was", "try again")
        if state.get("pair") == pair and state.get("role") == "new":
            return state
        if state and state.get("phase") not in {"done", "moved"}:
            raise RemoteError("another er server move is at this server", "end it with --back, as it was begun")
        INCOMING.mkdir(mode=0o700, exist_ok=True)
        new = {"role": "new", "pair": pair, "phase": "filling", "since": 0, "tried": 0}
        held.set_state({**new, "was": state} if state.get("phase") == "moved" else new)
        return held.state()


def move_pass() -> Value:
    """Before a pass: what is to go from here, and since when the old host's data counts as changed."""
    words = asked()
    with exclusive() as state:
        if state.get("phase") not in {"filling", "quiet"}:
            raise RemoteError("this server is not waiting for data", "try again")
        if not state["since"]:
            held.set_state({**state, "since": words["since"]})
        data_copy.remove(words["remove"])
    return {}


def move_passed(since: str) -> Value:
    """A pass that began then, by the old host's clock, came to its end; returns the state."""
    with exclusive() as state:
        held.set_state({**state, "since": float(since)})
    return held.state()


def move_quiet() -> Value:
    """What runs here makes way, its data stays; returns the state, and the `clock` of this boot. Raises RemoteError."""
    with exclusive() as state:
        if state.get("phase") != "filling":
            raise RemoteError(f"this server is {state.get('phase', 'not waiting for data')}", "try again")
        state.pop("failed", None)
        held.set_state({**state, "phase": "quieting"})
        hear(UNTIL, clock() + _QUIET)
        files.replace(BEGUN, b"", 0o600)
        held.start_unit()
    return {**until({"quiet"}, 1500), "clock": clock()}


def move_trial() -> Value:
    """Switch to what has come, and run on trial; `move-state` tells how it goes. Raises RemoteError."""
    words = asked()
    with exclusive() as state:
        if state.get("phase") != "quiet":
            raise RemoteError(state.get("failed", "this server has not made way"), "try again")
        names = {
            "own": sorted(path.name for path in Path(facts.DATA).iterdir() if data_list.is_data(path.name)),
            "come": sorted(path.name for path in INCOMING.iterdir()),
        }
        shutil.rmtree(_BEFORE, ignore_errors=True)
        _BEFORE.mkdir(mode=0o700)
        before = {stack: release_record.deployed(stack) for stack in words["releases"]}
        hear(UNTIL, words["until"])
        held.set_state({**state, **words, "names": names, "before": before, "phase": "switching", "tried": time.time()})
    return held.state()


def move_extend(end: str) -> Value:
    """This host may wait, or the trial go on, until then; returns the state."""
    with exclusive() as state:
        if state.get("phase") in {"quiet", "switching", "starting", "ready"}:
            hear(UNTIL, float(end))
        return state


def move_commit() -> Value:
    """What came is this host's, and it runs for good. Raises RemoteError where it is on trial no more."""
    with exclusive() as state:
        if state.get("phase") not in {"ready", "done"}:
            raise RemoteError("this server runs on trial no more", "the same command goes on")
        held.set_state({**{key: state[key] for key in ("role", "pair", "waiting")}, "phase": "done"})
        held.HELD.unlink(missing_ok=True)
        files.sync(held.DIRECTORY)
    return {"waiting": state["waiting"], "logins": host_readiness.missing_logins(), "images": first_images.each()}


def move_undo(forget: str = "") -> Value:
    """This host becomes what it was; with `forget` what has come goes, too."""
    with exclusive() as state:
        if state.get("role") != "new" or state["phase"] == "done":
            return {}
        if state["phase"] not in {"filling", "undoing"}:
            held.set_state({**state, "phase": "undoing"})
        if state["phase"] != "filling" and not held.is_working():
            held.start_unit()
    state = move_state("undoing", "600")
    if forget and state.get("phase") == "filling":
        with exclusive():
            shutil.rmtree(INCOMING, ignore_errors=True)
            held.set_state(state["was"]) if "was" in state else held.forget()
    return {}


# The work of the unit.


def run() -> None:
    """Run what comes for as long as it may; whatever does not come to its end is taken back."""
    try:
        if BEGUN.exists():
            BEGUN.unlink()
            _make_way()
            _switch()
            _run_on_trial()
    except (RemoteError, OSError, subprocess.SubprocessError) as error:
        _fail(str(error) or type(error).__name__)
    if held.state()["phase"] == "done":
        _settle()
    elif held.state()["phase"] != "filling":
        _undo()


def _fail(why: str) -> None:
    said = services.container_errors()
    with exclusive() as state:
        if state["phase"] not in {"done", "undoing"}:
            held.set_state({**state, "phase": "undoing", "failed": why, "said": said})


def _make_way() -> None:
    """Stop what runs here, and wait for the rest of the data."""
    if held.state()["phase"] != "quieting":
        return
    held.hold()
    held.stop()
    advance("quieting", "quiet")
    while held.state()["phase"] == "quiet":
        if is_over():
            raise RemoteError(_LOST)
        time.sleep(0.1)


def _switch() -> None:
    """What is here goes aside, and what has come takes its place: names are moved, nothing is copied."""
    state = held.state()
    if state["phase"] != "switching":
        return
    if is_over():
        raise RemoteError(_LOST)
    with _without_fail2ban():
        for name in state["names"]["own"]:
            if not (_BEFORE / name).exists():
                Path(facts.DATA, name).rename(_BEFORE / name)
        for name in state["names"]["come"]:
            if (INCOMING / name).exists():
                (INCOMING / name).rename(Path(facts.DATA, name))
        os.sync()
    for stack, names in state["releases"].items():
        release_record.install(stack, names)
    advance("switching", "starting")


@contextmanager
def _without_fail2ban() -> Iterator[None]:
    """Its bans are in force meanwhile; it reads its database when it starts."""
    common.run(["systemctl", "stop", "fail2ban.service"], check=False)
    try:
        yield
    finally:
        common.run(["systemctl", "--no-block", "start", "fail2ban.service"], check=False)


def _run_on_trial() -> None:
    state, failed = held.state(), []
    if state["phase"] != "starting":
        return
    files.replace(held.ON_TRIAL, b"", 0o644)

    def start() -> None:
        try:
            held.start()
            waiting = host_readiness.wait_until_ready(state["timeout"], set(state["ill"]))
            advance("starting", "ready", waiting=waiting)
        except Exception as error:
            failed.append(str(error) or type(error).__name__)

    threading.Thread(target=start, daemon=True).start()
    while held.state()["phase"] in {"starting", "ready"}:
        if failed:
            raise RemoteError(failed[0])
        with exclusive() as now:
            if is_over() and now["phase"] != "done":
                held.set_state({**now, "phase": "undoing", "failed": _LOST})
        time.sleep(0.2)


def _settle() -> None:
    held.release()
    held.ON_TRIAL.unlink(missing_ok=True)
    held.start()
    held.report()
    shutil.rmtree(_BEFORE, ignore_errors=True)
    shutil.rmtree(INCOMING, ignore_errors=True)
    for stack in common.stacks():
        kept_images.keep(stack)


def _undo() -> None:
    """What ran on trial is ended at once: its data is the old host's to have."""
    state = held.state()
    held.ON_TRIAL.unlink(missing_ok=True)
    held.kill()
    if "names" in state:
        with _without_fail2ban():
            _switch_back(state["names"])
        for stack, names in state["releases"].items():
            release_record.install(stack, {service: state["before"][stack].get(service, "") for service in names})
    if "was" in state:
        held.remove_unit()
    else:
        held.release()
        held.start()
        held.report()
    with exclusive() as now:
        for key in ("names", "before", "releases"):
            now.pop(key, None)
        held.set_state({**now, "phase": "filling"})


def _switch_back(names: Value) -> None:
    """However far the switch came; may be repeated."""
    for name in names["come"]:
        if not (INCOMING / name).exists() and Path(facts.DATA, name).exists():
            Path(facts.DATA, name).rename(INCOMING / name)
    for name in names["own"]:
        if (_BEFORE / name).exists():
            (_BEFORE / name).rename(Path(facts.DATA, name))
    os.sync()
