"""What each machine must make for itself: keys, ids, randomness, names, leases."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import CLEAN, Check, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Tree

_SEEDS: Final = (
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/boot/loader/random-seed",
    "/boot/efi/loader/random-seed",
    "/efi/loader/random-seed",
)
# What stock images are called before they have a name.
_UNNAMED: Final = frozenset({"", "localhost", "localhost.localdomain", "debian", "ubuntu"})
_LOOPBACK_NAME: Final = re.compile(r"(localhost|ip6-.*|.*\.localdomain[46]?)$")
_LEASES: Final = (
    "/var/lib/dhcp",
    "/var/lib/dhcpcd",
    "/var/lib/dhclient",
    "/var/lib/NetworkManager",
    "/var/lib/systemd/network",
)


def host_keys(tree: Tree) -> Iterator[Hit]:
    """Keys of the SSH server."""
    for path in tree.children("/etc/ssh", "ssh_host_*"):
        yield Hit(path, "a host key, the same on every machine from this image")


def machine_id(tree: Tree) -> Iterator[Hit]:
    """The machine's id, and D-Bus's copy of it."""
    # Empty, absent and "uninitialized" are the three forms of systemd for "not yet": machine-id(5).
    if tree.text("/etc/machine-id").strip() not in {"", "uninitialized"}:
        yield Hit("/etc/machine-id", "holds an id")
    copy = "/var/lib/dbus/machine-id"
    if tree.link(copy) is None and tree.text(copy).strip():
        yield Hit(copy, "holds an id of its own")


def random_seed(tree: Tree) -> Iterator[Hit]:
    """Saved randomness, and the key that systemd's credentials are sealed with."""
    for path in _SEEDS:
        if tree.exists(path):
            yield Hit(path, "a secret that every machine from this image would share")


def hostname(tree: Tree) -> Iterator[Hit]:
    """The name of the machine that the image was made on."""
    name = tree.text("/etc/hostname").strip()
    if name not in _UNNAMED:
        yield Hit("/etc/hostname", f"is {name!r}")
    for line in tree.lines("/etc/hosts"):
        names = [word for word in line.partition("#")[0].split()[1:] if not _LOOPBACK_NAME.fullmatch(word)]
        if named := [word for word in names if word not in _UNNAMED]:
            yield Hit("/etc/hosts", f"names {', '.join(named)}")
    if mail := tree.text("/etc/mailname").strip():
        yield from [Hit("/etc/mailname", f"is {mail!r}")] * (mail not in _UNNAMED)


def leases(tree: Tree) -> Iterator[Hit]:
    """Addresses and client ids that a DHCP server gave out."""
    for entry in tree.files(*_LEASES):
        if entry.size:
            yield Hit(entry.path, "a lease or client id of the build's network")


def resolver(tree: Tree) -> Iterator[Hit]:
    """Name servers of the network that the image was made in."""
    path = "/etc/resolv.conf"
    if tree.link(path) is None and any(line.startswith("nameserver") for line in tree.lines(path)):
        yield Hit(path, "names servers of the build's network")


CHECKS: Final = (
    Check(
        "ssh-host-keys",
        "SSH host keys",
        "with one key for all, whoever has one machine can pose as any other",
        "goss: SSH host keys",
        CLEAN,
        host_keys,
    ),
    Check(
        "machine-id",
        "Machine id, also D-Bus's",
        "DHCP, journals and keys are derived from it; twins get each other's addresses",
        "goss: machine-id",
        f"{CLEAN}; it empties the file",
        machine_id,
    ),
    Check(
        "random-seed",
        "Saved randomness and systemd's credential secret",
        "machines that start from the same seed can draw the same numbers",
        "systemd: Building Images Safely",
        CLEAN,
        random_seed,
    ),
    Check(
        "hostname",
        "Host name",
        "the name of the build would be every machine's until its own arrives, in logs and certificates too",
        "image-builder: sysprep",
        CLEAN,
        hostname,
    ),
    Check(
        "dhcp-leases",
        "DHCP leases and client ids",
        "a machine would ask for the address of the build",
        "image-builder: sysprep",
        CLEAN,
        leases,
    ),
    Check(
        "resolver",
        "Name servers of the build",
        "they cannot be reached elsewhere, or answer for somebody else",
        "image-builder: sysprep",
        f"{CLEAN}; it links the file to systemd-resolved's",
        resolver,
    ),
)
