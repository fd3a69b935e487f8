"""What builds of er have at a provider: found by name over its API, and removed one by one.

A build's machine that is still there is left over; an image is left over only when nobody needs it. Of providers whose
API takes more than a token, the user is shown their own commands.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.packer import credentials
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TIMEOUT: Final = 60.0
_SHOWN: Final = 100
# er-<base>-<arch>[-<server>]-<date>-<time>, and for the machine of a build -build.
_NAME: Final = re.compile(r"(?:easyrunner-)?(er-(?:debian|ubuntu)-[\w-]*?)-(\d{8}-\d{6})(-build)?")


@dataclass(frozen=True, slots=True)
class Item:
    """A machine or an image. `build`: the machine of a build, which nobody needs once that is over.

    `path` is that of the API's request that deletes it.
    """

    noun: str
    id: str
    name: str
    build: bool
    path: str

    @property
    def stem(self) -> str:
        """What images of the same spec have in common."""
        match = _NAME.fullmatch(self.name)
        return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Where an API lists items: the list's path, its key in the answer, the key of an item's name, an item's path."""

    noun: str
    list: str
    key: str
    name: str
    item: str


@dataclass(frozen=True, slots=True)
class Api:
    """A provider's API.

    `url` is the variable of the environment that replaces its address, `token` the one of the login, and `header` the
    HTTP header that takes it.
    """

    address: str
    url: str
    token: str
    listings: tuple[Listing, ...]
    header: tuple[str, str] = ("Authorization", "Bearer {}")


_SCALEWAY: Final = "/instance/v1/zones/{zone}"
APIS: Final[Mapping[str, Api]] = {
    "hetzner": Api("https://api.hetzner.cloud/v1", "HCLOUD_ENDPOINT", "HCLOUD_TOKEN", (
        Listing("server", "/servers?per_page=50", "servers", "name", "/servers/{}"),
        Listing("snapshot", "/images?type=snapshot&per_page=50", "images", "description", "/images/{}"),
    )),
    "digitalocean": Api("https://api.digitalocean.com", "DIGITALOCEAN_API_URL", "DIGITALOCEAN_TOKEN", (
        Listing("droplet", "/v2/droplets?per_page=200", "droplets", "name", "/v2/droplets/{}"),
        Listing(
            "snapshot", "/v2/snapshots?resource_type=droplet&per_page=200", "snapshots", "name", "/v2/snapshots/{}"
        ),
    )),
    "linode": Api("https://api.linode.com/v4", "LINODE_URL", "LINODE_TOKEN", (
        Listing("Linode", "/linode/instances?page_size=500", "data", "label", "/linode/instances/{}"),
        Listing("image", "/images?page_size=500", "data", "label", "/images/{}"),
    )),
    "vultr": Api("https://api.vultr.com/v2", "VULTR_URL", "VULTR_API_KEY", (
        Listing("instance", "/instances?per_page=500", "instances", "label", "/instances/{}"),
        Listing("snapshot", "/snapshots?per_page=500", "snapshots", "description", "/snapshots/{}"),
    )),
    "scaleway": Api("https://api.scaleway.com", "SCW_API_URL", "SCW_SECRET_KEY", (
        Listing("server", f"{_SCALEWAY}/servers?per_page=100", "servers", "name", f"{_SCALEWAY}/servers/{{}}"),
        Listing("image", f"{_SCALEWAY}/images?public=false&per_page=100", "images", "name", f"{_SCALEWAY}/images/{{}}"),
        Listing("snapshot", f"{_SCALEWAY}/snapshots?per_page=100", "snapshots", "name", f"{_SCALEWAY}/snapshots/{{}}"),
    ), ("X-Auth-Token", "{}")),
}  # fmt: skip

