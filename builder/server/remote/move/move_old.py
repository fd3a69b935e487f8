"""The old host of an `er server move`: it stops, waits for what becomes of it, and stays stopped or starts again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from builder import facts, files
from builder.server.remote import held
from builder.server.remote.common import RemoteError
from builder.server.remote.move import data_list
from builder.server.remote.move.move_state import advance, age_of_word, asked, clock, exclusive, hear, until

if TYPE_CHECKING:
    from builder.server.remote.common import Value


def move_stop() -> Value:
    """Stop and hold this host for the move `pair`; returns the state once it is stopped. Raises RemoteError."""
    words = asked()
    with exclusive() as state:
        mine = (state.get("pair"), state.get("role")) == (words["pair"], "old")
        if state.get("phase") == "resuming" and held.is_working():
            raise RemoteError("this server is just starting again", "try again")
        if state and not mine and state["phase"] not in {"done", "resuming"}:
            raise RemoteError("another er server move is at this server", "end it with --back, as it was begun")
        hear()
        if mine and state["phase"] in {"stopped", "moved"}:
            held.set_state({**state, "run": words["run"]})
        else:
            held.set_state({**words, "role": "old", "phase": "stopping"})
            held.start_unit()
    return until({"stopped", "moved"}, 1500)


def move_word() -> Value:
    """er is still there; returns the state."""
    words = asked()
    with exclusive() as state:
        if state.get("run") == words["run"]:
            hear()
        return state


def move_handover() -> Value:
    """From here on this host stays stopped, until somebody wants it back. Raises RemoteError."""
    words = asked()
    with exclusive() as state:
        if state.get("pair") != words["pair"] or state.get("phase") not in {"stopped", "moved"}:
            raise RemoteError("this server has started again meanwhile", "the same command begins anew")
        held.set_state({**state, "phase": "moved", "to": words["to"], "at": int(time.time())})
    return {}


def move_resume() -> Value:
    """This host runs again, and keeps nothing of the move."""
    with exclusive() as state:
        if state.get("role") != "old":
            return {}
        held.set_state({**state, "phase": "resuming"})
        # One that is at it by itself is not disturbed.
        if not held.is_working():
            held.start_unit()
    return until({""}, 600)


def keep_stopped() -> None:
    """Stop, then wait for what is to become of this host."""
    state = held.state()
    if state["phase"] == "stopping" and age_of_word() is None:
        advance("stopping", "resuming")  # the power was cut meanwhile
    elif state["phase"] == "stopping":
        held.hold()
        killed = held.stop()
        _copy_bans()
        os.sync()
        hear()
        advance("stopping", "stopped", killed=killed)
    since = clock()
    while held.state()["phase"] in {"stopping", "stopped"}:
        with exclusive() as now:
            age = age_of_word()
            if now["phase"] == "stopped" and (age if age is not None else clock() - since) > state["lease"]:
                held.set_state({**now, "phase": "resuming"})
        time.sleep(0.2)
    if held.state()["phase"] == "resuming":
        data_list.BANS_COPY.unlink(missing_ok=True)
        held.release()
        held.start()
        held.report()
        held.forget()
    else:
        held.remove_unit()


def _copy_bans() -> None:
    """Fail2Ban goes on, and may be writing to its database."""
    copy = data_list.BANS_COPY
    copy.unlink(missing_ok=True)
    source = Path(facts.DATA, data_list.BANS)
    if not source.is_file() or source.is_symlink():
        return
    files.replace(copy, b"", 0o600, owner=(0, 0))
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
        old.backup(new)
