"""Images of well-known programs, made from Debian's packages where no registry is in reach.

What is in an image beside the packages lies in tests/machine/images/NAME: above all an entrypoint that begins as that
of the published image does, as root, gives the data to the service's user and becomes it. Images of one family share
the layer of their packages. All is made once and kept by its content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.localhost import cache, debian_mirror, requirements
from builder.oci import image_archive
from builder.oci.image_archive import ImageConfig, ImageFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_FILES: Final = Path(__file__).parent / "images"
_RELEASE: Final = "trixie"


@dataclass(frozen=True)
class Family:
    """Packages, and the users that the published images have, as they stand in /etc/passwd."""

    packages: tuple[str, ...]
    users: tuple[str, ...]


FAMILIES: Final = {
    "php": Family(
        ("mariadb-server", "nginx-light", "php8.4-fpm", "php8.4-mysql"),
        ("mysql:x:999:999::/nonexistent:/bin/false", "nginx:x:101:101::/nonexistent:/bin/false"),
    ),
    "python": Family(
        ("postgresql-17", "python3", "python3-psycopg2", "python3-redis", "valkey-server"),
        (
            "postgres:x:999:999::/var/lib/postgresql:/bin/sh",
            "valkey:x:998:998::/nonexistent:/bin/false",
            "app:x:1000:1000::/home/app:/bin/sh",
        ),
    ),
}


@dataclass(frozen=True)
class Image:
    """What a published image says of itself, and directories that it has, with mode and owner.

    `name` is what Compose files call it.
    """

    name: str
    family: str
    config: ImageConfig
    directories: tuple[ImageFile, ...] = ()


def _directory(path: str, mode: int, owner: tuple[int, int] = (0, 0)) -> ImageFile:
    return ImageFile(path, mode=mode, directory=True, owner=owner)


_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENV: Final = (("PATH", _PATH), ("LANG", "C.UTF-8"))
_START: Final = ("docker-entrypoint.sh",)
_APP: Final = (1000, 1000)
# By the name of the directory of its files.
_IMAGES: Final = {
    "postgres": Image(
        "docker.io/library/postgres:17",
        "python",
        ImageConfig(
            _START,
            ("postgres",),
            (
                ("PATH", f"{_PATH}:/usr/lib/postgresql/17/bin"),
                ("LANG", "C.UTF-8"),
                ("PGDATA", "/var/lib/postgresql/data"),
            ),
            ("5432/tcp",),
        ),
        (_directory("docker-entrypoint-initdb.d", 0o755), _directory("var/lib/postgresql/data", 0o1777)),
    ),
    "mariadb": Image(
        "docker.io/library/mariadb:11.8",
        "php",
        ImageConfig(_START, ("mariadbd",), _ENV, ("3306/tcp",)),
        (_directory("docker-entrypoint-initdb.d", 0o755), _directory("var/lib/mysql", 0o755, (999, 999))),
    ),
    "valkey": Image(
        "docker.io/valkey/valkey:8.1",
        "python",
        ImageConfig(
            _START,
            ("valkey-server", "--save", "1", "1", "--protected-mode", "no"),
            _ENV,
            ("6379/tcp",),
            working_dir="/data",
        ),
        (_directory("data", 0o755, (998, 998)),),
    ),
    "nginx": Image(
        "docker.io/library/nginx:1.26",
        "php",
        ImageConfig(_START, ("nginx", "-g", "daemon off;"), _ENV, ("80/tcp",)),
        (_directory("docker-entrypoint.d", 0o755), _directory("var/cache/nginx", 0o755)),
    ),
    "wordpress": Image(
        "docker.io/library/wordpress:6.8-fpm",
        "php",
        ImageConfig(
            _START,
            ("php-fpm8.4", "--fpm-config", "/etc/php/8.4/fpm/php-fpm.conf"),
            _ENV,
            ("9000/tcp",),
            working_dir="/var/www/html",
        ),
        (_directory("var/www/html", 0o1777, (33, 33)), _directory("var/www/html/wp-content", 0o1777, (33, 33))),
    ),
    "notes": Image(
        "ghcr.io/example/notes:1.4",
        "python",
        ImageConfig((), ("python3", "server.py"), _ENV, ("8000/tcp",), user="app", working_dir="/app"),
        (_directory("data", 0o755, _APP),),
    ),
    "search": Image(
        "docker.elastic.co/elasticsearch/elasticsearch:8.15.0",
        "python",
        ImageConfig((), ("python3", "/app/server.py"), _ENV, ("9200/tcp",), user="1000:0"),
        tuple(_directory(f"usr/share/elasticsearch/{name}", 0o775, (1000, 0)) for name in ("config", "data", "logs")),
    ),
}


def archives(names: Collection[str] = tuple(_IMAGES)) -> dict[str, Path]:
    """These, or all of them, as OCI archives, by what Compose files call them."""
    return {_IMAGES[name].name: archive(name) for name in names}


def archive(name: str) -> Path:
    """The image of tests/machine/images/NAME as an OCI archive; made on first use."""
    image = _IMAGES[name]
    below = base(FAMILIES[image.family])
    files = (*_files(_FILES / name), *image.directories)
    made_of = json.dumps([str(below), asdict(image.config)]) + "".join(map(_content, files))
    target = cache.root() / "package-images" / f"{name}-{_hash(made_of)}"
    return cache.made(target, lambda aside: _write(aside, files, image.config, below)) / "image.tar"


def _files(directory: Path) -> Iterator[ImageFile]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            mode = 0o755 if path.parent.name == "bin" else 0o644
            yield ImageFile(str(path.relative_to(directory)), path.read_bytes(), mode=mode)


def _content(file: ImageFile) -> str:
    return repr((file, file.content))


def _write(aside: Path, files: tuple[ImageFile, ...], config: ImageConfig, base: Path) -> None:
    aside.mkdir(parents=True)
    image_archive.write(aside / "image.tar", files, config, base=base)


# What nothing here uses, more than half by size: a compiler for queries, Perl's modules, tools, a database of its own.
_SPARED: Final = (
    "usr/lib/*/libLLVM* usr/lib/*/libz3* usr/lib/postgresql/*/lib/bitcode usr/lib/*/perl usr/share/perl "
    "usr/bin/aria_* usr/bin/myisam* usr/bin/mariadb-[bce-hj-z]* var/lib/mysql/* "
    "usr/share/doc usr/share/man usr/share/locale usr/share/i18n var/cache/apt var/log/*"
)
# A package that finds its user there takes it as it is; and PostgreSQL's makes no cluster of its own.
_BEFORE: Final = """printf '%s\\n' {users} >>"$1/etc/passwd"
cut -d: -f1,3 "$1/etc/passwd" | while IFS=: read -r name id; do
    grep -q "^$name:" "$1/etc/group" || echo "$name:x:$id:" >>"$1/etc/group"
done
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
"""


def base(family: Family) -> Path:
    """The packages and all that they need as a tar file."""
    argv = _mmdebstrap(family)
    target = cache.root() / "package-images" / f"base-{_hash(json.dumps(argv))}"
    edition = debian_mirror.edition(debian_mirror.mirror(), _RELEASE)
    return cache.current(target, edition, lambda aside: _unpack(aside, argv)) / "base.tar"


def _mmdebstrap(family: Family) -> list[str]:
    """How it is called, but for where to and from where."""
    users = " ".join(f"'{user}'" for user in family.users)
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=essential",
        "--skip=output/dev",
        *(f"--keyring={path}" for path in requirements.keyrings(_RELEASE)),
        f"--include={','.join(family.packages)}",
        f"--essential-hook={_BEFORE.format(users=users)}",
        f'--customize-hook=cd "$1" && rm -rf {_SPARED}',
        _RELEASE,
    ]


def _unpack(aside: Path, argv: list[str]) -> None:
    aside.mkdir(parents=True)
    mirror = debian_mirror.mirror()
    process.run([*argv, str(aside / "base.tar"), *([mirror] if mirror else [])])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
