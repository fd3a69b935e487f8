"""How packer is called: argv lists, run by somebody else in the work directory.

Values of variables are in files, never in an argv."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from builder.packer.work_directory import TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.packer.program import Packer
    from builder.packer.work_directory import Places


def init(packer: Packer) -> list[str] | None:
    """Fetch the plugins of the template; None for a Packer that has its builders inside."""
    return [str(packer.path), "init", TEMPLATE] if packer.takes_plugins else None


def validate(packer: Packer, var_files: Sequence[Path] = ()) -> list[str]:
    """Check the template with its variables; nothing is started."""
    return [str(packer.path), "validate", *_variables(var_files), TEMPLATE]


def build(packer: Packer, var_files: Sequence[Path] = ()) -> list[str]:
    """Build. A failed build is cleaned up by Packer itself."""
    start = [str(packer.path), "build", "-machine-readable", "-on-error=cleanup"]
    return [*start, *_variables(var_files), TEMPLATE]


def environment(base: Mapping[str, str], places: Places) -> dict[str, str]:
    """Packer's environment: the caller's, with its temporary and cached files where they are taken away.

    Plugins stay where the user's Packer keeps them, so that they are fetched once.
    """
    return {
        **base,
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
        "PACKER_CACHE_DIR": str(places.cache),
        "TMPDIR": str(places.temporary),
    }


def shown(argv: Sequence[str]) -> str:
    """An argv as one would type it."""
    return shlex.join(argv)


def _variables(files: Sequence[Path]) -> list[str]:
    return [f"-var-file={path}" for path in files]
