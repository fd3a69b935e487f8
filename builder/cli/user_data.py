"""`er user-data`: what to paste into a provider's console."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from builder import files, userdata
from builder import host as hosts
from builder.cli.options import SpecPath, load
from builder.cli.say import say
from builder.problems import UserError

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
    on: Annotated[Image, typer.Option("--on", help="What the server starts from: the provider's image, or one that er baked.")],
    provider: Annotated[Provider, typer.Option("--for", help="Who takes the user-data.")] = Provider.NOCLOUD,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here, not to stdout.")] = None,
) -> int:
    """Write the user-data that turns a server into the host."""
    del provider
    spec = load(path)
    hosts.refuse_archives(spec)
    content = userdata.cloud_config(spec, hosts.build(spec), on.value)
    if output is None:
        say.data(content)
        return 0
    if output.is_dir():
        raise UserError(f"{output} is a directory", "give a file name")
    files.write(output, content)
    say.note(f"wrote {len(content):,} bytes to {output}")
    return 0
