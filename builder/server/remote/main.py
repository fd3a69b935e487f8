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
    "deploy-enable": "deploy_service",
    "services": "services",
    "session": "session",
    "secret-set": "secrets",
    "secret-generate": "secrets",
    "secret-list": "secrets",
    "secret-rm": "secrets",
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
