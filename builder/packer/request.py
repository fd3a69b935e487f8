"""What `er build-image` is asked for, and whether it can be done at all, found out before anything is begun."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import manifest
from builder.packer import credentials
from builder.packer.convert import FORMATS, Format
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.packer.program import Packer
    from builder.packer.targets import Target
    from builder.packer.work_directory import TemplateFile
    from builder.spec import Spec

LOCAL: Final = "qemu"
# Packer takes the rest of such a name in its environment for a variable of the template.
VARIABLE_PREFIX: Final = "PKR_VAR_"


@dataclass(frozen=True, slots=True)
class Request:
    """One image. `directory` is where it, its manifest and its log go; `base_image` is a file or a URL.

    `tags` are put on the image at a provider, where its template has them.
    """

    spec: Spec
    target: Target
    directory: Path
    image_format: Format = field(default_factory=lambda: FORMATS["qcow2"])
    with_stacks: bool = False
    verify: bool = True
    size: str = ""
    accelerator: str = "auto"
    builder: Literal["auto", "machine", "container"] = "auto"
    base_image: str = ""
    checksum: str = ""
    var_files: tuple[Path, ...] = ()
    keep_log: bool = False
    reuse: bool = False
    compare: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @property
    def local(self) -> bool:
        """Whether the image is a file on this machine."""
        return self.target.name == LOCAL

    @property
    def name(self) -> str:
        """The image's name, without what makes it unique at a provider."""
        server = self.spec.server
        words = ["er", server.base.replace(".", "-"), server.arch, *([server.name] if self.with_stacks else [])]
        return "-".join(words)

    @property
    def image(self) -> Path:
        """The file of a local image."""
        return self.directory / f"{self.name}{self.image_format.extension}"

    @property
    def log(self) -> Path:
        """The file of all that Packer says."""
        return self.directory / f"{self.name}-{self.target.name}.log"


_STAMP: Final = "%Y%m%d-%H%M%S"


def unique_name(request: Request) -> str:
    """The image's name at a provider. It must be new at most of them, so the time is in it, and is never cut off."""
    stamp = f"{manifest.now():{_STAMP}}"
    room = request.target.longest - len(stamp) - 1
    return f"{request.name[:room].rstrip('-')}-{stamp}"


def check(request: Request) -> None:
    """Raise one UserError for what is missing, or return."""
    for one in CHECKS:
        one(request)


_SIZE: Final = re.compile(r"[1-9]\d*[MGT]")


def check_image(request: Request) -> None:
    """Raise UserError for an image that cannot be had there at all."""
    server = request.spec.server
    if (server.base, server.arch) not in request.target.images:
        known = ", ".join(" ".join(pair) for pair in request.target.images)
        raise UserError(f"{request.target.name} has no {server.base} for {server.arch}", f"it has {known}")
    if request.size and not _SIZE.fullmatch(request.size):
        raise UserError(f"--size {request.size}: not a size", "a number with M, G or T, such as 10G")


def check_login(request: Request) -> None:
    """Raise UserError without a login for the target."""
    if missing := credentials.missing(request.target.name, request.environment):
        raise UserError(missing.message, missing.hint)
    if request.target.name == "aws":
        credentials.check_profile(request.environment)


def check_settings(request: Request) -> None:
    """Raise UserError where the template needs values that only the user has."""
    if unset := unset_settings(request):
        settings = request.target.needed(request.spec.server.arch)
        meanings = "; ".join(f"{name}: {settings[name]}" for name in unset)
        raise UserError(f"{request.target.name} needs values for {_and(unset)}", f"give a --var-file; {meanings}")


def unset_settings(request: Request) -> list[str]:
    """The target's settings that nothing gives a value to."""
    given = {*_given_variables(request), *provider_variables(request)}
    return [name for name in request.target.needed(request.spec.server.arch) if name not in given]


CHECKS: Final = (check_image, check_login, check_settings)


def _given_variables(request: Request) -> Iterator[str]:
    """Names of variables that the user gives."""
    for name in request.environment:
        if name.startswith(VARIABLE_PREFIX):
            yield name.removeprefix(VARIABLE_PREFIX)
    for path in request.var_files:
        yield from variables_in(path)


