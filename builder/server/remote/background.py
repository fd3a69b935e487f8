"""Work in a unit of its own, which a lost connection does not end; its state is in the directory of its change."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import changed_files, common

if TYPE_CHECKING:
    from builder.server.remote.changed_files import Change
    from builder.server.remote.common import Value

_RUN_CODE: Final = "import sys;sys.path.insert(0,sys.argv.pop(1));from builder.server.remote.main import main;main()"


# The unit says how its process has ended; stopped in order, by a shutdown as well, it has succeeded.
_RECOVER: Final = '[ "$SERVICE_RESULT" = success ] || [ ! -e "$1" ] || { shift; exec "$@"; }'
# What takes a change back may wait as long as the services need for that, in seconds.
_RECOVER_WITHIN: Final = 900


def start(unit: str, description: str, change: Change, verb: str, *words: str, recover: str = "") -> None:
    """Run a verb of this program, of which the unit keeps a copy, in a unit of this name.

    The verb `recover` follows, with the same words, where the process has been ended and the change is pending.
    """
    code = change.directory / "code.zip"
    changed_files.write(code, common.archive().read_bytes())
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--description=EasyRunner: {description}"]
    python = ["python3", "-I", "-c", _RUN_CODE, str(code)]
    if recover:
        after = shlex.join(
            ["/bin/sh", "-c", _RECOVER.replace("$", "$$"), "sh", str(change.pending), *python, recover, *words]
        )
        argv += [f"--property=ExecStopPost={after}"]
        argv += [f"--property=TimeoutStopSec={_RECOVER_WITHIN}"]
    common.run([*argv, *python, verb, *words])


# A unit that is stopping takes back what its process has left.
_AT_WORK: Final = frozenset({"active", "activating", "deactivating"})


def is_running(unit: str) -> bool:
    """Whether the work goes on."""
    return common.show(f"{unit}.service", "ActiveState").get("ActiveState") in _AT_WORK


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
