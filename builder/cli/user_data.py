"""`er user-data`: what to paste into a provider's console."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder import files, images, userdata
from builder import host as hosts
from builder.cli.options import SpecPath, load
from builder.cli.say import say
from builder.problems import Problem, SpecError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec import Spec

NAME = "user-data"


class Image(StrEnum):
    """What the server starts from."""

    STOCK = "stock"
    BAKED = "baked"


class Provider(StrEnum):
    """Where the user-data goes."""

    NOCLOUD = "nocloud"


def command(
    path: SpecPath,
    on: Annotated[
        Image, typer.Option("--on", help="What the server starts from: the provider's image, or one that er baked.")
    ],
    provider: Annotated[Provider, typer.Option("--for", help="Who takes the user-data.")] = Provider.NOCLOUD,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here, not to stdout.")
    ] = None,
) -> int:
    """Write the user-data that turns a server into the host."""
    del provider
    spec = load(path)
    _refuse_archives(spec)
    content = userdata.cloud_config(spec, hosts.build(spec), on.value)
    if output is None:
        say.data(content)
        return 0
    if output.is_dir():
        raise UserError(f"{output} is a directory", "give a file name")
    files.write(output, content)
    say.note(f"wrote {len(content):,} bytes to {output}")
    return 0


def _refuse_archives(spec: Spec) -> None:
    """User-data is a few kilobytes: it cannot carry an image, and the server has no other way to it."""
    found = tuple(_archives(spec))
    if found:
        raise SpecError(found)


def _archives(spec: Spec) -> Iterator[Problem]:
    hint = "push it to a registry and name it there, or bake it into an image; er try takes archives as they are"
    message = "an archive on this machine cannot travel in user-data"
    if images.is_archive(spec.proxy.image):
        yield Problem("error", "proxy.image", message, None, hint)
    for stack in spec.stacks:
        for service in stack.services:
            if images.is_archive(service.image):
                yield Problem(
                    "error", f"stack {stack.name}, service {service.name}: image", message, service.mark, hint
                )
