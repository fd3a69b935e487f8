"""A command in a container of a stack, prepared for `attach` to run in a connection of its own.

What is to be run comes by stdin to `session`, which leaves it in a file that only root reads; the second connection's
command line, which sudo logs, names that file alone. Its stdin, stdout and terminal are the command's own.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.server.remote import common, sleepers
from builder.server.remote.common import RemoteError
from builder.server.remote.images.images import image_of_unit
from builder.server.remote.secrets import missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from builder.server.remote.common import Value

# Files of sessions that are prepared; they last until the second connection, or until so many seconds later.
_PREPARED: Final = Path("/run/er-session")
_EXPIRES: Final = 60
JOB: Final = "session.json"
_MAIN: Final = "from builder.server.remote.attach import attach; attach()"
_COMPLETE: Final = Path("/var/lib/easyrunner/complete")
_SHELLS: Final = ("bash", "sh", "ash")
# Podman's exit codes for a program that is not there, or cannot be run.
_NO_PROGRAM: Final = (126, 127)


@dataclass(frozen=True, slots=True)
class Request:
    """What the client asks for. `action` is exec, shell or run; `env` maps names to values."""

    action: str
    stack: str
    service: str
    command: list[str]
    env: dict[str, str]
    user: str
    workdir: str
    tty: bool


@dataclass(frozen=True, slots=True)
class Unit:
    """A service's unit as systemd has read it: the words of `podman run`, and properties by their names."""

    name: str
    argv: list[str]
    image: str
    properties: dict[str, Any]

    @property
    def container(self) -> str:
        """The name of the service's container, in one word with the option or in two, as the generator has it."""
        at, word = next((at, word) for at, word in enumerate(self.argv) if re.match("--name(=|$)", word))
        return word.partition("=")[2] or self.argv[at + 1]


def session() -> Value:
    """Prepare the session of the JSON on stdin; returns the `path` to give to Python, as root, in a second connection.

    Raises RemoteError for all that can be known before: no such stack or service, not running, no shell, no secret.
    """
    request = Request(**json.load(sys.stdin.buffer))
    user = _able_user(request.stack)
    entered = _in_manager(user)
    unit = _read_unit(user, _unit_name(request.stack, request.service), request)
    token = secrets.token_hex(8)
    needed = _needed(request, user, unit)
    woken = sleepers.wake(request.stack, needed, _EXPIRES)
    if request.action == "run":
        _require_secrets(request)
        _start_required(user, unit)
        podman = run_argv(request, unit, f"er-run-{request.service[:32]}-{token}")
    else:
        _require_running(user, unit, request)
        podman = exec_argv(request, unit.container, request.command or [_shell(user, unit, request)])
    argv = [*entered, *scope_argv(request, unit, token, needed.values()), *podman]
    path = _prepare(token, argv, request.env, unit.properties["OOMScoreAdjust"])
    return {"path": str(path), "woken": [f"{request.stack}/{service}" for service in woken]}


def _able_user(stack: str) -> str:
    """The stack's user, on a host that can run something as it. Raises RemoteError."""
    common.server_env()
    if not shutil.which("podman"):
        raise RemoteError("it has no podman", "er server doctor HOST says what else is wrong")
    user = common.stack_user(stack)
    if not _COMPLETE.exists() or not common.uids([stack]):
        raise RemoteError("its first boot has not ended", "er server status HOST says how far it is")
    return user


def _unit_name(stack: str, service: str) -> str:
    units = {name: unit for _, name, unit in common.services(stack)}
    if service not in units:
        raise RemoteError(f"the stack {stack} has no service {service}", f"it has: {', '.join(units)}")
    return units[service]


# ---- the unit


_LIMITS: Final = ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUQuotaPerSecUSec")
_PROPERTIES: Final = ("ExecStart", "Environment", "OOMScoreAdjust", *_LIMITS)
_SYSTEMD: Final = "org.freedesktop.systemd1"
_UNLIMITED: Final = 2**64 - 1


