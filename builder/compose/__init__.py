"""Compose files as the values of a stack."""

from builder.compose.draft import Parts
from builder.compose.load import load

__all__ = ["Parts", "load"]
