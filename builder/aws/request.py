"""What is asked for: one server, or several alike, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder import userdata

if TYPE_CHECKING:
    from builder.host import Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

# What EC2 imports as a key pair; the admin's other kinds of key are in the user-data in any case.
_IMPORTABLE: Final = ("ssh-ed25519", "ssh-rsa")
DEFAULT_TYPES: Final = {"amd64": "t3.small", "arm64": "t4g.small"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of `er launch`. `image` is an AMI, `baked`, `stock`, or None for the best there is."""

    type: str | None = None
    image: str | None = None
    count: int = 1
    disk: int = 20
    vpc: str | None = None
    subnet: str | None = None
    profile_arn: str | None = None
    spot: bool = False
    eip: bool = False
    ipv6: bool = False
    protect: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """Spec and options together. `key` is a public key that EC2 takes, if the admin has one."""

    spec: Spec = field(repr=False)
    host: Host = field(repr=False)
    wishes: Wishes = Wishes()

    @property
    def name(self) -> str:
        """What the server and all its parts are called."""
        return self.spec.server.name

    @property
    def type(self) -> str:
        """The instance type: of the option, of the spec, or a small one."""
        return self.wishes.type or self.spec.aws.type or DEFAULT_TYPES[self.spec.server.arch]

    @property
    def key(self) -> str | None:
        """The first public key that EC2 takes."""
        return next((line for line in self.spec.admin.ssh_keys if line.split()[0] in _IMPORTABLE), None)

    @property
    def domains(self) -> tuple[str, ...]:
        """Every domain that the server will answer for."""
        return tuple(dict.fromkeys(d for stack in self.spec.stacks for s in stack.services for d in s.domains))

    def user_data(self, on: On) -> bytes:
        """What the instance gets, before base64; raises UserError when it is over EC2's limit."""
        return userdata.deliver(self.spec, self.host, "aws", on).content
