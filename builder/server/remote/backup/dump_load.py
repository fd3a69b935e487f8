"""A dump, loaded into an empty database of the service's own image: in a container without a network, and with limits.

A restore runs it as the stack's user on the data that will be the stack's; the drill as a user of nobody's, on data
that goes away with the container.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.server.remote.backup.dumps import Dump
    from builder.server.remote.service_container import Container


class LoadError(RemoteError):
    """A dump that does not load, or a database that does not start."""


# What a load, and all that is restored by the drill, may take at most: as a build, and after everything else.
LIMITS: Final = (
    "Delegate=yes",
    "MemoryHigh=35%",
    "MemoryMax=40%",
    "MemorySwapMax=20%",
    "OOMPolicy=kill",
    "OOMScoreAdjust=1000",
    "TasksMax=1000",
    "CPUWeight=20",
    "IOWeight=20",
    "Nice=10",
    "IOSchedulingClass=idle",
    "LimitCORE=0",
    "TimeoutStopSec=5",
    "PrivateNetwork=yes",
)
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Account:
    """Who runs Podman: its number, properties and variables of its unit, and words before its command.

    `seen` is where it finds what root gives it, if that is another place than root's.
    """

    uid: int
    gid: int
    properties: tuple[str, ...]
    environment: Mapping[str, str]
    words: tuple[str, ...] = ()
    seen: str = ""

    def argv(self, unit: str, seconds: float, more: Sequence[str], command: Sequence[str]) -> list[str]:
        """A command in a unit of its own, to its end, with `more` properties."""
        every = (*LIMITS, f"RuntimeMaxSec={seconds:.0f}", *self.properties, *more)
        return [
            *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--expand-environment=no", f"--unit={unit}"),
            *(f"--property={one}" for one in every),
            *(f"--setenv={name}={value}" for name, value in {"PATH": _PATH, **self.environment}.items()),
            *self.words,
            *command,
        ]


def of_stack(stack: str) -> Account:
    """The stack's own user, whose images and data it works with."""
    user = common.user_of(stack)
    uid, gid = common.uid(user), common.gid(user)
    settings = f"{facts.CONFIG}/{uid}"
    environment = {
        "USER": user,
        "HOME": f"{facts.HOMES}/{stack}",
        "XDG_RUNTIME_DIR": f"/run/user/{uid}",
        "XDG_CONFIG_HOME": settings,
        "REGISTRY_AUTH_FILE": f"{settings}/{facts.AUTH_FILE}",
    }
    return Account(uid, gid, (f"User={user}", f"WorkingDirectory={facts.HOMES}/{stack}"), environment)


# $1 the container, $2 whether it is ready, $3 what reads the dump; the rest are words of `podman run`. The output of
# the database is kept for when it does not start.
_SCRIPT: Final = """
name=$1 ready=$2 load=$3
shift 3
podman() { command podman --cgroup-manager=cgroupfs --log-level=error "$@"; }
gone() { podman rm --force --time=0 --volumes --ignore "$name" </dev/null >&2; }
gone || exit
trap gone EXIT
podman run --name="$name" "$@" </dev/null >"$SAID" 2>&1 &
main=$!
until podman exec "$name" sh -c "$ready" </dev/null >/dev/null 2>&1; do
    kill -0 $main 2>/dev/null || { tail -n 5 "$SAID" >&2; exit 3; }
    sleep 0.3
done
podman exec --interactive "$name" sh -c "$load" || exit
podman stop --time=120 "$name" </dev/null >/dev/null || exit
wait $main || :
"""
_NOT_STARTED: Final = 3
# Seconds that a unit may take to begin and to end, beside its work.
_AROUND: Final = 60.0


def load(
    account: Account,
    wanted: Container,
    dump: Dump,
    stream: IO[bytes],
    *,
    mounts: Sequence[str],
    values: Mapping[str, bytes],
    name: str,
    seconds: float,
    empty: bool = False,
    more: Sequence[str] = (),
) -> None:
    """Start an empty database of this container's image on these mounts, load the dump, and stop it in order.

    With `empty` it is one that nobody will use, which has no need of its own passwords. Raises LoadError.
    """
    with _given(account, wanted, values) as given:
        words = [*run_words(wanted, mounts, given.mounts, dump.empty if empty else {}), wanted.image, *wanted.command]
        binds = [f"BindPaths={given.directory}:{account.seen}"] if account.seen else []
        command = ["bash", "-c", _SCRIPT, "bash", name, dump.ready, dump.load, *words]
        properties = [*more, *binds, f"EnvironmentFile={given.environment}"]
        _run(account.argv(f"easyrunner-load-{name}", seconds, properties, command), dump, stream, seconds)


class _Given(NamedTuple):
    """What root gives the one who runs the container: the directory, what of it is mounted, and the variables."""

    directory: Path
    mounts: list[str]
    environment: Path


