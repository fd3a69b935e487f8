"""The Debian packages of a host: those of every host, by base, and what its spec needs beside.

The second list is a file of this host's own: `provision` installs what is missing of both, and `er build-image`
brings the second one along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.spec import Spec

# Reasons where they are not plain: nftables is how netavark makes a private network; catatonit is `init: true`;
# dbus-user-session gives rootless units their bus; systemd-resolved is the one resolver that the egress rules know;
# python3-systemd lets Fail2Ban read the journal; aide tells what changed in the system's files; gpg is all that Podman
# needs of gnupg, whose whole would be installed otherwise, or not, as a cut of power has left it.
_EVERY: Final = (
    "aardvark-dns",
    "aide",
    "apparmor",
    "apparmor-utils",
    "auditd",
    "ca-certificates",
    "catatonit",
    "crun",
    "curl",
    "dbus-user-session",
    "fail2ban",
    "gpg",
    "iproute2",
    "ipset",
    "iptables",
    "libpam-pwquality",
    "libpam-systemd",
    "logrotate",
    "netavark",
    "nftables",
    "openssh-server",
    "passt",
    "podman",
    "procps",
    "python3-systemd",
    "restic",
    "sudo",
    "systemd-resolved",
    "systemd-timesyncd",
    "uidmap",
    "unattended-upgrades",
)

# Podman 4.9 makes a private network for rootless containers with slirp4netns alone, which it only recommends.
PACKAGES: Final = {"debian-13": _EVERY, "ubuntu-24.04": (*_EVERY, "slirp4netns")}
"""The Debian packages of every host, by base."""


def of_spec(spec: Spec) -> dict[str, str]:
    """The packages that this spec needs beside those of every host, sorted by name, each with its reason."""
    found: dict[str, str] = {}
    if any(login.by_role for _, login in spec.logins):
        found["amazon-ecr-credential-helper"] = "asks Amazon ECR for passwords, as the server's role"
    if spec.data:
        found["e2fsprogs"] = "makes, checks and grows the file system of the disk for data"
    return dict(sorted(found.items()))
