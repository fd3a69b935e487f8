"""`er server reapply-firewall`."""

from __future__ import annotations

from builder.cli.options import AsJson
from builder.cli.say import say
from builder.cli.server.options import Host, SshOptions, remote


def reapply(host: Host, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Load the firewall's rules anew, both families; Fail2Ban's bans stay."""
    lines: dict[str, int] = remote(host, ssh).ask("reapply-firewall")
    if as_json:
        say.json({"lines": lines})
    else:
        say.note(f"the firewall is in force: {lines['ipv4']} lines of rules for IPv4, {lines['ipv6']} for IPv6")
    return 0
