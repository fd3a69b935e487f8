"""The files below builder/ as text: of the working tree, or of a revision in git, without a checkout."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_TOP: Final = "builder"


def working_tree(root: Path = ROOT) -> dict[str, str]:
    """Each Python file below builder/: its path from the root, and its text."""
    return {str(path.relative_to(root)): path.read_text() for path in sorted((root / _TOP).rglob("*.py"))}


def revision(name: str) -> dict[str, str]:
    """The same of a commit, tag or branch; git says on stderr what it does not know, and raises CalledProcessError."""
    run = subprocess.run(["git", "archive", "--format=tar", name, _TOP], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return from_tar(run.stdout)


def from_tar(archive: bytes) -> dict[str, str]:
    """The Python files of a tar archive."""
    files: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.name.endswith(".py") else None
            if content is not None:
                files[member.name] = content.read().decode()
    return files
