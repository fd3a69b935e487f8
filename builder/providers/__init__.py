"""Providers: what each takes as user-data, and how it is handed over. One row each, every fact with its source."""

from builder.providers.model import Counted, Encoding, Provider
from builder.providers.table import NAMES, PROVIDERS, get

__all__ = ["NAMES", "PROVIDERS", "Counted", "Encoding", "Provider", "get"]
