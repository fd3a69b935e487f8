"""What the host's `backup:` and a stack's become, and what of them does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder import facts
from builder.oci import known_images
from builder.spec import messages, model
from builder.spec.backup_input import KeepInput
from builder.stack.model import StackBackup

if TYPE_CHECKING:
    from collections.abc import Collection

    from builder.spec.backup_input import BackupInput, StackBackupInput
    from builder.spec.document import Document
    from builder.stack.model import Service
    from builder.yamlfile.source import Loc


def of_host(section: BackupInput | None) -> model.Backup | None:
    """Where backups go, and what is kept; None without any."""
    if section is None:
        return None
    keep = section.keep or KeepInput()
    kept = None if section.append_only else model.Keep(keep.daily, keep.weekly, keep.monthly)
    return model.Backup(section.to, section.at, kept, section.bandwidth, section.append_only, section.host_key)


def bucket_statements(backup: model.Backup | None) -> list[dict[str, Any]]:
    """Of an IAM policy, what lets a server's role back up to its bucket of AWS: below its own path alone.

    A host that only appends removes nothing but the locks of restic, which each run makes.
    """
    if backup is None or not backup.to.startswith("s3://"):
        return []
    bucket, _, path = backup.to.removeprefix("s3://").partition("/")
    arn, below = f"arn:aws:s3:::{bucket}", f"{path}/" if path else ""
    removed = f"{arn}/{below}locks/*" if backup.append_only else f"{arn}/{below}*"
    find: dict[str, Any] = {"Condition": {"StringLike": {"s3:prefix": [f"{below}*"]}}} if path else {}
    return [
        {"Sid": "Locate", "Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": arn},
        {"Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn, **find},
        {"Sid": "Store", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"{arn}/{below}*"},
        {"Sid": "Remove", "Effect": "Allow", "Action": "s3:DeleteObject", "Resource": removed},
    ]


def of_stack(written: StackBackupInput | None) -> StackBackup | None:
    """What the spec says of one stack; None where it is left out."""
    if written is None:
        return StackBackup()
    if written.is_left_out:
        return None
    before = tuple((service, tuple(command)) for service, command in written.before.items())
    return StackBackup(before, written.stop, tuple(dict.fromkeys(written.exclude)))


def check_host(document: Document) -> None:
    """What of the host's section does not go together."""
    place: Loc = ("backup",)
    if not isinstance(document.get(place), dict):
        return
    to = document.text((*place, "to")) or ""
    if document.get((*place, "append_only")) is True and document.get((*place, "keep")) is not None:
        document.report(messages.BACKUP_APPEND_KEEP, (*place, "keep"), on_key=True)
    kept = document.get((*place, "keep"))
    if isinstance(kept, dict) and [kept.get(name) for name in KeepInput.model_fields] == [0, 0, 0]:
        document.report(messages.BACKUP_KEEP_NONE, (*place, "keep"))
    if to.startswith(("s3:http:", "rest:http:")):
        document.report(messages.BACKUP_HTTP, (*place, "to"))
    if document.get((*place, "host_key")) is None and to.startswith("sftp:"):
        document.report(messages.BACKUP_HOST_KEY_NONE, (*place, "to"))
    if document.get((*place, "host_key")) is not None and not to.startswith("sftp:"):
        document.report(messages.BACKUP_HOST_KEY_UNUSED, (*place, "host_key"), on_key=True)


def check_stack(document: Document, loc: Loc, services: Collection[Service]) -> None:
    """What the `backup` of the stack at a place names and is not there."""
    place: Loc = (*loc, "backup")
    if document.get(place) and document.get(("backup",)) is None:
        document.report(messages.BACKUP_NONE, place, on_key=True)
    is_saved = document.get(("backup",)) is not None and document.get(place) is not False
    if is_saved and document.text((*loc, "name")) == facts.BACKUP_HOST:
        document.report(messages.BACKUP_NAME, (*loc, "name"))
    if is_saved:
        _check_torn(document, loc, services)
    known = [service.name for service in services]
    for name in document.keys((*place, "before")):
        if name not in known:
            values = {"name": name, "known": ", ".join(known)}
            document.report(messages.SECRET_SERVICE, (*place, "before", name), on_key=True, **values)


def _check_torn(document: Document, loc: Loc, services: Collection[Service]) -> None:
    place: Loc = (*loc, "backup")
    if document.get((*place, "stop")) is True:
        return
    dumped = set(document.keys((*place, "before")))
    if torn := [one.name for one in services if known_images.is_torn(one.image) and one.name not in dumped]:
        document.report(messages.BACKUP_TORN, (*loc, "name"), services=", ".join(torn), service=torn[0])
