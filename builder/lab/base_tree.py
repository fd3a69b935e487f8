"""Base trees: a Debian root directory, made once by mmdebstrap and shared read-only by every machine."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from builder import process
from builder.localhost import cache, debian_mirror, requirements

if TYPE_CHECKING:
    from pathlib import Path

RELEASE: Final = "trixie"
# Raise it when the recipe below changes: trees made by an older one are then made anew.
_RECIPE: Final = 1
# The packages of a provider's cloud image, as far as a host of ours can tell the difference.
STOCK: Final = (
    "apt-utils",
    "ca-certificates",
    "cloud-init",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    "netplan.io",
    "openssh-server",
    "procps",
    "python3",
    "python3-yaml",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "unattended-upgrades",
)


def tree(packages: tuple[str, ...] = (), *, release: str = RELEASE) -> Path:
    """The tree of a stock cloud image plus `packages`; made on first use, which takes under a minute.

    A point release of Debian has it made anew: a host that takes packages from the archive must not find older ones of
    the same build on its disk, and a bake, which upgrades them, must come to the same host as a first boot.
    """
    included = tuple(sorted({*STOCK, *packages}))
    target = cache.root() / "trees" / f"{release}-{key(included, release)}"
    edition = debian_mirror.edition(debian_mirror.mirror(), release)
    return cache.current(target, edition, lambda aside: _make(aside, included, release))


def key(packages: tuple[str, ...], release: str) -> str:
    """A hash of what a tree is made of, for its name."""
    made_of = json.dumps([_RECIPE, release, packages]).encode()
    return hashlib.sha256(made_of).hexdigest()[:16]


def argv(target: Path, packages: tuple[str, ...], release: str, mirror: str | None) -> list[str]:
    """How mmdebstrap is called; without a mirror it takes its own default."""
    keys = [f"--keyring={path}" for path in requirements.keyrings(release)]
    start = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        *keys,
        f"--include={','.join(packages)}",
    ]
    return [*start, release, str(target), *([mirror] if mirror else [])]


def _make(target: Path, packages: tuple[str, ...], release: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    process.run(argv(target, packages, release, debian_mirror.mirror()))
    _clean(target)


def _clean(tree: Path) -> None:
    """Remove what every machine must make for itself."""
    for host_key in (tree / "etc/ssh").glob("ssh_host_*"):
        host_key.unlink()
    (tree / "etc/machine-id").write_bytes(b"")
    (tree / "etc/hostname").write_text("localhost\n")
