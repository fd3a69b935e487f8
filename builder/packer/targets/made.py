"""What each plugin makes at its provider, by the headlines that it says: today's words, and those of Packer 1.6.6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.packer.leftovers import Thing

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUILD: Final = "{name}-build"
_KEY: Final = "packer-…"


def _key(begins: str, ends: str, name: str = _KEY) -> Thing:
    """A temporary key: it costs nothing, and opens nothing once the machine is gone."""
    return Thing("SSH key", name, begins, ends, costs=False)


MADE: Final[Mapping[str, tuple[Thing, ...]]] = {
    "aws": (
        _key(r"Creating temporary keypair: (\S+)", "Deleting temporary keypair"),
        Thing(
            "security group",
            "packer_…",
            r"Creating temporary security group for this instance: (\S+)",
            "Deleting temporary security group",
            costs=False,
        ),
        Thing("instance", _BUILD, "Launching a source AWS instance", "Terminating the source AWS instance"),
        Thing("AMI", "{name}", "Creating (?:unencrypted )?AMI", "Deregistering the AMI", result=True),
    ),
    "digitalocean": (
        _key("Importing SSH public key|Creating temporary ssh key for droplet", "Deleting temporary ssh key"),
        Thing("droplet", _BUILD, "Creating droplet", "Destroying droplet"),
        Thing("snapshot", "{name}", "Creating snapshot", result=True),
    ),
    "hetzner": (
        _key("Uploading temporary SSH key|Creating temporary ssh key for", "Deleting temporary (SSH|ssh) key"),
        Thing("server", _BUILD, "Creating server", "Destroying server"),
        Thing("snapshot", "{name}", "Creating snapshot", result=True),
    ),
    "linode": (
        Thing("Linode", _BUILD, "Creating Linode", silent=True),
        Thing("image", "{name}", "Creating image", result=True),
    ),
    "vultr": (
        _key("Creating temporary SSH key", "Deleting temporary SSH key"),
        # It is taken away only once it has been seen running.
        Thing("instance", _BUILD, "Creating Vultr instance", "Destroying server", made=r"Waiting \d+s for server"),
        Thing(
            "snapshot", "{name}", r"Server successfully shutdown|Sleeping to ensure|Waiting \d+s for snap", result=True
        ),
    ),
    "scaleway": (
        Thing("server", "easyrunner-" + _BUILD, "Creating server", "Destroying server"),
        Thing("volume", "of easyrunner-" + _BUILD, "Creating server", "Removing Volumes"),
        Thing("snapshot", "easyrunner-{name}", "Creating snapshot(?: for volume)?: ", result=True),
        Thing("image", "easyrunner-{name}", "Creating image(?: from snapshots)?: ", result=True),
    ),
    "openstack": (
        _key(r"Creating temporary keypair: (\S+)", "Deleting temporary keypair"),
        Thing("volume", "packer_…", "Creating volume", "Deleting volume"),
        Thing("server", _BUILD, "Launching server", "Terminating the source server"),
        Thing("floating IP", "of " + _BUILD, "Creating floating IP", "Deleted temporary floating IP"),
        Thing("image", "{name}", "Creating the image", result=True),
    ),
    "gcp": (
        Thing("instance", _BUILD, "Creating instance", "Deleting instance"),
        Thing("disk", _BUILD, "Creating instance", "Deleting disk"),
        Thing("image", "{name}", "Creating image", result=True),
    ),
    "azure": (
        Thing(
            "resource group",
            "pkr-Resource-Group-…",
            "Creating resource group",
            r"Cleanup requested, deleting resource group|Deleting resource group",
        ),
        Thing("image", "{name}", "Capturing image", result=True),
    ),
    "upcloud": (
        Thing("server", "packer-…", r'Creating server based on storage|Server "(\S+)" created', "Deleting server"),
        Thing("storage", "packer-…", "Cloning storage", "Delete storage"),
        Thing("template", "{name}", "Creating template for storage", result=True),
    ),
    "exoscale": (
        _key("Creating SSH key", "Cleanup: deleting SSH key"),
        Thing("instance", _BUILD, "Creating compute instance$", "Cleanup: destroying compute instance"),
        Thing("snapshot", "of " + _BUILD, "Creating compute instance snapshot", result=True),
        Thing("template", "{name}", "Registering compute instance template", result=True),
    ),
    "proxmox": (
        Thing("virtual machine", _BUILD, "Creating VM", "Deleting VM"),
        Thing("template", "{name}", "Converting VM to template", result=True),
    ),
}