def _and(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def check_packer(request: Request, packer: Packer) -> None:
    """Raise UserError where this Packer has no builder for the target."""
    arch = request.spec.server.arch
    least = request.target.least(arch)
    if packer.version < tuple(map(int, least.split("."))):
        what = f"{request.target.name} for {arch}" if least != request.target.packer else request.target.name
        raise UserError(
            f"{what} needs Packer {least}, and {packer.path} is {packer.version_text}",
            "see https://developer.hashicorp.com/packer/install",
        )


# By target: a variable of the template, and what gives it a value, the first that is set. Packer's plugins read
# credentials themselves, but not these.
_ENVIRONMENT_NAMES: Final[Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "aws": (
        ("region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
        ("custom_endpoint_ec2", ("AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL")),
    ),
    "gcp": (
        ("project_id", ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT")),
        ("zone", ("CLOUDSDK_COMPUTE_ZONE", "GOOGLE_ZONE")),
    ),
    "scaleway": (("zone", ("SCW_DEFAULT_ZONE",)),),
    "exoscale": (("zone", ("EXOSCALE_ZONE",)),),
    "linode": (("region", ("LINODE_CLI_REGION",)),),
}


def provider_variables(request: Request) -> dict[str, Any]:
    """Values of the template's variables that the environment and the request give."""
    values: dict[str, Any] = {}
    environment = credentials.complete(request.target.name, request.environment)
    for variable, names in _ENVIRONMENT_NAMES.get(request.target.name, ()):
        value = next((environment[name] for name in names if environment.get(name)), None)
        if value is not None:
            values[variable] = value
    if request.tags:
        values["tags"] = dict(request.tags)
    return values


def check_var_files(paths: Iterable[Path], declared: Collection[str]) -> None:
    """Raise UserError for names that the template does not declare: Packer passes over them, and takes its defaults."""
    wrong = [(path, line, name) for path in paths for name, line in variables_in(path).items() if name not in declared]
    if not wrong:
        return
    places = "; ".join(f"{path}:{line}: {name}" for path, line, name in wrong)
    near = [match for *_, name in wrong for match in difflib.get_close_matches(name, declared, 1)]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise UserError(f"not a variable of the template: {places}", f"{meant}there are {', '.join(sorted(declared))}")


_DECLARATION: Final = re.compile(r'^variable\s+"(\w+)"', re.MULTILINE)


def declared_variables(files: Iterable[TemplateFile]) -> frozenset[str]:
    """The variables that a template has."""
    texts = (_text(file) for file in files if file.path.endswith(".pkr.hcl"))
    return frozenset(name for text in texts for name in _DECLARATION.findall(text))


def _text(file: TemplateFile) -> str:
    return file.content.decode() if isinstance(file.content, bytes) else file.content.read_text()


def variables_in(path: Path) -> dict[str, int]:
    """The names that a var file gives values to, with their lines. It is JSON where its name ends so, else HCL.

    Raises UserError for JSON that is none.
    """
    text = path.read_text(errors="replace")
    return _names_in_json(path, text) if path.name.endswith(".json") else dict(_names_in_hcl(text))


def _names_in_json(path: Path, text: str) -> dict[str, int]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}", "HCL goes into a file that does not end with .json") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: an object of names and values is wanted")
    return {name: _line(text, text.find(json.dumps(name))) for name in value}


# What HCL is cut into here: texts and comments whole, brackets, an assignment's name.
_TOKEN: Final = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*") | (?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
      | <<-?(?P<end>\w+)\n.*?^\s*(?P=end)$
      | (?P<open>[\[{(]) | (?P<close>[\])}]) | (?P<name>\w+)\s*=(?!=)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def _names_in_hcl(text: str) -> Iterator[tuple[str, int]]:
    """Names outside of any bracket."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += bool(token["open"]) - bool(token["close"])
        if token["name"] and depth == 0:
            yield token["name"], _line(text, token.start())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, max(at, 0)) + 1
