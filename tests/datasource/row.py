"""A provider as its servers see it: the columns of the table in providers.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LINK_LOCAL: Final = ("169.254.169.254",)

# What stock images of providers whose login is root say of it.
ROOT_IMAGE: Final = {
    "/etc/cloud/cloud.cfg.d/90-provider.cfg": (
        b"disable_root: false\n"
        b"system_info: {default_user: {name: root, lock_passwd: true, gecos: root, shell: /bin/bash}}\n"
    )
}


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
    `root`: the stock image's login is root. `router` is one outside of the server's network, which is then its one
    address. `before` is put before user-data by the provider. `stock_user` is who has the console's key until our
    admin is made in the last stage. `own` are the warnings that this datasource itself logs at its provider,
    whatever the user-data, by level.
    """

    name: str
    provider: str
    service: str
    datasource: str
    cloud_id: str
    dmi: Mapping[str, str]
    asked: tuple[tuple[str, str], ...]
    features: tuple[str, ...]
    addresses: tuple[str, ...] = LINK_LOCAL
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

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files of the provider's stock image that tell it from the base's."""
        return {**(ROOT_IMAGE if self.root else {}), **self.image}
