"""An image that is here as an OCI archive, byte for byte: its configuration, with a health check, and its layers."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from builder.oci.local_images import Layer, LocalImage

# A layout may hold an image in Docker's form, which is the one that keeps health checks.
_FORMS: Final = {
    True: (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar",
        ".",
    ),
    False: (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar",
        "+",
    ),
}


def write(image: LocalImage, target: Path) -> None:
    """Write it; the same image gives the same bytes."""
    kind, config_kind, layer_kind, separator = _FORMS[image.docker]
    layers = {layer.digest: layer for layer in image.layers}
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": _descriptor(config_kind, f"sha256:{image.id}", len(image.config)),
            "layers": [
                _descriptor(
                    f"{layer_kind}{separator}{layer.compression}" if layer.compression else layer_kind,
                    layer.digest,
                    layer.size,
                )
                for layer in image.layers
            ],
        }
    )
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    index = _json({"schemaVersion": 2, "manifests": [_descriptor(kind, digest, len(manifest))]})
    with tarfile.open(target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", index)
        _add(tar, _blob(digest), manifest)
        _add(tar, _blob(f"sha256:{image.id}"), image.config)
        for layer in layers.values():
            _add_layer(tar, layer)


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": size}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _add_layer(tar: tarfile.TarFile, layer: Layer) -> None:
    member = tarfile.TarInfo(_blob(layer.digest))
    member.size = layer.size
    with layer.open() as stream:
        tar.addfile(member, stream)
