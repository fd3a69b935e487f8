"""Disks without loop mounts: a generic base disk, cloud images by checksum, and what is on a disk as a directory."""

from builder.disk.base import base_disk, kernel
from builder.disk.cloud_image import from_file, from_url
from builder.disk.image_file import unpacked

__all__ = ["base_disk", "from_file", "from_url", "kernel", "unpacked"]
