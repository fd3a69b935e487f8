"""`er server restart`, `stop` and `start`: the services of a stack."""

from __future__ import annotations

from builder.cli import output
from builder.cli.options import AsJson, Host, Service, SshOptions, Stack, remote


def restart(host: Host, stack: Stack, service: Service = "", ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Restart a stack, or one service of it; its clients wait meanwhile."""
    return _run("restart", host, stack, service, ssh=ssh, as_json=as_json)


def stop(host: Host, stack: Stack, service: Service = "", ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Stop a stack, or one service of it, until it is started again or the server boots."""
    return _run("stop", host, stack, service, ssh=ssh, as_json=as_json)


def start(host: Host, stack: Stack, service: Service = "", ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Start a stack, or one service of it."""
    return _run("start", host, stack, service, ssh=ssh, as_json=as_json)


def _run(action: str, host: str, stack: str, service: str, *, ssh: list[str] | None, as_json: bool) -> int:
    states: dict[str, str] = remote(host, ssh).ask("services", action, stack, *([service] if service else []))
    if as_json:
        output.json(states)
    else:
        for name, state in states.items():
            output.note(f"{stack}/{name}: {state}")
    expected = {"inactive", "failed"} if action == "stop" else {"active", "activating", "inactive", "asleep"}
    return 0 if set(states.values()) <= expected else 1
