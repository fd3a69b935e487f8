"""An image as somebody describes it who wants to push it: every value checked; and the layout that Podman is given.

What Podman reads besides the layers is made here, of checked numbers and digests, and the image's configuration.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping

# The most that a description may be: bytes of JSON, layers (a kernel stacks 500), bytes of all layers as they come.
MAX_TEXT: Final = 4 << 20
_MAX_LAYERS: Final = 256
MAX_BYTES: Final = 8 << 30
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_COMPRESSIONS: Final = ("", "gzip", "zstd")
# By the machine's name in uname(2).
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class Layer(NamedTuple):
    """As it comes: the digest of its bytes, that of the tar in it, how many bytes, and how it is compressed."""

    digest: str
    diff_id: str
    size: int
    compression: str


class Image(NamedTuple):
    """Its configuration, whether its manifest is Docker's, which keeps health checks, and its layers."""

    config: bytes
    docker: bool
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """The digest of its configuration: what Podman calls it."""
        return _sha256(self.config)

    def described(self) -> bytes:
        """What `parsed` reads."""
        layers = [layer._asdict() for layer in self.layers]
        return json.dumps({"config": self.config.decode(), "docker": self.docker, "layers": layers}).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def architecture() -> str:
    """This machine's, by the name that images have for it."""
    return _ARCHITECTURES.get(os.uname().machine, os.uname().machine)


def parsed(content: bytes, wanted: str) -> Image:
    """The image that is described as JSON: `config` (its text), `docker`, `layers` (each with the values of Layer).

    `wanted` is the architecture that it has to be of. Raises RemoteError.
    """
    if len(content) > MAX_TEXT:
        raise RemoteError(f"the image's description is larger than {MAX_TEXT >> 20} MiB")
    try:
        value = json.loads(content)
        config = value["config"].encode()
        settings = json.loads(config)
        layers = tuple(_layer(one) for one in value["layers"])
        diff_ids, found, system = settings["rootfs"]["diff_ids"], settings["architecture"], settings["os"]
        docker = value.get("docker") is True
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RemoteError("what came through describes no image, nothing was changed", "try again") from None
    if [layer.diff_id for layer in layers] != diff_ids or not layers:
        raise RemoteError("the image's configuration and its layers do not belong together")
    if (system, found) != ("linux", wanted):
        raise RemoteError(
            f"the image is for {shown(system)}/{shown(found)}, the server is linux/{wanted}",
            f"build it with --platform linux/{wanted}, an option of docker build and of podman build",
        )
    _check_size(layers)
    return Image(config, docker, layers)


def shown(value: object) -> str:
    """What somebody sent, as a terminal can show it, and no longer than a name."""
    return "".join(one for one in str(value)[:40] if one.isprintable())


def _layer(value: Any) -> Layer:
    """Raises ValueError, KeyError or TypeError."""
    layer = Layer(value["digest"], value["diff_id"], value["size"], value["compression"])
    if not (_DIGEST.fullmatch(layer.digest) and _DIGEST.fullmatch(layer.diff_id)):
        raise ValueError(layer)
    # A bool is an int as well.
    if type(layer.size) is not int or layer.size <= 0 or layer.compression not in _COMPRESSIONS:
        raise ValueError(layer)
    if not layer.compression and layer.digest != layer.diff_id:
        raise ValueError(layer)
    return layer


def _check_size(layers: tuple[Layer, ...]) -> None:
    if len(layers) > _MAX_LAYERS:
        raise RemoteError(f"the image has {len(layers)} layers, more than {_MAX_LAYERS}", "build it in fewer steps")
    size = sum(layer.size for layer in layers)
    if size > MAX_BYTES:
        raise RemoteError(
            f"the image is {size >> 20:,} MiB, more than the {MAX_BYTES >> 20:,} that can be pushed",
            "give the app its large files as data of the stack, or let it be pulled from a registry",
        )


_OCI: Final = "application/vnd.oci.image."
_DOCKER: Final = "application/vnd.docker."


def layout(image: Image, tars: Mapping[str, int]) -> dict[str, bytes]:
    """The files of an OCI layout, by path, all but the layers.

    `tars` are those that stand in the manifest by their tar and not as they come, each with its size: in the layout, or
    in Podman's storage, whose word it takes for the size.
    """
    kind = f"{_DOCKER}container.image.v1+json" if image.docker else f"{_OCI}config.v1+json"
    config = _descriptor(kind, image.id, len(image.config))
    layers = [_layer_descriptor(image, layer, tars) for layer in image.layers]
    kind = f"{_DOCKER}distribution.manifest.v2+json" if image.docker else f"{_OCI}manifest.v1+json"
    manifest = _to_json({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers})
    index = {"schemaVersion": 2, "manifests": [_descriptor(kind, _sha256(manifest), len(manifest))]}
    return {
        f"blobs/sha256/{image.id}": image.config,
        f"blobs/sha256/{_sha256(manifest)}": manifest,
        "index.json": _to_json(index),
        "oci-layout": _to_json({"imageLayoutVersion": "1.0.0"}),
    }


def _layer_descriptor(image: Image, layer: Layer, tars: Mapping[str, int]) -> dict[str, Any]:
    kind = f"{_DOCKER}image.rootfs.diff.tar" if image.docker else f"{_OCI}layer.v1.tar"
    if layer.diff_id in tars or not layer.compression:
        return _descriptor(kind, layer.diff_id.partition(":")[2], tars.get(layer.diff_id, layer.size))
    separator = "." if image.docker else "+"
    return _descriptor(f"{kind}{separator}{layer.compression}", layer.digest.partition(":")[2], layer.size)


def _descriptor(kind: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": size}


def _to_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
