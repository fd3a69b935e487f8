"""The command line of the remote part: a verb and its words in, JSON out; errors as lines that the client knows."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.problems import UserError
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

# Verb -> module; its function has the verb's name, with _ for -.
VERBS: Final = {
    "status": "status",
    "doctor": "doctor",
    "report-facts": "report",
    "jails": "bans",
    "ban": "bans",
    "unban": "bans",
    "reapply-firewall": "egress",
    "stack-status": "stack_status",
    "stack-logs": "stack_status",
    "keep-code": "common",
    "follow": "main",
    "services": "services",
    "session": "session",
    "secret-set": "secrets",
    "secret-generate": "secrets",
    "secret-list": "secrets",
    "secret-rm": "secrets",
    "host-secret-set": "host_secrets",
    "host-secret-list": "host_secrets",
    "host-secret-rm": "host_secrets",
    "backup-start": "backup.backup",
    "backup-wait": "backup.backup_progress",
    "backup-list": "backup.backup",
    "backup-check": "backup.backup",
    "backup-run": "backup.backup",
    "backup-recover": "backup.backup",
    "restore-look": "backup.restore",
    "restore-start": "backup.restore",
    "restore-wait": "backup.restore",
    "restore-run": "backup.restore",
    "restore-back": "backup.restore",
    "restore-confirm": "backup.restore",
    "restore-first": "backup.first_restore",
    "drill-start": "backup.drill",
    "drill-wait": "backup.drill",
    "drill-run": "backup.drill",
    "drill-recover": "backup.drill",
    "notify-watch": "notify.watch",
    "notify-send": "notify.send",
    "notify-show": "notify.overview",
    "notify-test": "notify.overview",
    "registry-list": "images.registries",
    "registry-login": "images.registries",
    "registry-logout": "images.registries",
    "archives-missing": "images.images",
    "archive-put": "images.images",
    "proxy-newest": "images.images",
    "build-start": "images.image_builds",
    "build-state": "images.image_builds",
    "build-wait": "images.image_builds",
    "build-run": "images.build_run",
    "release-start": "releases",
    "release-wait": "releases",
    "release-run": "releases",
    "release-recover": "releases",
    "update-run": "image_updates",
    "update-recover": "proxy_update",
    "release-list": "releases",
    "release-rollback": "releases",
    "push-target": "images.pushes",
    "push-missing": "images.pushes",
    "push-layers": "images.pushes",
    "push-finish": "images.pushes",
    "release-state": "releases",
    "inventory": "changed_files",
    "move-facts": "move.move",
    "move-list": "move.move",
    "move-send": "move.data_copy",
    "move-blocks": "move.data_copy",
    "move-receive": "move.data_copy",
    "move-image": "move.move",
    "move-images-missing": "move.move",
    "move-stop": "move.move_old",
    "move-word": "move.move_old",
    "move-handover": "move.move_old",
    "move-resume": "move.move_old",
    "move-begin": "move.move_new",
    "move-pass": "move.move_new",
    "move-passed": "move.move_new",
    "move-quiet": "move.move_new",
    "move-trial": "move.move_new",
    "move-state": "move.move_state",
    "move-extend": "move.move_new",
    "move-commit": "move.move_new",
    "move-undo": "move.move_new",
    "move-run": "move.move",
    "apply-start": "apply",
    "apply-state": "apply",
    "apply-wait": "apply",
    "apply-confirm": "apply",
    "apply-run": "apply",
    "apply-recover": "apply",
    "apply-before": "tree_before",
}


def main(digest: str = "") -> None:
    """Run the verb of the command line with its words; a failure ends with exit code 1.

    With its digest this code has come along, and is kept for the next call.
    """
    if digest:
        _keep(digest)
    verb, *words = sys.argv[1:]
    try:
        _print(function(verb)(*words))
    except (RemoteError, UserError) as error:
        sys.stderr.write(f"er-error: {error}\n" + (f"er-hint: {error.hint}\n" if error.hint else ""))
        raise SystemExit(1) from None


def _print(value: Any) -> None:
    """A value as JSON; those that come one after the other as a line each, at once."""
    if not isinstance(value, Iterator):
        json.dump(value, sys.stdout)
        return
    for one in value:
        sys.stdout.write(json.dumps(one) + "\n")
        sys.stdout.flush()


# Of versions of er that different admins have.
_VERSIONS: Final = 3


def _keep(digest: str) -> None:
    """Leave this code where the next call looks for it, whole; a host without room for that gets it again."""
    place = Path(facts.REMOTE)
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".", ignore_cleanup_errors=True) as new:
            with zipfile.ZipFile(sys.path[0]) as archive:
                archive.extractall(new)
            Path(new, common.ARCHIVE).write_bytes(common.archive().read_bytes())
            Path(new).rename(place / digest)
        for old in sorted(place.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)[_VERSIONS:]:
            shutil.rmtree(old)


def function(verb: str) -> Callable[..., Any]:
    """The function of a verb; only its own module is imported."""
    found: Callable[..., Any] = getattr(import_module(f"builder.server.remote.{VERBS[verb]}"), verb.replace("-", "_"))
    return found


# What a client does something about: the change is over, or waits for the client.
_STOPS: Final = facts.APPLY_ENDS | {"waiting for you"}
# Seconds after which it is said again that a phase lasts: before anything on the way takes the connection for dead.
_SAID_EACH: Final = "20"


def follow(verb: str, *words: str) -> Iterator[Any]:
    """The states of a verb that waits, whose last word is the phase before, until one that is a client's turn."""
    *rest, phase = words
    while True:
        state = function(verb)(*rest, phase, _SAID_EACH)
        yield state
        phase = state["phase"]
        if phase in _STOPS:
            return
