"""What two well-known lists ask of an image, and which checks of ours answer it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Foreign(NamedTuple):
    """An item of another list: what it asks, in words of ours, and the ids of our checks that cover it."""

    asks: str
    ours: tuple[str, ...]


# By function of scripts/99-img-check.sh, version 1.8.1: github.com/digitalocean/marketplace-partners.
DIGITALOCEAN: Final = (
    Foreign("distribution and release are supported", ("base-system",)),
    Foreign("checkCloudInit: cloud-init is installed", ("cloud-init-installed",)),
    Foreign("checkFirewall: a firewall is active", ("host-units",)),
    Foreign("checkUpdates: no security update is pending", ("security-updates",)),
    Foreign("checkLogs: no rotated log, no log with content", ("logs",)),
    Foreign("checkTMP: named, does nothing there", ("temporary-files",)),
    Foreign("checkUsers, checkRoot: no password", ("passwords", "accounts")),
    Foreign("checkUsers, checkRoot: no authorized key", ("authorized-keys",)),
    Foreign("checkUsers, checkRoot: no private key", ("private-keys", "ssh-directory")),
    Foreign("checkUsers, checkRoot: no known hosts or other file in .ssh", ("ssh-directory",)),
    Foreign("checkUsers, checkRoot: no shell history", ("histories",)),
    Foreign("checkAgent: no agent of DigitalOcean", ("unwanted-packages",)),
)
# images/capi/packer/goss: goss-image-hygiene.yaml whole, and what is about hygiene in the files for services and
# packages: github.com/kubernetes-sigs/image-builder.
IMAGE_BUILDER: Final = (
    Foreign("hygiene: no SSH host key", ("ssh-host-keys",)),
    Foreign("hygiene: machine-id is empty or uninitialized", ("machine-id",)),
    Foreign("hygiene: cloud-init has no instance id", ("cloud-init-state",)),
    Foreign("hygiene: no core dump, temporary directories included", ("crash-dumps", "temporary-files")),
    Foreign("hygiene: /var/log is below 200 MB (ours: empty)", ("logs",)),
    Foreign("services: dockerd and conntrackd are off", ("unwanted-units",)),
    Foreign("packages: ntp is not installed", ("unwanted-packages",)),
)
