"""Checks of an image's hygiene, on a directory. Standard library only, as it also runs in the image, as a zipapp."""

from builder.imagecheck.model import Check, Expected, Finding, Report, from_json
from builder.imagecheck.table import CHECKS, IDS, check, examine
from builder.imagecheck.zipapp import bundle, expected

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
