"""Logins to the registries that images come from: each stack's own, and the proxy's.

The spec says who logs in where (/etc/easyrunner/registries); the password is set here. It is in a file of root's that
the stack's group may read, where Podman looks for it (REGISTRY_AUTH_FILE): at a start, a pull, an automatic update.
"""

from __future__ import annotations

import base64
import binascii
import json
import pwd
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder import facts, files
from builder.server.remote import common, locks
from builder.server.remote.common import RemoteError
from builder.server.remote.images import images, role_logins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.server.remote.common import Value


class Login(NamedTuple):
    """Whose it is (`proxy` is a stack here), the registry, and the user name there; or the server's role logs in."""

    stack: str
    registry: str
    username: str
    by_role: bool = False


def registry_list() -> list[Value]:
    """Every login that the spec names or that is set here: its `state` is set, missing, `other` user, or `unnamed`.

    Of one by the server's role also `until` when it is good (seconds since 1970, or None), and what AWS `said` when it
    was asked last and gave none.
    """
    named = _named()
    answers = role_logins.answers()
    found = [_state(login, _usernames(login.stack).get(login.registry), answers) for login in named]
    pairs = {(login.stack, login.registry) for login in named}
    for stack in ("proxy", *common.stacks()):
        for registry, username in _usernames(stack).items():
            if (stack, registry) not in pairs:
                found.append(
                    {**Login(stack, registry, username)._asdict(), "state": "unnamed", **_NEVER_ASKED._asdict()}
                )
    return found


def _state(login: Login, username: str | None, answers: Mapping[tuple[str, str], role_logins.Answer]) -> Value:
    state = "missing" if username is None else "set" if username == login.username else "other"
    answer = answers.get((login.stack, login.registry), _NEVER_ASKED) if login.by_role else _NEVER_ASKED
    if login.by_role and not answer.is_good:
        state = "missing"
    return {**login._asdict(), "state": state, **answer._asdict()}


# What there is to say of a login with a password.
_NEVER_ASKED: Final = role_logins.Answer()


def missing(stack: str) -> list[Value]:
    """The logins that the spec names for this stack and that it lacks, as in the list."""
    return [one for one in registry_list() if one["stack"] == stack and one["state"] in {"missing", "other"}]


def _named() -> list[Login]:
    """Those that the spec names, with a password or by the server's role."""
    found = [Login(*words) for words in common.triples(facts.LOGINS)]
    by_role = common.triples(facts.ROLE_LOGINS)
    return [*found, *(Login(stack, registry, role_logins.USERNAME, by_role=True) for stack, registry, _ in by_role)]


def _usernames(stack: str) -> dict[str, str]:
    """The user name of each login that is set, by registry; none of a file that Podman cannot read either."""
    try:
        return {name: _username(entry) for name, entry in _read(stack).get("auths", {}).items()}
    except RemoteError:
        return {}


def _username(entry: Any) -> str:
    try:
        return base64.b64decode(entry["auth"]).decode().partition(":")[0]
    except (KeyError, TypeError, ValueError):
        return ""


def _read(stack: str) -> dict[str, Any]:
    """What is in the file of a stack; nothing where there is none. Raises RemoteError where it is something else."""
    try:
        found = json.loads(_path(stack).read_bytes())
    except (FileNotFoundError, KeyError):
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("auths", {}), dict):
        raise RemoteError(f"{_path(stack)} is no auth.json", "remove it there, and log in anew")
    return found


def _path(stack: str) -> Path:
    """Raises KeyError where first boot has not made the stack's user yet."""
    return Path(facts.CONFIG, str(common.uid(common.user_of(stack))), facts.AUTH_FILE)


