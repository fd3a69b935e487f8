"""The large clouds."""

from __future__ import annotations

from typing import Final

from builder.providers.model import Counted, Fact, Provider, guess

_CLOUD_INIT: Final = "https://github.com/canonical/cloud-init/blob/main/cloudinit/sources/DataSource{}.py"
_EC2: Final = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html"
_LIGHTSAIL: Final = "https://docs.aws.amazon.com/lightsail/2016-11-28/api-reference/API_CreateInstances.html"
_GCP: Final = "https://cloud.google.com/compute/docs/metadata/setting-custom-metadata"
_AZURE: Final = "https://learn.microsoft.com/azure/virtual-machines/custom-data"
_ORACLE: Final = "https://docs.oracle.com/iaas/Content/Compute/Tasks/updatinginstancemetada.htm"
_BOTH: Final = ("amd64", "arm64")

ROWS: Final = (
    Provider(
        "aws",
        "AWS EC2",
        datasource=Fact("Ec2", _CLOUD_INIT.format("Ec2")),
        limit=Fact(16_384, _EC2),
        counted=Fact(Counted.RAW, _EC2),
        binary=Fact(True, _EC2),
        key=Fact("UserData", "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html"),
        command=guess("aws ec2 run-instances --user-data fileb://{file} …", _EC2),
        console=guess("Launch instance > Advanced details > User data", _EC2),
        images=guess(
            {
                "debian-13": "owner 136693071363, debian-13-{arch}-*",
                "ubuntu-24.04": "/aws/service/canonical/ubuntu/server/24.04/stable/current/{arch}/hvm/ebs-gp3/ami-id",
            },
            "https://wiki.debian.org/Cloud/AmazonEC2Image; https://documentation.ubuntu.com/aws/",
        ),
        login=guess({"debian-13": "admin", "ubuntu-24.04": "ubuntu"}, "https://wiki.debian.org/Cloud/AmazonEC2Image"),
        archs=guess(_BOTH, "https://wiki.debian.org/Cloud/AmazonEC2Image"),
        imports=guess("raw, vmdk, vhd (ImportImage, RegisterImage)", "https://docs.aws.amazon.com/vm-import/"),
        packer=Fact("hashicorp/amazon", "https://github.com/hashicorp/packer-plugin-amazon"),
    ),
    Provider(
        "lightsail",
        "AWS Lightsail",
        datasource=guess("Ec2", _CLOUD_INIT.format("Ec2")),
        limit=guess(16_384, _EC2),
        counted=guess(Counted.RAW, _EC2),
        binary=Fact(False, _LIGHTSAIL),
        key=Fact("userData", _LIGHTSAIL),
        command=guess("aws lightsail create-instances --user-data file://{file} …", _LIGHTSAIL),
        console=guess("Create instance > Add launch script", _LIGHTSAIL),
        images=guess(
            {"debian-13": "debian_13", "ubuntu-24.04": "ubuntu_24_04"},
            "https://docs.aws.amazon.com/lightsail/2016-11-28/api-reference/API_GetBlueprints.html",
        ),
        login=guess({"debian-13": "admin", "ubuntu-24.04": "ubuntu"}, _LIGHTSAIL),
        archs=guess(("amd64",), _LIGHTSAIL),
        imports=guess("none", _LIGHTSAIL),
        packer=Fact(None, "https://developer.hashicorp.com/packer/integrations"),
        script=True,
    ),
    Provider(
        "gcp",
        "Google Cloud",
        datasource=Fact("GCE", _CLOUD_INIT.format("GCE")),
        limit=Fact(262_144, _GCP),
        counted=Fact(Counted.RAW, _GCP),
        binary=Fact(False, _CLOUD_INIT.format("GCE")),
        key=Fact("metadata, key user-data", _CLOUD_INIT.format("GCE")),
        command=guess("gcloud compute instances create NAME --metadata-from-file=user-data={file} …", _GCP),
        console=guess("Create instance > Advanced > Metadata, key user-data", _GCP),
        images=Fact(
            {"debian-13": "debian-cloud/debian-13", "ubuntu-24.04": "ubuntu-os-cloud/ubuntu-2404-lts-{arch}"},
            "https://cloud.google.com/compute/docs/images/os-details",
        ),
        login=guess(
            {"debian-13": "from the key's comment", "ubuntu-24.04": "from the key's comment"},
            "https://cloud.google.com/compute/docs/connect/add-ssh-keys",
        ),
        archs=guess(_BOTH, "https://cloud.google.com/compute/docs/images/os-details"),
        imports=guess("disk.raw in a tar.gz", "https://cloud.google.com/compute/docs/import/import-existing-image"),
        packer=Fact("hashicorp/googlecompute", "https://github.com/hashicorp/packer-plugin-googlecompute"),
    ),
    Provider(
        "azure",
        "Azure",
        datasource=Fact("Azure", _CLOUD_INIT.format("Azure")),
        limit=Fact(65_535, "https://learn.microsoft.com/rest/api/compute/virtual-machines/create-or-update"),
        counted=Fact(Counted.RAW, "https://learn.microsoft.com/rest/api/compute/virtual-machines/create-or-update"),
        binary=guess(True, _CLOUD_INIT.format("Azure")),
        key=Fact("osProfile.customData", _AZURE),
        command=Fact("az vm create --custom-data {file} …", _AZURE),
        console=guess("Create a virtual machine > Advanced > Custom data", _AZURE),
        images=Fact(
            {
                "debian-13": "Debian:debian-13:13-gen2:latest",
                "ubuntu-24.04": "Canonical:ubuntu-24_04-lts:server:latest",
            },
            "https://learn.microsoft.com/azure/virtual-machines/linux/endorsed-distros",
        ),
        login=guess({"debian-13": "chosen at creation", "ubuntu-24.04": "chosen at creation"}, _AZURE),
        archs=guess(_BOTH, "https://learn.microsoft.com/azure/virtual-machines/linux/endorsed-distros"),
        imports=guess("fixed VHD", "https://learn.microsoft.com/azure/virtual-machines/linux/upload-vhd"),
        packer=Fact("hashicorp/azure", "https://github.com/hashicorp/packer-plugin-azure"),
    ),
    Provider(
        "oracle",
        "Oracle Cloud",
        datasource=Fact("Oracle", _CLOUD_INIT.format("Oracle")),
        limit=Fact(32_000, _ORACLE),
        counted=Fact(Counted.BASE64, _ORACLE),
        binary=Fact(True, _CLOUD_INIT.format("Oracle")),
        key=Fact("metadata.user_data, with all other metadata within the limit", _ORACLE),
        command=guess(
            "oci compute instance launch --user-data-file {file} …",
            "https://docs.oracle.com/iaas/tools/oci-cli/latest/oci_cli_docs/cmdref/compute/instance/launch.html",
        ),
        console=guess("Create instance > Advanced options > Cloud-init script", _ORACLE),
        images=guess(
            {"debian-13": "none: import one", "ubuntu-24.04": "Canonical Ubuntu 24.04"},
            "https://docs.oracle.com/iaas/images/",
        ),
        login=guess({"debian-13": "the image's", "ubuntu-24.04": "ubuntu"}, "https://docs.oracle.com/iaas/images/"),
        archs=guess(_BOTH, "https://docs.oracle.com/iaas/images/"),
        imports=guess(
            "qcow2, vmdk", "https://docs.oracle.com/iaas/Content/Compute/Tasks/importingcustomimagelinux.htm"
        ),
        packer=guess("hashicorp/oracle", "https://github.com/hashicorp/packer-plugin-oracle"),
    ),
)
