"""The queue of notices: a file each, which only root reads, until every channel has taken it.

Everything on the host that runs as root may `tell`. It asks no network: what sends is a unit of its own, which a path
unit starts as soon as something is queued.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts, files
from builder.server.remote import common

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value

DIRECTORY: Final = Path(facts.NOTICES)
QUEUE: Final = DIRECTORY / "queue"
# Of all that is written here.
OWNER: Final[tuple[int, int] | None] = (0, 0)
# What a queue holds at most: when channels are down for long, what is newer is only counted.
MOST: Final = 400
_DROPPED: Final = DIRECTORY / "dropped"
# Characters: of a title, of a text and of a line in it; what an app has written may be of any length.
_LONGEST_TITLE, _LONGEST_TEXT, _LONGEST_LINE = 200, 2000, 300
# What is not printed as it stands: controls, and what changes the direction or the order of text.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)

# Of a notice: something is wrong, it is not any more, or something has happened that has no end.
WRONG, RESOLVED, HAPPENED = "wrong", "resolved", "happened"
# And what is no notice: the daily sign of life, which another address takes; and a trial.
BEAT, TRIAL = "heartbeat", "test"


@dataclass(frozen=True)
class Notice:
    """One thing to tell. `key` says which rule it is of, `at` is in seconds since 1970.

    `left` are the channels that have not taken it yet; before `not_before` nobody is told, as it is the quiet time.
    """

    key: str
    title: str
    text: str
    stack: str
    kind: str
    at: int
    left: tuple[str, ...]
    not_before: int = 0


def settings() -> Value | None:
    """What the spec says of telling, as in facts.NOTIFY; None where it says nothing."""
    try:
        found: Value = json.loads(Path(facts.NOTIFY).read_bytes())
    except FileNotFoundError:
        return None
    return found


# How to start what sends, and what looks at the host; and the rules of the audit system for the second.
_UNITS: Final = ("er-notify-watch.service", "er-notify.path")
_SENDER: Final = "er-notify.service"
_AUDIT_RULES: Final = Path(facts.ETC, "notify.rules")


def secrets() -> tuple[str, ...]:
    """The names of the host's secrets that are for telling."""
    return tuple((settings() or {}).get("secrets", ()))


def start() -> None:
    """Both run by what their files say now, where the host has them."""
    if _AUDIT_RULES.exists():
        common.run(["auditctl", "-R", str(_AUDIT_RULES)], check=False)
        common.run(["systemctl", "restart", *_UNITS])


def try_again() -> None:
    """What is queued is sent now, however long the sender would have paused."""
    common.run(["systemctl", "restart", _UNITS[1]], check=False)
    if next(queued(), None):
        common.run(["systemctl", "restart", _SENDER], check=False)


# Seconds in which the same is not told twice by those who do not remember what they told.
_SAME: Final = 3600


def tell(key: str, title: str, text: str, *, stack: str = "") -> None:
    """Queue a notice that something has happened; on a host whose spec has no `notify` nothing is done.

    `title` is what happened, `text` what to do; both are cut and made printable. The quiet time's end is waited for.
    """
    now = int(time.time())
    same = (key, stack, printable_line(title))
    before = ((one["key"], one["stack"], one["title"]) for one in told() if now - one["at"] < _SAME)
    if same not in before:
        queue(key, title, text, stack=stack, urgent=False)


def queue(key: str, title: str, text: str, *, stack: str = "", kind: str = HAPPENED, urgent: bool = True) -> None:
    """The same for any kind of notice, as often as it is said."""
    wanted = settings() or {}
    if channels := tuple(name for name in ("webhook", "email") if wanted.get(name)):
        at = int(time.time())
        not_before = 0 if urgent else quiet_until(wanted.get("quiet"), at)
        put(Notice(key, printable_line(title), printable(text), stack, kind, at, channels, not_before))


