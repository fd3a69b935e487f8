"""What an image is made of: er's manifest and a CycloneDX SBOM beside it, and what differs between two."""

from builder.manifest.compare import Difference, difference, read
from builder.manifest.manifest import Build, Container, Input, Package, Step, elsewhere, now, of_bytes, of_file
from builder.manifest.packages import installed
from builder.manifest.write import beside, write

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
