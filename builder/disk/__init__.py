"""Disks without loop devices: a generic base disk, cloud images by checksum, and what is on a disk as a directory.

`base` makes the base disk of a `recipe`, with `partitions` and a `bootloader` as bytes; `cloud_image` takes or
downloads a distribution's own image instead; `image_file` reads and converts what both give. Of builder it
imports only `localhost` and the loose modules, and the spec's types; lab, qemu and packer stand on it.
"""

from builder.disk.base import base_disk, kernel
from builder.disk.cloud_image import from_file, from_url
from builder.disk.image_file import unpacked

__all__ = ["base_disk", "from_file", "from_url", "kernel", "unpacked"]
