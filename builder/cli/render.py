"""`er render`: the host's tree as it lands, in a directory to look at."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder import files
from builder import host as hosts
from builder.cli.options import SpecPath, load
from builder.cli.output import say
from builder.host.rootfs import write_files
from builder.packer.upload_files import archive
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.host import Host

NAME = "render"


def command(
    path: SpecPath,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Where the tree goes, made anew; - is a tar on stdout.",
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace DIR when it is not empty.")] = False,
) -> int:
    """Write the host's files below DIR, with their modes; they are root's on the host."""
    if output == files.STDOUT or _is_stream(output):
        return _as_tar(output, hosts.build(load(path)))
    directory = files.directory(output)
    host = hosts.build(load(path))
    if directory.is_dir() and any(directory.iterdir()):
        _check_replaced(output, directory, path, force=force)
    with files.explained(output):
        _replace(directory, host)
    say.note(f"wrote {len(host.files)} files to {output}")
    return 0


def _is_stream(output: str) -> bool:
    return not Path(output).is_dir() and not output.endswith("/") and files.is_stream(output)


def _as_tar(output: str, host: Host) -> int:
    """A pipe or a device holds no directory: it gets an archive of one."""
    if files.is_terminal(output):
        raise UserError("an archive is not for a terminal", "give a directory with -o DIR, or: -o - | tar t")
    content = archive(host.files)
    if output == files.STDOUT:
        say.data(content)
    else:
        files.write(output, content, report=say.note)
    say.note(f"wrote {len(host.files)} files to {'stdout' if output == files.STDOUT else output}, as a tar archive")
    return 0


def _check_replaced(output: str, directory: Path, spec: Path, *, force: bool) -> None:
    if not force:
        raise UserError(f"{output} is not empty", "give another directory, or --force to replace it")
    if spec.resolve().is_relative_to(directory):
        raise UserError(f"{output} holds {spec}, which would go with it", "give another directory")


def _replace(directory: Path, host: Host) -> None:
    """Written aside, then renamed; the old one goes when the new one stands, and comes back when it cannot."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    new, old = aside / "new", aside / "old"
    try:
        new.mkdir()
        write_files(new, host.files)
        if directory.exists():
            _dress(new, directory.stat())
            directory.rename(old)
        try:
            new.rename(directory)
        except BaseException:
            if old.exists():
                old.rename(directory)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _dress(new: Path, old: os.stat_result) -> None:
    """As the directory that it replaces."""
    with contextlib.suppress(PermissionError):
        os.chown(new, old.st_uid, old.st_gid)
    new.chmod(stat.S_IMODE(old.st_mode))
