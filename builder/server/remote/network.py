"""The firewall."""

from __future__ import annotations

from builder.server.remote import common, names
from builder.server.remote.common import RemoteError, Value


def reapply_firewall() -> Value:
    """Resolve the names of egress and load the rules anew, both families; Fail2Ban's bans stay."""
    found = names.resolve()
    common.run(["systemctl", "restart", "er-firewall.service"], check=False)
    if not common.loaded():
        said = common.run(
            ["journalctl", "-u", "er-firewall.service", "-n", "3", "-o", "cat", "--no-pager"], check=False
        )
        raise RemoteError(
            f"the rules did not load, only SSH is open: {said.strip().replace(chr(10), '; ')}",
            "mend the file that it names under /etc/easyrunner/firewall.d, then reapply",
        )
    lines = {family: len(common.run([f"{tool}-save"]).splitlines()) for family, tool in _TOOLS}
    return {"lines": lines, "names": found}


_TOOLS = (("ipv4", "iptables"), ("ipv6", "ip6tables"))
