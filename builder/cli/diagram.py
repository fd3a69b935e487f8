"""`er diagram`: the network architecture of a host as a picture."""

from __future__ import annotations

from builder import files
from builder.cli import output
from builder.cli.options import OutputFile, SpecPath, load

NAME = "diagram"


def command(path: SpecPath, file: OutputFile = None) -> int:
    """Draw the host as SVG: open ports, proxy, sockets, and each stack with what it has and may reach.

    The picture is light or dark as its reader's screen is; browsers and README files show it as it is.
    """
    from builder import diagram

    target = file or files.STDOUT
    if file is not None:
        files.check(file)
    content = diagram.svg(load(path))
    if target == files.STDOUT:
        output.data(content)
        return 0
    files.write(target, content, report=output.note)
    output.note(f"wrote {len(content):,} bytes to {target}")
    return 0
