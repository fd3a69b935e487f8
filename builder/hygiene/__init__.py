"""Checks of an image's hygiene, on a directory. Standard library only, as it also runs in the image, as a zipapp."""

from builder.hygiene.bundle import bundle, expected
from builder.hygiene.model import Check, Expected, Finding, Report, from_json
from builder.hygiene.run import check, examine
from builder.hygiene.table import CHECKS, IDS

__all__ = [
    "CHECKS",
    "IDS",
    "Check",
    "Expected",
    "Finding",
    "Report",
    "bundle",
    "check",
    "examine",
    "expected",
    "from_json",
]
