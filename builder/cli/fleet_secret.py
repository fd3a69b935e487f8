"""`er secret …`: the secrets of a fleet's stacks, which AWS keeps for hosts that are yet to come.

A value never stands in a command line, a file of er's, or a log.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import output
from builder.cli.launch import Region
from builder.cli.options import AsJson, SpecPath, load
from builder.cli.server.secrets import check_names, given_value, parsed
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.aws.api import Api
    from builder.spec import Spec

Stack = Annotated[str, typer.Argument(metavar="STACK", help="The name of a stack.", show_default=False)]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The secret's name, as the Compose file has it.", show_default=False)
]


def set_(
    path: SpecPath,
    stack: Stack,
    name: Name = "",
    *,
    many: Annotated[
        bool, typer.Option("--from-stdin", help="Set all NAME=value lines of stdin, as an env file has them.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Take the value from a file.")] = None,
    region: Region = None,
    as_json: AsJson = False,
) -> int:
    """Set a secret for the hosts of a fleet: from a prompt, a file, or stdin. Each fetches it at its first boot."""
    from builder.aws.resources import parameter

    if many == bool(name) or (many and file is not None):
        raise typer.BadParameter("give the NAME of one secret, or --from-stdin alone")
    spec = _with_stack(path, stack)
    values = {name: given_value(name, file)} if name else parsed(sys.stdin.buffer.read())
    check_names(values)
    texts = {one: _text(one, value) for one, value in values.items()}
    for one, text in texts.items():
        parameter.check(one, text)
    client = _api(spec, region)
    done = [{"name": one, "replaced": _put(client, spec, stack, one, text)} for one, text in texts.items()]
    if as_json:
        output.json({"stack": stack, "set": done})
        return 0
    for row in done:
        output.note(f"{stack}: {row['name']} is {'replaced' if row['replaced'] else 'set'}")
    for one in texts:
        if one not in _wanted(spec, stack):
            output.note(f"{stack}: no service names {one} yet")
    if any(row["replaced"] for row in done):
        output.note(f"hosts that are there keep the value that they have: er launch {path} replaces them")
    return 0


def _put(client: Api, spec: Spec, stack: str, name: str, text: str) -> bool:
    from builder.aws.resources import parameter

    return parameter.put(client, parameter.path(spec.server.name, stack, name), text)


def _with_stack(path: Path, stack: str) -> Spec:
    """Raises UserError for a spec without a fleet, or without this stack."""
    spec = load(path)
    if spec.fleet is None:
        way = f"er server secret set HOST {stack} NAME"
        raise UserError(f"{path} has no `fleet:`: the secrets of one server are on that server", way)
    names = [one.name for one in spec.stacks]
    if stack not in names:
        raise UserError(f"the spec has no stack {stack}", f"it has: {', '.join(names) or 'none'}")
    return spec


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        message = f"{name} is not UTF-8 text, and the Parameter Store takes text alone: nothing was set"
        raise UserError(message, "encode it, as by base64, and let the app decode it") from None


def _api(spec: Spec, region: str | None) -> Api:
    from builder.aws.api import Api

    return Api(region or spec.aws.region, output.note)


def _wanted(spec: Spec, stack: str) -> list[str]:
    """The secrets that the services of a stack wait for."""
    from builder import userdata

    return [name for owner, name in userdata.secrets(spec) if owner == stack]


def list_(path: SpecPath, stack: Stack, *, region: Region = None, as_json: AsJson = False) -> int:
    """Show which secrets a fleet's hosts find for a stack, and which it waits for; 1 when one is missing."""
    from builder.aws.resources.parameter import names

    spec = _with_stack(path, stack)
    there = names(_api(spec, region), spec.server.name, stack)
    wanted = _wanted(spec, stack)
    found: list[dict[str, Any]] = [
        {"name": name, "set": name in there, "updated": there.get(name), "used": name in wanted}
        for name in sorted({*there, *wanted})
    ]
    if as_json:
        output.json(found)
    else:
        rows = output.new_table("secret", "set", "used")
        for one in found:
            rows.add_row(one["name"], (one["updated"] or "MISSING")[:19], "" if one["used"] else "by no service")
        output.table(rows)
    return 0 if all(one["set"] for one in found) else 1


def rm(path: SpecPath, stack: Stack, name: Name, *, region: Region = None, as_json: AsJson = False) -> int:
    """Remove a secret of a fleet's stack: hosts that come from now on do not find it."""
    from builder.aws.resources import parameter

    spec = _with_stack(path, stack)
    check_names({name: b""})
    parameter.remove(_api(spec, region), parameter.path(spec.server.name, stack, name))
    if as_json:
        output.json({"stack": stack, "name": name})
    else:
        waits = "; no new host gets ready without it" if name in _wanted(spec, stack) else ""
        output.note(f"{stack}: {name} is gone{waits}")
    return 0
