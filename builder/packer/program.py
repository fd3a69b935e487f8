"""The `packer` program: finding HashiCorp's, the argv lists of its calls, and whether it has a target's plugin."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.packer.work_directory import TEMPLATE
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.packer.targets import Target
    from builder.packer.work_directory import WorkDirectory


Version = tuple[int, int, int]
# Debian's; older ones lack parts of HCL that the templates use.
OLDEST: Final[Version] = (1, 6, 6)
# The first that takes its builders as plugins, which the template must require.
FIRST_WITH_PLUGINS: Final[Version] = (1, 7, 0)
# The program that is shown where none is installed.
_NOT_INSTALLED: Final = Path("packer")
_VERSION: Final = re.compile(r"^Packer v(\d+)\.(\d+)\.(\d+)", re.MULTILINE)
_HINT: Final = "apt-get install packer on Debian; elsewhere see https://developer.hashicorp.com/packer/install"
_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Packer:
    """The program and its version."""

    path: Path
    version: Version

    @property
    def takes_plugins(self) -> bool:
        """Whether builders come as plugins, which `packer init` fetches."""
        return self.version >= FIRST_WITH_PLUGINS

    @property
    def version_text(self) -> str:
        """As people write it."""
        return ".".join(map(str, self.version))


def find(path: str | None = None) -> Packer:
    """The first usable packer on the search path, which is PATH's unless given. Raises UserError."""
    refused = ""
    for program in candidates(path if path is not None else os.environ.get("PATH", os.defpath)):
        version = _version(program)
        if version is None:
            refused = refused or f"{program} is another program of that name"
        elif version < OLDEST:
            refused = f"{program} is {'.'.join(map(str, version))}, and er needs 1.6.6 or later"
        else:
            return Packer(program, version)
    raise UserError(f"no usable packer: {refused}" if refused else "the program packer is not installed", _HINT)


def assumed(version: str) -> Packer:
    """Stands for the one that is not installed, in commands that are only shown: this version, or one with plugins."""
    major, minor, patch = map(int, version.split("."))
    return Packer(_NOT_INSTALLED, max(FIRST_WITH_PLUGINS, (major, minor, patch)))


def candidates(path: str) -> Iterator[Path]:
    """Every program named packer, in the order of the search path."""
    for directory in path.split(os.pathsep):
        program = Path(directory or ".", "packer")
        if program.is_file() and os.access(program, os.X_OK):
            yield program.absolute()


def parse_version(output: str) -> Version | None:
    """The version out of what `packer version` says; None when it is not Packer that speaks."""
    found = _VERSION.search(output)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _version(program: Path) -> Version | None:
    # With no checkpoint it asks nobody whether there is a newer one.
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1"}
    try:
        done = process.run([str(program), "version"], check=False, env=environment, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stdout)


def init_argv(packer: Packer) -> list[str] | None:
    """Fetch the plugins of the template; None for a Packer that has its builders inside."""
    return [str(packer.path), "init", TEMPLATE] if packer.takes_plugins else None


def validate_argv(packer: Packer, var_files: Sequence[Path] = ()) -> list[str]:
    """Check the template with its variables; nothing is started."""
    return [str(packer.path), "validate", *_variables(var_files), TEMPLATE]


def build_argv(packer: Packer, var_files: Sequence[Path] = ()) -> list[str]:
    """Build. A failed build is cleaned up by Packer itself."""
    start = [str(packer.path), "build", "-machine-readable", "-on-error=cleanup"]
    return [*start, *_variables(var_files), TEMPLATE]


def environment(base: Mapping[str, str], work: WorkDirectory) -> dict[str, str]:
    """Packer's environment: the caller's, with its temporary and cached files where they are removed.

    Plugins stay where the user's Packer keeps them, so that they are fetched once.
    """
    return {
        **base,
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
        "PACKER_CACHE_DIR": str(work.cache),
        "TMPDIR": str(work.temporary),
    }


def shell_line(argv: Sequence[str]) -> str:
    """An argv as one would type it."""
    return shlex.join(argv)


def _variables(files: Sequence[Path]) -> list[str]:
    return [f"-var-file={path}" for path in files]


_FILE: Final = re.compile(r"packer-plugin-[\w-]+_v([\w.+-]+?)_x[\d.]+_\w+_\w+")
_SUM: Final = "_SHA256SUM"


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """The file of a plugin. Packer takes none without a file of its checksum beside it."""

    version: str
    path: Path
    checksum: bool


def installed_plugins(target: Target, environment: Mapping[str, str]) -> tuple[InstalledPlugin, ...]:
    """The files of the target's plugin, of any version."""
    name = target.plugin.rpartition("/")[2]
    files = (file for folder in _folders(environment) for file in folder.rglob(f"packer-plugin-{name}_v*"))
    found = ((file, _FILE.fullmatch(file.name)) for file in sorted(files))
    return tuple(
        InstalledPlugin(match[1], file, file.with_name(file.name + _SUM).is_file()) for file, match in found if match
    )


def missing_plugin(target: Target, packer: Packer, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with the target's plugin here, and the way out; None when it is there or not needed."""
    if not packer.takes_plugins or not target.plugin:
        return None
    installed = installed_plugins(target, environment)
    same = [one for one in installed if one.version == target.version]
    if any(one.checksum for one in same):
        return None
    needs = f"{target.name} needs the plugin {target.plugin} {target.version}"
    if same:
        return f"{needs}, and {same[0].path} has no {_SUM[1:]} file beside it", _install_hint(target)
    versions = ", ".join(dict.fromkeys(one.version for one in installed))
    return f"{needs}, and there is {versions or 'none'}", _install_hint(target)


def _install_hint(target: Target) -> str:
    call = "packer plugins install"
    way = f"{call} {target.plugin} {target.version}; from a file: {call} --path FILE {target.plugin}"
    return f"{way}; Debian's own packer 1.6.6 needs no plugin" if target.packer == "1.6.6" else way


def _folders(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where Packer looks: the directory that is named, else the user's."""
    if named := environment.get("PACKER_PLUGIN_PATH"):
        yield Path(named)
        return
    home = Path(environment.get("HOME", "/"))
    config = environment.get("XDG_CONFIG_HOME") or home / ".config"
    yield from (Path(environment.get("PACKER_CONFIG_DIR") or home, ".packer.d/plugins"), Path(config, "packer/plugins"))
