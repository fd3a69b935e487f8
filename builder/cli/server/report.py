"""`er server report`: a page about a server, from outside and from inside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from builder import files
from builder.cli import output
from builder.cli.options import AsJson, Host, load, remote, shared
from builder.cli.progress import Steps, ending
from builder.problems import UserError
from builder.server.report.model import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.server.report.gather import Found
    from builder.server.report.model import Report
    from builder.server.ssh import Server
    from builder.spec import Spec

OneStack = Annotated[str, typer.Option("--stack", metavar="NAME", help="Only what concerns this one: for its owner.")]
Full = Annotated[bool, typer.Option("--full", help="Show addresses of visitors whole, not their networks.")]


def command(
    host: Host,
    path: Annotated[
        Path | None, typer.Argument(metavar="SPEC", help="What was promised; with it the page has the host's picture.")
    ] = None,
    *,
    file: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the page here, not to report.html; - is stdout."),
    ] = None,
    stack: OneStack = "",
    full: Full = False,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="ADDRESS", help="Another one by which visitors come; repeatable."),
    ] = None,
    ssh: Annotated[
        list[str] | None,
        typer.Option("--ssh-option", metavar="KEY=VALUE", help="An option for ssh, as ssh -o takes it; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Examine a server from here and on itself, and write a page: promised, seen, as promised or not; 1 when not."""
    from builder import host as hosts
    from builder.server import apply, site_answers

    spec = load(path) if path else None
    target = file or ("" if as_json else "report.html")
    if as_json and target == files.STDOUT:
        raise typer.BadParameter("--json and the page cannot both go to stdout")
    check(target, stack, spec)
    server, tree = shared(remote(host, ssh)), hosts.build(spec) if spec else None
    compare = (lambda: [one.path for one in apply.differences(server, tree)]) if tree else None
    found = gathered(server, [site_answers.address(server), *(address or ())], spec, compare)
    made, rows = report(found, spec, target, stack=stack, full=full)
    ending(rows)
    if as_json:
        output.json(made.value())
    return 1 if made.wrong else 0


# As ssh takes options: with every other command -o is for these.
_SSH_OPTION: Final = re.compile(r"[A-Z][A-Za-z]+=.*")


def check(file: str, stack: str, spec: Spec | None) -> None:
    """Raises UserError for what cannot be written or is not there, before anything is asked."""
    if _SSH_OPTION.fullmatch(file):
        raise UserError(f"-o {file}: here -o is the page's file", f"for ssh: --ssh-option {file}")
    if spec and stack and stack not in {one.name for one in spec.stacks}:
        raise UserError(f"the spec has no stack {stack}", f"it has: {', '.join(one.name for one in spec.stacks)}")
    if file:
        files.check(file)


def gathered(
    server: Server,
    named: Sequence[str],
    spec: Spec | None,
    compare: Callable[[], list[str]] | None = None,
    *,
    rehearsal: bool = False,
) -> Found:
    """What was found, with a line for each step."""
    from builder.server.report import gather

    with Steps() as steps:
        return gather.gather(server, named, spec, compare, rehearsal=rehearsal, step=steps.next)


def report(
    found: Found, spec: Spec | None, file: str, *, stack: str = "", full: bool = False
) -> tuple[Report, list[tuple[str, str]]]:
    """Make the report of it, write the page if there is a `file` for it, and say what is not as promised.

    Also gives the rows for the command's ending.
    """
    from builder.server.report import assemble, page

    known = {one["stack"] for one in found["more"]["users"]} - {"proxy"}
    if stack and stack not in known:
        raise UserError(f"there is no stack {stack}", f"there are: {', '.join(sorted(known))}")
    made = assemble.report(found, spec, stack=stack, full=full)
    if file == files.STDOUT:
        output.data(page.page(made))
    elif file:
        files.write(file, page.page(made), report=output.note)
    for row in made.wrong:
        output.failure(f"{clean(row.what)}: {clean(row.seen)}")
    tried = [row for row in made.rows if row.state in {"good", "bad"}]
    seen = f"{len(tried) - len(made.wrong)} of {len(tried)} are as promised"
    return made, [("seen", seen), *([("page", file)] if file and file != files.STDOUT else [])]
