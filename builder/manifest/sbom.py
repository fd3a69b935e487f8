"""The software bill of materials: CycloneDX 1.6 as JSON, by CycloneDX's library. `write` writes the manifest too."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from builder import files
from builder.manifest import er_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.manifest.er_manifest import Build, Container, Input, Package


def write(image: Path, build: Build) -> Path:
    """Write `<image>.sbom.json`, then `<image>.manifest.json`, each whole or not at all; returns the latter.

    The image is read once for its SHA-256. Raises OSError when it cannot be read or its directory not written.
    """
    found = er_manifest.of_file(image.name, image)
    files.write(beside(image, "sbom"), render(found, build))
    target = beside(image, "manifest")
    files.write(target, er_manifest.render(found, build))
    return target


def beside(image: Path, kind: str) -> Path:
    """The path of a file that belongs to an image: `<image>.<kind>.json`."""
    return image.with_name(f"{image.name}.{kind}.json")


# The namespace that serial numbers are derived in, so that the same build has the same number.
_NAMESPACE: Final = uuid.UUID("6f0c1f56-5d5c-5a0c-9a4b-7f2b8c0f4f52")


def render(image: Input, build: Build) -> bytes:
    """The SBOM of an image: its packages with purl, its container images by digest. Ends with a line feed."""
    root = Component(
        name=image.name,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="image",
        version=build.base,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image.sha256)],
        properties=[Property(name="er:arch", value=build.arch), Property(name="er:target", value=build.target)],
    )
    components = [*_packages(build), *(_container(container) for container in build.containers)]
    bom = Bom(
        components=components,
        metadata=BomMetaData(component=root, timestamp=build.made, tools=_tools(build)),
        serial_number=uuid.uuid5(_NAMESPACE, f"{image.sha256} {build.made.isoformat()}"),
    )
    bom.register_dependency(root, components)
    return JsonV1Dot6(bom).output_as_string(indent=2).encode() + b"\n"


def purl(package: Package, base: str) -> PackageURL:
    """The package's URL in the purl form for deb: vendor, name, version, architecture, release."""
    vendor = base.partition("-")[0]
    qualifiers = {"arch": package.arch, "distro": base}
    if (package.source, package.source_version) != (package.name, package.version):
        qualifiers["upstream"] = f"{package.source}@{package.source_version}"
    return PackageURL("deb", vendor, package.name, package.version, qualifiers)


def _packages(build: Build) -> Iterator[Component]:
    for package in build.packages:
        url = purl(package, build.base)
        yield Component(
            name=package.name,
            version=package.version,
            type=ComponentType.LIBRARY,
            purl=url,
            bom_ref=url.to_string(),
            properties=[
                Property(name="er:source", value=package.source),
                Property(name="er:source-version", value=package.source_version),
            ],
        )


def _container(container: Container) -> Component:
    repository, _, last = container.name.partition("@")[0].rpartition("/")
    name, _, tag = last.partition(":")
    qualifiers = {"repository_url": f"{repository}/{name}".lstrip("/")} | ({"tag": tag} if tag else {})
    url = PackageURL("oci", None, name, container.digest, qualifiers)
    return Component(
        name=container.name,
        version=container.digest,
        type=ComponentType.CONTAINER,
        purl=url,
        bom_ref=f"{container.user} {url.to_string()}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=container.digest.partition(":")[2])],
        properties=[Property(name="er:user", value=container.user)],
    )


def _tools(build: Build) -> ToolRepository:
    programs = sorted(build.versions.items())
    return ToolRepository(
        components=[Component(name=name, version=version, type=ComponentType.APPLICATION) for name, version in programs]
    )
