"""Which step a build is in, told from its events; the same for every builder."""

from __future__ import annotations

import re
from collections import deque
from pathlib import PurePosixPath
from typing import Final

from builder.packer.events import Event, Failed, Raw, Said

START: Final = "start"
BOOT: Final = "boot"
UPLOAD: Final = "upload"
EXPORT: Final = "export"
# Packer's headlines that begin a step, by their first words; the texts are the same since 1.6.6.
_SCRIPT: Final = "Provisioning with shell script: "
_UPLOAD: Final = "Uploading "
_CONNECT: Final = (
    "Waiting for SSH to become available",
    "Waiting for WinRM to become available",
    "Using SSH communicator to connect",
    "Using ssh communicator to connect",
)
_TAIL: Final = 400
# Headlines of a build that is being given up: the step that failed is the one before.
_GIVING_UP: Final = re.compile(
    r"Provisioning step had errors|Step \"|Cancelling build|Build was cancelled|Deleting output|Stopping and cleaning"
)


class Phases:
    """Fed with events in order; knows the current step, its output, and Packer's reasons."""

    def __init__(self) -> None:
        self.step = START
        self.output: deque[str] = deque(maxlen=_TAIL)
        self.reasons: list[str] = []
        self._giving_up = False

    def feed(self, event: Event) -> str | None:
        """The step that begins with this event, if one does."""
        if isinstance(event, Failed):
            self.reasons.append(event.text)
        begins = self._begins(event)
        if begins is None or begins == self.step:
            self._keep(event)
            return None
        self.step = begins
        self.output.clear()
        return begins

    def _keep(self, event: Event) -> None:
        if not self._giving_up and isinstance(event, Said | Raw):
            self.output.append(event.text)

    def _begins(self, event: Event) -> str | None:
        if not isinstance(event, Said) or event.tone != "say":
            return None
        self._giving_up = self._giving_up or bool(_GIVING_UP.match(event.text))
        if self._giving_up or not event.builder:
            return None
        return self._named(event.text)

    def _named(self, headline: str) -> str | None:
        if headline.startswith(_SCRIPT):
            return PurePosixPath(headline.removeprefix(_SCRIPT).strip()).name
        if headline.startswith(_UPLOAD):
            return UPLOAD
        if headline.startswith(_CONNECT):
            return BOOT if self.step == START else None
        # Any other headline after the last step is the builder closing its work: stopping, imaging, exporting.
        return None if self.step in (START, BOOT, UPLOAD) else EXPORT
