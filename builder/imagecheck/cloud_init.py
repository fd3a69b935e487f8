"""What cloud-init wrote for the instance that the image was made on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import CLEAN, Check, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Tree

# Left by installers, and by labs: they hold first boot back, or tie it to one instance.
_LEFTOVERS: Final = (
    "/etc/cloud/cloud-init.disabled",
    "/etc/cloud/ds-identify.cfg",
    "/etc/cloud/cloud.cfg.d/00-subiquity-disable-cloudinit-networking.cfg",
    "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
    "/etc/cloud/cloud.cfg.d/90-installer-network.cfg",
    "/etc/cloud/cloud.cfg.d/99-installer.cfg",
    "/etc/cloud/cloud.cfg.d/curtin-preserve-sources.cfg",
    "/etc/ssh/sshd_config.d/50-cloud-init.conf",
    "/etc/ssh/sshd_config.d/60-cloudimg-settings.conf",
)
# Keys of a configuration that belong to one instance: its access, its data, its network.
_INSTANCE_KEYS: Final = re.compile(
    r"\s*-?\s*(ssh_authorized_keys|passwd|hashed_passwd|plain_text_passwd|chpasswd|password|seedfrom|instance-id"
    r"|user-data|meta-data|network-config|ssh_keys)\s*:"
)
_NO_NETWORK: Final = re.compile(r"network\s*:\s*(\{\s*)?config\s*:\s*disabled|^\s*config\s*:\s*disabled", re.MULTILINE)
_SOURCE_LIST: Final = re.compile(r"^\s*datasource_list\s*:\s*\[([^\]]*)\]", re.MULTILINE)
_LOCAL_SOURCES: Final = frozenset({"nocloud", "none"})
_NETWORK_FILES: Final = (
    ("/etc/netplan", "*.yaml"),
    ("/etc/network/interfaces.d", "*cloud-init*"),
    ("/etc/systemd/network", "*cloud-init*"),
    ("/etc/NetworkManager/system-connections", "*"),
    ("/etc/NetworkManager/conf.d", "*cloud-init*"),
    ("/etc/udev/rules.d", "70-persistent-net.rules"),
    ("/etc/udev/rules.d", "*persistent-net-cloud-init.rules"),
)


def installed(tree: Tree) -> Iterator[Hit]:
    """Without cloud-init nobody could log in to the next machine."""
    if not any(tree.exists(path) for path in ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")):
        yield Hit("/usr/bin/cloud-init", "is missing")


def state(tree: Tree) -> Iterator[Hit]:
    """The instance as cloud-init remembers it: its id, its user-data, which modules ran."""
    for entry in tree.below("/var/lib/cloud"):
        if not entry.directory and entry.path not in tree.owners:
            yield Hit(entry.path, "is the state of another instance")


def leftovers(tree: Tree) -> Iterator[Hit]:
    """Configuration that cloud-init or an installer wrote for one instance."""
    for path in _LEFTOVERS:
        if tree.exists(path) and path not in tree.owners:
            yield Hit(path, "written for the machine that the image was made on")
    for path in tree.children("/etc/cloud/cloud.cfg.d", "*.cfg"):
        if path not in tree.owners and path not in _LEFTOVERS and (what := _tie_to_instance(tree.text(path))):
            yield Hit(path, what)


def _tie_to_instance(text: str) -> str | None:
    """How a configuration ties the image to one instance, or None."""
    body = "\n".join(line.partition("#")[0] for line in text.splitlines())
    if match := next(filter(None, map(_INSTANCE_KEYS.match, body.splitlines())), None):
        return f"sets {match[1]}"
    if _NO_NETWORK.search(body):
        return "keeps cloud-init from setting up the network"
    if match := _SOURCE_LIST.search(body):
        names = {name.strip(" \"'").lower() for name in match[1].split(",")} - {""}
        return f"looks for {' and '.join(sorted(names))} only" if names and names <= _LOCAL_SOURCES else None
    return None


def network(tree: Tree) -> Iterator[Hit]:
    """Network configuration with the addresses or the cards of the machine that the image was made on."""
    for folder, pattern in _NETWORK_FILES:
        for path in tree.children(folder, pattern):
            if path not in tree.owners and not tree.ours(path):
                yield Hit(path, "the network of the machine that the image was made on")


CHECKS: Final = (
    Check(
        "cloud-init-installed",
        "cloud-init is there",
        "without it no key reaches the machine",
        "DO: checkCloudInit",
        "apt-get install cloud-init",
        installed,
    ),
    Check(
        "cloud-init-state",
        "State of cloud-init",
        "the user-data of the build, secrets included; and modules count as done",
        "goss: cloud-init instance-id",
        CLEAN,
        state,
    ),
    Check(
        "cloud-init-leftovers",
        "Configuration written for the build",
        "it holds first boot back, or ties the image to one data source",
        "image-builder: sysprep",
        CLEAN,
        leftovers,
    ),
    Check(
        "network-leftovers",
        "Network configuration of the build",
        "it names addresses and cards that the next machine does not have",
        "image-builder: sysprep",
        CLEAN,
        network,
    ),
)
