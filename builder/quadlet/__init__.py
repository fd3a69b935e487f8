"""Stacks as Podman Quadlet units."""

from builder.quadlet.convert import units
from builder.quadlet.mounts import TMPFS_OPTION
from builder.quadlet.names import data_directories, data_path, file_path

__all__ = ["TMPFS_OPTION", "data_directories", "data_path", "file_path", "units"]
