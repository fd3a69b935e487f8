"""The targets of `er build-image`, a row each. The rest of one is in images/packer/{sources,plugins}/<name>.pkr.hcl."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Wanted = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """One row.

    `images` says what a base and an architecture are called there: values of the template's variables.
    `credentials` are environment variables that the builder itself reads, `settings` variables of the template that
    only the user can know; both with what they are for.
    """

    name: str
    builder: str
    plugin: str
    version: str
    packer: str
    artifact: str
    source: str
    images: Mapping[Wanted, Mapping[str, str]]
    credentials: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the template's variable `source` is to be."""
        return f"{self.builder}.host"


DEBIAN: Final = "debian-13"
UBUNTU: Final = "ubuntu-24.04"
AMD64: Final = "amd64"
ARM64: Final = "arm64"

_X86: Final = {"qemu_binary": "qemu-system-x86_64", "machine": "q35"}
_ARM: Final = {"qemu_binary": "qemu-system-aarch64", "machine": "virt"}

TARGETS: Final = (
    Target(
        name="qemu",
        builder="qemu",
        plugin="github.com/hashicorp/qemu",
        version="1.1.4",
        packer="1.6.6",
        artifact="a disk image in qcow2 or raw",
        source="https://developer.hashicorp.com/packer/integrations/hashicorp/qemu/latest/components/builder/qemu",
        images={(DEBIAN, AMD64): _X86, (UBUNTU, AMD64): _X86, (DEBIAN, ARM64): _ARM, (UBUNTU, ARM64): _ARM},
    ),
)

BY_NAME: Final = {target.name: target for target in TARGETS}
