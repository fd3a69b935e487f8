"""The private directory that a bake happens in: on the file system of the result, gone when it is over."""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import data
from builder.lab.signals import shielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.packer.find import Packer

_PREFIX: Final = ".er-bake-"
_LOCK: Final = "lock"
# Packer reads every file with this ending as values of variables.
VALUES: Final = "values.auto.pkrvars.json"


@dataclass(frozen=True, slots=True)
class Places:
    """What lies where in a work directory."""

    root: Path

    @property
    def template(self) -> Path:
        """What `packer build` is pointed at."""
        return self.root / "template"

    @property
    def payload(self) -> Path:
        """What is uploaded into the machine being baked."""
        return self.template / "payload"

    @property
    def output(self) -> Path:
        """Where a local build writes its image; Packer makes it."""
        return self.root / "output"

    @property
    def cache(self) -> Path:
        """Packer's own downloads."""
        return self.root / "cache"

    @property
    def temporary(self) -> Path:
        """Packer's temporary files, which a killed Packer leaves."""
        return self.root / "tmp"

    @property
    def key(self) -> Path:
        """The private key made for this bake."""
        return self.root / "key"

    @property
    def seed(self) -> Path:
        """The disk that lets Packer into a local machine."""
        return self.root / "seed.img"

    @property
    def console(self) -> Path:
        """What a local machine says on its console."""
        return self.root / "console.log"


@dataclass(frozen=True, slots=True)
class Laid:
    """One file to lay, by its path below the template: bytes, or a copy of another file."""

    path: str
    content: bytes | Path = field(repr=False)
    mode: int = 0o644


def template(packer: Packer, target: str) -> tuple[Laid, ...]:
    """The template's own files: the build, its steps, and of the sources and plugins only the target's."""
    images = data.tree("images")
    found = [*sorted((images / "packer").glob("*.pkr.hcl")), images / f"packer/sources/{target}.pkr.hcl"]
    plugins = images / f"packer/plugins/{target}.pkr.hcl"
    laid = [Laid(path.name if path.parent.name == "packer" else f"source-{path.name}", path) for path in found]
    if packer.takes_plugins and plugins.is_file():
        laid.append(Laid(f"plugins-{plugins.name}", plugins))
    laid += [Laid(f"steps/{path.name}", path, 0o755) for path in sorted((images / "steps").glob("[0-9]*"))]
    return tuple(laid)


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
    places = Places(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).absolute())
    try:
        with (places.root / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for path in (places.template, places.cache, places.temporary):
                path.mkdir()
            yield places
    finally:
        with shielded():
            shutil.rmtree(places.root, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what a run that was killed has left: a directory whose lock nobody holds."""
    for root in parent.glob(f"{_PREFIX}*"):
        lock = root / _LOCK
        if not lock.is_file():
            continue
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(root, ignore_errors=True)
