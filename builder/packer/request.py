"""What `er build-image` is asked for, and whether it can be done at all: told before anything is begun."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.packer import credentials
from builder.packer.convert import FORMATS, Format
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.packer.program import Packer
    from builder.packer.targets import Target
    from builder.packer.work_directory import Laid
    from builder.spec import Spec


LOCAL: Final = "qemu"
_SIZE: Final = re.compile(r"[1-9]\d*[MGT]")


@dataclass(frozen=True, slots=True)
class Request:
    """One image. `directory` is where it, its manifest and its log go; `base_image` is a file or a URL."""

    spec: Spec
    target: Target
    directory: Path
    form: Format = field(default_factory=lambda: FORMATS["qcow2"])
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
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @property
    def local(self) -> bool:
        """Whether the image is a file on this machine."""
        return self.target.name == LOCAL

    @property
    def name(self) -> str:
        """The image's name, without what makes it unique at a provider."""
        server = self.spec.server
        parts = ["er", server.base.replace(".", "-"), server.arch, *([server.name] if self.with_stacks else [])]
        return "-".join(parts)

    @property
    def image(self) -> Path:
        """The file of a local image."""
        return self.directory / f"{self.name}{self.form.extension}"

    @property
    def log(self) -> Path:
        """The whole talk of the build."""
        return self.directory / f"{self.name}-{self.target.name}.log"


def check(order: Request) -> None:
    """Raise one UserError for what is lacking, or return."""
    for one in CHECKS:
        one(order)


def check_login(order: Request) -> None:
    """Raise UserError without a login for the target."""
    if lacking := credentials.missing(order.target.name, order.environment):
        raise UserError(lacking.message, lacking.hint)
    if order.target.name == "aws":
        credentials.check_profile(order.environment)


def check_settings(order: Request) -> None:
    """Raise UserError where the template needs values that only the user has."""
    if unset := unset_settings(order):
        settings = order.target.needed(order.spec.server.arch)
        told = "; ".join(f"{name}: {settings[name]}" for name in unset)
        raise UserError(f"{order.target.name} needs values for {_listed(unset)}", f"give a --var-file; {told}")


def unset_settings(order: Request) -> list[str]:
    """The target's settings that nothing gives a value to."""
    given = {*_given(order), *provider_variables(order)}
    return [name for name in order.target.needed(order.spec.server.arch) if name not in given]


def check_image(order: Request) -> None:
    """Raise UserError for an image that cannot be had there at all."""
    server = order.spec.server
    if (server.base, server.arch) not in order.target.images:
        known = ", ".join(" ".join(pair) for pair in order.target.images)
        raise UserError(f"{order.target.name} has no {server.base} for {server.arch}", f"it has {known}")
    if order.size and not _SIZE.fullmatch(order.size):
        raise UserError(f"--size {order.size}: not a size", "a number with M, G or T, such as 10G")


CHECKS: Final = (check_image, check_login, check_settings)


def _given(order: Request) -> Iterator[str]:
    """Names of variables that the user gives."""
    yield from (name.removeprefix("PKR_VAR_") for name in order.environment if name.startswith("PKR_VAR_"))
    for path in order.var_files:
        yield from variables_in(path)


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def check_packer(order: Request, packer: Packer) -> None:
    """Raise UserError where this Packer has no builder for the target."""
    arch = order.spec.server.arch
    least = order.target.least(arch)
    if packer.version < tuple(map(int, least.split("."))):
        what = f"{order.target.name} for {arch}" if least != order.target.packer else order.target.name
        raise UserError(
            f"{what} needs Packer {least}, and {packer.path} is {packer.version_text}",
            "see https://developer.hashicorp.com/packer/install",
        )


# By target: a variable of the template, and what gives it a value, the first that is set. Packer's plugins read
# credentials themselves, but not these.
_FROM: Final[Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
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


def provider_variables(order: Request) -> dict[str, Any]:
    """Values for the template's variables."""
    found: dict[str, Any] = {}
    environment = credentials.complete(order.target.name, order.environment)
    for variable, names in _FROM.get(order.target.name, ()):
        value = next((environment[name] for name in names if environment.get(name)), None)
        if value is not None:
            found[variable] = value
    if order.target.name == "aws":
        from builder.aws import tags  # noqa: PLC0415 - of no other target

        # By these `er launch` finds it.
        found["tags"] = tags.image(order.spec.server.base, order.spec.server.arch)
    return found


_DECLARED: Final = re.compile(r'^variable\s+"(\w+)"', re.MULTILINE)
# What HCL is cut into here: texts and comments whole, brackets, an assignment's name.
_TOKEN: Final = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*") | (?P<comment>\#[^\n]*|//[^\n]*|/\*.*?\*/)
      | <<-?(?P<end>\w+)\n.*?^\s*(?P=end)$
      | (?P<open>[\[{(]) | (?P<close>[\])}]) | (?P<name>\w+)\s*=(?!=)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def variables_in(path: Path) -> dict[str, int]:
    """The names that a file gives values to, with their lines. Raises UserError for JSON that is none."""
    text = path.read_text(errors="replace")
    return _of_json(path, text) if path.name.endswith(".json") else dict(_of_hcl(text))


def declared_variables(files: Iterable[Laid]) -> frozenset[str]:
    """The variables that a template has."""
    texts = (_text(file) for file in files if file.path.endswith(".pkr.hcl"))
    return frozenset(name for text in texts for name in _DECLARED.findall(text))


def check_var_files(paths: Iterable[Path], known: Collection[str]) -> None:
    """Raise UserError for names that the template does not declare: Packer passes over them, and takes its defaults."""
    wrong = [(path, line, name) for path in paths for name, line in variables_in(path).items() if name not in known]
    if not wrong:
        return
    told = "; ".join(f"{path}:{line}: {name}" for path, line, name in wrong)
    near = [match for *_, name in wrong for match in difflib.get_close_matches(name, known, 1)]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise UserError(f"not a variable of the template: {told}", f"{meant}there are {', '.join(sorted(known))}")


def _of_json(path: Path, text: str) -> dict[str, int]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}", "HCL goes into a file that does not end with .json") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: an object of names and values is wanted")
    return {name: _line(text, text.find(json.dumps(name))) for name in value}


def _of_hcl(text: str) -> Iterator[tuple[str, int]]:
    """Names outside of any bracket."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += bool(token["open"]) - bool(token["close"])
        if token["name"] and depth == 0:
            yield token["name"], _line(text, token.start())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, max(at, 0)) + 1


def _text(file: Laid) -> str:
    return file.content.decode() if isinstance(file.content, bytes) else file.content.read_text()
