"""What each part of user-data does, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder import facts
from builder.providers import Encoding
from builder.userdata.cloudconfig import PARTS
from builder.userdata.delivery import SETTINGS, groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.host import Host
    from builder.spec import Spec
    from builder.userdata.delivery import Delivery


def explain(spec: Spec, host: Host, delivery: Delivery) -> Iterator[tuple[str, str]]:
    """Pairs of a part and what it does, in the order in which cloud-init comes to them."""
    yield "the whole", FORMS[delivery.encoding, delivery.shared]
    if delivery.shared:
        yield "## template: jinja", "cloud-init writes out a table of the stacks before it reads the cloud-config"
    yield (
        "bootcmd",
        f"until {facts.STATE}/complete exists, each boot does everything again: the power may go at any time",
    )
    if delivery.encoding.is_packed:
        yield "bootcmd", "unpacks the files, at the moment when write_files would write them"
    yield "hostname", f"the server is called {spec.server.name}"
    yield "users", f"{spec.admin.name}, with sudo and {len(spec.admin.ssh_keys)} SSH key(s), before SSH shuts out root"
    yield "disable_root", "root's keys no longer open a shell"
    yield "ssh_genkeytypes", "the host makes itself an Ed25519 key, and no other"
    yield (
        "the block" if delivery.encoding.is_packed else "write_files",
        f"{len(host.only(*PARTS[delivery.on]))} files, owned by root:",
    )
    for group in sorted(groups(spec, host, delivery.on, delivery.used, compressed=False), key=lambda one: one.name):
        if group.name != SETTINGS:
            words = _GROUPS.get(group.name, "its user, directories, units, firewall rules and site")
            yield f"  {group.name}", f"{group.files} files: {words}"
    yield "runcmd", _RUNCMD[delivery.on]


# By encoding and whether it is shared.
FORMS: Final = {
    (Encoding.PLAIN, False): "a readable cloud-config",
    (Encoding.MIME, False): "a MIME multipart in ASCII: the cloud-config, compressed",
    (Encoding.MIME, True): "a MIME multipart in ASCII: the cloud-config, compressed; what stacks share is there once",
    (Encoding.GZIP, True): "the cloud-config as raw gzip; what stacks share is there once",
    (Encoding.PACKED, False): "a cloud-config in ASCII whose files are one compressed block",
    (Encoding.PACKED_GZIP, False): "a cloud-config as raw gzip, whose files are one compressed block",
    (Encoding.SCRIPT, False): "a launch script that brings the cloud-config along, compressed",
}
_GROUPS: Final = {
    "firewall": "rules of both address families, and the program that loads them; without rules only SSH is open",
    "Caddy": "the proxy: its container, its sockets, its configuration and the sites",
    "Fail2Ban": "what counts as an attempt, and how long a ban lasts",
    "SSH": "keys only, no root, today's algorithms",
    "provisioning and first boot": "install packages, load the firewall, make users, start the stacks, report",
    "system settings": "kernel, journal, updates and what else every host has",
}
_RUNCMD: Final = {
    "stock": "installs the packages, then starts everything; it ends when every stack has answered",
    "baked": "starts everything, as the image has the packages; it ends when every stack has answered",
}
