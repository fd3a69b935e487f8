"""Targets on machines of one's own: a disk image, and clouds that people run themselves."""

from __future__ import annotations

from typing import Final

from builder.packer.target import Target
from builder.packer.targets.bases import AMD64, ARM64, DEBIAN, HASHICORP, UBUNTU

_X86: Final = {"qemu_binary": "qemu-system-x86_64", "machine": "q35"}
_ARM: Final = {"qemu_binary": "qemu-system-aarch64", "machine": "virt"}

OWN: Final = (
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
