"""`er server logs`: the journal of a stack or of the proxy, and what the firewall refused them."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from builder import facts, process
from builder.cli import output
from builder.cli.options import Host, SshOptions, asking
from builder.server.deploy_login import DeployLogin
from builder.server.ssh import explain_failure


def command(
    host: Host,
    stack: Annotated[str, typer.Argument(metavar="STACK", help="A stack; without, the proxy's.")] = "proxy",
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="One service of it.")] = "",
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines, the newest ones.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new ones until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option("--since", help="As journalctl takes it: yesterday, 10:00, -1h.")] = "",
    refused: Annotated[bool, typer.Option("--refused", help="What the firewall refused it instead.")] = False,
    ssh: SshOptions = None,
) -> int:
    """Show what a stack says."""
    if refused and service:
        raise typer.BadParameter("the firewall knows stacks, not their services: leave the service out with --refused")
    server = asking(host, ssh)
    if isinstance(server, DeployLogin):
        if refused or follow or since:
            raise typer.BadParameter("a deploy key sees the newest lines: there is --lines, and no other option")
        output.text(server.ask("stack-logs", stack, str(lines), *([service] if service else []))["text"])
        return 0
    journalctl = refusals(stack) if refused else journal(stack, service)
    argv = server.argv(["sudo", "-n", *journalctl, *options(lines, follow=follow, since=since)])
    code, stderr = process.show(argv, output.text)
    if code != 0:
        raise explain_failure(host, code, stderr)
    return 0


# The user's number is known on the host only. For a name that does not exist journalctl would print nothing at all, so
# names are checked first.
_AS_USER: Final = f"""\
uid=$(id -u {facts.STACK_USER_PREFIX}"$1" 2>/dev/null) || {{ echo "er-error: there is no stack $1" >&2; exit 1; }}
[ -z "$2" ] || grep -Fqxs -e "web $2" -e "unit $1-$2.service" {facts.STACKS}/"$1"/services ||
    {{ echo "er-error: the stack $1 has no service $2" >&2; exit 1; }}
shift 2
exec journalctl --namespace=+{facts.JOURNAL} "_UID=$uid" "$@"
"""
# The firewall's lines in the kernel's log begin with the user's name.
_REFUSALS: Final = f"""\
id -u {facts.STACK_USER_PREFIX}"$1" >/dev/null 2>&1 || {{ echo "er-error: there is no stack $1" >&2; exit 1; }}
start="^{facts.STACK_USER_PREFIX}$1: "
shift
exec journalctl --dmesg --grep="$start" "$@"
"""


def journal(stack: str, service: str) -> list[str]:
    """The command on the host for what a stack's user wrote to the journal, or one service's containers."""
    units = [f"{stack}-{service}.service", f"{facts.NEXT}{stack}:{service}.service"] if service else []
    return ["sh", "-c", _AS_USER, "sh", stack, service, *(f"_SYSTEMD_USER_UNIT={unit}" for unit in units)]


def refusals(stack: str) -> list[str]:
    """The command on the host for what the firewall refused to a stack since the boot."""
    return ["sh", "-c", _REFUSALS, "sh", stack]


def options(lines: int, *, follow: bool, since: str) -> list[str]:
    """Options of journalctl: which lines are shown, and how."""
    more = [*(["--follow"] if follow else []), *([f"--since={since}"] if since else [])]
    return ["--no-pager", "--no-hostname", f"--lines={lines}", *more]
