"""The targets of `er build-image`, a row each. The rest of one is in images/packer/{sources,plugins}/<name>.pkr.hcl."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


BaseAndArch = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """One row.

    `builder` is Packer's, in `plugin` of this `version`, or inside Packer until 1.6.6; `packer` is the oldest Packer
    that does. `artifact` says what comes out, `source` is the builder's reference page. `images` says what a base and
    an architecture are called there: values of the template's variables. `settings` are variables of the template that
    only the user can know, with what they are for; `more` are settings of one architecture alone, which only plugins
    can build. Logins are in builder/packer/credentials.py. `use` is what the provider's own command is given to start a
    server of the image, with {id}. `longest` is how long the image's name may be, so that neither it nor that of the
    build's server, which ends with -build, is cut.
    """

    name: str
    builder: str
    plugin: str
    version: str
    packer: str
    artifact: str
    source: str
    images: Mapping[BaseAndArch, Mapping[str, str]]
    settings: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    use: str = "--image {id}"
    longest: int = 57

    def needed(self, arch: str) -> Mapping[str, str]:
        """The settings for an architecture."""
        return {**self.settings, **self.more.get(arch, {})}

    def least(self, arch: str) -> str:
        """The Packer from which on an architecture can be built."""
        return "1.7.0" if arch in self.more else self.packer

    @property
    def label(self) -> str:
        """What the template's variable `source` is to be."""
        return f"{self.builder}.host"


DEBIAN: Final = "debian-13"
UBUNTU: Final = "ubuntu-24.04"
AMD64: Final = "amd64"
ARM64: Final = "arm64"
HASHICORP: Final = "https://developer.hashicorp.com/packer/integrations"

_X86: Final = {"qemu_binary": "qemu-system-x86_64", "machine": "q35"}
_ARM: Final = {"qemu_binary": "qemu-system-aarch64", "machine": "virt"}

_DEBIAN_AWS: Final = "136693071363"
_UBUNTU_AWS: Final = "099720109477"
_NOBLE: Final = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04"


def _aws(name: str, owner: str, arch: str) -> dict[str, str]:
    debian = owner == _DEBIAN_AWS
    return {
        "image_name": name,
        "image_owner": owner,
        "image_arch": arch,
        "instance_type": "t4g.small" if arch == "arm64" else "t3.small",
        "root_device": "/dev/xvda" if debian else "/dev/sda1",
        "ssh_username": "admin" if debian else "ubuntu",
    }


def _azure(publisher: str, offer: str, sku: str, size: str) -> dict[str, str]:
    return {"image_publisher": publisher, "image_offer": offer, "image_sku": sku, "vm_size": size}


_GCP_X86: Final = {"machine_type": "e2-small"}
# Arm machines are not in every zone.
_GCP_ARM: Final = {"machine_type": "t2a-standard-1", "zone": "europe-west4-a"}

_SCALEWAY_ARM: Final = "BASIC2-A2C-4G"