def registry_login() -> Value:
    """Set the password on stdin: JSON with `registry` and `stack`, which may be empty, and the `password` in base64.

    The registry is asked first, as each stack's user: when it refuses one, nothing is changed. Services that wait for
    an image restart.
    """
    try:
        request = json.load(sys.stdin.buffer)
        password = base64.b64decode(request["password"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise RemoteError("what came through was cut short, nothing was changed", "try again") from None
    logins = _chosen(request["registry"], request["stack"])
    if not password or b"\n" in password or b"\0" in password:
        raise RemoteError("a password is one line, and not empty; nothing was changed")
    for login in logins:
        _ask(login, password)
    with ExitStack() as held:
        for stack in sorted({login.stack for login in logins}):
            held.enter_context(locks.stack(stack, "er server registry login"))
        for login in logins:
            _set(login, password)
        restarted = {login.stack: _restart(login.stack) for login in logins}
    common.look_again()
    return {
        "registry": logins[0].registry,
        "username": logins[0].username,
        "stacks": [login.stack for login in logins],
        "restarted": restarted,
    }


def _chosen(registry: str, stack: str) -> list[Login]:
    """The logins that are meant: to one registry, under one name."""
    if stack and stack != "proxy":
        common.stack_user(stack)
    named = [login for login in _named() if stack in {"", login.stack} and (registry or not login.by_role)]
    known = list(dict.fromkeys(login.registry for login in named))
    if not registry and len(known) > 1:
        raise RemoteError("which registry?", f"the spec names: {', '.join(known)}")
    found = [login for login in named if not registry or login.registry == registry]
    whose = f" for {stack}" if stack else ""
    if not found:
        where = f"to {registry}{whose}" if registry else f"at all{whose}"
        hint = f"write it there: registries: {{{registry or 'ghcr.io'}: {{username: …}}}}; then er server apply"
        raise RemoteError(f"the spec names no login {where}{_that_have(known)}", hint)
    if any(login.by_role for login in found):
        raise RemoteError(
            f"the server's role logs in to {found[0].registry}, there is no password to set",
            "er server registry list HOST says until when; er server doctor HOST --fix asks for it anew",
        )
    if len({login.username for login in found}) > 1:
        names = ", ".join(f"{login.stack} as {login.username}" for login in found)
        raise RemoteError(f"these log in to {found[0].registry} under names of their own: {names}", "give --stack NAME")
    return found


def _that_have(known: list[str]) -> str:
    return f", but to {', '.join(known)}" if known else ""


# How long the registry has to answer, in seconds: one that limits is asked again and again for a minute.
_ANSWER: Final = 100
# Podman writes what it has tried into a file; this one is gone with the call, and was the stack's own.
_SCRIPT: Final = """
d=$(mktemp -d "$XDG_RUNTIME_DIR/er-login.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT
podman login --authfile="$d/auth.json" --username="$1" --password-stdin -- "$2"
"""


def _ask(login: Login, password: bytes) -> None:
    """Raises RemoteError where the registry does not take them, or is out of the stack's reach."""
    user = common.user_of(login.stack)
    if not common.uids([login.stack]):
        raise RemoteError("its first boot has not ended", "er server status HOST says how far it is")
    argv = ["sh", "-c", _SCRIPT, "sh", login.username, login.registry]
    try:
        common.as_user(user, argv, stdin=password, timeout=_ANSWER)
    except RemoteError as error:
        said = _shown(str(error).partition("Error: ")[2] or str(error))
        raise RemoteError(f"{_refusal(login, said)}; nothing was changed", _HINTS.get(kind_of(said))) from None


def _refusal(login: Login, said: str) -> str:
    kind = kind_of(said)
    if kind == "login":
        return f"{login.registry} refuses this password of {login.username}"
    if kind == "limit":
        return f"{login.registry} answers nobody more for now, it limits who asks too often: {said}"
    if kind == "unreachable":
        return f"{login.registry} cannot be reached from the server as {common.user_of(login.stack)}: {said}"
    return f"{login.registry}: {said}"


_HINTS: Final = {
    "login": "many registries want a token here, not the password of their website; it has to allow reading packages",
    "limit": "wait for some minutes, then try again",
    "unreachable": "is it up? Ports other than 80 and 443 have to be in the stack's egress:",
}

# What Podman says, and what it means. The first that is found counts.
_KINDS: Final = (
    ("limit", "toomanyrequests|too many requests|rate limit"),
    ("login", "unauthorized|authentication required|invalid username/password|denied|forbidden"),
    ("absent", "manifest unknown|name unknown|not found|no such manifest"),
    (
        "unreachable",
        "connection refused|no such host|timeout|no route|unreachable|reset by|EOF|misbehaving|did not end",
    ),
    ("unreachable", "x509|certificate|server gave HTTP response|deadline exceeded|\\b50[0-9]\\b"),
)


def kind_of(said: str) -> str:
    """What a failure of Podman's to fetch an image comes to: limit, login, absent, unreachable, or `` for another."""
    return next((kind for kind, words in _KINDS if re.search(words, said, re.IGNORECASE)), "")


def _set(login: Login, password: bytes) -> None:
    word = base64.b64encode(login.username.encode() + b":" + password).decode()
    with role_logins.locked():
        content = _read(login.stack)
        content["auths"] = {**content.get("auths", {}), login.registry: {"auth": word}}
        _write(login.stack, content)


def _write(stack: str, content: dict[str, Any]) -> None:
    """Readable for the stack's group, from directories of root's alone."""
    path, group = _path(stack), pwd.getpwnam(common.user_of(stack)).pw_gid
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, json.dumps(content, indent=1).encode(), 0o640, owner=(0, group), name=".auth.json.part")


def registry_logout(registry: str, stack: str = "") -> Value:
    """Forget the password, of one stack or of all that have one; what runs goes on, and the next image is refused."""
    if stack and stack != "proxy":
        common.stack_user(stack)
    done = [one for one in ([stack] if stack else ("proxy", *common.stacks())) if registry in _usernames(one)]
    if not done:
        raise RemoteError(f"{stack or 'no stack'} has no login to {registry}", "er server registry list HOST")
    with ExitStack() as held:
        for one in sorted(done):
            held.enter_context(locks.stack(one, "er server registry logout"))
        for one in done:
            _forget(one, registry)
    return {"registry": registry, "stacks": done}


def _forget(stack: str, registry: str) -> None:
    with role_logins.locked():
        content = _read(stack)
        # Somebody else may have done it while this waited.
        if content.get("auths", {}).pop(registry, None) is not None:
            _write(stack, content)


def _restart(stack: str) -> list[str]:
    """Restart the services that are not up, and have not been stopped: they may have waited for an image."""
    if stack == "proxy":
        units = {"proxy": "er-proxy.service"}
    else:
        units = {service: unit for _, service, unit in common.services(stack)}
    user = common.user_of(stack)
    states = {name: common.show(unit, "ActiveState", user=user).get("ActiveState") for name, unit in units.items()}
    down = [name for name, state in states.items() if state in {"activating", "failed"}]
    if down:
        argv = [units[name] for name in down]
        common.as_user(user, ["systemctl", "--user", "reset-failed", *argv], check=False)
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *argv])
    return down


