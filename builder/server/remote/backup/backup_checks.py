"""What `er server doctor` says of backups, of their drills, and of restores that were cut or are kept."""

from __future__ import annotations

from typing import Final

from builder.server.remote import status


def backups() -> str:
    """What backups lack, and which failed or are late."""
    found = status.backups()
    if found is None:
        return ""
    missing = [f"the host lacks the secret {name}" for name in found["missing"]]
    failed = [found["run"]["error"]] if found["run"].get("error") else []
    errors = [f"{one['stack']}: {one['error']}" for one in found["stacks"] if one.get("error")]
    late = [f"{one['stack']} has had none for long" for one in found["stacks"] if one["late"]]
    return ", ".join([*missing, *failed, *errors, *late])


def drills() -> str:
    """Which snapshots could not be restored when that was tried."""
    found = status.backups()
    tried = {one["stack"]: one["drill"].get("error") for one in found["stacks"]} if found else {}
    return ", ".join(f"{stack}: {error}" for stack, error in tried.items() if error)


def skipped_drills() -> str:
    """Which snapshots were not tried, and why."""
    found = status.backups()
    tried = {one["stack"]: one["drill"].get("skipped") for one in found["stacks"]} if found else {}
    return ", ".join(f"{stack} was not tried: {why}" for stack, why in tried.items() if why)


_CUT: Final = {"cut": "was cut before its switch: it runs with the old data", "half": "was cut half-way: some is old"}


def restores() -> str:
    """Which restores did not come to their end."""
    cut = (one for one in status.restores() if one["state"] in _CUT)
    return ", ".join(f"a restore of {one['stack']} {_CUT[one['state']]}" for one in cut)


def kept() -> str:
    """What is still there of before a restore."""
    kept = (one["stack"] for one in status.restores() if one["state"] == "kept")
    return ", ".join(f"what {stack} had before its restore is still kept" for stack in kept)
