"""What ssh and the remote part say when they fail, as one error with a way out."""

from __future__ import annotations

import re
from typing import Final

from builder.problems import UserError

_CHANGED: Final = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_REFUSED: Final = "Permission denied"
# What ssh or sudo says, what it means, and what to do. The first that is found counts.
_CAUSES: Final = (
    (
        _CHANGED,
        "the host key is not the one that is known",
        "if the server was made anew, compare its fingerprint with the console's, then remove the old key: {known}",
    ),
    (
        "Host key verification failed",
        "the host key is not known",
        "compare the fingerprint with the one on the server's console, then log in once with: ssh {host}",
    ),
    (
        "Too many authentication failures",
        "your agent has more keys than the server tries",
        "name the right one: -o IdentitiesOnly=yes -o IdentityFile=PATH, or as IdentityFile in your ~/.ssh/config",
    ),
    (
        _REFUSED,
        "the server accepts none of your keys",
        "is it the key of admin.ssh_keys, and the user admin.name? as in: er@{host}",
    ),
    ("Could not resolve hostname", "there is no such name", "write user@address, or a Host of your ~/.ssh/config"),
    ("Connection refused", "nothing listens for SSH there", "the server may still be starting: look at its console"),
    (
        "timed out",
        "no answer",
        "is it on? does ssh.allow_from contain your address? Fail2Ban may have banned it: see the provider's console",
    ),
    (
        "No route to host",
        "there is no way to it",
        "is the address right, and has your network IPv4 or IPv6 as it needs?",
    ),
    (
        "Connection closed",
        "it closed the connection",
        "Fail2Ban or sshd's own limits may refuse your address for a while",
    ),
    ("a password is required", "sudo asks for a password", "use the admin user of the spec, whose sudo asks for none"),
    ("sudo: command not found", "it has no sudo", "this is no host of er: make one with er user-data"),
    ("python3: command not found", "it has no python3", "this is no host of er: make one with er user-data"),
)
# The remote part's own errors: one line with this before it, and a hint on the next.
_ERROR: Final = "er-error: "
_HINT: Final = "er-hint: "


# Where the key that was known stands: ssh says so, whatever name and file it is under.
_KNOWN: Final = re.compile(r"Offending \S+ key in (.+):(\d+)")
# ssh's own exit code when it could not connect, or lost the connection.
_SSH: Final = 255


class UnreachableError(UserError):
    """The host could not be reached; it may be there again later."""


class KeyRefusedError(UnreachableError):
    """The host answers and takes none of the keys. Fail2Ban counts each such try."""


class KeyChangedError(UnreachableError):
    """Another host answers than the one that is known."""


def _kind(code: int, stderr: str) -> type[UserError]:
    if code != _SSH:
        return UserError
    if _CHANGED in stderr:
        return KeyChangedError
    return KeyRefusedError if _REFUSED in stderr else UnreachableError


def explain(host: str, code: int, stderr: str) -> UserError:
    """The failure of one call as an error for the user."""
    lines = [line.strip() for line in stderr.strip().splitlines() if line.strip()]
    kind = _kind(code, stderr)
    own = next((line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)), None)
    if own:
        return UserError(f"{host}: {own}", next((x.removeprefix(_HINT) for x in lines if x.startswith(_HINT)), None))
    for said, meaning, hint in _CAUSES:
        if said in stderr:
            return kind(f"{host}: {meaning}", hint.format(host=host, known=_known(host, stderr)))
    end = lines[-1] if lines else f"exit code {code}"
    return kind(f"{host}: {end}", f"see what this says: ssh -v {host}" if code == _SSH else None)


def _known(host: str, stderr: str) -> str:
    found = _KNOWN.search(stderr)
    return f"line {found[2]} of {found[1]}" if found else f"ssh-keygen -R {host}"
