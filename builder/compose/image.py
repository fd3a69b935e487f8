"""The image of a service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from builder.compose import messages
from builder.compose.values import plain, text
from builder.oci import image_reference

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node


def parse(node: Node, draft: Draft) -> None:
    """The image, fully qualified."""
    base = node.document.source.path.parent
    image = image_reference.normalise(text(node), base, node.where, node.mark(), draft.project.report)
    if image is not None:
        draft.set("image", image, node)


def platform(node: Node) -> str:
    """A platform the host could be."""
    name = plain(node)
    if not re.fullmatch(r"linux(/(amd64|x86_64|arm64|aarch64)(/v8)?)?", name):
        raise node.wrong(messages.PLATFORM, name=name)
    return name


def pull_policy(node: Node) -> Literal["always", "missing", "never"]:
    """When the image is pulled."""
    name = plain(node)
    if re.fullmatch(r"daily|weekly|every_[0-9]+[wdhms]([0-9]+[wdhms])*", name):
        node.put(messages.PULL_EVERY, name=name)
        return "always"
    match name:
        case "always" | "missing" | "never":
            return name
        case "if_not_present":
            return "missing"
        case "build":
            raise node.wrong(messages.PULL_BUILD)
        case _:
            raise node.wrong(messages.PULL, name=name)
