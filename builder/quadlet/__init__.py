"""Stacks as Podman Quadlet units, as text for files.

`container` makes the units of a stack, with `volumes` for what is mounted and `container_keys` for the keys that are
one value of a service each. `podman` says what each base's Podman knows. Below them all is `unit_file`: sections,
entries and how systemd wants a value escaped. Of the builder only `stack`, `oci` and `facts` are imported.
"""

from builder.quadlet.container import units
from builder.quadlet.podman import BASES, defaults, pasta

__all__ = ["BASES", "defaults", "pasta", "units"]
