"""Compose files as the values of a stack."""

from builder.compose.draft import StackContents
from builder.compose.load import load

__all__ = ["StackContents", "load"]
