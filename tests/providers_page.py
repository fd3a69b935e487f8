"""docs/providers.md: the table of providers, what fits where, and the source of every fact. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.providers import PROVIDERS
from builder.providers.volumes import VOLUMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.providers import Encoding, Provider

    # By provider and `stock` or `baked`: the form of the user-data, and how much of the limit it takes.
    Sizes = Mapping[tuple[str, str], tuple[Encoding, int]]
    # docs/providers-booted.json: what each host that was booted says of itself.
    Booted = Mapping[str, Mapping[str, object]]

INTRODUCTION: Final = """# Providers

Made from the rows in `builder/providers/`; edit those. `er providers` shows the same, `er providers NAME` one of them.
A value with a question mark is a careful guess: where it should be published, it could not be read.

**One form goes everywhere**: a MIME multipart whose only part is the compressed cloud-config in base64, plain ASCII.
`er user-data` writes it where the readable document does not fit, and raw gzip where only that fits and bytes pass.
Where the limit of a provider is not known, the lowest of all is aimed at, 16,384 bytes: more is handed over with a
warning, as it may be refused.

"""
_FITS: Final = """
## What fits

The user-data of a host with three stacks of one service, as `er user-data --for PROVIDER --on …` writes it, and whether
the unmodified cloud-init of Debian 13 has found it through its own datasource, taken it, and brought the stacks up.

"""


def markdown(sizes: Sizes, booted: Booted) -> str:
    """The page; `sizes` are of the user-data of a host with three stacks."""
    rows = list(PROVIDERS.values())
    texts = [INTRODUCTION, *_table(("provider", *_HEAD), ((f"`{row.name}`", *_cells(row)) for row in rows)), _FITS]
    texts += _table(
        ("provider", "on a stock image", "on a baked image", "booted on its datasource"),
        (
            (
                f"`{row.name}`",
                _fit(row, *sizes[row.name, "stock"]),
                _fit(row, *sizes[row.name, "baked"]),
                _booted(row.name, booted),
            )
            for row in rows
        ),
    )
    return "".join([*texts, "\n## Sources\n", *(text for row in rows for text in _sources(row))])


_HEAD: Final = ("", "limit", "counted", "takes", "datasource", "login", "archs", "image import", "Packer")


def _booted(name: str, booted: Booted) -> str:
    """The datasources under which a host has booted at a provider."""
    datasources = [str(host["datasource"]) for host in booted.values() if host["provider"] == name]
    return f"yes: {', '.join(datasources)}" if datasources else "not yet"


def _cells(row: Provider) -> tuple[str, ...]:
    limit = "none" if row.limit.value is None else f"{row.limit.value:,}"
    return (
        row.title,
        limit + _doubt(row.limit.verified),
        row.counted.value.value if row.limit.value else "",
        ", ".join(row.encodings()),
        row.datasource.value + _doubt(row.datasource.verified),
        " / ".join(dict.fromkeys(row.login.value.values())) + _doubt(row.login.verified),
        ", ".join(row.archs.value) + _doubt(row.archs.verified),
        row.imports.value + _doubt(row.imports.verified),
        row.packer.value or "none",
    )


def _doubt(verified: bool) -> str:
    return "" if verified else " ?"


def _fit(row: Provider, encoding: Encoding, used: int) -> str:
    size = f"{encoding}, {used:,}"
    return size if row.limit.value is None else f"{size} of {row.limit.value:,}"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |\n" for line in lines]


def _sources(row: Provider) -> Iterator[str]:
    yield f"\n### {row.title}\n\n"
    yield f"`{row.command.value}`  \n{row.console.value}\n\n"
    volume = VOLUMES[row.name]
    yield f"A disk for [data](data.md): `{volume.command.value}`  \n{volume.console.value}\n\n"
    by_source: dict[tuple[str, bool], list[str]] = {}
    for name, fact in row.facts():
        by_source.setdefault((fact.source, fact.verified), []).append(name)
    for one in (volume.command, volume.console):
        by_source.setdefault((one.source, one.verified), []).append("disk for data")
    for (source, verified), names in by_source.items():
        yield f"* {', '.join(names)}: {source}{'' if verified else ' (not verified)'}\n"
