"""`er server logs`: what the apps, the proxy or the system say."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from builder import facts, process
from builder.cli.server.options import Host, SshOptions, remote
from builder.server import failures


def command(
    host: Host,
    stack: Annotated[str, typer.Argument(metavar="STACK", help="A stack; without, the proxy's.")] = "proxy",
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="One service of it.")] = "",
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines, the newest ones.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new ones until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option("--since", help="As journalctl takes it: yesterday, 10:00, -1h.")] = "",
    ssh: SshOptions = None,
) -> int:
    """Show what a stack says."""
    argv = remote(host, ssh).argv(["sudo", "-n", *journalctl(stack, service, lines, follow=follow, since=since)])
    code, stderr = process.show(argv)
    if code != 0:
        raise failures.explain(host, code, stderr)
    return 0


# The user's name is known here, its number there. A journal has nothing of what never was: names are looked up first.
_AS_USER: Final = f"""\
uid=$(id -u {facts.STACK_USER_PREFIX}"$1" 2>/dev/null) || {{ echo "er-error: there is no stack $1" >&2; exit 1; }}
[ -z "$2" ] || grep -Fqxs -e "web $2" -e "unit $1-$2.service" {facts.STACKS}/"$1"/services ||
    {{ echo "er-error: the stack $1 has no service $2" >&2; exit 1; }}
shift 2
exec journalctl "_UID=$uid" "$@"
"""


def journalctl(stack: str, service: str, lines: int, *, follow: bool, since: str) -> list[str]:
    """The question to the journal: everything of a stack's user, or one unit of it."""
    options = ["--no-pager", "--no-hostname", f"--lines={lines}", *(["--follow"] if follow else [])]
    unit = [f"_SYSTEMD_USER_UNIT={stack}-{service}.service"] if service else []
    return ["sh", "-c", _AS_USER, "sh", stack, service, *options, *([f"--since={since}"] if since else []), *unit]
