"""What an image is made of, written beside it as `<image>.manifest.json` and `<image>.sbom.json`.

er_manifest   er's own manifest: the build as values, its JSON, reading it, and the difference between two
sbom          the CycloneDX SBOM of the same values; writes both files
"""

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