@contextmanager
def _given(account: Account, wanted: Container, values: Mapping[str, bytes]) -> Iterator[_Given]:
    """The secrets as files of the one who runs the container, on no disk; they go at the end of the block."""
    top = Path(facts.RUN, "load")
    top.mkdir(mode=0o711, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=top))
    seen = account.seen or str(directory)
    try:
        mounts = [
            f"{seen}/{_write(directory / str(number), values.get(one.name, b''), account)}:{one.path}:ro"
            for number, one in enumerate(wanted.secrets)
            if one.path
        ]
        variables = {one.variable: values.get(one.name, b"") for one in wanted.secrets if one.variable}
        texts = {name: value.decode(errors="replace") for name, value in variables.items()}
        environment = directory / "environment"
        write_environment(environment, {**texts, "SAID": f"{seen}/said"})
        os.chown(directory, account.uid, account.gid)
        yield _Given(directory, mounts, environment)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write(path: Path, value: bytes, account: Account) -> str:
    path.write_bytes(value)
    os.chown(path, account.uid, account.gid)
    path.chmod(0o444)
    return path.name


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """A file of root's for EnvironmentFile=, so that no value stands in a command line."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write("".join(f"{name}={_quoted(value)}\n" for name, value in variables.items()))


def _quoted(value: str) -> str:
    """As systemd reads it: see EnvironmentFile= in systemd.exec(5)."""
    escaped = value.translate({ord(one): f"\\{one}" for one in '"\\`$'})
    return f'"{escaped}"'


# What an image of a database runs when it has no data yet, the service's or its own: what that makes is in the dump.
_FIRST_START: Final = "/docker-entrypoint-initdb.d"


def run_words(
    wanted: Container, mounts: Sequence[str], secret_mounts: Sequence[str], empty: Mapping[str, str]
) -> list[str]:
    """The words of `podman run` before the image: without a network, a control group, or a health check of its own."""
    variables = [one.variable for one in wanted.secrets if one.variable]
    kept = (mount for mount in mounts if not f"{mount.split(':')[1]}/".startswith(f"{_FIRST_START}/"))
    return [
        *wanted.options,
        *("--rm", "--network=none", "--cgroups=disabled", "--no-healthcheck", "--pull=never", "--log-driver=none"),
        *(f"--env={name}" for name in variables),
        *(f"--env={name}={value}" for name, value in empty.items()),
        *(f"--volume={one}" for one in (*kept, *secret_mounts)),
        f"--tmpfs={_FIRST_START}",
    ]


def _run(argv: Sequence[str], dump: Dump, stream: IO[bytes], seconds: float) -> None:
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                argv, stdin=stream, stdout=subprocess.DEVNULL, stderr=said, timeout=seconds + _AROUND, check=False
            )
        except subprocess.TimeoutExpired:
            raise LoadError(f"it was not loaded within {seconds:.0f} s") from None
        said.seek(0)
        text = said.read(1 << 20).decode(errors="replace")
    if done.returncode == _NOT_STARTED:
        raise LoadError(f"the database does not start: {last_line(text)}")
    if wrong := wrong_lines(text, dump):
        raise LoadError(f"it does not load: {wrong[0]}")
    if done.returncode:
        raise LoadError(f"it does not load: {last_line(text) or f'exit code {done.returncode}'}")


_WRONG: Final = re.compile(r"\b(ERROR|FATAL|PANIC)\b")


def wrong_lines(text: str, dump: Dump) -> list[str]:
    """What a load said on stderr that is a failure, whatever its exit code: not what an empty database has already."""
    lines = [printable(line) for line in text.splitlines() if _WRONG.search(line)]
    return [line for line in lines if not (dump.harmless and re.search(dump.harmless, line))]


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [printable(line) for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def printable(line: str) -> str:
    """A line of a program that may be anybody's."""
    return "".join(one for one in line if one.isprintable()).strip()[:300]


# How long an image may take to come, in seconds.
_PULL: Final = 1800.0


def bring_image(stack: str, account: Account, image: str) -> None:
    """The image is in the stack's store, or comes from its registry. Raises RemoteError.

    Podman's namespace is made by the stack's manager where that runs, so that it does not end with a unit of ours.
    """
    uid = account.uid
    if Path(f"/run/user/{uid}/bus").exists():
        argv = ["systemd-run", "--user", "--quiet", "--wait", "--collect", "podman", "unshare", "true"]
        common.as_user(common.user_of(stack), argv, check=False)
    else:
        common.run(["systemctl", "start", f"user-runtime-dir@{uid}.service"])
    script = 'podman image exists "$1" || podman pull --quiet "$1"'
    argv = account.argv(f"easyrunner-image-{stack}", _PULL, ["PrivateNetwork=no"], ["sh", "-c", script, "sh", image])
    try:
        common.run(argv, timeout=_PULL + _AROUND)
    except RemoteError as error:
        raise RemoteError(f"the image {image} is not here: {error}", "er server push, or er server apply") from None
