"""Secrets that stacks refer to: user-data names them at most, and their values come later, over SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.spec import Spec


def secrets(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Pairs of stack and secret, each once, in the order of the spec."""
    found = [
        (stack.name, secret.name) for stack in spec.stacks for service in stack.services for secret in service.secrets
    ]
    return tuple(dict.fromkeys(found))
