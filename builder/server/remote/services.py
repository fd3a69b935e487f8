"""The deeds of an apply: telling services, ending stacks, waiting."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, hold, names
from builder.server.remote.common import RemoteError, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.server.remote.effects import Effects

# Both journals, the host's and that of the stacks.
_JOURNALCTL: Final = ("journalctl", f"--namespace=+{facts.JOURNAL}")
_CADDYFILE: Final = Path(facts.ETC, "caddy", "Caddyfile")


def uids(stacks: Iterable[str]) -> dict[str, int]:
    """The users' numbers of stacks that have users."""
    found = {}
    for stack in stacks:
        try:
            found[stack] = pwd.getpwnam(f"{facts.STACK_USER_PREFIX}{stack}").pw_uid
        except KeyError:
            continue
    return found


def tell(found: Effects) -> None:
    """Everyone whose files have changed; the order is that of a boot."""
    if "systemd" in found.system:
        common.run(["systemctl", "daemon-reload"])
    _system(found.system)
    if found.proxy:
        _user(facts.PROXY_USER, [*_images(facts.PROXY_UID), "er-proxy.service"])
    elif "caddy" in found.system:
        _caddy()
    errors = [_trouble(stack, services, manager=stack in found.managers) for stack, services in found.stacks.items()]
    if troubles := "; ".join(filter(None, errors)):
        raise RemoteError(troubles)


def _trouble(stack: str, services: set[str] | None, *, manager: bool) -> str:
    """What kept one stack from being told; the others are, all the same."""
    try:
        _stack(stack, services, manager=manager)
    except RemoteError as error:
        return str(error)
    return ""


def _system(words: set[str]) -> None:
    if "journal" in words:
        common.run(["systemctl", "restart", "systemd-journald.service"])
        common.run(["systemctl", "try-restart", f"systemd-journald@{facts.JOURNAL}.service"], check=False)
    if "sysctl" in words:
        common.run(["sysctl", "--quiet", "--system"], check=False)
    if "firewall" in words:
        names.resolve()
        common.run(["systemctl", "restart", "er-firewall.service"], check=False)
        if not common.loaded():
            raise RemoteError("the firewall's rules do not load")
    if "ssh" in words:
        common.run(["sshd", "-t"])
        common.run(["systemctl", "reload-or-restart", "ssh.service"])
    if "fail2ban" in words:
        common.run(["fail2ban-client", "reload"])


def _caddy() -> None:
    """Files are the truth; the running proxy takes them over, and no request is lost."""
    options = ["--silent", "--show-error", "--fail-with-body", "--header", "Content-Type: text/caddyfile"]
    url = f"http://127.0.0.1:{facts.PROXY_ADMIN}/load"
    argv = ["curl", *options, "--data-binary", f"@{_CADDYFILE}", url]
    with hold.new_connections():
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RemoteError(f"the proxy refuses its configuration: {(done.stdout or done.stderr).strip()[:300]}")


def _user(user: str, units: list[str]) -> None:
    common.as_user(user, ["systemctl", "--user", "daemon-reload"])
    if units:
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *units])


def _images(uid: int) -> list[str]:
    """The unit that takes images from archives, where a user has it: it ran at boot, and an archive may be new."""
    unit = "er-images.service"
    return [unit] if Path(facts.ETC, "units", str(uid), unit).exists() else []


def _stack(stack: str, services: set[str] | None, *, manager: bool) -> None:
    user = f"{facts.STACK_USER_PREFIX}{stack}"
    if stack not in uids([stack]) or not Path("/var/lib/systemd/linger", user).exists():
        return  # it is new: first boot brings it up
    uid = pwd.getpwnam(user).pw_uid
    if manager:
        common.run(["systemctl", "restart", f"user@{uid}.service"])
        return
    try:
        _restart(stack, user, uid, services)
    except RemoteError:
        # Its manager does not answer, or its units hang: all of the stack ends with it.
        common.run(["systemctl", "restart", f"user@{uid}.service"])


def _restart(stack: str, user: str, uid: int, services: set[str] | None) -> None:
    units = [unit for _, name, unit in common.services(stack) if services is None or name in services]
    sockets = [f"er-ingress-{name}.socket" for kind, name, _ in common.services(stack) if kind == "web"]
    _user(user, [*_images(uid), *units])
    common.as_user(user, ["systemctl", "--user", "--no-block", "start", *sockets])


def stop_stacks(stacks: Iterable[str]) -> None:
    """End what runs of these stacks; their volumes and data stay."""
    for stack in stacks:
        user = f"{facts.STACK_USER_PREFIX}{stack}"
        if stack not in uids([stack]):
            continue
        uid = pwd.getpwnam(user).pw_uid
        common.run(["loginctl", "disable-linger", user], check=False)
        common.run(["systemctl", "stop", f"user@{uid}.service"], check=False)


def stop_units(gone: Iterable[str]) -> None:
    """Services whose units go away are stopped while systemd still knows them."""
    for path in map(Path, gone):
        if path.parent == Path("/etc/systemd/system") and path.suffix == ".service":
            common.run(["systemctl", "stop", path.name], check=False)
        if path.suffix not in (".container", ".socket") or not path.parent.name.isdigit():
            continue
        user = pwd.getpwuid(int(path.parent.name)).pw_name
        unit = path.name if path.suffix == ".socket" else f"{path.stem}.service"
        common.as_user(user, ["systemctl", "--user", "stop", unit], check=False)


def forget(stacks: Iterable[str]) -> None:
    """The users of stacks that are gone. Their data stays, and belongs to them again when they come back."""
    for stack in uids(stacks):
        common.run(["userdel", f"{facts.STACK_USER_PREFIX}{stack}"], check=False)


def complaints() -> list[str]:
    """What containers said last when they did not start."""
    text = common.run(
        [*_JOURNALCTL, "-b", "-q", "-o", "cat", "--no-pager", "-n", "5", "--since=-10min", "--grep", "^Error:"],
        check=False,
    )
    return list(dict.fromkeys(line[:300] for line in text.strip().splitlines()))


def key_files(plan: Value) -> list[str]:
    """The admin's authorized_keys, when the plan has keys for an admin that is there."""
    try:
        home = pwd.getpwnam(plan["admin"]["name"]).pw_dir
    except KeyError:
        return []
    return [f"{home}/.ssh/authorized_keys"]


def keys(plan: Value) -> None:
    """Whom the spec lets in, and nobody else."""
    for name in key_files(plan):
        path, who = Path(name), pwd.getpwnam(plan["admin"]["name"])
        text = "".join(f"{key}\n" for key in plan["admin"]["ssh_keys"])
        if path.exists() and path.read_text() == text:
            continue
        owner = (who.pw_uid, who.pw_gid)
        files.replace(path, text.encode(), 0o600, owner=owner, name=".authorized_keys.er-new")
