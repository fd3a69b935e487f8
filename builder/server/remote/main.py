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
    "backup-start": "backup",
    "backup-wait": "backup",
    "backup-list": "backup",
    "backup-check": "backup",
    "backup-run": "backup",
    "backup-recover": "backup",
    "restore-look": "restore",
    "restore-start": "restore",
    "restore-wait": "restore",
    "restore-run": "restore",
    "restore-back": "restore",
    "restore-confirm": "restore",
    "restore-first": "first_restore",
    "drill-start": "drill",
    "drill-wait": "drill",
    "drill-run": "drill",
    "drill-recover": "drill",
    "registry-list": "registries",
    "registry-login": "registries",
    "registry-logout": "registries",
    "archives-missing": "images",
    "archive-put": "images",
    "proxy-newest": "images",
    "build-start": "image_builds",
    "build-state": "image_builds",
    "build-wait": "image_builds",
    "build-run": "build_run",
    "release-start": "releases",
    "release-wait": "releases",
    "release-run": "releases",
    "release-list": "releases",
    "release-rollback": "releases",
    "push-target": "pushes",
    "push-missing": "pushes",
    "push-layers": "pushes",
    "push-finish": "pushes",
    "release-state": "releases",
    "inventory": "changed_files",
    "move-facts": "move",
    "move-list": "move",
    "move-send": "data_copy",
    "move-blocks": "data_copy",
    "move-receive": "data_copy",
    "move-image": "move",
    "move-images-missing": "move",
    "move-stop": "move_old",
    "move-word": "move_old",
    "move-handover": "move_old",
    "move-resume": "move_old",
    "move-begin": "move_new",
    "move-pass": "move_new",
    "move-passed": "move_new",
    "move-quiet": "move_new",
    "move-trial": "move_new",
    "move-state": "move_state",
    "move-extend": "move_new",
    "move-commit": "move_new",
    "move-undo": "move_new",
    "move-run": "move",
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
