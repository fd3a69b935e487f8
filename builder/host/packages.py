"""The Debian packages a host needs beyond its stock image, by base."""

from __future__ import annotations

from typing import Final

# Reasons where they are not plain: nftables is how netavark makes a private network; catatonit is `init: true`;
# dbus-user-session gives rootless units their bus; systemd-resolved is the one resolver that the egress rules know;
# python3-systemd lets Fail2Ban read the journal; aide tells what changed in the system's files; gpg is all that Podman
# needs of gnupg, whose whole would be installed otherwise, or not, as a cut of power has left it.
_COMMON: Final = (
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
    "sudo",
    "systemd-resolved",
    "systemd-timesyncd",
    "uidmap",
    "unattended-upgrades",
)

# Podman 4.9 makes a private network for rootless containers with slirp4netns alone, which it only recommends.
PACKAGES: Final = {"debian-13": _COMMON, "ubuntu-24.04": (*_COMMON, "slirp4netns")}
