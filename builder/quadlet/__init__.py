"""Stacks as Podman Quadlet units, as text for files.

`container` makes the units of a stack, with `mounts` for what is mounted and `options` for the keys that are one value
of a service each. `podman_keys` says which keys each base's Podman knows. Below them all is `unit_file`: sections,
entries and how systemd wants a value escaped. Of the builder only `stack`, `oci` and `facts` are imported.
"""

from builder.quadlet.container import units
from builder.quadlet.options import defaults, pasta
from builder.quadlet.podman_keys import BASES

__all__ = ["BASES", "defaults", "pasta", "units"]