# For the others: what lists builds of er there, and removes one.
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": (
        "aws ec2 describe-instances --filters Name=tag:managed-by,Values=easyrunner Name=tag:Name,Values='er-*-build'",
        "aws ec2 describe-images --owners self --filters Name=tag:managed-by,Values=easyrunner",
        "aws ec2 terminate-instances --instance-ids …; aws ec2 deregister-image --image-id …",
    ),
    "openstack": (
        "openstack server list --name '^er-.*-build$'; openstack image list --property managed-by=easyrunner",
        "openstack server delete …; openstack image delete …; openstack keypair list",
    ),
    "gcp": (
        "gcloud compute instances list --filter=labels.managed-by=easyrunner",
        "gcloud compute images list --no-standard-images --filter=labels.managed-by=easyrunner",
        "gcloud compute instances delete …; gcloud compute images delete …",
    ),
    "azure": (
        "az group list --query \"[?starts_with(name, 'pkr-Resource-Group-')].name\"; az group delete --name …",
        'az image list --query "[?tags.\\"managed-by\\"==\'easyrunner\'].id"; az image delete --ids …',
    ),
    "upcloud": ("upctl server list; upctl server delete …", "upctl storage list --template; upctl storage delete …"),
    "exoscale": (
        "exo compute instance list; exo compute instance delete …",
        "exo compute instance-template list --visibility private; exo compute instance-template delete …",
    ),
    "proxmox": ("qm list | grep er-", "qm destroy VMID"),
}


class Account:
    """A login at a provider. Raises UserError for a provider that cannot be asked, and for what it answers."""

    def __init__(self, target: str, environment: Mapping[str, str]) -> None:
        if target not in APIS:
            commands = "".join(f"\n  {line}" for line in COMMANDS.get(target, ()))
            raise UserError(f"er cannot ask {target} itself; its own commands can:{commands}")
        if missing := credentials.missing(target, environment):
            raise UserError(missing.message, missing.hint)
        login = credentials.complete(target, environment)
        self._api = APIS[target]
        self._url = (login.get(self._api.url) or self._api.address).rstrip("/")
        name, form = self._api.header
        self._headers = {name: form.format(login[self._api.token]), "User-Agent": "er"}
        self._zone = login.get("SCW_DEFAULT_ZONE", "fr-par-1")

    def items(self) -> tuple[Item, ...]:
        """Everything whose name says that a build of er made it, oldest first."""
        return tuple(sorted(self._items(), key=lambda item: item.name.removesuffix("-build")))

    def remove(self, item: Item) -> None:
        """Remove it."""
        self._ask("DELETE", item.path)

    def _items(self) -> Iterator[Item]:
        for listing in self._api.listings:
            for found in self._ask("GET", listing.list).get(listing.key, []):
                name = str(found.get(listing.name) or "")
                if match := _NAME.fullmatch(name):
                    number = str(found["id"])
                    yield Item(listing.noun, number, name, bool(match[3]), listing.item.replace("{}", number))

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        url = self._url + path.replace("{zone}", self._zone)
        request = urllib.request.Request(url, method=method, headers=self._headers)  # noqa: S310 - the provider's
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - the same
                value: dict[str, Any] = json.loads(answer.read() or b"{}")
                return value
        except urllib.error.HTTPError as error:
            raise UserError(f"{method} {url}: {error.code} {error.reason}: {_short(error)}") from error
        except OSError as error:
            raise UserError(f"{method} {url}: {getattr(error, 'reason', error)}") from error


def _short(error: urllib.error.HTTPError) -> str:
    return error.read().decode(errors="replace")[:_SHOWN]


def older(items: tuple[Item, ...], stem: str, keep: int) -> tuple[Item, ...]:
    """Images of one spec, but for the newest `keep` of each kind; `items` are in the order of their age."""
    images = [item for item in items if item.stem == stem and not item.build]
    nouns = dict.fromkeys(image.noun for image in images)
    return tuple(image for noun in nouns for image in [it for it in images if it.noun == noun][: -keep or None])


_STAMPED: Final = re.compile(r"-\d{8}-\d{6}$")


def stem(name: str) -> str:
    """An image's name without its time: what images of the same spec have in common."""
    return _STAMPED.sub("", name)
