"""Whether a service is started again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.compose import messages
from builder.compose.values import plain

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node


def parse(node: Node, draft: Draft) -> None:
    """`no`, `always`, `unless-stopped`, `on-failure`, `on-failure:3`. A plain `no` may come as false."""
    policy = "no" if node.value is False else plain(node)
    found = re.fullmatch(r"(no|always|unless-stopped|on-failure)(?::([0-9]+))?", policy)
    if found is None or (found[2] and found[1] != "on-failure"):
        raise node.wrong(messages.RESTART, policy=policy)
    draft.set("restart", found[1], node)
    if found[2]:
        draft.set("restart_attempts", int(found[2]), node)
