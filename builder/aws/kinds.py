"""Instance types: which processor they have, and what is worth knowing about one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.aws.images import ARCHITECTURES
from builder.aws.request import DEFAULT_TYPES
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.aws.api import Door


@dataclass(frozen=True, slots=True)
class Kind:
    """An instance type; `memory` in MiB."""

    name: str
    architectures: tuple[str, ...]
    cpus: int
    memory: int
    ipv6: bool
    spot: bool


def look_up(door: Door, name: str, arch: str) -> Kind:
    """The type by its name; raises AwsError when there is none, UserError when it has another processor."""
    kind = read(next(iter(door.items("DescribeInstanceTypes", InstanceTypes=[name]))))
    if ARCHITECTURES[arch] not in kind.architectures:
        raise UserError(
            f"{name} has no {arch} processor, the spec says arch: {arch}",
            f"take a type for {arch}, as {DEFAULT_TYPES[arch]}, or change `arch` in the spec",
        )
    return kind


def read(found: Mapping[str, Any]) -> Kind:
    """A described type."""
    return Kind(
        found["InstanceType"],
        tuple(found.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
        found.get("VCpuInfo", {}).get("DefaultVCpus", 0),
        found.get("MemoryInfo", {}).get("SizeInMiB", 0),
        bool(found.get("NetworkInfo", {}).get("Ipv6Supported")),
        "spot" in found.get("SupportedUsageClasses", ()),
    )
