"""How a disk for data is attached to a server, by provider: a command, and where the console has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.providers.model import Fact, guess

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Volume:
    """Both are without a file system: the host makes it."""

    command: Fact[str]
    console: Fact[str]


# Command, place in the console, and where they should stand; what of them was read there is in _READ.
_ROWS: Final = {
    "aws": (
        "aws ec2 attach-volume --volume-id VOLUME --instance-id INSTANCE --device /dev/sdf",
        "EC2 > Volumes > Actions > Attach volume",
        "https://docs.aws.amazon.com/cli/latest/reference/ec2/attach-volume.html",
    ),
    "lightsail": (
        "aws lightsail attach-disk --disk-name DISK --instance-name NAME --disk-path /dev/xvdf",
        "Storage > Create disk > Attach to an instance",
        "https://docs.aws.amazon.com/cli/latest/reference/lightsail/attach-disk.html",
    ),
    "digitalocean": (
        "doctl compute volume-action attach VOLUME DROPLET",
        "Volumes > Create Volume > Manually Format & Mount",
        "https://docs.digitalocean.com/reference/doctl/reference/compute/volume-action/attach",
    ),
    "hetzner": (
        "hcloud volume attach --server NAME VOLUME",
        "Volumes > Create volume > Mount options: manually",
        "https://github.com/hetznercloud/cli/blob/main/internal/cmd/volume/attach.go",
    ),
    "vultr": (
        "vultr-cli block-storage attach VOLUME --instance INSTANCE",
        "Products > Block Storage > Attach",
        "https://github.com/vultr/vultr-cli/blob/master/cmd/blockstorage/blockstorage.go",
    ),
    "linode": (
        "linode-cli volumes attach VOLUME --linode_id LINODE",
        "Volumes > Create Volume > Linode",
        "https://techdocs.akamai.com/linode-api/reference/post-attach-volume",
    ),
    "scaleway": (
        "scw instance server attach-volume server-id=SERVER volume-id=VOLUME",
        "Block Storage > Create volume > Attach to an Instance",
        "https://cli.scaleway.com/instance/",
    ),
    "openstack": (
        "openstack server add volume NAME VOLUME",
        "Project > Volumes > Manage Attachments",
        "https://docs.openstack.org/python-openstackclient/latest/cli/command-objects/server.html",
    ),
    "upcloud": (
        "upctl server storage attach SERVER --storage STORAGE",
        "Servers > Storage > Attach existing storage",
        "https://upcloudltd.github.io/upcloud-cli/latest/commands_reference/upctl_server/storage/attach/",
    ),
    "gcp": (
        "gcloud compute instances attach-disk NAME --disk DISK",
        "VM instances > Edit > Attach existing disk",
        "https://cloud.google.com/sdk/gcloud/reference/compute/instances/attach-disk",
    ),
    "azure": (
        "az vm disk attach --resource-group GROUP --vm-name NAME --name DISK",
        "Virtual machine > Disks > Attach existing disks",
        "https://learn.microsoft.com/en-us/cli/azure/vm/disk",
    ),
    "oracle": (
        "oci compute volume-attachment attach --type paravirtualized --instance-id INSTANCE --volume-id VOLUME",
        "Instance > Attached block volumes > Attach, paravirtualized",
        "https://docs.oracle.com/iaas/tools/oci-cli/latest/oci_cli_docs/",
    ),
    "exoscale": (
        "exo compute block-storage attach VOLUME INSTANCE",
        "Block Storage > Add > Attach",
        "https://community.exoscale.com/product/storage/block-storage/",
    ),
    "proxmox": (
        "qm set VMID --scsi1 STORAGE:GIB",
        "Hardware > Add > Hard Disk",
        "https://pve.proxmox.com/pve-docs/qm.1.html",
    ),
    "nocloud": (
        "virsh attach-disk NAME FILE vdb --persistent",
        "Add Hardware > Storage",
        "https://libvirt.org/manpages/virsh.html",
    ),
}
_READ: Final = frozenset({"digitalocean"})
VOLUMES: Final[Mapping[str, Volume]] = {
    name: Volume(Fact(command, source, name in _READ), guess(console, source))
    for name, (command, console, source) in _ROWS.items()
}
