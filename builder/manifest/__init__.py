"""What an image is made of: er's manifest and a CycloneDX SBOM beside it, and what differs between two."""

from builder.manifest.er_manifest import (
    Build,
    Container,
    Difference,
    Input,
    Package,
    Step,
    difference,
    elsewhere,
    installed,
    now,
    of_bytes,
    of_file,
    read,
)
from builder.manifest.sbom import beside, write

__all__ = [
    "Build",
    "Container",
    "Difference",
    "Input",
    "Package",
    "Step",
    "beside",
    "difference",
    "elsewhere",
    "installed",
    "now",
    "of_bytes",
    "of_file",
    "read",
    "write",
]
