"""The private directory that a bake happens in: on the file system of the result, gone when it is over.

template/           the template of the target and the values of its variables
template/steps/     the scripts that are run in the machine, in order
template/payload/   what is uploaded to the machine
output/             what QEMU leaves
"""

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

PREFIX: Final = ".er-bake-"
_TEMPORARY_PREFIX: Final = "er-bake-"
_LOCK: Final = "lock"
# Names in a work directory. Packer is started in it, so they are also what Packer is told.
TEMPLATE: Final = "template"
STEPS: Final = f"{TEMPLATE}/steps"
PAYLOAD: Final = f"{TEMPLATE}/payload"
OUTPUT: Final = "output"
KEY: Final = "key"
SEED: Final = "seed.img"
CONSOLE: Final = "console.log"
FLASH: Final = "flash"
_CACHE: Final = "cache"


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """`root`, and `temporary` for Packer's sockets, whose paths must be short (unix(7)).

    `mark` is printed at the end of each step: a word that nobody else can know.
    """

    root: Path
    temporary: Path
    mark: str = field(default_factory=lambda: f"er-step-{secrets.token_hex(8)}")

    @property
    def cache(self) -> Path:
        """Packer's own downloads."""
        return self.root / _CACHE


@contextmanager
def make(parent: Path) -> Iterator[WorkDirectory]:
    """A new directory below `parent`, which is made when missing. Raises OSError when that cannot be written to."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).absolute()
    work = WorkDirectory(root, Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX)))
    try:
        with (root / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(str(work.temporary))
            lock.flush()
            (root / TEMPLATE).mkdir()
            work.cache.mkdir()
            yield work
    finally:
        with shielded():
            for path in (root, work.temporary):
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
            if not (named := file.read()):
                # Made this very moment, and about to be locked.
                continue
            temporary = Path(named)
            if temporary.name.startswith(_TEMPORARY_PREFIX) and temporary.parent == Path(tempfile.gettempdir()):
                shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(root, ignore_errors=True)


# Ends of lines of a source that are for Packer 1.7 and later with plugins, or for Packer 1.6 with built-in builders.
_SINCE_PLUGINS: Final = "# since 1.7"
_UNTIL_PLUGINS: Final = "# until 1.6"
# Packer reads every file with this ending as values of variables.
VALUES: Final = "values.auto.pkrvars.json"


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """One file to write, by its path below the template: bytes, or a copy of another file."""

    path: str
    content: bytes | Path = field(repr=False)
    mode: int = 0o644


def template(target: str, *, plugins: bool) -> tuple[TemplateFile, ...]:
    """The template's own files: the build, its steps, and of the sources and plugins only the target's.

    `plugins`: whether Packer takes its builders as plugins.
    """
    source = data.tree("images") / f"packer/sources/{target}.pkr.hcl"
    required = data.tree("images") / f"packer/plugins/{target}.pkr.hcl"
    files = [*shared_files(), TemplateFile("source.pkr.hcl", _for_generation(source, plugins=plugins))]
    if plugins and required.is_file():
        files.append(TemplateFile("plugins.pkr.hcl", required))
    return tuple(files)


def shared_files() -> tuple[TemplateFile, ...]:
    """What every target has in its template."""
    images = data.tree("images")
    template = (TemplateFile(path.name, path) for path in sorted((images / "packer").glob("*.pkr.hcl")))
    steps = sorted((images / "steps").glob("[0-9]*"))
    return (*template, *(TemplateFile(f"steps/{path.name}", path, 0o755) for path in steps))


def _for_generation(source: Path, *, plugins: bool) -> bytes | Path:
    """A source as this Packer's builder takes it: a line that ends with the other generation's mark is left out."""
    other = _UNTIL_PLUGINS if plugins else _SINCE_PLUGINS
    lines = source.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.rstrip().endswith(other)]
    return "".join(kept).encode() if len(kept) < len(lines) else source


def values_file(variables: Mapping[str, Any]) -> TemplateFile:
    """The file that gives the variables their values."""
    return TemplateFile(VALUES, (json.dumps(variables, indent=2, sort_keys=True) + "\n").encode())


def write(root: Path, files: Iterable[TemplateFile]) -> None:
    """Write the files below `root`."""
    for file in files:
        target = root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.content, Path):
            shutil.copyfile(file.content, target)
        else:
            target.write_bytes(file.content)
        target.chmod(file.mode)


_SUITES: Final = {"debian-13": "trixie"}


def local_sources(base: str) -> str:
    """The lines of a sources.list for a base, from this machine's mirror; empty where the image's own will do."""
    return sources_list(base, debian_mirror.mirror(), debian_mirror.mirror(archive="debian-security"))


def sources_list(base: str, mirror: str | None, security: str | None) -> str:
    """The lines for these mirrors; empty without a mirror, and for a base that is not Debian."""
    suite = _SUITES.get(base)
    if suite is None or mirror is None:
        return ""
    rows = [(mirror, suite), (mirror, f"{suite}-updates"), *([(security, f"{suite}-security")] if security else [])]
    return "".join(f"deb {uri} {name} main\n" for uri, name in rows)
