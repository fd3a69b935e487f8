"""The compose file of a stack: found, then read by builder.compose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.spec import messages

if TYPE_CHECKING:
    from pathlib import Path

    from builder.compose import Parts
    from builder.spec.document import Document
    from builder.yamlfile.source import Loc

_USUAL: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


def read(document: Document, loc: Loc, stack: str) -> Parts | None:
    """The services of the compose file named at a place; None with the reasons in the report."""
    name = document.text(loc)
    if name is None or not _exists(document, loc, name):
        return None
    from builder import compose  # noqa: PLC0415 - specs without compose files start faster

    return compose.load(document.base / name, stack=stack, report=document.report)


def _exists(document: Document, loc: Loc, name: str) -> bool:
    path, found = document.base / name, None
    try:
        if path.is_file():
            return True
        if path.is_dir():
            example = f"{name.rstrip('/')}/{_nearby(path) or _USUAL[0]}"
            document.put(messages.COMPOSE_DIRECTORY, loc, path=name, example=example)
            return False
        found = _nearby(path.parent)
    except (OSError, ValueError):
        pass
    if found:
        near = (path.parent / found).relative_to(document.base) if name[:1] != "/" else path.parent / found
        document.put(messages.COMPOSE_MISSING_NEAR, loc, path=name, near=near)
    else:
        document.put(messages.COMPOSE_MISSING, loc, path=name)
    return False


def _nearby(directory: Path) -> str | None:
    return next((name for name in _USUAL if (directory / name).is_file()), None)
