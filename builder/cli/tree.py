"""`er tree`: every file of the host, and when it lands."""

from __future__ import annotations

from builder.cli import output
from builder.cli.options import AsJson, SpecPath, load

NAME = "tree"


def command(path: SpecPath, as_json: AsJson = False) -> int:
    """List the host's files: mode, owner, whether baked or added at first boot, path."""
    from builder import host as hosts

    host = hosts.build(load(path))
    if as_json:
        output.json(
            [
                {
                    "path": f.path,
                    "mode": f.mode,
                    "owner": f.owner,
                    "group": f.group,
                    "part": f.part,
                    "bytes": len(f.content),
                }
                for f in host.files
            ]
        )
        return 0
    for file in host.files:
        output.text(f"{file.mode} {file.owner}:{file.group} {file.part:<10} {len(file.content):>6} {file.path}\n")
    return 0