def _read_unit(user: str, name: str, request: Request) -> Unit:
    """As systemd has read it, drop-ins and all; its own output as text would not keep words apart."""
    path = "/org/freedesktop/systemd1/unit/" + re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", name)
    argv = ["busctl", "--user", "--json=short", "get-property", _SYSTEMD, path, f"{_SYSTEMD}.Service", *_PROPERTIES]
    lines = common.as_user(user, argv).splitlines()
    properties = {key: json.loads(line)["data"] for key, line in zip(_PROPERTIES, lines, strict=True)}
    if not properties["ExecStart"]:
        raise RemoteError(
            f"{request.stack}/{request.service} has no unit that starts it", f"er server logs HOST {request.stack}"
        )
    file = Path(facts.QUADLETS, str(common.uid(user)), name).with_suffix(".container")
    words = [expanded(word, properties["Environment"]) for word in properties["ExecStart"][0][1]]
    return Unit(name, words, image_of_unit(file.read_text()), properties)


def expanded(word: str, environment: Sequence[str]) -> str:
    """A word of ExecStart= as systemd hands it on: `$$` is a dollar, and `${NAME}` a variable of the unit."""
    variables = dict(one.split("=", 1) for one in environment)
    return re.sub(r"\$\$|\$\{(\w+)\}", lambda found: variables.get(found[1], "") if found[1] else "$", word)


def _require_secrets(request: Request) -> None:
    names = [name for name, services in missing(request.stack).items() if request.service in services]
    if names:
        raise RemoteError(
            f"{request.stack}/{request.service} needs the secret {names[0]}, which is not set",
            f"er server secret set HOST {request.stack} {names[0]}",
        )


def _needed(request: Request, user: str, unit: Unit) -> dict[str, str]:
    """The units of the sleepers that have to be awake, by service: the service's own, or what `run` needs beside it."""
    found = sleepers.of_stack(request.stack)
    every = {service: one.unit.name for service, one in found.items() if one.is_up}
    if request.action != "run":
        return {service: name for service, name in every.items() if name == unit.name}
    shown = common.show(unit.name, "Requires", "Wants", user=user) if every else {}
    wanted = {name for names in shown.values() for name in names.split()}
    return {service: name for service, name in every.items() if name in wanted}


def _start_required(user: str, unit: Unit) -> None:
    """What a service that was never started lacks: networks, volumes, and the user namespace of its stack.

    The manager makes that one, so that what Podman keeps running for it is the manager's and not this session's.
    """
    common.as_user(user, ["systemd-run", "--user", "--quiet", "--wait", "--collect", "podman", "unshare", "true"])
    required = common.show(unit.name, "Requires", user=user).get("Requires", "").split()
    units = [one for one in required if one.endswith(("-network.service", "-volume.service"))]
    if units:
        common.as_user(user, ["systemctl", "--user", "start", *units])


def _require_running(user: str, unit: Unit, request: Request) -> None:
    argv = ["podman", "container", "inspect", "--format", "{{.State.Running}}", unit.container]
    if common.as_user(user, argv, check=False, timeout=common.PODMAN_TIMEOUT).strip() == "true":
        return
    state = common.show(unit.name, "ActiveState", user=user).get("ActiveState") or "unknown"
    place = f"{request.stack} {request.service}"
    raise RemoteError(
        f"{request.stack}/{request.service} is not running, it is {state}",
        f"er server restart HOST {place}; or, in a container of its own: er server run HOST {place} -- CMD",
    )


