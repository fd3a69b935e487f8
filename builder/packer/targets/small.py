"""Providers that name their images by a word or a number."""

from __future__ import annotations

from typing import Final

from builder.packer.target import Target
from builder.packer.targets.bases import AMD64, ARM64, DEBIAN, HASHICORP, UBUNTU

_SCALEWAY_ARM: Final = "BASIC2-A2C-4G"

SMALL: Final = (
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
)
