"""Well-known databases: how each is dumped while it runs, and how its dump is loaded into an empty one of its image.

Files of a database that runs are copied while it writes them: what can be relied on is its dump. Commands are shell of
the image's own; passwords are read where the image reads them, and stand in no command line.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common, readiness, release_record, services, sleepers
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.server.remote.common import Value


class Dump(NamedTuple):
    """A kind of database: `images` are last words of image names, scripts are for `sh -c` in the container.

    `dump` prints the dump, whose file has `suffix`. An empty database starts with the variables `empty`; once `ready`
    succeeds, `load` reads the dump from stdin. `harmless` matches lines on stderr that are no failure of that: what an
    empty database has already.
    """

    kind: str
    images: tuple[str, ...]
    suffix: str
    dump: str
    empty: dict[str, str]
    ready: str
    load: str
    harmless: str


# The value of a variable, or of the file that the variable with _FILE names.
_VALUE: Final = 'value() { eval "v=\\${$1-}; f=\\${$1_FILE-}"; [ -z "$f" ] || v=$(cat "$f"); printf %s "$v"; }; '
_SQL_ROOT: Final = (
    _VALUE + 'MYSQL_PWD=$(value MARIADB_ROOT_PASSWORD); [ -n "$MYSQL_PWD" ] || MYSQL_PWD=$(value MYSQL_ROOT_PASSWORD); '
    "export MYSQL_PWD; exec "
)
_SQL_DUMP: Final = "--user=root --all-databases --single-transaction --quick --routines --events --triggers"

DUMPS: Final = (
    Dump(
        "postgres",
        ("postgres", "postgis", "pgvector", "timescaledb", "timescaledb-ha", "pgvecto-rs"),
        ".sql",
        _VALUE + "PGPASSWORD=$(value POSTGRES_PASSWORD); export PGPASSWORD; user=$(value POSTGRES_USER); "
        'exec pg_dumpall --username="${user:-postgres}"',
        {"POSTGRES_PASSWORD": "empty"},
        "exec pg_isready --quiet --host=127.0.0.1",
        'exec psql --username="${POSTGRES_USER:-postgres}" --dbname=postgres --no-psqlrc --quiet --output=/dev/null',
        r'ERROR:  (role|database) "[^"]*" already exists',
    ),
    Dump(
        "mariadb",
        ("mariadb",),
        ".sql",
        f"{_SQL_ROOT}mariadb-dump {_SQL_DUMP}",
        {"MARIADB_ALLOW_EMPTY_ROOT_PASSWORD": "1"},
        "exec mariadb-admin ping --silent --protocol=tcp --host=127.0.0.1",
        f"{_SQL_ROOT}mariadb --user=root",
        "",
    ),
    Dump(
        "mysql",
        ("mysql", "percona", "percona-server"),
        ".sql",
        f"{_SQL_ROOT}mysqldump {_SQL_DUMP} --set-gtid-purged=OFF",
        {"MYSQL_ALLOW_EMPTY_PASSWORD": "1"},
        "exec mysqladmin ping --silent --protocol=tcp --host=127.0.0.1",
        f"{_SQL_ROOT}mysql --user=root",
        "",
    ),
)


def of_image(image: str) -> Dump | None:
    """The database that an image is of, by the last word of its name, from whichever registry."""
    name = re.split("[:@]", image.rpartition("/")[2])[0]
    return next((one for one in DUMPS if name in one.images), None)


def of_kind(kind: str) -> Dump | None:
    """The row that a snapshot's stack.json names."""
    return next((one for one in DUMPS if one.kind == kind), None)


# ---- dumps of what runs


class _Wanted(NamedTuple):
    """A dump: of a service, by this command in its container, to this file; `kind` names its row of `dumps`."""

    service: str
    argv: list[str]
    file: str
    kind: str


def dump(stack: str, before: Mapping[str, list[str]], directory: Path) -> tuple[dict[str, Value], list[str]]:
    """Dump what of a stack has to be dumped into a directory: what was made, by service, and what went wrong.

    `before` are commands of the spec, by service, which go before those of the rows.
    """
    made, errors = {}, []
    running, sleeping = services.running(stack), sleepers.units_of(stack)
    for one in _wanted(stack, before):
        try:
            if one.service not in running:
                raise RemoteError("it does not run")
            if found := (_dump_awake if one.service in sleeping else _dump_one)(stack, one, directory):
                made[one.service] = found
        except (RemoteError, OSError) as error:
            errors.append(f"{one.service} could not be dumped, its files are there: {error}")
    return made, errors


