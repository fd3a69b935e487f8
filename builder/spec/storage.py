"""`tls.storage`: a directory of certificates that several hosts share, on an NFS server or at a mounted path."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from builder import facts
from builder.messages import Text
from builder.spec.model import Storage
from builder.spec.rules import RuleError

if TYPE_CHECKING:
    from builder.spec.model import Spec

FORM: Final = Text(
    "`{value}` is no place for shared certificates",
    "nfs://HOST:/PATH, as in nfs://10.0.0.5:/srv/certificates, or the path of a mount, as in /mnt/certificates",
)
PUBLIC: Final = Text(
    "{address} is a public address: NFS encrypts nothing, and keys would cross the network in clear",
    "name the server's private address; where there is none, bring a tunnel or a file system of your own and name"
    " the path where it is mounted",
)
OWN: Final = Text("{value} is the host's own", "a mount of its own, as /mnt/certificates")
INTERNAL: Final = Text(
    "Caddy's own authority takes no lock: hosts that start at once would each make another root",
    "set `ca` to an ACME directory, or remove `storage`",
)

_HOST: Final = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_PATH: Final = r"/(?:[A-Za-z0-9_.+@-]+/?)*"
_NFS: Final = re.compile(rf"nfs://(?P<server>{_HOST}):(?P<path>{_PATH})")
# A mount there would cover what the host is made of, or what the proxy may not see.
_OWN: Final = ("boot", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr")


def _rule(value: str) -> str:
    found = _NFS.fullmatch(value)
    if found:
        _check_server(found["server"].strip("[]"))
    elif not re.fullmatch(_PATH, value):
        raise RuleError(FORM, value=value)
    path = found["path"] if found else value
    if {".", ".."} & set(path.split("/")):
        raise RuleError(FORM, value=value)
    if not found and (path.strip("/").split("/")[0] in ("", *_OWN) or f"{path}/".startswith(f"{facts.STATE}/")):
        raise RuleError(OWN, value=value)
    return value


def _check_server(server: str) -> None:
    """Raises RuleError for a public address. What a name leads to is looked at on the host."""
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return
    if address.is_global:
        raise RuleError(PUBLIC, address=address)


StorageText = Annotated[
    str,
    AfterValidator(_rule),
    WithJsonSchema({"type": "string", "pattern": f"^(?:nfs://(?:{_HOST}):)?{_PATH}$"}),
]


def read(text: str | None) -> Storage | None:
    """The value of a text that has passed its rule."""
    if text is None:
        return None
    found = _NFS.fullmatch(text)
    return Storage(found["server"], _plain(found["path"])) if found else Storage(None, _plain(text))


def _plain(path: str) -> str:
    return f"/{path.strip('/')}"


def with_storage(spec: Spec, server: str | None, path: str = "/") -> Spec:
    """The spec with certificates on this NFS server, or at a mounted path of the host without one."""
    return replace(spec, tls=replace(spec.tls, storage=Storage(server, path)))
