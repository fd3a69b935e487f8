"""What a stack says of sleep, where one key alone does not tell what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.messages import SLEEP_ALONE, SLEEP_WANTED
from builder.stack import sleeping
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.spec.document import Document
    from builder.spec.stack_entries import StackEntry as Entry
    from builder.stack.model import Service
    from builder.yamlfile.source import Loc

_KEYS: Final = ("wake", "wake_timeout")


def check(document: Document, entries: Iterable[Entry]) -> None:
    """Of every stack."""
    for entry in entries:
        if entry.contents is None:
            _check_keys(document, entry.loc)
        else:
            _check_services(document, entry.loc, entry.contents.services)


def _check_keys(document: Document, loc: Loc) -> None:
    """Of a stack in short form."""
    for key in _KEYS:
        if document.get((*loc, key)) is not None and document.get((*loc, "sleep")) is None:
            document.report(SLEEP_WANTED, (*loc, key), on_key=True, key=key)


def _check_services(document: Document, loc: Loc, services: Iterable[Service]) -> None:
    """Of a stack from Compose files."""
    # What the time is, right or wrong, is checked at its place.
    said = 0 if document.get((*loc, "sleep")) is not None else None
    found = sleeping.with_sleep(services, said)
    asleep = sleeping.sleeping(found)
    for service in found:
        mark, where = service.mark or document.mark(loc), dotted((*loc, "services", service.name))
        if service.sleep is not None and service.kind != "web" and not asleep:
            SLEEP_ALONE.add_to(document.problems, where, mark, service=service.name)
        for key in _KEYS:
            place: Loc = (*loc, "public", service.name, key)
            is_faulty = document.get((*loc, "public", service.name, "sleep")) is not None
            if not getattr(service, key) or service.sleep is not None or is_faulty:
                continue
            if document.get(place) is not None:
                document.report(SLEEP_WANTED, place, on_key=True, key=key)
            else:
                SLEEP_WANTED.add_to(document.problems, where, mark, key=key)
