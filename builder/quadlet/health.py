"""A container's health check as Quadlet's keys."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from builder.quadlet.container_keys import option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.quadlet.podman import Podman
    from builder.quadlet.unit_file import Entry
    from builder.stack.model import Healthcheck


def entries(check: Healthcheck | None, podman: Podman) -> Iterator[Entry]:
    """The lines of [Container] for a health check; the image's own counts where the service says nothing."""
    if check is None:
        return
    if check.disable:
        yield "HealthCmd", "none"
        return
    if check.test:
        yield option(podman, "HealthCmd", "--health-cmd", _command(check))
    for name, value in (
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("start-period", check.start_period),
    ):
        if value is not None:
            yield _key(name), _seconds(value)
    if check.retries is not None:
        yield "HealthRetries", str(check.retries)
    if check.start_interval is not None and check.test:
        yield option(podman, "HealthStartupCmd", "--health-startup-cmd", _command(check))
        yield "HealthStartupInterval", _seconds(check.start_interval)


def _command(check: Healthcheck) -> str:
    """A health check in the spelling of HealthCmd= that Podman does not misread.

    A list goes as JSON without the word CMD, which would be taken for a part of it; one of a single word would be
    given to a shell, unless CMD stands before it outside of JSON.
    """
    if check.shell:
        return json.dumps(["CMD-SHELL", *check.test], ensure_ascii=False)
    if len(check.test) > 1:
        return json.dumps(check.test, ensure_ascii=False)
    only = check.test[0]
    if only.split() == [only]:
        return f"CMD {only}"
    return json.dumps(["CMD-SHELL", shlex.quote(only)], ensure_ascii=False)


def _key(name: str) -> str:
    return "Health" + "".join(part.capitalize() for part in name.split("-"))


def _seconds(value: float) -> str:
    """A duration as Go reads it."""
    return f"{value:g}s" if value == int(value) and value < 1e6 else f"{round(value * 1000)}ms"
