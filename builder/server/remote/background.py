"""Work in a unit of its own, which a lost connection does not end; its state is in the directory of its change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import changed_files, common

if TYPE_CHECKING:
    from builder.server.remote.changed_files import Change
    from builder.server.remote.common import Value

_RUN_CODE: Final = "import sys;sys.path.insert(0,sys.argv.pop(1));from builder.server.remote.main import main;main()"


def start(unit: str, description: str, change: Change, verb: str, *words: str) -> None:
    """Run a verb of this program, of which the unit keeps a copy, in a unit of this name."""
    code = change.directory / "code.zip"
    changed_files.write(code, common.archive().read_bytes())
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--description=EasyRunner: {description}"]
    common.run([*argv, "python3", "-I", "-c", _RUN_CODE, str(code), verb, *words])


def is_running(unit: str) -> bool:
    """Whether the work goes on."""
    return common.show(f"{unit}.service", "ActiveState").get("ActiveState") in ("active", "activating")


# Seconds between two looks at the state, which is a file, and between two questions to systemd, which take a processor
# from what is waited for.
_LOOK, _ASK = 0.1, 1.0


def wait(unit: str, change: Change, phase: str, seconds: float) -> Value:
    """The state once its phase is another one, or when the time is up."""
    deadline, asked = time.monotonic() + seconds, float("-inf")
    while (state := change.state())["phase"] == phase and time.monotonic() < deadline:
        if phase not in facts.APPLY_ENDS and time.monotonic() - asked > _ASK:
            asked = time.monotonic()
            if not is_running(unit):
                # It may have ended between the two looks.
                last = change.state()
                return last if last["phase"] != phase else {"phase": "failed", "why": "its unit is gone"}
        time.sleep(_LOOK)
    return state
