"""The providers as their servers see them, a row each: firmware, network card, where metadata is, and how it is asked.

Sources of a row: ds-identify and the datasource of cloud-init 25.1, which decide by exactly these values, and the
provider's documentation for what its stock image and its console add.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.datasource import azure

if TYPE_CHECKING:
    from collections.abc import Mapping

UUID: Final = "6f1e0d2c-9099-4caf-9d21-012345abcdef"
_EC2_UUID: Final = "ec2a1b2c-9099-4caf-9d21-012345abcdef"
_LINK_LOCAL: Final = ("169.254.169.254",)
# What stock images of providers whose login is root say of it.
_ROOT_IMAGE: Final = {
    "/etc/cloud/cloud.cfg.d/90-provider.cfg": (
        b"disable_root: false\n"
        b"system_info: {default_user: {name: root, lock_passwd: true, gecos: root, shell: /bin/bash}}\n"
    )
}
# cloud-init takes the card down to rename it, where its name is not the provider's last word.
_RENAMED: Final = {
    "/etc/systemd/system/systemd-networkd.service.d/60-renamed.conf": (
        b"[Service]\nExecStartPre=+/usr/sbin/ip link set dev eth0 down\n"
    )
}
_EJECT: Final = {"/usr/local/bin/eject": b'#!/bin/sh\nexec losetup --detach "$1"\n'}


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk with user-data: its label, and its name on the server, if not as here (blkid looks for the kernel's name).

    `fixed` gives addresses instead of DHCP.
    """

    label: str
    device: str = ""
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One way that a provider hands over user-data.

    `dmi` and `asked` may use the server's values in braces. `service` is a name of services.SERVICES; `asked` are
    requests that must have been answered, as method and path; `features` say what is special, for the table.
    `router` is one outside of the server's network, which is then its one address. `before` is put before user-data
    by the provider. `stock_user` is who has the console's key until our admin is made in the last stage. `own` are
    the warnings that this datasource itself logs at its provider, whatever the user-data, by level.
    """

    name: str
    provider: str
    service: str
    datasource: str
    cloud_id: str
    dmi: Mapping[str, str]
    asked: tuple[tuple[str, str], ...]
    features: tuple[str, ...]
    addresses: tuple[str, ...] = _LINK_LOCAL
    card: str = "eth0"
    hardware: str = "02:65:00:00:00:02"
    driver: str = "virtio_net"
    id: str = "12345678"
    root: bool = False
    image: Mapping[str, bytes] = field(default_factory=dict)
    router: str = ""
    disk: Disk | None = None
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    before: bytes = b""
    stock_user: str = ""
    limits: str = ""


def _get(*paths: str) -> tuple[tuple[str, str], ...]:
    return tuple(("GET", path) for path in paths)


def _ec2(name: str, *features: str, before: bytes = b"", stock_user: str = "", limits: str = "") -> Row:
    token = ("PUT", "/latest/api/token")
    user_data, document = "/2021-03-23/user-data", "/2021-03-23/dynamic/instance-identity/document"
    return Row(
        name=name,
        provider=name,
        service="ec2",
        datasource="Ec2",
        cloud_id="aws",
        dmi={
            "sys_vendor": "Amazon EC2",
            "product_name": "t3.small",
            "product_uuid": _EC2_UUID,
            "product_serial": _EC2_UUID,
        },
        asked=(token, *_get("/2021-03-23/meta-data/network/interfaces/macs/{hardware}/mac", user_data, document)),
        features=("IMDSv2 token by PUT on every request", "DHCP first", *features),
        before=before,
        stock_user=stock_user,
        addresses=("169.254.169.254", "fd00:ec2::254"),
        card="ens5",
        driver="ena",
        id="i-0123456789abcdef0",
        limits=limits,
    )


_ROWS: Final = (
    _ec2("aws"),
    _ec2(
        "lightsail",
        "a launch script, with the provider's own before it",
        before=b"#!/bin/sh\ntouch /run/provider-was-first\n",
        stock_user="debian",
        limits="the provider's own script is not known here; the base's stock user instead of admin",
    ),
    Row(
        "digitalocean",
        "digitalocean",
        "digitalocean",
        "DigitalOcean",
        "digitalocean",
        {"sys_vendor": "DigitalOcean", "product_name": "Droplet", "product_serial": "{id}"},
        _get("/metadata/v1.json"),
        ("a link-local address instead of DHCP", "user-data as a JSON string", "vendor-data that opens root's login"),
        root=True,
        image={**_ROOT_IMAGE, **_RENAMED},
        own={"DEPRECATED": ("DataSourceDigitalOcean is deprecated in 23.2",)},
        limits="the card has its last name from the start, so cloud-init does not take it down to rename it",
    ),
    Row(
        "digitalocean-drive",
        "digitalocean",
        "nothing",
        "ConfigDrive",
        "configdrive",
        {"sys_vendor": "DigitalOcean", "product_name": "Droplet", "product_serial": "{id}"},
        (),
        ("config drive, which this provider's datasource is deprecated in favour of", "addresses fixed by it"),
        root=True,
        image=_ROOT_IMAGE,
        disk=Disk("config-2", fixed=True),
    ),
    Row(
        "hetzner",
        "hetzner",
        "hetzner",
        "Hetzner",
        "hetzner",
        {"sys_vendor": "Hetzner", "product_name": "vServer", "product_serial": "{id}"},
        _get("/hetzner/v1/metadata", "/hetzner/v1/userdata"),
        ("base64 is taken off when it is there", "instance id equal to the firmware's serial number"),
        router="172.31.1.1",
        root=True,
        image=_ROOT_IMAGE,
    ),
    Row(
        "vultr",
        "vultr",
        "vultr",
        "Vultr",
        "vultr",
        {"sys_vendor": "Vultr", "product_name": "VC2", "product_serial": "{id}"},
        _get("/v1.json"),
        ("Metadata-Token header", "user-data as a JSON string", "vendor-data that opens root's login"),
        card="enp1s0",
        root=True,
        image=_ROOT_IMAGE,
        own={"WARNING": ("network-config-v1 failed schema validation!",)},
    ),
    Row(
        "linode",
        "linode",
        "linode",
        "Akamai",
        "akamai",
        {"sys_vendor": "Akamai", "product_name": "Linode", "product_serial": "{id}"},
        (("PUT", "/v1/token"), *_get("/v1/instance", "/v1/user-data")),
        ("token by PUT on every request", "user-data in base64", "IPv6 asked first"),
        addresses=("169.254.169.254", "fd00:a9fe:a9fe::1"),
        hardware="f2:3c:00:00:00:02",
        root=True,
        image=_ROOT_IMAGE,
    ),
    Row(
        "scaleway",
        "scaleway",
        "scaleway",
        "Scaleway",
        "scaleway",
        {"sys_vendor": "Scaleway", "product_name": "SCW-DEV1-S", "product_uuid": UUID},
        _get("/conf", "/user_data/cloud-init"),
        ("user-data only to a source port below 1024",),
        addresses=("169.254.42.42", "fd00:42::42"),
        card="ens2",
        router="62.210.0.1",
        root=True,
        image=_ROOT_IMAGE,
    ),
    Row(
        "openstack",
        "openstack",
        "openstack",
        "OpenStack",
        "openstack",
        {"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova", "product_uuid": UUID},
        _get("/openstack", "/openstack/2018-08-27/meta_data.json", "/openstack/2018-08-27/user_data"),
        ("metadata service of Nova", "network_data.json"),
        card="ens3",
    ),
    Row(
        "openstack-drive",
        "openstack",
        "nothing",
        "ConfigDrive",
        "configdrive",
        {"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova", "product_uuid": UUID},
        (),
        ("config drive",),
        card="ens3",
        disk=Disk("config-2"),
    ),
    Row(
        "upcloud",
        "upcloud",
        "upcloud",
        "UpCloud",
        "upcloud",
        {"sys_vendor": "UpCloud", "product_name": "KVM", "product_uuid": UUID},
        _get("/metadata/v1.json"),
        ("user-data as a JSON string",),
        root=True,
        image=_ROOT_IMAGE,
    ),
    Row(
        "gcp",
        "gcp",
        "gcp",
        "GCE",
        "gce",
        {"sys_vendor": "Google", "product_name": "Google Compute Engine", "product_serial": "GoogleCloud-0123"},
        _get("/computeMetadata/v1/instance/id", "/computeMetadata/v1/instance/attributes/"),
        ("Metadata-Flavor header", "asked by name"),
        card="ens4",
        router="10.128.0.1",
        image={
            "/etc/hosts": b"127.0.0.1 localhost\n::1 localhost\n169.254.169.254 metadata.google.internal metadata\n"
        },
    ),
    Row(
        "oracle",
        "oracle",
        "oracle",
        "Oracle",
        "oracle",
        {
            "sys_vendor": "QEMU",
            "product_name": "Standard PC",
            "chassis_asset_tag": "OracleCloud.com",
            "product_uuid": UUID,
        },
        _get("/opc/v2/instance/", "/opc/v2/vnics/"),
        ("Authorization header, version 2", "user-data in base64"),
        addresses=("169.254.169.254", "fd00:c1::a9fe:a9fe"),
        card="ens3",
        own={"WARNING": ("Could not obtain network configuration from initramfs. Falling back to IMDS.",)},
        id="ocid1.instance.oc1.eu-frankfurt-1.1",
    ),
    Row(
        "exoscale",
        "exoscale",
        "exoscale",
        "Exoscale",
        "exoscale",
        {"sys_vendor": "Exoscale", "product_name": "Exoscale Compute Platform", "product_uuid": UUID},
        _get("/1.0/meta-data/instance-id", "/1.0/user-data", "/1.0/"),
        ("password server on a port of its own", "after the network is up"),
        id=UUID,
    ),
    Row(
        "azure",
        "azure",
        "azure",
        "Azure",
        "azure",
        {
            "sys_vendor": "Microsoft Corporation",
            "product_name": "Virtual Machine",
            "chassis_asset_tag": azure.CHASSIS,
            "product_uuid": UUID,
        },
        (*_get("/metadata/instance", "/machine/"), ("POST", "/machine")),
        ("user-data on a provisioning disk, in base64", "IMDS with its header", "ready reported to the wire server"),
        addresses=("169.254.169.254", azure.WIRE),
        driver="hv_netvsc",
        image=_EJECT,
        disk=Disk("rd_rdfe_stable", "/dev/sr0"),
        limits="the provisioning disk is ISO 9660, not UDF",
    ),
    Row(
        "nocloud",
        "nocloud",
        "nocloud",
        "NoCloud",
        "nocloud",
        {"sys_vendor": "QEMU", "product_name": "Standard PC", "product_serial": "ds=nocloud;s=http://{gateway4}/"},
        _get("/meta-data", "/user-data", "/network-config"),
        ("a web server that the firmware's serial number names",),
        addresses=(),
    ),
    Row(
        "proxmox",
        "proxmox",
        "nothing",
        "NoCloud",
        "nocloud",
        {"sys_vendor": "QEMU", "product_name": "Standard PC", "product_uuid": UUID},
        (),
        ("a disk labelled cidata",),
        addresses=(),
        disk=Disk("cidata"),
    ),
)
ROWS: Final = {row.name: row for row in _ROWS}