# How long a stack's manager and the journal have to answer, in seconds: what they know only explains.
_LOOK: Final = 20


def refusals(stack: str, *, tried: bool = False) -> list[Value]:
    """Why services that do not run have no image: `service`, `registry`, `image`, what Podman `said`, and its `kind`.

    With `tried` also of those that run while a next container was just tried beside them.

    `username`: the name that the stack logs in with there, if any, which may be by the server's role (`by_role`);
    `waits`: whether it lacks a login, to any registry.
    """
    down = dict(_down(stack))
    units = [(service, unit, unit) for service, unit in down.items()]
    if tried:
        names = ((service, unit) for _, service, unit in common.services(stack) if service not in down)
        units += [(service, unit, f"{facts.NEXT}{stack}:{service}.service") for service, unit in names]
    return [one for service, unit, asked in units if (one := _refused(stack, service, unit, asked))]


def _down(stack: str) -> Iterator[tuple[str, str]]:
    units = {unit: service for _, service, unit in common.services(stack)}
    if common.rests(stack):
        return
    argv = ["systemctl", "--user", "show", "-p", "Id", "-p", "ActiveState", *units]
    shown = common.as_user(common.user_of(stack), argv, check=False, timeout=_LOOK)
    for found in map(common.assignments, shown.split("\n\n")):
        if found.get("Id") in units and found.get("ActiveState") in {"activating", "failed"}:
            yield units[found["Id"]], found["Id"]


def _refused(stack: str, service: str, unit: str, asked: str) -> Value | None:
    """Of a service with this unit; `asked` is the one that Podman spoke in, which may be its next container's."""
    text = next((p.read_text() for p in Path(facts.QUADLETS).glob(f"*/{unit.removesuffix('.service')}.container")), "")
    image = images.image_of_unit(text)
    registry = image.partition("/")[0]
    said = _last_error(stack, asked)
    if registry not in said or not (kind := kind_of(said)):
        return None
    login = next((one for one in _named() if (one.stack, one.registry) == (stack, registry)), None)
    return {
        "service": service,
        "registry": registry,
        "image": image,
        "said": said,
        "kind": kind,
        "username": login.username if login else None,
        "by_role": bool(login and login.by_role),
        "waits": bool(missing(stack)),
    }


def _last_error(stack: str, unit: str) -> str:
    """What Podman, and no container, said last of a unit that it could not start."""
    argv = ["journalctl", f"--namespace=+{facts.JOURNAL}", "-b", "-q", "-o", "cat", "--no-pager", "-n", "1"]
    # What is said of a next container is of the change that is just made.
    argv += ["--since=-10min"] * unit.startswith(facts.NEXT)
    match = [f"_SYSTEMD_USER_UNIT={unit}", f"_UID={common.uid(common.user_of(stack))}", "_COMM=podman"]
    # It says `Error: …` at the end, and before that what it tries again.
    said = common.run([*argv, "--grep", "Error: ", *match], check=False, timeout=_LOOK)
    return _shown(said.strip().partition("Error: ")[2])


def _shown(said: str) -> str:
    """What Podman said, which may be a registry's words, as a terminal can show it."""
    return "".join(one for one in said if one.isprintable())[:500]
