"""The command line of the remote part: a verb and its words in, JSON out; errors as lines that the client knows."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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
    "apply-start": "apply",
    "apply-state": "apply",
    "apply-wait": "apply",
    "apply-confirm": "apply",
    "apply-run": "apply",
}


def main() -> None:
    """Run the verb of the command line with its words; a failure ends with exit code 1."""
    verb, *words = sys.argv[1:]
    try:
        json.dump(function(verb)(*words), sys.stdout)
    except (RemoteError, UserError) as error:
        sys.stderr.write(f"er-error: {error}\n" + (f"er-hint: {error.hint}\n" if error.hint else ""))
        raise SystemExit(1) from None


def function(verb: str) -> Callable[..., Any]:
    """The function of a verb; only its own module is imported."""
    found: Callable[..., Any] = getattr(import_module(f"builder.server.remote.{VERBS[verb]}"), verb.replace("-", "_"))
    return found
