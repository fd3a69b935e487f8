"""The large clouds, whose images have owners, families and sizes of their own."""

from __future__ import annotations

from typing import Final

from builder.packer.target import Target
from builder.packer.targets.bases import AMD64, ARM64, DEBIAN, HASHICORP, UBUNTU

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

LARGE: Final = (
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
)
