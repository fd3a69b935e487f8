"""Resident memory of a running machine by user, each shared page divided among those who share it (PSS)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from builder import facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.lab.machine import Machine

# Runs inside the machine. A container's processes count for the user whose subordinate ids they have.
_SCRIPT: Final = """
import collections, glob, json, os
found = collections.Counter()
for path in glob.glob("/proc/[0-9]*/smaps_rollup"):
    try:
        lines = open(path).read().splitlines()
        found[os.stat(os.path.dirname(path)).st_uid] += sum(int(l.split()[1]) for l in lines if l.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError):
        pass
print(json.dumps(found))
"""


def by_user(machine: Machine) -> dict[int, float]:
    """MiB by user id, of the users that are the host's own apart from root's."""
    shown = machine.run(["python3", "-c", _SCRIPT]).stdout
    return joined({int(uid): float(kib) for uid, kib in json.loads(shown).items()})


def joined(kib: Mapping[int, float]) -> dict[int, float]:
    """KiB by user id as MiB by user of ours, subordinate ids added to the user they belong to; others are left out."""
    found: dict[int, float] = {}
    for uid, amount in kib.items():
        slot = uid // facts.SUBID_SIZE if uid >= facts.FIRST_SLOT * facts.SUBID_SIZE else uid - facts.UID_BASE
        if facts.FIRST_SLOT <= slot <= facts.LAST_SLOT:
            found[facts.UID_BASE + slot] = found.get(facts.UID_BASE + slot, 0.0) + amount / 1024
    return found
