"""`er render`: the files of the host in a directory."""

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
from builder.cli import output
from builder.cli.options import SpecPath, load
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.host import Host

NAME = "render"


def command(
    path: SpecPath,
    target: Annotated[
        str,
        typer.Option("-o", "--output", metavar="DIR", help="Where the tree goes, made anew; - is a tar on stdout."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace DIR when it is not empty.")] = False,
) -> int:
    """Write the host's files below DIR, with their modes; they are root's on the host."""
    from builder import host as hosts

    if target == files.STDOUT or _is_stream(target):
        return _as_tar(target, hosts.build(load(path)))
    directory = files.directory(target)
    host = hosts.build(load(path))
    if directory.is_dir() and any(directory.iterdir()):
        _check_replaced(target, directory, path, force=force)
    with files.explained(target):
        _replace(directory, host)
    output.note(f"wrote {len(host.files)} files to {target}")
    return 0


def _is_stream(target: str) -> bool:
    return not Path(target).is_dir() and not target.endswith("/") and files.is_stream(target)


def _as_tar(target: str, host: Host) -> int:
    """A pipe or a device holds no directory: it gets an archive of one."""
    from builder.packer.upload_files import archive

    if files.is_terminal(target):
        raise UserError("an archive is not for a terminal", "give a directory with -o DIR, or: -o - | tar t")
    content = archive(host.files)
    if target == files.STDOUT:
        output.data(content)
    else:
        files.write(target, content, report=output.note)
    output.note(f"wrote {len(host.files)} files to {'stdout' if target == files.STDOUT else target}, as a tar archive")
    return 0


def _check_replaced(target: str, directory: Path, spec: Path, *, force: bool) -> None:
    if not force:
        raise UserError(f"{target} is not empty", "give another directory, or --force to replace it")
    if spec.resolve().is_relative_to(directory):
        raise UserError(f"{target} holds {spec}, which would go with it", "give another directory")


def _replace(directory: Path, host: Host) -> None:
    """Written beside it, then renamed; the old directory is removed last, and restored when the rename fails."""
    from builder.host.rootfs import write_files

    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    new, old = aside / "new", aside / "old"
    try:
        new.mkdir()
        write_files(new, host.files)
        if directory.exists():
            _copy_rights(new, directory.stat())
            directory.rename(old)
        try:
            new.rename(directory)
        except BaseException:
            if old.exists():
                old.rename(directory)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy_rights(new: Path, old: os.stat_result) -> None:
    """Owner and mode of the directory that it replaces."""
    with contextlib.suppress(PermissionError):
        os.chown(new, old.st_uid, old.st_gid)
    new.chmod(stat.S_IMODE(old.st_mode))
