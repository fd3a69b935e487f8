"""A failed build in one message: which step, its last words, what to do, where the whole log is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.packer.phases import Phases

_LAST_LINES: Final = 12
# "er-bake: <step>: <what>" is the last word of a step in images/steps.
_OURS: Final = re.compile(r"^\s*er-bake: [\w-]+: (.*)$")
# What the words of Packer, apt and providers come down to, and the way out. The first that fits is shown.
_KNOWN: Final = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        (r"No space left on device", "the disk of the image is full: give it more with --size"),
        (
            r"Could not resolve|Temporary failure resolving|Failed to fetch|[Cc]ould not connect|Unable to connect",
            "the package mirror cannot be reached from the machine being baked: check its network and the mirror",
        ),
        (r"VPCIdNotSpecified|No default (?:VPC|subnet)", "name a subnet of yours: --var-file with subnet_id"),
        (
            r"AuthFailure|InvalidClientTokenId|UnauthorizedOperation|Unable to authenticate|401 Unauthorized",
            "the provider refused the credentials in the environment",
        ),
        (
            r"Timeout waiting for SSH|unable to authenticate|handshake failed",
            "the machine never let Packer in: its boot takes too long, or its image does not take the key",
        ),
        (r"accelerator|KVM|/dev/kvm", "without a working KVM: --accelerator tcg"),
    )
)


class BakeError(UserError):
    """The build failed in `step`."""

    def __init__(self, message: str, step: str, hint: str | None) -> None:
        super().__init__(message, hint)
        self.step = step


def failed(phases: Phases, seconds: float, code: int, log: Path) -> BakeError:
    """What to say of a build that ended by itself."""
    reasons = tuple(dict.fromkeys(line.strip() for reason in phases.reasons for line in reason.splitlines()))
    tail = _tail(phases.output)
    what = _told(tail) or "; ".join(filter(None, reasons)) or ending(code)
    message = f"baking failed in step {phases.step} after {seconds:.0f} s: {what}"
    if tail := [line for line in tail if not _OURS.search(line)]:
        message += "\n  its last output:\n" + "\n".join(f"  | {line}" for line in tail)
    return BakeError(message, phases.step, hint([*tail, *reasons], log))


def hint(texts: Sequence[str], log: Path) -> str:
    """The way out when the texts tell it, and where to read on."""
    known = next((way for pattern, way in _KNOWN for text in texts if pattern.search(text)), None)
    return f"{known}; the whole log: {log}" if known else f"the whole log: {log}"


def ending(code: int) -> str:
    """An exit code of Packer in words."""
    if code < 0:
        return f"Packer was killed by signal {-code}"
    # Its outer process ends with 0 when the inner one, which does the work, was killed.
    return "Packer was killed" if code == 0 else f"Packer ended with exit code {code}"


def _told(tail: Sequence[str]) -> str:
    """What a step of ours says of its own failure."""
    found = (_OURS.search(line) for line in reversed(tail))
    return next((match[1] for match in found if match), "")


def _tail(output: Sequence[str]) -> list[str]:
    return [line.rstrip() for line in output if line.strip()][-_LAST_LINES:]
