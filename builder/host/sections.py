"""What sections of a spec say to programs on the host: a file each, which they read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from builder import facts
from builder.host import packages
from builder.oci import ecr
from builder.stack.model import StackBackup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.spec import Spec
    from builder.spec.model import Backup, Notify
    from builder.stack.model import Stack


def contents(spec: Spec) -> Iterator[tuple[str, bytes | None, str]]:
    """What sections of the spec say to programs of the host: path, content where there is any, and mode."""
    yield f"{facts.ETC}/caddy/acme-root.pem", spec.tls.ca_root, "0644"
    yield facts.STORAGE, lines([spec.tls.storage.source]) if spec.tls.storage else None, "0644"
    yield facts.LOGINS, _logins(spec), "0600"
    yield facts.DEPLOY_KEYS, _deploy_keys(spec), "0644"
    yield facts.ROLE_LOGINS, _role_logins(spec), "0644"
    yield facts.BACKUP, _backup(spec.backup, spec.stacks) if spec.backup else None, "0644"
    yield facts.NOTIFY, _notify(spec.notify) if spec.notify else None, "0600"
    yield facts.UPDATES, _updates(spec), "0644"
    yield facts.PACKAGES, lines(packages.of_spec(spec)), "0644"


def _notify(notify: Notify) -> bytes:
    return json.dumps({**asdict(notify), "secrets": notify.secrets}).encode() + b"\n"


def _updates(spec: Spec) -> bytes | None:
    """By stack, and of the proxy: no stack has its name."""
    every = (("proxy", spec.proxy.update), *((stack.name, stack.update) for stack in spec.stacks))
    updates = {name: asdict(update) for name, update in every if update}
    return json.dumps(updates, separators=(",", ":")).encode() + b"\n" if updates else None


def lines(words: Iterable[str]) -> bytes:
    """A word a line."""
    return "".join(f"{word}\n" for word in words).encode()


def _logins(spec: Spec) -> bytes:
    """Who logs in where: `er server registry` reads it, and first boot, which says what is not there."""
    named = ((owner, login) for owner, login in spec.logins if not login.by_role)
    return lines(f"{owner} {login.registry} {login.username}" for owner, login in named)


def _role_logins(spec: Spec) -> bytes:
    """Where the server's role logs in, for whom."""
    found = ((owner, login.registry, ecr.registry(login.registry)) for owner, login in spec.logins if login.by_role)
    return lines(f"{owner} {name} {registry.name}" for owner, name, registry in found if registry)


def _deploy_keys(spec: Spec) -> bytes:
    """Lines of authorized_keys; what is not in them a key may not do: see `restrict` in sshd(8)."""
    found = ((stack.name, key) for stack in spec.stacks if stack.deploy for key in stack.deploy.ssh_keys)
    return "".join(f'restrict,command="{facts.DEPLOY_SHELL} {name}" {key}\n' for name, key in found).encode()


def _backup(backup: Backup, stacks: Iterable[Stack]) -> bytes:
    """What the remote part reads: the repository, and of stacks what differs from the rule; false is left out."""
    value = {
        "repository": backup.repository,
        "secrets": backup.secrets,
        "optional_secrets": backup.optional_secrets,
        "keep": asdict(backup.keep) if backup.keep else None,
        "bandwidth": backup.bandwidth,
        "append_only": backup.append_only,
        "host_key": backup.host_key,
        "stacks": {stack.name: _stack_backup(stack) for stack in stacks if stack.backup != StackBackup()},
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _stack_backup(stack: Stack) -> dict[str, object] | bool:
    backup = stack.backup
    return {"before": dict(backup.before), "stop": backup.stop, "exclude": backup.exclude} if backup else False