# In the order in which they are listed.
TARGETS: Final = (
    Target(
        name="qemu",
        builder="qemu",
        plugin="github.com/hashicorp/qemu",
        version="1.1.4",
        packer="1.6.6",
        artifact="a disk image in qcow2 or raw",
        source=f"{HASHICORP}/hashicorp/qemu/latest/components/builder/qemu",
        images={(DEBIAN, AMD64): _X86, (UBUNTU, AMD64): _X86, (DEBIAN, ARM64): _ARM, (UBUNTU, ARM64): _ARM},
    ),
    Target(
        name="aws",
        use="--image-id {id}",
        longest=128,
        builder="amazon-ebs",
        plugin="github.com/hashicorp/amazon",
        version="1.8.2",
        packer="1.6.6",
        artifact="an AMI and its snapshot",
        # Publishers: https://wiki.debian.org/Cloud/AmazonEC2Image, https://documentation.ubuntu.com/aws/
        source=f"{HASHICORP}/hashicorp/amazon/latest/components/builder/ebs",
        images={
            (DEBIAN, AMD64): _aws("debian-13-amd64-*", _DEBIAN_AWS, "x86_64"),
            (DEBIAN, ARM64): _aws("debian-13-arm64-*", _DEBIAN_AWS, "arm64"),
            (UBUNTU, AMD64): _aws(f"{_NOBLE}-amd64-server-*", _UBUNTU_AWS, "x86_64"),
            (UBUNTU, ARM64): _aws(f"{_NOBLE}-arm64-server-*", _UBUNTU_AWS, "arm64"),
        },
    ),
    Target(
        name="digitalocean",
        builder="digitalocean",
        plugin="github.com/digitalocean/digitalocean",
        version="1.4.1",
        packer="1.6.6",
        artifact="a snapshot",
        source=f"{HASHICORP}/digitalocean/digitalocean/latest/components/builder/digitalocean",
        images={(DEBIAN, AMD64): {"image": "debian-13-x64"}, (UBUNTU, AMD64): {"image": "ubuntu-24-04-x64"}},
    ),
    Target(
        name="hetzner",
        builder="hcloud",
        plugin="github.com/hetznercloud/hcloud",
        version="1.7.2",
        packer="1.6.6",
        artifact="a snapshot",
        source=f"{HASHICORP}/hetznercloud/hcloud/latest/components/builder/hcloud",
        images={
            (DEBIAN, AMD64): {"image": "debian-13", "server_type": "cx23"},
            (DEBIAN, ARM64): {"image": "debian-13", "server_type": "cax11"},
            (UBUNTU, AMD64): {"image": "ubuntu-24.04", "server_type": "cx23"},
            (UBUNTU, ARM64): {"image": "ubuntu-24.04", "server_type": "cax11"},
        },
    ),
    Target(
        name="linode",
        longest=50,
        builder="linode",
        plugin="github.com/linode/linode",
        version="1.12.0",
        # Debian builds 1.6.6 without it.
        packer="1.7.0",
        artifact="a private image",
        source=f"{HASHICORP}/linode/linode/latest/components/builder/linode",
        images={(DEBIAN, AMD64): {"image": "linode/debian13"}, (UBUNTU, AMD64): {"image": "linode/ubuntu24.04"}},
    ),
    Target(
        name="vultr",
        builder="vultr",
        plugin="github.com/vultr/vultr",
        version="2.7.0",
        packer="1.7.0",
        artifact="a snapshot",
        use="--snapshot {id}",
        # Numbers: https://api.vultr.com/v2/os
        source=f"{HASHICORP}/vultr/vultr/latest/components/builder/vultr",
        images={(DEBIAN, AMD64): {"os_id": "2625"}, (UBUNTU, AMD64): {"os_id": "2284"}},
    ),
    Target(
        name="scaleway",
        use="image={id}",
        # "easyrunner-" comes before it.
        longest=46,
        builder="scaleway",
        plugin="github.com/scaleway/scaleway",
        version="1.5.0",
        packer="1.6.6",
        artifact="an image and its snapshot",
        source=f"{HASHICORP}/scaleway/scaleway/latest/components/builder/scaleway",
        images={
            (DEBIAN, AMD64): {"image": "debian_trixie", "commercial_type": "DEV1-S"},
            (DEBIAN, ARM64): {"image": "debian_trixie", "commercial_type": _SCALEWAY_ARM},
            (UBUNTU, AMD64): {"image": "ubuntu_noble", "commercial_type": "DEV1-S"},
            (UBUNTU, ARM64): {"image": "ubuntu_noble", "commercial_type": _SCALEWAY_ARM},
        },
    ),
    Target(
        name="openstack",
        builder="openstack",
        plugin="github.com/hashicorp/openstack",
        version="1.1.4",
        packer="1.6.6",
        artifact="an image in Glance",
        source=f"{HASHICORP}/hashicorp/openstack/latest/components/builder/openstack",
        # As OVH names them; `image` may be set to another cloud's name.
        images={
            (DEBIAN, AMD64): {"image": "Debian 13", "ssh_username": "debian"},
            (UBUNTU, AMD64): {"image": "Ubuntu 24.04", "ssh_username": "ubuntu"},
        },
        settings={"flavor": "the size of the build's server, by the cloud's own names"},
    ),
    Target(
        name="gcp",
        builder="googlecompute",
        plugin="github.com/hashicorp/googlecompute",
        version="1.2.7",
        packer="1.6.6",
        artifact="an image of Compute Engine",
        # Families: https://cloud.google.com/compute/docs/images/os-details
        source=f"{HASHICORP}/hashicorp/googlecompute/latest/components/builder/googlecompute",
        images={
            (DEBIAN, AMD64): {**_GCP_X86, "image_family": "debian-13", "image_project": "debian-cloud"},
            (DEBIAN, ARM64): {**_GCP_ARM, "image_family": "debian-13-arm64", "image_project": "debian-cloud"},
            (UBUNTU, AMD64): {**_GCP_X86, "image_family": "ubuntu-2404-lts-amd64", "image_project": "ubuntu-os-cloud"},
            (UBUNTU, ARM64): {**_GCP_ARM, "image_family": "ubuntu-2404-lts-arm64", "image_project": "ubuntu-os-cloud"},
        },
        settings={"project_id": "the project that the image goes to"},
    ),
    Target(
        name="azure",
        longest=74,
        builder="azure-arm",
        plugin="github.com/hashicorp/azure",
        version="2.6.3",
        packer="1.6.6",
        artifact="a managed image, generation 2; for arm64 a version in a Compute Gallery",
        source=f"{HASHICORP}/hashicorp/azure/latest/components/builder/arm",
        images={
            (DEBIAN, AMD64): _azure("Debian", "debian-13", "13-gen2", "Standard_B2s"),
            (DEBIAN, ARM64): _azure("Debian", "debian-13", "13-arm64", "Standard_B2pls_v2"),
            (UBUNTU, AMD64): _azure("Canonical", "ubuntu-24_04-lts", "server", "Standard_B2s"),
            (UBUNTU, ARM64): _azure("Canonical", "ubuntu-24_04-lts", "server-arm64", "Standard_B2pls_v2"),
        },
        settings={"resource_group": "where the image goes; it must exist"},
        more={
            ARM64: {
                "gallery": "a Compute Gallery in the resource group: az sig create",
                "gallery_image": "an image definition in it: az sig image-definition create --architecture Arm64 …",
            }
        },
    ),
    Target(
        name="upcloud",
        use="--os {id}",
        longest=40,
        builder="upcloud",
        plugin="github.com/UpCloudLtd/upcloud",
        version="1.10.0",
        packer="1.7.0",
        artifact="a template",
        source=f"{HASHICORP}/upcloudltd/upcloud/latest/components/builder/upcloud",
        images={
            (DEBIAN, AMD64): {"image": "Debian GNU/Linux 13"},
            (UBUNTU, AMD64): {"image": "Ubuntu Server 24.04"},
        },
    ),
    Target(
        name="exoscale",
        use="--template {id}",
        builder="exoscale",
        plugin="github.com/exoscale/exoscale",
        version="0.5.2",
        packer="1.7.0",
        artifact="a custom template",
        source=f"{HASHICORP}/exoscale/exoscale/latest/components/builder/exoscale",
        images={
            (DEBIAN, AMD64): {"image": "Linux Debian 13 (Trixie) 64-bit", "ssh_username": "debian"},
            (UBUNTU, AMD64): {"image": "Linux Ubuntu 24.04 LTS 64-bit", "ssh_username": "ubuntu"},
        },
    ),
    Target(
        name="proxmox",
        builder="proxmox-clone",
        plugin="github.com/hashicorp/proxmox",
        version="1.2.4",
        packer="1.6.6",
        artifact="a template with a cloud-init drive",
        source=f"{HASHICORP}/hashicorp/proxmox/latest/components/builder/clone",
        # Its stock images are templates that the owner has made.
        images={(DEBIAN, AMD64): {}, (UBUNTU, AMD64): {}},
        settings={"node": "the node to build on", "clone_vm": "the template to clone, with qemu-guest-agent in it"},
    ),
)
BY_NAME: Final = {target.name: target for target in TARGETS}
