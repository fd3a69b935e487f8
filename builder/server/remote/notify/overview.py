"""What the admin sees of notices: channels, what is queued and what was told; and a trial of each channel."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, host_secrets
from builder.server.remote.common import RemoteError
from builder.server.remote.notify import notices, send, watch
from builder.server.remote.notify.notices import TRIAL

if TYPE_CHECKING:
    from builder.server.remote.common import Value


# Seconds: who looks each quarter of a minute does not, if the last time is longer ago.
_LATE: Final = 600


def notify_show() -> Value:
    """Each channel with its last answer, what is queued, what was told last, and what is wrong now."""
    settings = notices.settings()
    if settings is None:
        raise RemoteError(
            "the spec of this host tells nobody", "write notify: {webhook: true}, and: er server apply HOST SPEC"
        )
    problems, at = watch.open_problems()
    return {
        "channels": {name: send.answers().get(name) for name in send.CHANNELS if settings.get(name)},
        "missing": host_secrets.missing("notify"),
        "served": Path(facts.REMOTE_CODE).exists(),
        "looked": at,
        "late": at is not None and time.time() - at > _LATE,
        "problems": problems,
        "queued": [
            {"title": one.title, "stack": one.stack, "at": one.at, "left": one.left} for _, one in notices.queued()
        ],
        "dropped": notices.dropped(),
        "told": notices.told(),
    }


# Seconds that a trial has: until each channel has answered.
_TRIAL: Final = 75


def notify_test() -> Value:
    """A trial for each channel, by the way of all notices: the queue and the unit that sends. What each answered."""
    settings = notices.settings()
    wanted = notify_show()["channels"]
    if missing := host_secrets.missing("notify"):
        raise RemoteError(f"nobody can be told without {missing[0]}", f"er server secret set HOST --host {missing[0]}")
    if settings and not Path(facts.REMOTE_CODE).exists():
        common.keep_code()
    begun, title = int(time.time()), "this is a test: notices of this server arrive"
    kept = notices.Notice(TRIAL, title, "nothing has to be done", "", TRIAL, begun, tuple(wanted))
    notices.put(kept)
    notices.try_again()
    while time.time() < begun + _TRIAL:
        found = {name: one for name, one in send.answers().items() if name in wanted and one["at"] >= begun}
        if len(found) == len(wanted):
            return {"channels": found}
        time.sleep(0.2)
    late = {"at": None, "ok": False, "said": f"no answer within {_TRIAL} s", "failing_since": begun}
    return {"channels": {name: found.get(name, late) for name in wanted}}
