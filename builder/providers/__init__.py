"""Providers: what each takes as user-data, and how it is handed over.

`rows` is the table, a row for each provider and a source for every fact; `model` is what a row is made of. `page` makes
docs/providers.md of them. Nothing here knows a host or its user-data: `builder.userdata` imports this package.
"""

from typing import Final

from builder.problems import UserError
from builder.providers.model import Counted, Encoding, Fact, Provider
from builder.providers.rows import ROWS

PROVIDERS: Final = {row.name: row for row in ROWS}
NAMES: Final = tuple(PROVIDERS)


def get(name: str) -> Provider:
    """The row of a provider. Raises UserError for a name that is none."""
    if name not in PROVIDERS:
        raise UserError(f"no provider is called {name}", f"one of {', '.join(NAMES)}")
    return PROVIDERS[name]


__all__ = ["NAMES", "PROVIDERS", "Counted", "Encoding", "Fact", "Provider", "get"]
