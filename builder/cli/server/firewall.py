"""`er server reapply-firewall`."""

from __future__ import annotations

from builder.cli.options import AsJson
from builder.cli.output import say
from builder.cli.server import egress
from builder.cli.server.options import Host, SshOptions, remote


def reapply(host: Host, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Resolve the names of egress and load the firewall's rules anew, both families; Fail2Ban's bans stay."""
    found = remote(host, ssh).ask("reapply-firewall")
    lines, names = found["lines"], found["names"]
    if as_json:
        say.json({**found, "wrong": list(egress.wrong(names))})
    else:
        say.note(f"the firewall is in force: {lines['ipv4']} lines of rules for IPv4, {lines['ipv6']} for IPv6")
        egress.told(names)
    return 1 if any(egress.wrong(names)) else 0
