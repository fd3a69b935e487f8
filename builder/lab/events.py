"""What work that takes long tells while it goes on: events that a generator yields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step is over, after so many seconds."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Line:
    """What a step says while it goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """What has to be read, whatever shows it."""

    text: str


Progress = Started | Ended | Line | Note