def put(notice: Notice) -> None:
    """On the disk when this returns; where the queue is full, it is counted and dropped."""
    make_directories()
    if notice.kind != BEAT:
        _note_told(notice)
    if sum(1 for _ in QUEUE.iterdir()) >= MOST:
        files.replace(_DROPPED, str(dropped() + 1).encode(), 0o600, owner=OWNER)
        return
    content = json.dumps(asdict(notice)).encode()
    name = f"{time.time_ns()}-{hashlib.sha256(content).hexdigest()[:8]}.json"
    files.replace(QUEUE / name, content, 0o600, owner=OWNER)


def quiet_until(quiet: list[str] | None, now: int) -> int:
    """The end of the quiet time that it is now, in seconds since 1970, or 0."""
    if not quiet:
        return 0
    first, last = ((int(text[:2]) * 60 + int(text[3:])) * 60 for text in quiet)
    local = time.localtime(now)
    second = (local.tm_hour * 60 + local.tm_min) * 60 + local.tm_sec
    is_quiet = first <= second < last if first <= last else second >= first or second < last
    return now + (last - second) % 86_400 if is_quiet else 0


# What was told last, a list of notices without what they were told by; so many of them.
_TOLD: Final = DIRECTORY / "told.json"
_TOLD_MOST: Final = 100


def told() -> list[Value]:
    """The last notices, the oldest first: `at`, `kind`, `key`, `stack`, `title`, `text`."""
    try:
        found: list[Value] = json.loads(_TOLD.read_bytes())
    except (OSError, ValueError):
        return []
    return found


def _note_told(notice: Notice) -> None:
    names = ("at", "kind", "key", "stack", "title", "text")
    one = {name: value for name, value in asdict(notice).items() if name in names}
    files.replace(_TOLD, json.dumps([*told(), one][-_TOLD_MOST:]).encode(), 0o600, owner=OWNER)


def make_directories() -> None:
    """The queue's own, which nobody but root enters."""
    for directory in (DIRECTORY, QUEUE):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def dropped() -> int:
    """How many notices found the queue full."""
    try:
        return int(_DROPPED.read_text())
    except (OSError, ValueError):
        return 0


def tell_dropped() -> None:
    """Once there is room again, how many those were."""
    if (count := dropped()) and sum(1 for _ in QUEUE.iterdir()) < MOST // 2:
        _DROPPED.unlink(missing_ok=True)
        name = common.server_env().get("NAME", "HOST")
        queue(
            "queue", f"{count} notices are lost: {MOST} others waited", f"er server notify {name} shows the last ones"
        )


def queued() -> Iterator[tuple[Path, Notice]]:
    """Each notice that is queued, the oldest first."""
    if not QUEUE.is_dir():
        return
    for path in sorted(QUEUE.glob("*.json")):
        if notice := read(path):
            yield path, notice


def read(path: Path) -> Notice | None:
    """The notice in a file; what none can be made of is removed."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return Notice(**{**found, "left": tuple(found["left"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError):
        path.unlink(missing_ok=True)
        return None


def rewrite(path: Path, notice: Notice) -> None:
    """A notice that some channel has taken; one that all have taken is gone."""
    if notice.left:
        files.replace(path, json.dumps(asdict(notice)).encode(), 0o600, owner=OWNER)
    else:
        path.unlink(missing_ok=True)
        files.sync(path.parent)


def printable_line(text: str) -> str:
    """One line of text that any program may show: no controls, cut."""
    return cut(_UNPRINTABLE.sub("?", " ".join(text.split())), _LONGEST_TITLE)


def printable(text: str) -> str:
    """The same for a text of some lines."""
    lines = (cut(_UNPRINTABLE.sub("?", line.rstrip()), _LONGEST_LINE) for line in text.strip().splitlines())
    return cut("\n".join(lines), _LONGEST_TEXT)


def cut(text: str, most: int) -> str:
    """The text, or its beginning with a sign that there was more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
