"""The command line of the remote part: a verb and its words in, JSON out; errors as lines that the client knows."""

from __future__ import annotations

import contextlib
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts, files
from builder.problems import UserError
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
    "backup-wait": "backup.backup",
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
}


def main(digest: str = "") -> None:
    """Run the verb of the command line with its words; a failure ends with exit code 1.

    With its digest this code has come along, and is kept for the next call.
    """
    if digest:
        _keep(digest)
    verb, *words = sys.argv[1:]
    try:
        json.dump(function(verb)(*words), sys.stdout)
    except (RemoteError, UserError) as error:
        sys.stderr.write(f"er-error: {error}\n" + (f"er-hint: {error.hint}\n" if error.hint else ""))
        raise SystemExit(1) from None


# Of versions of er that different admins have.
_VERSIONS: Final = 3


def _keep(digest: str) -> None:
    """Leave this code where the next call looks for it; a host without room for that gets it again."""
    place = Path(facts.REMOTE)
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(place / digest, Path(sys.path[0]).read_bytes(), 0o600)
        for old in sorted(place.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)[_VERSIONS:]:
            old.unlink(missing_ok=True)


def function(verb: str) -> Callable[..., Any]:
    """The function of a verb; only its own module is imported."""
    found: Callable[..., Any] = getattr(import_module(f"builder.server.remote.{VERBS[verb]}"), verb.replace("-", "_"))
    return found
