"""Well-known databases: how each is dumped while it runs, and how its dump is loaded into an empty one of its image.

Files of a database that runs are copied while it writes them: what can be relied on is its dump. Commands are shell of
the image's own; passwords are read where the image reads them, and stand in no command line.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


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
        {"POSTGRES_HOST_AUTH_METHOD": "trust"},
        "exec pg_isready --quiet --host=127.0.0.1",
        'exec psql --username="${POSTGRES_USER:-postgres}" --dbname=postgres --no-psqlrc --quiet --output=/dev/null',
        r'ERROR:  role "[^"]*" already exists',
    ),
    Dump(
        "mariadb",
        ("mariadb",),
        ".sql",
        f"{_SQL_ROOT}mariadb-dump {_SQL_DUMP}",
        {"MARIADB_ALLOW_EMPTY_ROOT_PASSWORD": "1"},
        "exec mariadb-admin ping --silent --protocol=tcp --host=127.0.0.1",
        "exec mariadb --user=root",
        "",
    ),
    Dump(
        "mysql",
        ("mysql", "percona", "percona-server"),
        ".sql",
        f"{_SQL_ROOT}mysqldump {_SQL_DUMP} --set-gtid-purged=OFF",
        {"MYSQL_ALLOW_EMPTY_PASSWORD": "1"},
        "exec mysqladmin ping --silent --protocol=tcp --host=127.0.0.1",
        "exec mysql --user=root",
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
