"""The image of a server: one that er baked in this account and region, or the distribution's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import host as hosts
from builder.aws import tags
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.aws.api import Api
    from builder.host import Host

# EC2's words for processors.
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Image:
    """An image: `on` says which user-data it takes; `root` is its root device, `size` that disk's GiB at least.

    `packages` were baked in although not every host has them; `baked` is the digest of what was baked in for every
    host. `warning` says what is to be known of this choice.
    """

    id: str
    name: str
    arch: str
    root: str
    size: int
    on: Literal["stock", "baked"]
    packages: tuple[str, ...] = ()
    baked: str = ""
    warning: str = ""


def choose(api: Api, host: Host, option: str | None) -> Image:
    """The image for this host: an AMI, `baked`, `stock`, or None for the best that there is.

    Baked images are good for the hosts of the er that baked them: user-data brings the other part of the same host.
    Raises UserError when there is none, or one for another processor.
    """
    baked = hosts.digest(host.only(hosts.Part.BAKED))
    if option and option.startswith("ami-"):
        return _named(newest(api.items("DescribeImages", ImageIds=[option])), option, host.arch, baked)
    all_baked = [] if option == "stock" else api.items("DescribeImages", **baked_query(host.base, host.arch))
    images = [read(described) for described in all_baked]
    image = newest(one for one in all_baked if read(one).baked == baked)
    if image is None and option != "baked":
        image = newest(api.items("DescribeImages", **stock_query(host.base, host.arch)))
        image = image and replace(image, warning=_passed_over(images))
    if image is None:
        raise _none(host, api.region, images, option)
    return image


def _named(image: Image | None, name: str, arch: str, baked: str) -> Image:
    if image is None:
        raise UserError(f"there is no image {name} here", "images belong to one region: is it the right one?")
    if image.arch != ARCHITECTURES[arch]:
        other = next((ours for ours, ec2 in ARCHITECTURES.items() if ec2 == image.arch), image.arch)
        raise UserError(
            f"{name} is an image for {other}, the spec says arch: {arch}",
            f"take an image for {arch}, or write `arch: {other}` in the spec",
        )
    if image.on == "baked" and image.baked != baked:
        return replace(image, warning=f"{name} was baked by another er: what it lacks, first boot does not bring")
    return image


def _passed_over(images: list[Image]) -> str:
    if not images:
        return ""
    ids = " ".join(image.id for image in images)
    return f"baked by another er, and so not taken: {ids}; `er build-image --target aws` bakes one that fits"


def _none(host: Host, region: str, images: list[Image], option: str | None) -> UserError:
    kind = "baked " if option == "baked" else ""
    others = f", but for what another er has baked: {' '.join(image.id for image in images)}" if images else ""
    hint = "bake one with `er build-image --target aws`" if kind else "name one: --image ami-…"
    return UserError(
        f"no {kind}image of {host.base} for {host.arch} in {region}{others}", f"{hint}, or take another region"
    )


def baked_query(base: str, arch: str) -> dict[str, Any]:
    """What finds images that er baked in this account, for this base and processor."""
    query = _query("self", arch=ARCHITECTURES[arch])
    query["Filters"] += [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.image(base, arch).items()]
    return query


# Debian's and Canonical's accounts, and how they name their images: wiki.debian.org/Cloud/AmazonEC2Image and
# documentation.ubuntu.com/aws.
_STOCK: Final = {
    "debian-13": ("136693071363", "debian-13-{arch}-*"),
    "ubuntu-24.04": ("099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-*"),
}


def stock_query(base: str, arch: str) -> dict[str, Any]:
    """What finds the distribution's images."""
    owner, pattern = _STOCK[base]
    return _query(owner, name=pattern.format(arch=arch), arch=ARCHITECTURES[arch])


def _query(owner: str, *, arch: str, name: str | None = None) -> dict[str, Any]:
    filters = [{"Name": "architecture", "Values": [arch]}, {"Name": "state", "Values": ["available"]}]
    filters += [{"Name": "name", "Values": [name]}] if name else []
    return {"Owners": [owner], "Filters": filters}


def newest(described: Iterable[Mapping[str, Any]]) -> Image | None:
    """The newest of the described images; the time is in a form that sorts."""
    found = max(described, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]), default=None)
    return read(found) if found else None


def read(described: Mapping[str, Any]) -> Image:
    """A described image. What carries our tags is baked; any other is taken for a stock image."""
    ours = tags.read(described)
    root = described.get("RootDeviceName", "/dev/xvda")
    devices = described.get("BlockDeviceMappings", ())
    disks = [device.get("Ebs", {}) for device in devices if device.get("DeviceName") == root]
    size = max((disk.get("VolumeSize", 0) for disk in disks), default=0)
    on: Literal["stock", "baked"] = "baked" if ours.get(tags.PROJECT) == tags.OURS else "stock"
    name, arch = described.get("Name", ""), described.get("Architecture", "")
    packages = tuple(ours.get(tags.PACKAGES, "").split())
    return Image(described["ImageId"], name, arch, root, size, on, packages, ours.get(tags.BAKED, ""))
