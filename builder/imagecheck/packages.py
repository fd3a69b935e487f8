"""Packages: their state, their caches, what is missing and what should not be there."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import CLEAN, Check, Hit, NotKnowableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Tree

_BASES: Final = {("debian", "13"), ("ubuntu", "24.04")}
_SETTLED_STATES: Final = frozenset(
    {"install ok installed", "deinstall ok config-files", "hold ok installed", "unknown ok not-installed"}
)
_CONFLICTS: Final = (".dpkg-new", ".dpkg-dist", ".dpkg-tmp", ".ucf-dist", ".ucf-new")
_REPLACED: Final = (".dpkg-old", ".ucf-old")
_LISTS: Final = "/var/lib/apt/lists"
_APT_PROXY: Final = re.compile(r"^\s*Acquire::(?:\w+::)*Proxy\b|\bAcquire::https?::Proxy\b", re.IGNORECASE)
_PROXY_VARIABLE: Final = re.compile(r"^\s*(?:export\s+)?(https?_proxy|no_proxy|all_proxy|ftp_proxy)=", re.IGNORECASE)
# A host that only the build's network has: loopback, private and link-local (RFC 1918, 3927, 4193), bare names.
_PRIVATE_HOST: Final = re.compile(
    r"\bhttps?://(?:[^/@\s]*@)?(?:localhost|127\.|10\.|192\.168\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\."
    r"|\[::1\]|\[f[cd][0-9a-f]{2}:|[a-z0-9-]+(?:[:/]|$))",
    re.IGNORECASE,
)
_UNWANTED: Final = {
    "droplet-agent": "an agent that DigitalOcean installs itself",
    "do-agent": "an agent that DigitalOcean installs itself",
    "nis": "sends passwords in the clear",
    "ntp": "listens; systemd-timesyncd or chrony keeps the time",
    "rsh-server": "sends passwords in the clear",
    "talkd": "listens to anybody",
    "telnetd": "sends passwords in the clear",
    "inetutils-telnetd": "sends passwords in the clear",
    "tftpd-hpa": "hands out files to anybody",
    "xinetd": "listens for others",
}
_AGENT_FOLDERS: Final = ("/opt/digitalocean",)
_SIMULATED_INSTALL: Final = re.compile(r"^Inst (\S+) \[[^\]]*\] \((\S+) (.*)\)")


def base(tree: Tree) -> Iterator[Hit]:
    """The system is one that hosts are made from."""
    rows = (line.partition("=") for line in tree.lines("/etc/os-release"))
    fields = {name: value.strip("\"'") for name, _, value in rows}
    found = fields.get("ID", ""), fields.get("VERSION_ID", "")
    if found not in _BASES:
        yield Hit("/etc/os-release", f"is {' '.join(found).strip() or 'unknown'}: not Debian 13 or Ubuntu 24.04")


def dpkg(tree: Tree) -> Iterator[Hit]:
    """Packages that are half there, and settings that nobody has decided on."""
    for name, state in sorted(tree.packages.items()):
        if state not in _SETTLED_STATES:
            yield Hit("/var/lib/dpkg/status", f"{name} is {state or 'in no state'}")
    for entry in tree.files("/var/lib/dpkg/updates"):
        yield Hit(entry.path, "dpkg was cut short")
    for entry in tree.files("/etc"):
        if entry.path.endswith(_CONFLICTS):
            yield Hit(entry.path, "another version of a configuration file")


def replaced(tree: Tree) -> Iterator[Hit]:
    """What an update's own script has decided on, as ca-certificates does when the list of authorities changes."""
    for entry in tree.files("/etc"):
        if entry.path.endswith(_REPLACED):
            yield Hit(entry.path, "the version before an update")


def lists(tree: Tree) -> Iterator[Hit]:
    """Package lists: out of date soon, and large."""
    for entry in tree.files(_LISTS):
        if entry.name != "lock":
            yield Hit(entry.path, f"{entry.size} bytes of package lists")


def caches(tree: Tree) -> Iterator[Hit]:
    """Packages and indexes that apt keeps for later."""
    for entry in tree.files("/var/cache/apt"):
        if entry.name != "lock":
            yield Hit(entry.path, f"{entry.size} bytes of apt's cache")


