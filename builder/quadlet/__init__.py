"""Stacks as Podman Quadlet units."""

from builder.quadlet.container import units
from builder.quadlet.mounts import TMPFS_OPTION
from builder.quadlet.names import data_directories, data_path, file_path
from builder.quadlet.options import defaults, pasta
from builder.quadlet.podman_keys import BASES
from builder.quadlet.unit_file import UNFIT

__all__ = [
    "BASES",
    "TMPFS_OPTION",
    "UNFIT",
    "data_directories",
    "data_path",
    "defaults",
    "file_path",
    "pasta",
    "units",
]
