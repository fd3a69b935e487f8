"""Private keys and credentials of clouds, anywhere a person or a build may have left them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import Check, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Entry, Tree

_SEARCHED: Final = ("/etc", "/home", "/opt", "/root", "/srv", "/usr/local", "/var")
# Large, and never a place for secrets of a person; keys of packages lie in what packages own.
_SKIPPED: Final = ("/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/", "/etc/ssl/certs/", "/etc/ssh/ssh_host_")
_LARGEST_BYTES: Final = 1 << 20
_PRIVATE_KEY: Final = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d|AGE-SECRET-KEY-1[A-Z0-9]{20}"
)
_CLIENT_FILES: Final = (
    ".aws/credentials",
    ".azure/msal_token_cache.json",
    ".config/containers/auth.json",
    ".config/doctl/config.yaml",
    ".config/exoscale/exoscale.toml",
    ".config/gcloud/application_default_credentials.json",
    ".config/gcloud/credentials.db",
    ".config/gh/hosts.yml",
    ".config/hcloud/cli.toml",
    ".config/linode-cli",
    ".config/openstack/clouds.yaml",
    ".config/rclone/rclone.conf",
    ".config/scw/config.yaml",
    ".config/upctl.yaml",
    ".docker/config.json",
    ".git-credentials",
    ".kube/config",
    ".netrc",
    ".npmrc",
    ".oci/config",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".terraform.d/credentials.tfrc.json",
    ".vault-token",
    ".vultr-cli.yaml",
)
_TOKENS: Final = re.compile(
    rb"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40}|glpat-[A-Za-z0-9_-]{20}"
    rb"|do[opr]_v1_[0-9a-f]{64}|xox[abpr]-[0-9A-Za-z-]{20}|AIza[0-9A-Za-z_-]{35}|sk_live_[0-9A-Za-z]{24})"
)
# Below it each stack's passwords of registries, by its user's number.
_SETTINGS_OF_STACKS: Final = "/var/lib/easyrunner/config"
_SYSTEM_FILES: Final = ("/etc/apt/auth.conf", "/etc/boto.cfg", "/etc/openstack/clouds.yaml", "/etc/docker/config.json")


def private_keys(tree: Tree) -> Iterator[Hit]:
    """Files that hold a private key and came with no package."""
    for entry in _own_files(tree):
        if _PRIVATE_KEY.search(tree.content(entry.path)):
            yield Hit(entry.path, "holds a private key")


def credentials(tree: Tree) -> Iterator[Hit]:
    """Files that clients of clouds and registries keep their secrets in, and tokens of a known form."""
    known = {f"{home}/{name}" for home in tree.homes for name in _CLIENT_FILES}
    known |= {*_SYSTEM_FILES, *tree.children("/etc/apt/auth.conf.d")}
    known |= {f"{folder}/containers/auth.json" for folder in tree.children(_SETTINGS_OF_STACKS)}
    for path in sorted(known):
        if tree.content(path).strip():
            yield Hit(path, "credentials of a client")
    for entry in _own_files(tree):
        if entry.path not in known and _TOKENS.search(tree.content(entry.path)):
            yield Hit(entry.path, "holds an access token")


def _own_files(tree: Tree) -> Iterator[Entry]:
    for entry in tree.files(*_SEARCHED):
        small = 0 < entry.size <= _LARGEST_BYTES
        if small and not entry.path.startswith(_SKIPPED) and entry.path not in tree.owners:
            yield entry


CHECKS: Final = (
    Check(
        "private-keys",
        "Private keys",
        "a private key in an image is public",
        "DO: checkRoot, checkUsers",
        "remove the file, and revoke the key",
        private_keys,
    ),
    Check(
        "credentials",
        "Credentials of clouds, registries and forges",
        "a token in an image is public",
        "AWS: shared AMI guidelines",
        "remove the file, and revoke the token",
        credentials,
    ),
)