def _shell(user: str, unit: Unit, request: Request) -> str:
    """The first shell that the service's image has."""
    for shell in _SHELLS:
        argv = [*common.in_session(user), "podman", "exec", unit.container, shell, "-c", ":"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        if done.returncode not in _NO_PROGRAM:
            return shell
    raise RemoteError(
        f"the image of {request.stack}/{request.service} has no shell: none of {', '.join(_SHELLS)}",
        f"what it has can be run by er server exec HOST {request.stack} {request.service} -- PROGRAM",
    )


# ---- what is run, as words


# Set in the environment's place once its file is there.
ENV_FILE: Final = "--env-file=@"


def exec_argv(request: Request, container: str, command: Sequence[str]) -> list[str]:
    """`podman exec`; without keys that detach, or Ctrl-P would not reach a shell."""
    return ["podman", "exec", *_options(request), container, *command]


def run_argv(request: Request, unit: Unit, name: str) -> list[str]:
    """`podman run` as the unit has it, but for what only one container can have: see `kept_options`."""
    image = unit.argv.index(unit.image)
    kept = kept_options(unit.argv[2:image], request.env)
    own = ["--rm", f"--name={name}", "--log-driver=none", "--no-healthcheck"]
    command = request.command or unit.argv[image + 1 :]
    return ["podman", "run", *kept, *own, *_options(request), unit.image, *command]


def _options(request: Request) -> list[str]:
    """Those that exec and run share. Podman reads values of variables from a file, so that no `ps` shows them."""
    return [
        "--interactive",
        "--detach-keys=",
        *(["--tty"] if request.tty else []),
        *([f"--user={request.user}"] if request.user else []),
        *([f"--workdir={request.workdir}"] if request.workdir else []),
        *([ENV_FILE] if request.env else []),
    ]


# Options that belong to the container of the unit: its name and files, what systemd waits for, its ports and addresses,
# the names that its neighbours reach it by, and how it is looked after.
_WITH_VALUE: Final = re.compile(
    r"--(name|cidfile|pidfile|conmon-pidfile|sdnotify|publish|ip6?|mac-address|network-alias|log-driver|log-opt|restart"
    r"|health-.*)|-p"
)
_FLAGS: Final = frozenset({"-d", "--detach", "--replace", "--rm", "-P", "--publish-all", "-t", "--tty", "-i"})
_ENV: Final = ("-e", "--env")
_NETWORK: Final = ("--network", "--net")
_OF_ONE_CONTAINER: Final = frozenset({"ip", "ip6", "mac", "alias"})


def kept_options(words: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The unit's options of `podman run` that a second container takes too; variables of `env` are left out."""
    kept = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if _WITH_VALUE.fullmatch(option):
            if not equals:
                next(rest)
        elif option in (*_ENV, *_NETWORK):
            value = value if equals else next(rest)
            if option in _NETWORK:
                kept += [option, without_addresses(value)]
            elif value.partition("=")[0] not in env:
                kept += [option, value]
        elif word not in _FLAGS:
            kept.append(word)
    return kept


def without_addresses(network: str) -> str:
    """The value of --network= without addresses and names that the service's own container has."""
    name, _, options = network.partition(":")
    kept = [one for one in options.split(",") if one and one.partition("=")[0] not in _OF_ONE_CONTAINER]
    return f"{name}:{','.join(kept)}" if kept else name


def scope_argv(request: Request, unit: Unit, token: str, awake: Iterable[str] = ()) -> list[str]:
    """The words before podman that put it into a unit of the stack's; a container of its own has the service's limits.

    That keeps these units `awake` as long as the command runs. systemd logs a unit's description, and would take the
    command line for it.
    """
    what = f"er server {request.action} {request.stack} {request.service}"
    argv = ["systemd-run", "--user", "--scope", "--quiet", "--collect", f"--unit=er-{request.action}-{token}"]
    limits = ["Delegate=yes", *_limits(unit.properties)] if request.action == "run" else []
    return [*argv, f"--description={what}", *sleepers.needs(awake), *(f"--property={one}" for one in limits), "--"]


def _limits(properties: Mapping[str, Any]) -> Iterator[str]:
    for name in _LIMITS:
        value = properties[name]
        if value != _UNLIMITED:
            yield f"CPUQuota={value / 10_000:.0f}%" if name.startswith("CPU") else f"{name}={value}"


def _in_manager(user: str) -> list[str]:
    """The words that run a command as a stack's user, among the mounts and with the journal of its manager."""
    uid = common.uid(user)
    common.begin(user.removeprefix(facts.STACK_USER_PREFIX))
    pid = common.show(f"user@{uid}.service", "MainPID").get("MainPID", "0")
    if pid == "0" or not Path(f"/run/user/{uid}/bus").exists():
        raise RemoteError(
            f"the manager of {user} does not run yet", "try again in a moment; er server doctor HOST says what is wrong"
        )
    return ["nsenter", "--mount", f"--target={pid}", "--", *common.in_session(user)]


def _prepare(token: str, argv: list[str], env: Mapping[str, str], oom: int) -> Path:
    """A program for Python: the remote part, and the session beside it."""
    _PREPARED.mkdir(mode=0o700, exist_ok=True)
    for old in _PREPARED.iterdir():
        if time.time() - old.stat().st_mtime > _EXPIRES:
            old.unlink(missing_ok=True)
    path = _PREPARED / token
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(common.archive().read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.writestr(JOB, json.dumps({"argv": argv, "env": env, "oom": oom}))
    return path
