"""The providers: a row each, in the order in which they are listed everywhere."""

from __future__ import annotations

from typing import Final

from builder.providers.model import Counted, Fact, Provider, guess

# The sources of cloud-init: a datasource each.
_CLOUD_INIT: Final = "https://github.com/canonical/cloud-init/blob/main/cloudinit/sources/DataSource{}.py"
# Architectures, and logins of images by base.
_BOTH: Final = ("amd64", "arm64")
_ROOT: Final = {"debian-13": "root", "ubuntu-24.04": "root"}
_LOGIN: Final = {"debian-13": "debian", "ubuntu-24.04": "ubuntu"}
_LOGIN_OF_AWS: Final = {"debian-13": "admin", "ubuntu-24.04": "ubuntu"}
# The images that Debian and Ubuntu publish for any cloud.
_CLOUD_IMAGES: Final = {
    "debian-13": "debian-13-genericcloud-{arch}.qcow2",
    "ubuntu-24.04": "noble-server-cloudimg-{arch}.img",
}
_DEBIAN: Final = "https://cloud.debian.org/images/cloud/; https://cloud-images.ubuntu.com/"
# Pages of one provider that say more than one thing.
_EC2: Final = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html"
_LIGHTSAIL: Final = "https://docs.aws.amazon.com/lightsail/2016-11-28/api-reference/API_CreateInstances.html"
_DO: Final = "https://docs.digitalocean.com/products/droplets/how-to/provide-user-data/"
_HETZNER: Final = "https://docs.hetzner.cloud/reference/cloud#tag/servers/create_server"
_VULTR: Final = "https://docs.vultr.com/manage-instance-user-data-with-the-vultr-metadata-api"
_LINODE: Final = "https://techdocs.akamai.com/cloud-computing/docs/overview-of-the-metadata-service"
_SCALEWAY: Final = "https://www.scaleway.com/en/docs/instances/how-to/use-cloud-init"
_NOVA: Final = "https://docs.openstack.org/nova/latest/user/metadata.html"
_UPCLOUD: Final = "https://developers.upcloud.com/1.3/8-servers/"
_GCP: Final = "https://cloud.google.com/compute/docs/metadata/setting-custom-metadata"
_AZURE: Final = "https://learn.microsoft.com/azure/virtual-machines/custom-data"
_ORACLE: Final = "https://docs.oracle.com/iaas/Content/Compute/Tasks/updatinginstancemetada.htm"
_EXOSCALE: Final = "https://github.com/exoscale/cli/blob/master/pkg/userdata/userdata.go"
_PROXMOX: Final = "https://pve.proxmox.com/wiki/Cloud-Init_Support"
_NOCLOUD: Final = "https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html"

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
        login=guess(_LOGIN_OF_AWS, "https://wiki.debian.org/Cloud/AmazonEC2Image"),
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
        login=guess(_LOGIN_OF_AWS, _LIGHTSAIL),
        archs=guess(("amd64",), _LIGHTSAIL),
        imports=guess("none", _LIGHTSAIL),
        packer=Fact(None, "https://developer.hashicorp.com/packer/integrations"),
        script=True,
    ),
    Provider(
        "digitalocean",
        "DigitalOcean",
        datasource=Fact("DigitalOcean", _CLOUD_INIT.format("DigitalOcean")),
        limit=Fact(65_536, _DO),
        counted=Fact(Counted.RAW, _DO),
        binary=Fact(False, _CLOUD_INIT.format("DigitalOcean")),
        key=Fact("user_data", _DO),
        command=Fact(
            "doctl compute droplet create NAME --user-data-file {file} …", "https://github.com/digitalocean/doctl"
        ),
        console=guess("Create Droplets > Advanced options > Add initialization scripts", _DO),
        images=Fact(
            {"debian-13": "debian-13-x64", "ubuntu-24.04": "ubuntu-24-04-x64"},
            "https://docs.digitalocean.com/products/droplets/details/images/",
        ),
        login=Fact(_ROOT, "https://docs.digitalocean.com/products/droplets/how-to/connect-with-ssh/"),
        archs=guess(("amd64",), "https://docs.digitalocean.com/products/droplets/details/images/"),
        imports=Fact(
            "raw, qcow2, vhdx, vdi, vmdk, by URL",
            "https://docs.digitalocean.com/products/custom-images/details/features/",
        ),
        packer=Fact("digitalocean/digitalocean", "https://github.com/digitalocean/packer-plugin-digitalocean"),
    ),
    Provider(
        "hetzner",
        "Hetzner Cloud",
        datasource=Fact("Hetzner", _CLOUD_INIT.format("Hetzner")),
        limit=Fact(32_768, _HETZNER),
        counted=Fact(Counted.RAW, _HETZNER),
        binary=Fact(False, _HETZNER),
        key=Fact("user_data", _HETZNER),
        command=Fact(
            "hcloud server create --user-data-from-file {file} …",
            "https://github.com/hetznercloud/cli/blob/main/internal/cmd/server/create.go",
        ),
        console=guess("Create server > Cloud config", _HETZNER),
        images=guess({"debian-13": "debian-13", "ubuntu-24.04": "ubuntu-24.04"}, _HETZNER),
        login=Fact(_ROOT, "https://docs.hetzner.com/cloud/servers/getting-started/connecting-to-the-server"),
        archs=guess(_BOTH, "https://docs.hetzner.com/cloud/servers/overview"),
        imports=guess("none; snapshots of servers only", "https://docs.hetzner.com/cloud/servers/faq"),
        packer=Fact("hetznercloud/hcloud", "https://github.com/hetznercloud/packer-plugin-hcloud"),
    ),
    Provider(
        "vultr",
        "Vultr",
        datasource=Fact("Vultr", _CLOUD_INIT.format("Vultr")),
        limit=guess(16_384, _VULTR),
        counted=guess(Counted.RAW, _VULTR),
        binary=Fact(False, _CLOUD_INIT.format("Vultr")),
        key=Fact("user_data, base64", "https://www.vultr.com/api/#operation/create-instance"),
        command=Fact(
            "vultr-cli instance create --userdata-file {file} …",
            "https://github.com/vultr/vultr-cli/blob/master/cmd/instance/instance.go",
        ),
        console=guess("Deploy > Additional features > Cloud-init user-data", _VULTR),
        images=guess(
            {"debian-13": "Debian 13 x64", "ubuntu-24.04": "Ubuntu 24.04 LTS x64"},
            "https://www.vultr.com/api/#operation/list-os",
        ),
        login=Fact(_ROOT, "https://docs.vultr.com/how-to-access-your-vultr-vps"),
        archs=guess(("amd64",), "https://www.vultr.com/api/#operation/list-os"),
        imports=guess("raw, by URL", "https://docs.vultr.com/requirements-for-uploading-an-os-iso-to-vultr"),
        packer=Fact("vultr/vultr", "https://github.com/vultr/packer-plugin-vultr"),
    ),
    Provider(
        "linode",
        "Linode (Akamai)",
        datasource=Fact("Akamai", _CLOUD_INIT.format("Akamai")),
        limit=Fact(16_384, _LINODE),
        counted=Fact(Counted.RAW, _LINODE),
        binary=Fact(True, _CLOUD_INIT.format("Akamai")),
        key=Fact("metadata.user_data, base64", "https://github.com/linode/terraform-provider-linode"),
        command=guess(
            'linode-cli linodes create --metadata.user_data "$(base64 -w0 {file})" …',
            "https://techdocs.akamai.com/cloud-computing/docs/using-the-metadata-service-api",
        ),
        console=guess("Create Linode > Add user data", _LINODE),
        images=Fact(
            {"debian-13": "linode/debian13", "ubuntu-24.04": "linode/ubuntu24.04"},
            "https://techdocs.akamai.com/linode-api/reference/get-images",
        ),
        login=Fact(_ROOT, "https://techdocs.akamai.com/cloud-computing/docs/connect-to-a-compute-instance"),
        archs=guess(("amd64",), "https://techdocs.akamai.com/linode-api/reference/get-images"),
        imports=guess("raw, as .img.gz", "https://techdocs.akamai.com/cloud-computing/docs/upload-an-image"),
        packer=Fact("linode/linode", "https://github.com/linode/packer-plugin-linode"),
    ),
    Provider(
        "scaleway",
        "Scaleway",
        datasource=Fact("Scaleway", _CLOUD_INIT.format("Scaleway")),
        limit=guess(16_384, _SCALEWAY),
        counted=guess(Counted.RAW, _SCALEWAY),
        binary=Fact(False, _CLOUD_INIT.format("Scaleway")),
        key=Fact("user data, key cloud-init", _SCALEWAY),
        command=Fact(
            "scw instance server create cloud-init=@{file} …",
            "https://github.com/scaleway/scaleway-cli/blob/master/docs/commands/instance.md",
        ),
        console=guess("Create Instance > Advanced options > Cloud-init", _SCALEWAY),
        images=guess(
            {"debian-13": "debian_trixie", "ubuntu-24.04": "ubuntu_noble"},
            "https://www.scaleway.com/en/docs/instances/reference-content/images-and-instantapps/",
        ),
        login=Fact(_ROOT, "https://www.scaleway.com/en/docs/instances/how-to/connect-to-instance/"),
        archs=guess(_BOTH, "https://www.scaleway.com/en/docs/instances/reference-content/images-and-instantapps/"),
        imports=guess(
            "qcow2, from a bucket", "https://www.scaleway.com/en/docs/instances/how-to/snapshot-import-export-feature/"
        ),
        packer=Fact("scaleway/scaleway", "https://github.com/scaleway/packer-plugin-scaleway"),
    ),
    Provider(
        "openstack",
        "OVH and other OpenStack",
        datasource=Fact("OpenStack or ConfigDrive", _CLOUD_INIT.format("OpenStack")),
        limit=Fact(65_535, _NOVA),
        counted=Fact(Counted.BASE64, _NOVA),
        binary=Fact(True, _NOVA),
        key=Fact("user_data", _NOVA),
        command=Fact("openstack server create --user-data {file} …", _NOVA),
        console=guess("Launch instance > Configuration > Customization script", _NOVA),
        images=guess({"debian-13": "Debian 13", "ubuntu-24.04": "Ubuntu 24.04"}, _NOVA),
        login=guess(_LOGIN, _DEBIAN),
        archs=guess(_BOTH, _DEBIAN),
        imports=guess("qcow2, raw and more (Glance)", "https://docs.openstack.org/glance/latest/user/formats.html"),
        packer=Fact("hashicorp/openstack", "https://github.com/hashicorp/packer-plugin-openstack"),
    ),
    Provider(
        "upcloud",
        "UpCloud",
        datasource=Fact("UpCloud", _CLOUD_INIT.format("UpCloud")),
        limit=guess(16_384, _UPCLOUD),
        counted=guess(Counted.RAW, _UPCLOUD),
        binary=Fact(False, _CLOUD_INIT.format("UpCloud")),
        key=Fact("user_data, with metadata: yes", _UPCLOUD),
        command=Fact(
            'upctl server create --enable-metadata --user-data "$(cat {file})" …',
            "https://github.com/UpCloudLtd/upcloud-cli/blob/main/internal/commands/server/create.go",
        ),
        console=guess("Deploy server > Initialization script, metadata service on", _UPCLOUD),
        images=guess(
            {"debian-13": "Debian GNU/Linux 13 (Trixie)", "ubuntu-24.04": "Ubuntu Server 24.04 LTS (Noble Numbat)"},
            "https://upcloud.com/docs/products/cloud-servers/operating-systems/",
        ),
        login=Fact(_ROOT, "https://upcloud.com/docs/guides/connecting-to-your-server/"),
        archs=guess(("amd64",), _UPCLOUD),
        imports=guess("raw, by file or URL", "https://upcloud.com/docs/guides/importing-custom-image/"),
        packer=Fact("UpCloudLtd/upcloud", "https://github.com/UpCloudLtd/packer-plugin-upcloud"),
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
    Provider(
        "exoscale",
        "Exoscale",
        datasource=Fact("Exoscale", _CLOUD_INIT.format("Exoscale")),
        limit=Fact(32_767, _EXOSCALE),
        counted=Fact(Counted.BASE64, _EXOSCALE),
        binary=Fact(True, _EXOSCALE),
        key=Fact("user-data, base64", _EXOSCALE),
        command=Fact(
            "exo compute instance create NAME --cloud-init {file} …",
            "https://github.com/exoscale/cli/blob/master/cmd/compute/instance/instance_create.go",
        ),
        console=guess("Add instance > User data", _EXOSCALE),
        images=Fact(
            {"debian-13": "Linux Debian 13 (Trixie) 64-bit", "ubuntu-24.04": "Linux Ubuntu 24.04 LTS 64-bit"},
            "https://www.exoscale.com/templates/",
        ),
        login=guess(_LOGIN, "https://www.exoscale.com/templates/"),
        archs=guess(("amd64",), "https://www.exoscale.com/templates/"),
        imports=guess(
            "qcow2, by URL", "https://community.exoscale.com/product/compute/instances/how-to/custom-templates/"
        ),
        packer=Fact("exoscale/exoscale", "https://github.com/exoscale/packer-plugin-exoscale"),
    ),
    Provider(
        "proxmox",
        "Proxmox VE",
        datasource=Fact("NoCloud", _PROXMOX),
        limit=Fact(None, _PROXMOX),
        counted=Fact(Counted.RAW, _PROXMOX),
        binary=guess(False, _PROXMOX),
        key=Fact("cicustom: user=STORAGE:snippets/FILE", _PROXMOX),
        command=guess("qm set VMID --cicustom user=local:snippets/{name}", _PROXMOX),
        console=guess("none: copy {file} to /var/lib/vz/snippets/ on the node first", _PROXMOX),
        images=guess(_CLOUD_IMAGES, _DEBIAN),
        login=guess(_LOGIN, _DEBIAN),
        archs=guess(("amd64",), _PROXMOX),
        imports=guess("qcow2, raw, vmdk (qm importdisk)", _PROXMOX),
        packer=Fact("hashicorp/proxmox", "https://github.com/hashicorp/packer-plugin-proxmox"),
    ),
    Provider(
        "nocloud",
        "NoCloud: libvirt, QEMU, a seed disk",
        datasource=Fact("NoCloud", _NOCLOUD),
        limit=Fact(None, _NOCLOUD),
        counted=Fact(Counted.RAW, _NOCLOUD),
        binary=Fact(True, _NOCLOUD),
        key=Fact("the file user-data on a disk labelled CIDATA", _NOCLOUD),
        command=Fact("cloud-localds seed.iso {file}", "https://github.com/canonical/cloud-utils"),
        console=guess("virt-install --cloud-init user-data={file} …", "https://github.com/virt-manager/virt-manager"),
        images=guess(_CLOUD_IMAGES, _DEBIAN),
        login=guess(_LOGIN, _DEBIAN),
        archs=guess(_BOTH, _DEBIAN),
        imports=guess("any that your hypervisor reads", _NOCLOUD),
        packer=Fact("hashicorp/qemu", "https://github.com/hashicorp/packer-plugin-qemu"),
    ),
)
