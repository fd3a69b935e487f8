"""Stacks as Podman Quadlet units."""

from builder.quadlet.convert import units
from builder.quadlet.keys import BASES
from builder.quadlet.names import data_directories, data_path, file_path
from builder.quadlet.options import defaults, pasta

__all__ = ["BASES", "data_directories", "data_path", "defaults", "file_path", "pasta", "units"]
