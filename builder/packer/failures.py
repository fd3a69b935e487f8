"""A failed build in one message: which step, its last words, what may be left, what to do, where the whole log is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.packer import hints, leftovers
from builder.packer.steps import BOOT, EXPORT, START
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from builder.packer.leftovers import Left
    from builder.packer.steps import Phases

_LAST_LINES: Final = 12
# "er-bake: <step>: <what>" is the last word of a step in images/steps.
_OURS: Final = re.compile(r"^\s*er-bake: [\w-]+: (.*)$")
# What says no more than that there was a failure: the reason is what the builder complained of before.
_EMPTY: Final = re.compile(
    r"build (was )?(halted|cancelled)|unexpected EOF|Script (exited|disconnected)|connection is shut"
)
_CRASH: Final = re.compile(r"PACKER CRASH|^panic: |^goroutine \d+ \[")
# Where Packer's reading of a template points at text that it does not have.
_POINTLESS: Final = re.compile(r"\s*\(source code not available\)\s*")


class BakeError(UserError):
    """The build failed in `step`; `left` is what may have stayed at the provider."""

    def __init__(self, message: str, step: str, hint: str | None, left: tuple[Left, ...] = ()) -> None:
        super().__init__(message, hint)
        self.step = step
        self.left = left


def failed(
    phases: Phases, seconds: float, code: int, log: Path, *, left: tuple[Left, ...] = (), target: str = ""
) -> BakeError:
    """What to say of a build that ended by itself."""
    # What apt says within a step is not the provider's.
    provider = target if phases.step in (START, BOOT, EXPORT) else ""
    reasons = _lines(phases.reasons)
    what = _what(phases, reasons, code)
    tail = _tail(phases.output, "\n".join([what, *reasons]))
    message = f"baking failed in step {phases.step} after {seconds:.0f} s: {what}"
    if tail:
        message += "\n  its last output:\n" + "\n".join(f"  | {line}" for line in tail)
    for line in leftovers.lines(left):
        message += f"\n  {line}"
    clean = f"er build-image --clean {target} shows and removes what stayed" if left else ""
    way = hint([what, *reasons, *phases.output], log, provider, clean)
    return BakeError(message, phases.step, way, left)


def hint(texts: Sequence[str], log: Path, target: str = "", more: str = "") -> str:
    """The way out when the texts tell it, and where to read on."""
    return "; ".join(filter(None, (hints.find(texts, target), more, f"the whole log: {log}")))


def ending(code: int) -> str:
    """An exit code of Packer in words."""
    if code < 0:
        return f"Packer was killed by signal {-code}"
    # Its outer process ends with 0 when the inner one, which does the work, was killed.
    return "Packer was killed" if code == 0 else f"Packer ended with exit code {code}"


def shown(lines: Iterable[str]) -> list[str]:
    """What Packer says of a template, without what nobody can use."""
    return [line.rstrip() for line in lines if line.strip() and not _POINTLESS.fullmatch(line)]


def _what(phases: Phases, reasons: Sequence[str], code: int) -> str:
    """The reason, once: what the step says of itself, else Packer's final word, else the builder's last complaint."""
    telling = [line for line in reasons if not _EMPTY.match(line)]
    crashed = any(_CRASH.search(line) for line in phases.output) or any("unexpected EOF" in line for line in reasons)
    complaint = phases.complaint if not phases.failed and (crashed or not telling) else ""
    what = _told(phases.output) or complaint or "; ".join(telling or reasons) or ending(code)
    return f"{what} (and the plugin crashed)" if crashed else what


def _lines(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(line.strip() for text in texts for line in text.splitlines() if line.strip()))


def _told(tail: Sequence[str]) -> str:
    """What a step of ours says of its own failure."""
    found = (_OURS.search(line) for line in reversed(tail))
    return next((match[1] for match in found if match), "")


def _tail(output: Sequence[str], told: str) -> list[str]:
    """The last lines that say something new, up to where a plugin's crash begins."""
    crash = next((number for number, line in enumerate(output) if _CRASH.search(line)), len(output))
    lines = (line.rstrip() for line in output[:crash] if line.strip("! ") and not _OURS.search(line))
    return [line for line in lines if line.strip() not in told][-_LAST_LINES:]
