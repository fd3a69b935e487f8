"""Stacks as Podman Quadlet units."""

from builder.quadlet.convert import units
from builder.quadlet.mounts import TMPFS_OPTION
from builder.quadlet.names import data_directories, data_path, file_path
from builder.quadlet.unit import UNFIT

__all__ = ["TMPFS_OPTION", "UNFIT", "data_directories", "data_path", "file_path", "units"]
