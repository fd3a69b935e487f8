"""Which image a server starts from: one that er baked, the distribution's own, or the one that was named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.aws import tags
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.aws.api import Door
    from builder.aws.request import Order

# EC2's words for processors.
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "arm64"}
# Debian's and Canonical's accounts, and how they name their images: wiki.debian.org/Cloud/AmazonEC2Image and
# documentation.ubuntu.com/aws.
_STOCK: Final = {
    "debian-13": ("136693071363", "debian-13-{arch}-*"),
    "ubuntu-24.04": ("099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-*"),
}


@dataclass(frozen=True, slots=True)
class Image:
    """An image: `on` says which user-data it takes; `root` is its root device, `size` that disk's GiB at least."""

    id: str
    name: str
    arch: str
    root: str
    size: int
    on: Literal["stock", "baked"]


def stock_query(base: str, arch: str) -> dict[str, Any]:
    """What finds the distribution's images."""
    owner, pattern = _STOCK[base]
    return _query(owner, name=pattern.format(arch=arch), arch=ARCHITECTURES[arch])


def baked_query(base: str, arch: str) -> dict[str, Any]:
    """What finds images that er baked in this account, for this base and processor."""
    query = _query("self", arch=ARCHITECTURES[arch])
    wanted = tags.image(base, arch)
    query["Filters"] += [{"Name": f"tag:{key}", "Values": [value]} for key, value in wanted.items()]
    return query


def _query(owner: str, *, arch: str, name: str | None = None) -> dict[str, Any]:
    filters = [{"Name": "architecture", "Values": [arch]}, {"Name": "state", "Values": ["available"]}]
    filters += [{"Name": "name", "Values": [name]}] if name else []
    return {"Owners": [owner], "Filters": filters}


def newest(found: Iterable[Mapping[str, Any]]) -> Image | None:
    """The youngest of the described images; the time is in a form that sorts."""
    youngest = max(found, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]), default=None)
    return read(youngest) if youngest else None


def read(found: Mapping[str, Any]) -> Image:
    """A described image. What carries our tags is baked; any other is taken for a stock image."""
    ours = tags.read(found)
    root = found.get("RootDeviceName", "/dev/xvda")
    disks = [disk.get("Ebs", {}) for disk in found.get("BlockDeviceMappings", ()) if disk.get("DeviceName") == root]
    size = max((disk.get("VolumeSize", 0) for disk in disks), default=0)
    on: Literal["stock", "baked"] = "baked" if ours.get(tags.PROJECT) == tags.OURS else "stock"
    return Image(found["ImageId"], found.get("Name", ""), found.get("Architecture", ""), root, size, on)


def choose(door: Door, order: Order) -> Image:
    """Look the image up; raises UserError when there is none, or one for another processor."""
    server, wish = order.spec.server, order.wishes.image
    if wish and wish.startswith("ami-"):
        found = newest(door.items("DescribeImages", ImageIds=[wish]))
        return _right(found, wish, server.arch)
    image = None
    if wish != "stock":
        image = newest(door.items("DescribeImages", **baked_query(server.base, server.arch)))
    if image is None and wish != "baked":
        image = newest(door.items("DescribeImages", **stock_query(server.base, server.arch)))
    what = f"no {'baked ' * (wish == 'baked')}image of {server.base} for {server.arch} in {door.region}"
    if image is None:
        way = "bake one with `er build-image --target aws`" if wish == "baked" else "name one: --image ami-…"
        raise UserError(what, f"{way}, or take another region")
    return image


def _right(image: Image | None, wish: str, arch: str) -> Image:
    if image is None:
        raise UserError(f"there is no image {wish} here", "images belong to one region: is it the right one?")
    if image.arch != ARCHITECTURES[arch]:
        given = next((name for name, ec2 in ARCHITECTURES.items() if ec2 == image.arch), image.arch)
        raise UserError(
            f"{wish} is an image for {given}, the spec says arch: {arch}",
            f"take an image for {arch}, or write `arch: {given}` in the spec",
        )
    return image
