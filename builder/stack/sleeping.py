"""What of a stack sleeps when nobody asks for it, and what may wake it.

Each `…_fault` gives the first thing wrong with a value, if any.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder import messages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from builder.stack.domains import Fault
    from builder.stack.model import Service

# Seconds. Below the first a visitor who reads a page would wait for the next one; above the last it may as well run.
SHORTEST: Final = 60
LONGEST: Final = 7 * 86_400
# How long a visitor is held while it wakes.
WAKE_TIMEOUT: Final = 60
WAKE_TIMEOUTS: Final = range(5, 601)
METHOD: Final = "[A-Z]{3,16}"
# A path of Caddy's matcher: itself, or with a star at its end all below it.
WAKE_PATH: Final = r"/(?:[A-Za-z0-9._~-]+/)*(?:[A-Za-z0-9._~-]+|\*)?"


def sleep_fault(seconds: float) -> Fault | None:
    """Of the time without a connection after which a service sleeps."""
    return None if SHORTEST <= seconds <= LONGEST else (messages.SLEEP_RANGE, {})


def wake_fault(text: str) -> Fault | None:
    """Of a path or a method that wakes."""
    return None if re.fullmatch(f"{METHOD}|{WAKE_PATH}", text) else (messages.WAKE_FORM, {"value": text})


def wake_timeout_fault(seconds: float) -> Fault | None:
    """Of the time that a visitor is held."""
    return None if WAKE_TIMEOUTS.start <= seconds < WAKE_TIMEOUTS.stop else (messages.WAKE_TIMEOUT_RANGE, {})


def with_sleep(services: Iterable[Service], said: int | None) -> tuple[Service, ...]:
    """The services with what the stack says of those that are public."""
    return tuple(
        replace(one, sleep=said) if said is not None and one.kind == "web" and one.sleep is None else one
        for one in services
    )


def sleeping(services: Collection[Service]) -> frozenset[str]:
    """The names of those that sleep: public ones that say so, and what is needed by nobody else.

    A service that no other one needs is awake unless it says so. What an awake one needs is awake.
    """
    needs = {service.name: set(needed(service)) for service in services}
    wanted = {name for names in needs.values() for name in names}
    awake = {
        service.name
        for service in services
        if service.sleep is None and (service.kind == "web" or service.name not in wanted)
    }
    todo = list(awake)
    while todo:
        found = needs.get(todo.pop(), set()) - awake
        awake |= found
        todo += found
    front = any(service.kind == "web" and service.name not in awake for service in services)
    return frozenset(needs) - awake if front else frozenset()


def needed(service: Service) -> Iterator[str]:
    """The services that this one cannot be without."""
    yield from (dependency.service for dependency in service.depends_on)
    if service.network_mode.startswith("service:"):
        yield service.network_mode.removeprefix("service:")


def pulled(services: Collection[Service]) -> Mapping[str, tuple[str, ...]]:
    """By public service that sleeps, the workers that say they sleep: nobody needs them, so it takes them along."""
    asleep = sleeping(services)
    workers = tuple(one.name for one in services if one.name in asleep and one.kind != "web" and one.sleep is not None)
    return {one.name: workers for one in services if one.name in asleep and one.kind == "web"}


def paths_and_methods(wake: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What may wake, as Caddy's matchers have it; `/app/*` is /app as well."""
    paths, methods = [], []
    for text in wake:
        if not text.startswith("/"):
            methods.append(text)
        elif text.endswith("/*") and text != "/*":
            paths += [text.removesuffix("/*"), text]
        else:
            paths.append(text)
    return tuple(paths), tuple(methods)
