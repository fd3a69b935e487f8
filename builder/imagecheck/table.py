"""Every check in the order of the report, running them on an image, and what two well-known lists ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from builder.imagecheck import access, cloud_init, host, identity, packages, privileges, secrets, services, traces
from builder.imagecheck.image_tree import Tree
from builder.imagecheck.model import Finding, NotKnowableError, Report

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from builder.imagecheck.image_tree import Expected
    from builder.imagecheck.model import Check


CHECKS: Final = (
    *identity.CHECKS,
    *access.CHECKS,
    *secrets.CHECKS,
    *cloud_init.CHECKS,
    *traces.CHECKS,
    *packages.CHECKS,
    *privileges.CHECKS,
    *services.CHECKS,
    *host.CHECKS,
)
IDS: Final = tuple(check.id for check in CHECKS)


def check(root: Path, *, live: bool = False, expected: Iterable[Expected] = ()) -> tuple[Finding, ...]:
    """Everything found in the tree below `root`; empty for a clean image. See `examine`."""
    return examine(root, live=live, expected=expected).findings


def examine(root: Path, *, live: bool = False, expected: Iterable[Expected] = (), only: Iterable[str] = ()) -> Report:
    """Run all checks, or `only` those with these ids, on the tree below `root`.

    `live` is for a running system with `root` as "/": it asks that system too. `expected` are the host's baked files
    where they are known. Raises OSError when the tree cannot be read: there is no report of half an image.
    """
    tree = Tree(root, live=live, expected=tuple(expected))
    chosen = frozenset(only) or frozenset(IDS)
    ran: list[str] = []
    skipped: list[tuple[str, str]] = []
    findings: list[Finding] = []
    for row in CHECKS:
        if row.id not in chosen:
            continue
        try:
            found = _findings(row, tree)
        except NotKnowableError as error:
            skipped.append((row.id, str(error)))
        else:
            ran.append(row.id)
            findings += found
    return Report(tuple(ran), tuple(skipped), tuple(findings))


def _findings(row: Check, tree: Tree) -> list[Finding]:
    if row.when == "live" and not tree.live:
        raise NotKnowableError("only the running system knows")
    if row.when == "offline" and tree.live:
        raise NotKnowableError("only seen from outside")
    # The same hit twice, as by two names of one directory, is one finding.
    hits = dict.fromkeys(row.find(tree))
    return [Finding(row.id, hit.path, hit.what, row.remedy) for hit in hits]


class OtherCheck(NamedTuple):
    """An item of another list: what it asks, in words of ours, and `ours`, the ids of the checks here that cover it."""

    asks: str
    ours: tuple[str, ...]


# By function of scripts/99-img-check.sh, version 1.8.1: github.com/digitalocean/marketplace-partners.
DIGITALOCEAN: Final = (
    OtherCheck("distribution and release are supported", ("base-system",)),
    OtherCheck("checkCloudInit: cloud-init is installed", ("cloud-init-installed",)),
    OtherCheck("checkFirewall: a firewall is active", ("host-units",)),
    OtherCheck("checkUpdates: no security update is pending", ("security-updates",)),
    OtherCheck("checkLogs: no rotated log, no log with content", ("logs",)),
    OtherCheck("checkTMP: named, does nothing there", ("temporary-files",)),
    OtherCheck("checkUsers, checkRoot: no password", ("passwords", "accounts")),
    OtherCheck("checkUsers, checkRoot: no authorized key", ("authorized-keys",)),
    OtherCheck("checkUsers, checkRoot: no private key", ("private-keys", "ssh-directory")),
    OtherCheck("checkUsers, checkRoot: no known hosts or other file in .ssh", ("ssh-directory",)),
    OtherCheck("checkUsers, checkRoot: no shell history", ("histories",)),
    OtherCheck("checkAgent: no agent of DigitalOcean", ("unwanted-packages",)),
)
# images/capi/packer/goss: goss-image-hygiene.yaml whole, and what is about hygiene in the files for services and
# packages: github.com/kubernetes-sigs/image-builder.
IMAGE_BUILDER: Final = (
    OtherCheck("hygiene: no SSH host key", ("ssh-host-keys",)),
    OtherCheck("hygiene: machine-id is empty or uninitialized", ("machine-id",)),
    OtherCheck("hygiene: cloud-init has no instance id", ("cloud-init-state",)),
    OtherCheck("hygiene: no core dump, temporary directories included", ("crash-dumps", "temporary-files")),
    OtherCheck("hygiene: /var/log is below 200 MB (ours: empty)", ("logs",)),
    OtherCheck("services: dockerd and conntrackd are off", ("unwanted-units",)),
    OtherCheck("packages: ntp is not installed", ("unwanted-packages",)),
)