def network_of_build(tree: Tree) -> Iterator[Hit]:
    """Proxies and mirrors that only the network of the build has."""
    for path in ("/etc/apt/apt.conf", *tree.children("/etc/apt/apt.conf.d")):
        if any(_APT_PROXY.search(line) for line in tree.lines(path)):
            yield Hit(path, "a proxy for apt")
    for path in ("/etc/environment", "/etc/profile", *tree.children("/etc/profile.d"), "/etc/wgetrc", "/etc/pip.conf"):
        if match := next(filter(None, map(_PROXY_VARIABLE.match, tree.lines(path))), None):
            yield Hit(path, f"sets {match[1]}")
    for path in ("/etc/apt/sources.list", *tree.children("/etc/apt/sources.list.d"), "/etc/pip.conf"):
        if match := next(filter(None, map(_PRIVATE_HOST.search, tree.lines(path))), None):
            yield Hit(path, f"points into a private network: {match[0]}…")


def unwanted(tree: Tree) -> Iterator[Hit]:
    """Packages that no image of ours should have, and agents that a provider adds itself."""
    for name, state in sorted(tree.packages.items()):
        package = name.partition(":")[0]
        if package in _UNWANTED and state.endswith(" installed"):
            yield Hit("-", f"{package} is installed: {_UNWANTED[package]}")
    for path in _AGENT_FOLDERS:
        if tree.exists(path):
            yield Hit(path, "an agent that the provider installs itself")


def updates(tree: Tree) -> Iterator[Hit]:
    """Security updates that are out and not in."""
    if not tree.live:
        raise NotKnowableError("only apt on the running system knows them")
    if not any(entry.name != "lock" for entry in tree.files(_LISTS)):
        raise NotKnowableError("there are no package lists any more; the step that removes them asks first")
    done = subprocess.run(
        ["apt-get", "--simulate", "--quiet", "dist-upgrade"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotKnowableError(f"apt-get failed: {done.stderr.strip().splitlines()[-1:]}")
    for package, version in pending(done.stdout):
        yield Hit("-", f"{package} has a security update, {version}")


def pending(simulation: str) -> tuple[tuple[str, str], ...]:
    """Packages and versions that `apt-get --simulate` would install from a security archive."""
    matches = filter(None, map(_SIMULATED_INSTALL.match, simulation.splitlines()))
    return tuple((match[1], match[2]) for match in matches if "security" in match[3].lower())


CHECKS: Final = (
    Check(
        "apt-lists",
        "Package lists",
        "out of date soon, and large",
        "image-builder: sysprep",
        CLEAN,
        lists,
    ),
    Check(
        "apt-caches",
        "Caches of apt",
        "packages that are installed already",
        "image-builder: sysprep",
        CLEAN,
        caches,
    ),
    Check(
        "old-settings",
        "Copies of settings that an update replaced",
        "of the bake's updates, and nobody reads them",
        "none",
        CLEAN,
        replaced,
    ),
    Check(
        "build-network",
        "Proxies and mirrors of the build's network",
        "updates would not arrive elsewhere",
        "image-builder: sysprep",
        "restore the sources that the base came with",
        network_of_build,
    ),
    Check(
        "base-system",
        "A supported system",
        "the host's files are made for Debian 13 and Ubuntu 24.04",
        "DO: supported distribution and release",
        "bake from debian-13 or ubuntu-24.04",
        base,
    ),
    Check(
        "dpkg-state",
        "Broken packages, undecided configuration",
        "the next update would stop there",
        "none",
        "dpkg --configure -a, and decide on *.dpkg-* and *.ucf-* files",
        dpkg,
    ),
    Check(
        "unwanted-packages",
        "Packages and agents that should not be there",
        "they listen, or the provider installs them itself and refuses images that have them",
        "DO: checkAgent; goss: package ntp; CIS 2.2",
        "apt-get purge",
        unwanted,
    ),
    Check(
        "security-updates",
        "Security updates that are out",
        "a machine should not start with known holes",
        "DO: checkUpdates; CIS 1.2",
        "apt-get update && apt-get dist-upgrade",
        updates,
        "live",
    ),
)
