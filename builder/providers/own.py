"""What one runs oneself, or finds at many hosters under the same interface."""

from __future__ import annotations

from typing import Final

from builder.providers.model import Counted, Fact, Provider, guess

_NOVA: Final = "https://docs.openstack.org/nova/latest/user/metadata.html"
_OPENSTACK: Final = "https://github.com/canonical/cloud-init/blob/main/cloudinit/sources/DataSourceOpenStack.py"
_NOCLOUD: Final = "https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html"
_PROXMOX: Final = "https://pve.proxmox.com/wiki/Cloud-Init_Support"
_DEBIAN: Final = "https://cloud.debian.org/images/cloud/; https://cloud-images.ubuntu.com/"
_BOTH: Final = ("amd64", "arm64")
_CLOUD_IMAGES: Final = {
    "debian-13": "debian-13-genericcloud-{arch}.qcow2",
    "ubuntu-24.04": "noble-server-cloudimg-{arch}.img",
}
_LOGIN: Final = {"debian-13": "debian", "ubuntu-24.04": "ubuntu"}

ROWS: Final = (
    Provider(
        "openstack",
        "OVH and other OpenStack",
        datasource=Fact("OpenStack or ConfigDrive", _OPENSTACK),
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
