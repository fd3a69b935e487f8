"""`er server verify`: whether a server is what the spec says, and passes every check of doctor."""

from __future__ import annotations

from typing import Final

from builder.cli import output
from builder.cli.options import AsJson, Host, SpecPath, SshOptions, load, remote, shared
from builder.cli.server import releases

_IN_WORDS: Final = {"add": "is missing", "remove": "is not of the spec", "change": "differs"}


def command(host: Host, path: SpecPath, *, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Compare every file of a server with SPEC, then examine it as doctor does; 1 when anything is off."""
    from builder import host as hosts
    from builder.server import apply
    from builder.server.releases import deployed

    server = shared(remote(host, ssh))
    found = apply.differences(server, hosts.build(load(path)))
    released = deployed(server)
    failed = [check for check in server.ask("doctor", timeout=300) if not check["ok"]]
    if as_json:
        differs = [{"path": one.path, "kind": one.kind} for one in found]
        output.json({"differs": differs, "failed": failed, "releases": released})
    else:
        for one in found:
            output.note(f"{one.path} {_IN_WORDS[one.kind]}")
        for where, words in releases.deployed(released):
            output.note(f"{where} runs {words}")
        for check in failed:
            output.failure(f"{check['check']}: {check['wrong']}", check["remedy"])
        if not found and not failed:
            output.note("every file is as the spec has it, every check passes")
    return 1 if found or failed else 0
