"""The hosters on whose stock images one logs in as root, and Exoscale."""

from __future__ import annotations

from typing import Final

from builder.providers.model import Counted, Fact, Provider, guess

_CLOUD_INIT: Final = "https://github.com/canonical/cloud-init/blob/main/cloudinit/sources/DataSource{}.py"
_DO: Final = "https://docs.digitalocean.com/products/droplets/how-to/provide-user-data/"
_HETZNER: Final = "https://docs.hetzner.cloud/reference/cloud#tag/servers/create_server"
_VULTR: Final = "https://docs.vultr.com/manage-instance-user-data-with-the-vultr-metadata-api"
_LINODE: Final = "https://techdocs.akamai.com/cloud-computing/docs/overview-of-the-metadata-service"
_SCALEWAY: Final = "https://www.scaleway.com/en/docs/instances/how-to/use-cloud-init"
_UPCLOUD: Final = "https://developers.upcloud.com/1.3/8-servers/"
_EXOSCALE: Final = "https://github.com/exoscale/cli/blob/master/pkg/userdata/userdata.go"
_BOTH: Final = ("amd64", "arm64")
_ROOT: Final = {"debian-13": "root", "ubuntu-24.04": "root"}

ROWS: Final = (
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
        login=guess({"debian-13": "debian", "ubuntu-24.04": "ubuntu"}, "https://www.exoscale.com/templates/"),
        archs=guess(("amd64",), "https://www.exoscale.com/templates/"),
        imports=guess(
            "qcow2, by URL", "https://community.exoscale.com/product/compute/instances/how-to/custom-templates/"
        ),
        packer=Fact("exoscale/exoscale", "https://github.com/exoscale/packer-plugin-exoscale"),
    ),
)
