"""Archives of this machine in a spec: user-data is a few kilobytes and carries none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci import image_reference
from builder.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.problems import Mark
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On


def problems(spec: Spec, on: On) -> tuple[Problem, ...]:
    """What is wrong with each: a stock server has no way to it, a baked one may hold it."""
    return tuple(_problem(where, mark, on) for where, mark in _archives(spec))


def _archives(spec: Spec) -> Iterator[tuple[str, Mark | None]]:
    if image_reference.is_archive(spec.proxy.image):
        yield "proxy.image", None
    for stack in spec.stacks:
        for service in stack.services:
            if image_reference.is_archive(service.image):
                yield f"stack {stack.name}, service {service.name}: image", service.mark


def _problem(where: str, mark: Mark | None, on: On) -> Problem:
    if on == "baked":
        message, hint = "the baked image must hold this archive", "er build-image --with-stacks bakes it in"
        return Problem("warning", where, message, mark, hint)
    hint = "push it to a registry and name it there, or bake it into an image; er try takes archives as they are"
    return Problem("error", where, "an archive on this machine cannot travel in user-data", mark, hint)


def secrets(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Pairs of stack and secret, each once, in the order of the spec."""
    found = [
        (stack.name, secret.name) for stack in spec.stacks for service in stack.services for secret in service.secrets
    ]
    return tuple(dict.fromkeys(found))
