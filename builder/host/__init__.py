"""The host as values: `build(spec)` gives every file, its mode, its owner, and when it lands.

`build` is the entry. It renders images/rootfs (every host) and cloudinit/rootfs (this host) with `rootfs`, adds the
rules of `firewall` and the units of `builder.quadlet`, and returns a Host of `model`. `hardening` reads
images/hardening.yaml, which says why each hardening line is there. Nothing here runs or writes anything; what delivers
a host (userdata, packer, server) imports this package, and it imports none of them.
"""

from builder.host.build import archive_path, build
from builder.host.model import File, Host, Part, digest

__all__ = ["File", "Host", "Part", "archive_path", "build", "digest"]
