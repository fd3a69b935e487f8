"""Ways in: keys, passwords, users, sudo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import CLEAN, Check, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Tree, User


_KEY_FILES: Final = (".ssh/authorized_keys", ".ssh/authorized_keys2")
_SSHD: Final = "/etc/ssh/sshd_config"
# Locked without a hash: shadow(5). Anything after the "!" of a locked one is still a hash.
_LOCKED: Final = re.compile(r"!*\*?|!+\*?[A-Za-z]*|\*[A-Z]*")
_SHADOWED: Final = frozenset({"x", "*", "!"})
_BACKUPS: Final = ("/etc/shadow-", "/etc/gshadow-", "/var/backups/shadow.bak", "/var/backups/gshadow.bak")
_FIRST_UID: Final = 1000
_NOBODY_UID: Final = 65534


def authorized_keys(tree: Tree) -> Iterator[Hit]:
    """Keys that open an account, wherever sshd would look for them."""
    for path in sorted({*_in_homes(tree), *_in_sshd_config(tree)}):
        if count := len(tree.lines(path)):
            yield Hit(path, f"lets in {count} key{'s' * (count > 1)}")


def _in_homes(tree: Tree) -> Iterator[str]:
    for home in tree.homes:
        yield from (f"{home}/{name}" for name in _KEY_FILES)


def _in_sshd_config(tree: Tree) -> Iterator[str]:
    for config in (_SSHD, *tree.children("/etc/ssh/sshd_config.d", "*.conf")):
        for line in tree.lines(config):
            keyword, *patterns = line.replace("=", " ", 1).split()
            if keyword.lower() == "authorizedkeysfile":
                yield from (path for pattern in patterns for path in _expanded(tree, pattern))


def _expanded(tree: Tree, pattern: str) -> Iterator[str]:
    for user in tree.users:
        text = pattern
        for token, value in (("%%", "%"), ("%h", user.home), ("%u", user.name), ("%U", str(user.uid))):
            text = text.replace(token, value)
        yield text if text.startswith("/") else f"{user.home.rstrip('/')}/{text}"


def ssh_directory(tree: Tree) -> Iterator[Hit]:
    """Anything else in a user's .ssh: known hosts, configuration, keys, agents' sockets."""
    folders = tuple(f"{home}/.ssh" for home in tree.homes)
    keys = {f"{home}/{name}" for home in tree.homes for name in _KEY_FILES}
    for entry in tree.below(*folders):
        if not entry.directory and not (entry.path in keys and entry.regular):
            yield Hit(entry.path, "a user's own SSH file")


def passwords(tree: Tree) -> Iterator[Hit]:
    """Hashes of passwords, empty passwords, and a root that is not locked."""
    for path in ("/etc/shadow", "/etc/gshadow", *_BACKUPS):
        for line in tree.lines(path):
            name, _, rest = line.partition(":")
            field = rest.partition(":")[0]
            if not _LOCKED.fullmatch(field):
                yield Hit(path, f"{name} has a password")
            elif not field and "gshadow" not in path:
                yield Hit(path, f"{name} has an empty password")
    for user in tree.users:
        if user.password not in _SHADOWED:
            yield Hit("/etc/passwd", f"{user.name} has a password here" if user.password else f"{user.name} has none")
    # Questions about passwords stand there also without an answer.
    if any(line.startswith("Value: ") for line in tree.lines("/var/cache/debconf/passwords.dat")):
        yield Hit("/var/cache/debconf/passwords.dat", "answers to package questions that are secrets")


def accounts(tree: Tree) -> Iterator[Hit]:
    """Users that nobody asked for: logins of people, and a second root."""
    for user in tree.users:
        if user.uid == 0 and user.name != "root":
            yield Hit("/etc/passwd", f"{user.name} is root under another name")
        elif _is_person(user):
            yield Hit("/etc/passwd", f"{user.name} (uid {user.uid}) can log in with {user.shell or '/bin/sh'}")
    known = {user.home.rstrip("/") for user in tree.users}
    for home in tree.children("/home"):
        if home not in known and not home.endswith("/lost+found"):
            yield Hit(home, "a home without a user")


def _is_person(user: User) -> bool:
    return user.uid >= _FIRST_UID and user.uid != _NOBODY_UID and user.may_login


def sudoers(tree: Tree) -> Iterator[Hit]:
    """Rules of sudo that came with no package, as cloud-init writes for the user of a bake."""
    for path in (*tree.children("/etc/sudoers.d"), *tree.children("/etc/polkit-1/localauthority/50-local.d")):
        if path not in tree.owners and not tree.ours(path) and tree.lines(path):
            yield Hit(path, f"grants: {tree.lines(path)[-1][:80]}")


CHECKS: Final = (
    Check(
        "authorized-keys",
        "SSH keys that open an account",
        "Packer's key, or a colleague's, would open every machine",
        "DO: checkRoot, checkUsers",
        CLEAN,
        authorized_keys,
    ),
    Check(
        "ssh-directory",
        "Other files in .ssh",
        "known hosts and keys tell of the build's surroundings",
        "DO: checkRoot, checkUsers",
        CLEAN,
        ssh_directory,
    ),
    Check(
        "passwords",
        "Passwords: hashes, empty ones, answers to package questions",
        "a password in an image is known to everybody who has the image",
        "DO: checkRoot, checkUsers; CIS 7.2",
        f"{CLEAN}; it locks the account",
        passwords,
    ),
    Check(
        "accounts",
        "Login users, a second root, homes without a user",
        "cloud-init makes the users of each machine; one from the build is a door that nobody watches",
        "DO: checkUsers; CIS 7.2",
        CLEAN,
        accounts,
    ),
    Check(
        "sudoers",
        "Rules of sudo that came with no package",
        "cloud-init lets the build's user do everything without a password",
        "CIS 5.2",
        CLEAN,
        sudoers,
    ),
)
