"""Stacks as Podman Quadlet units."""

from builder.quadlet.container import units
from builder.quadlet.names import data_directories, data_path, file_path
from builder.quadlet.options import defaults, pasta
from builder.quadlet.podman_keys import BASES

__all__ = [
    "BASES",
    "data_directories",
    "data_path",
    "defaults",
    "file_path",
    "pasta",
    "units",
]
