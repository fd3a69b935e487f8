"""Checks what an image must not carry, on the directory of its files.

image_tree              the image's files, users and packages
model                   check, finding, report: on image_tree
access … traces         the checks of one area and their rows: on model and image_tree
table                   every row, in the order of the report; runs them
zipapp                  the package as one file that the image's own python3 runs

Standard library only: nothing here imports another package of er at run time.
"""

from builder.imagecheck.image_tree import Expected
from builder.imagecheck.model import Check, Finding, Report, from_json
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
