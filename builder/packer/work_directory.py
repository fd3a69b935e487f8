"""The private directory that a bake happens in: on the file system of the result, gone when it is over."""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import data
from builder.localhost import debian_mirror
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.packer.program import Packer


PREFIX: Final = ".er-bake-"
_SHORT: Final = "er-bake-"
_LOCK: Final = "lock"
# Packer reads every file with this ending as values of variables.
VALUES: Final = "values.auto.pkrvars.json"


# What lies where in a work directory, in which Packer is started.
TEMPLATE: Final = "template"
STEPS: Final = f"{TEMPLATE}/steps"
PAYLOAD: Final = f"{TEMPLATE}/payload"
OUTPUT: Final = "output"
KEY: Final = "key"
SEED: Final = "seed.img"
CONSOLE: Final = "console.log"
FLASH: Final = "flash"
_CACHE: Final = "cache"
# In a source: for today's plugins, and for the builders inside Packer 1.6.6.
_NEWER: Final = "# since 1.7"
_OLDER: Final = "# until 1.6"


@dataclass(frozen=True, slots=True)
class Places:
    """The work directory, and one for Packer's sockets, whose paths must be short (unix(7)).

    `mark` is what ends a step's output: a word that nobody else can know.
    """

    root: Path
    temporary: Path
    mark: str = field(default_factory=lambda: f"er-step-{secrets.token_hex(8)}")

    @property
    def cache(self) -> Path:
        """Packer's own downloads."""
        return self.root / _CACHE


@dataclass(frozen=True, slots=True)
class Laid:
    """One file to lay, by its path below the template: bytes, or a copy of another file."""

    path: str
    content: bytes | Path = field(repr=False)
    mode: int = 0o644


def template(packer: Packer, target: str) -> tuple[Laid, ...]:
    """The template's own files: the build, its steps, and of the sources and plugins only the target's."""
    source = data.tree("images") / f"packer/sources/{target}.pkr.hcl"
    plugins = data.tree("images") / f"packer/plugins/{target}.pkr.hcl"
    wanted = [*shared(), Laid("source.pkr.hcl", _for(packer, source))]
    if packer.takes_plugins and plugins.is_file():
        wanted.append(Laid("plugins.pkr.hcl", plugins))
    return tuple(wanted)


def _for(packer: Packer, source: Path) -> bytes | Path:
    """A source as this Packer's builder takes it: a line that ends with the other generation's mark is left out."""
    other = _OLDER if packer.takes_plugins else _NEWER
    lines = source.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.rstrip().endswith(other)]
    return "".join(kept).encode() if len(kept) < len(lines) else source


def shared() -> tuple[Laid, ...]:
    """What every target has in its template."""
    images = data.tree("images")
    files = [Laid(path.name, path) for path in sorted((images / "packer").glob("*.pkr.hcl"))]
    return (*files, *(Laid(f"steps/{path.name}", path, 0o755) for path in sorted((images / "steps").glob("[0-9]*"))))


def values(variables: Mapping[str, Any]) -> Laid:
    """The file that gives the variables their values."""
    return Laid(VALUES, (json.dumps(variables, indent=2, sort_keys=True) + "\n").encode())


def lay(root: Path, files: Iterable[Laid]) -> None:
    """Write the files below `root`."""
    for file in files:
        target = root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.content, Path):
            shutil.copyfile(file.content, target)
        else:
            target.write_bytes(file.content)
        target.chmod(file.mode)


@contextmanager
def work_directory(parent: Path) -> Iterator[Places]:
    """A new directory below `parent`, which is made when missing. Raises OSError when that cannot be written to."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).absolute()
    places = Places(root, Path(tempfile.mkdtemp(prefix=_SHORT)))
    try:
        with (root / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(str(places.temporary))
            lock.flush()
            (root / TEMPLATE).mkdir()
            places.cache.mkdir()
            yield places
    finally:
        with shielded():
            for path in (root, places.temporary):
                shutil.rmtree(path, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what a run that was killed has left: a directory whose lock nobody holds."""
    for root in parent.glob(f"{PREFIX}*"):
        lock = root / _LOCK
        if not lock.is_file():
            continue
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            if not (said := file.read()):
                # Made this very moment, and about to be locked.
                continue
            temporary = Path(said)
            if temporary.name.startswith(_SHORT) and temporary.parent == Path(tempfile.gettempdir()):
                shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(root, ignore_errors=True)


_SUITES: Final = {"debian-13": "trixie"}


def here(base: str) -> str:
    """The lines of a sources.list for a base, from this machine's mirror; empty where the image's own will do."""
    return lines(base, debian_mirror.mirror(), debian_mirror.mirror(archive="debian-security"))


def lines(base: str, mirror: str | None, security: str | None) -> str:
    """The same as a pure function; without a mirror there is nothing to say."""
    suite = _SUITES.get(base)
    if suite is None or mirror is None:
        return ""
    found = [(mirror, suite), (mirror, f"{suite}-updates"), *([(security, f"{suite}-security")] if security else [])]
    return "".join(f"deb {uri} {name} main\n" for uri, name in found)
