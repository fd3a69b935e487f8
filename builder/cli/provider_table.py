"""`er providers`: what each provider takes as user-data, and how it is handed over."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from builder import providers
from builder.cli import output
from builder.cli.options import AsJson
from builder.cli.user_data import known_provider
from builder.packer import credentials
from builder.providers import Encoding
from builder.providers.volumes import VOLUMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.providers import Fact, Provider

NAME = "providers"
_HEAD = ("provider", "limit", "counted", "takes", "login", "image import", "Packer")
_SHORT = {"RAW": "raw", "BASE64": "base64"}


def _known(name: str | None) -> str | None:
    return name and known_provider(name)


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROVIDER]",
            callback=_known,
            autocompletion=lambda: providers.NAMES,
            help="Everything about one of them.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show what each provider takes as user-data: limit, encodings, images, logins, commands; with sources."""
    rows = [providers.get(name)] if name else [providers.get(one) for one in providers.NAMES]
    if as_json:
        values = [_as_json(row) for row in rows]
        output.json(values[0] if name else values)
    elif name:
        output.text("".join(f"{line}\n" for line in details(rows[0])))
    elif sys.stdout is not None and sys.stdout.isatty():
        _rich(rows)
    else:
        output.text("".join(f"{line}\n" for line in table(rows)))
    return 0


def cells(row: Provider) -> tuple[str, ...]:
    """A provider in the columns of the table; `?` marks what could not be read at its source."""
    limit = "none" if row.limit.value is None else f"{row.limit.value:,}"
    logins = " / ".join(dict.fromkeys(row.login.value.values()))
    return (
        row.name,
        _marked(limit, row.limit.verified),
        _marked(_SHORT[row.counted.value.name], row.counted.verified) if row.limit.value else "",
        ", ".join(row.encodings()),
        _marked(logins, row.login.verified),
        _marked(row.imports.value, row.imports.verified),
        row.packer.value or "none",
    )


def _marked(text: str, verified: bool) -> str:
    return text if verified else f"{text} ?"


def table(rows: list[Provider]) -> list[str]:
    """The table as aligned lines."""
    lines = [_HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _rich(rows: list[Provider]) -> None:
    from rich import box
    from rich.table import Table

    shown = Table(*_HEAD, box=box.SIMPLE_HEAD)
    for row in rows:
        shown.add_row(*cells(row))
    output.table(shown)
    output.note("? is not published where it could be read; er providers PROVIDER shows everything, with sources")


def details(row: Provider) -> list[str]:
    """Everything about a provider, each fact with its source."""
    lines = [f"{row.name}: {row.title}", f"{'encodings':<12}{', '.join(map(str, row.encodings()))}"]
    for name, fact in _with(row, "data disk", "or here"):
        value = fact.value
        text = (
            ", ".join(f"{base}: {words}" for base, words in value.items()) if isinstance(value, dict) else _text(value)
        )
        lines += [f"{name:<12}{text}", f"{'':<14}{'from' if fact.verified else 'not verified; see'} {fact.source}"]
    for login in credentials.BY_TARGET.get(row.name, ()):
        lines += [f"{'bakes with':<12}{login.text}", f"{'':<14}{login.what}"]
    return lines


def _with(row: Provider, command: str, console: str) -> Iterator[tuple[str, Fact[object]]]:
    """The facts of a provider, and how a disk for data is attached there, under these names."""
    yield from row.facts()
    volume = VOLUMES[row.name]
    yield from ((command, cast("Fact[object]", volume.command)), (console, cast("Fact[object]", volume.console)))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "bytes" if value else "text only"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else str(value)


def _as_json(row: Provider) -> dict[str, object]:
    facts = {
        name: {"value": fact.value, "source": fact.source, "verified": fact.verified}
        for name, fact in _with(row, "data_disk", "data_disk_console")
    }
    encodings: list[Encoding] = list(row.encodings())
    logins = [{"login": login.text, "what": login.what} for login in credentials.BY_TARGET.get(row.name, ())]
    return {"name": row.name, "title": row.title, "encodings": encodings, **facts, "bakes_with": logins}