def _wanted(stack: str, before: Mapping[str, list[str]]) -> Iterator[_Wanted]:
    for service in release_record.services(stack):
        row = of_image(release_record.of_spec(stack, service))
        if service in before:
            yield _Wanted(service, before[service], f"dumps/{service}", "")
        elif row is not None:
            yield _Wanted(service, ["sh", "-c", row.dump], f"dumps/{service}{row.suffix}", row.kind)


# How long a database that was asleep may take until it can be asked, in seconds.
_WAKE: Final = 300.0


def _dump_awake(stack: str, wanted: _Wanted, directory: Path) -> Value | None:
    """The same of a service that sleeps: it is woken where it is asleep, and runs as long as this takes."""
    with sleepers.awake(stack, [wanted.service]):
        readiness.wait_for(stack, [wanted.service], _WAKE)
        if row := of_kind(wanted.kind):
            _wait_until_ready(stack, wanted.service, row.ready)
        return _dump_one(stack, wanted, directory)


def _wait_until_ready(stack: str, service: str, ready: str) -> None:
    """Until a database of a well-known kind takes connections. Raises RemoteError when it is not in time."""
    argv = ["podman", "exec", container(stack, service), "sh", "-c", ready]
    deadline = time.monotonic() + _WAKE
    while True:
        try:
            common.as_user(common.stack_user(stack), argv, timeout=common.PODMAN_TIMEOUT)
        except RemoteError as error:
            if time.monotonic() > deadline:
                raise RemoteError(f"it was asleep, and takes no connections: {error}") from None
            time.sleep(0.5)
        else:
            return


def _dump_one(stack: str, wanted: _Wanted, directory: Path) -> Value | None:
    """Run a command in a container; what it prints is the dump. None where it prints nothing."""
    user = common.stack_user(stack)
    path = directory / wanted.file
    path.parent.mkdir(mode=0o700, exist_ok=True)
    argv = [*common.in_session(user), "podman", "exec", container(stack, wanted.service), *wanted.argv]
    with path.open("wb") as file, tempfile.TemporaryFile() as err:
        os.fchmod(file.fileno(), 0o600)
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err)
        try:
            _copy(process, file)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            err.seek(0)
            said = err.read()[-2000:].decode(errors="replace").strip().splitlines()
            last = "".join(one for one in said[-1] if one.isprintable())[:300] if said else ""
            raise RemoteError(last or f"exit code {process.returncode}")
        os.fsync(file.fileno())
    size = path.stat().st_size
    if not size:
        path.unlink()
        return None
    return {"file": wanted.file, "kind": wanted.kind, "bytes": size}


# A dump may take so long, in seconds. It is watched whether the disk still has room, after so many bytes.
_DUMP_TIMEOUT: Final = 3600.0
_PIECE: Final = 1 << 20


def _copy(process: subprocess.Popen[bytes], file: IO[bytes]) -> None:
    """All that a process prints. Raises RemoteError when it takes too long, or too much room."""
    out = process.stdout
    assert out is not None  # noqa: S101 - for mypy: it is a pipe
    deadline = time.monotonic() + _DUMP_TIMEOUT
    while True:
        if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise RemoteError(f"it did not end within {_DUMP_TIMEOUT:.0f} s")
        piece = os.read(out.fileno(), _PIECE)
        if not piece:
            break
        file.write(piece)
        space = shutil.disk_usage(facts.STATE)
        if space.free < common.wanted_free(space.total):
            raise RemoteError(f"the disk has no room for its dump: {space.free >> 20} MiB are free")
    file.flush()
    try:
        process.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise RemoteError(f"it did not end within {_DUMP_TIMEOUT:.0f} s") from None


def container(stack: str, service: str) -> str:
    """The name of a service's container."""
    found = re.search(r"^ContainerName=(.+)$", release_record.unit_path(stack, service).read_text(), re.MULTILINE)
    return found[1] if found else f"systemd-{stack}-{service}"
