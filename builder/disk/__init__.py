"""Disks without loop mounts: a generic base disk, cloud images by checksum, and what is on a disk as a directory."""
