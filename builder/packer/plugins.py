"""The plugin that a target needs, and what of it is on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.packer.program import Packer
    from builder.packer.target import Target

_FILE: Final = re.compile(r"packer-plugin-[\w-]+_v([\w.+-]+?)_x[\d.]+_\w+_\w+")
_SUM: Final = "_SHA256SUM"


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin's file. Packer takes none without a file of its checksum beside it."""

    version: str
    path: Path
    checksum: bool


def installed(target: Target, environment: Mapping[str, str]) -> tuple[Installed, ...]:
    """What there is of the target's plugin, in any version."""
    name = target.plugin.rpartition("/")[2]
    files = (file for folder in _folders(environment) for file in folder.rglob(f"packer-plugin-{name}_v*"))
    found = ((file, _FILE.fullmatch(file.name)) for file in sorted(files))
    return tuple(
        Installed(match[1], file, file.with_name(file.name + _SUM).is_file()) for file, match in found if match
    )


def lacking(target: Target, packer: Packer, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with the target's plugin here, and the way out; None when it is there or not needed."""
    if not packer.takes_plugins or not target.plugin:
        return None
    there = installed(target, environment)
    same = [one for one in there if one.version == target.version]
    if any(one.checksum for one in same):
        return None
    needs = f"{target.name} needs the plugin {target.plugin} {target.version}"
    if same:
        return f"{needs}, and {same[0].path} has no {_SUM[1:]} file beside it", _way(target)
    versions = ", ".join(dict.fromkeys(one.version for one in there))
    return f"{needs}, and there is {versions or 'none'}", _way(target)


def _way(target: Target) -> str:
    call = "packer plugins install"
    way = f"{call} {target.plugin} {target.version}; from a file: {call} --path FILE {target.plugin}"
    return f"{way}; Debian's own packer 1.6.6 needs no plugin" if target.packer == "1.6.6" else way


def _folders(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where Packer looks: one place that is named, else that of the user."""
    if named := environment.get("PACKER_PLUGIN_PATH"):
        yield Path(named)
        return
    home = Path(environment.get("HOME", "/"))
    config = environment.get("XDG_CONFIG_HOME") or home / ".config"
    yield from (Path(environment.get("PACKER_CONFIG_DIR") or home, ".packer.d/plugins"), Path(config, "packer/plugins"))
