"""The layers of builder/: which package may import which, how many modules each may have, and what breaks the rules.

docs/architecture.md and docs/architecture.svg show this table; nothing else says it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.shape.modules import LOOSE, circles, plurals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.shape.modules import Module, Modules


@dataclass(frozen=True)
class Package:
    """A package below builder/: how many modules it may have, what it holds in a few words, and its story."""

    name: str
    budget: int
    holds: str
    story: str


# From the top down. A module imports from layers below its own, and within its own package; never from a neighbour.
LAYERS: Final[tuple[tuple[Package, ...], ...]] = (
    (
        Package(
            "cli",
            43,  # one more command
            "one module a command",
            "The commands of `er`, one module each, `er server …` in a folder of its own. The only place that "
            "prints: data to stdout, talk to stderr, problems as text or JSON.",
        ),
    ),
    (
        Package(
            "aws",
            34,
            "servers on EC2",
            "`er launch`, `er servers`, `er destroy`. A resource (security group, key pair, instance, address) is "
            "found by its tags, planned, created and deleted by one table, DNS records beside it; no state file.",
        ),
        Package(
            "packer",
            18,
            "er build-image",
            "From a request to an image: a work directory, a run of `packer` read as events, then the proof, the "
            "manifest and the SBOM. One row a target; logins and what a failed build leaves behind belong to it.",
        ),
        Package(
            "server",
            101,  # the report: where it looks, the rows of each side, the page; what sleeps; how far a backup is
            "a running host, over ssh",
            "`er server …`: the near side calls ssh and understands its failures. `server/remote/` is sent along "
            "and runs as root under the host's own Python: the standard library and three loose modules.",
        ),
    ),
    (
        Package(
            "qemu",
            7,
            "virtual machines",
            "A disk image booted with its own kernel and boot loader, under the faster of KVM and emulation, and "
            "proved by two boots: SSH, every domain over HTTPS, and a look inside.",
        ),
    ),
    (
        Package(
            "lab",
            11,
            "er try: booted containers",
            "A Debian tree booted by systemd-nspawn in namespaces and on a bridge of its own. Nothing of this "
            "machine is changed, and what a killed run left is found by the next one and removed.",
        ),
    ),
    (
        Package(
            "disk",
            7,
            "disks without loop mounts",
            "The base disk that bakes start from: partitions, GRUB and file system written into one file. Cloud "
            "images by checksum, and what is on a disk as a directory.",
        ),
        Package(
            "manifest",
            3,
            "what an image is made of",
            "The manifest and the CycloneDX SBOM beside an image, and what differs between two of them.",
        ),
        Package(
            "imagebuild",
            6,
            "images made here from source",
            "From a directory with a Containerfile to an image: the files that count, what it is made of as one "
            "digest, and a run of Podman, Buildah or Docker. Nothing changed means nothing built.",
        ),
        Package(
            "imagecheck",
            14,
            "er check-image",
            "What must not be in an image: a module an area, with its checks and their rows. Standard library "
            "only, as it also runs inside the image, as a zipapp.",
        ),
    ),
    (
        Package(
            "userdata",
            7,
            "a host as user-data",
            "A host as `#cloud-config`, whole for a stock image or the rest for a baked one; then the plainest "
            "encoding that fits a provider's limit, and its contents in words.",
        ),
        Package(
            "diagram",
            6,
            "a host as a picture",
            "`er diagram`: what is shown as words, every box, line and text at its place, and these as SVG in light "
            "and dark. The way through a host is always the same, so no library lays it out.",
        ),
    ),
    (
        Package(
            "providers",
            4,
            "one row a provider",
            "What each provider takes as user-data: limit, how it counts, login, images, how it is handed over. "
            "Every fact with its source.",
        ),
    ),
    (
        Package(
            "host",
            11,  # what scanners ask for
            "the whole host as values",
            "`build(spec)` gives every file with mode, owner and when it lands, and the packages. The firewall is "
            "one model for both families; every hardening line has its reason.",
        ),
    ),
    (
        Package(
            "starter",
            10,
            "er init --compose",
            "A first spec for Compose files as they are: which service is public and where it listens, which variables "
            "are secrets, what a stack must reach. Decisions are values, each with its reasons.",
        ),
        Package(
            "quadlet",
            7,  # health checks
            "stacks as Podman units",
            "A stack's services as Quadlet units for the Podman of each base; one serialiser knows how systemd "
            "and Podman's generator read a line.",
        ),
    ),
    (
        Package(
            "spec",
            29,  # what is said of sleep
            "the spec, checked",
            "The user's YAML file, read and checked: every problem at once, with line, column and a way out. Its "
            "texts, its JSON Schema, and the first spec that `er init` writes.",
        ),
    ),
    (
        Package(
            "compose",
            21,  # the variables that a file may use
            "Compose files as stacks",
            "A table of every key of the Compose specification, and what becomes of it. Includes, extends, merges "
            "and variables as Compose itself has them.",
        ),
    ),
    (
        Package(
            "stack",
            9,  # what of a stack sleeps; secrets by reference
            "a stack as values",
            "What spec and Compose files become: services, mounts, networks, limits; the stack's user on the "
            "host; its domains, and how the world reaches what is behind them; its share of a server's memory.",
        ),
        Package(
            "oci",
            8,
            "images by name, as archives",
            "Image references, fully qualified, and what is known of well-known ones; OCI archives, read and written "
            "to the same bytes on any day; images of the local Docker or Podman, layer by layer; what a Containerfile "
            "names and exposes.",
        ),
    ),
    (
        Package(
            "yamlfile",
            4,
            "YAML with places",
            "YAML as its author wrote it: plain values, the line and column of each, and none of YAML 1.1's surprises.",
        ),
        Package(
            "localhost",
            3,
            "the machine er runs on",
            "Its cache, its Debian mirror, and which programs it has: everything that is missing, in one message.",
        ),
    ),
    (
        Package(
            LOOSE,
            10,
            "facts, files, process, problems …",
            "What truly everybody uses, beside the packages: ports, ids and paths (`facts`), writing files, "
            "calling programs, waiting, problems and their texts.",
        ),
    ),
)
PACKAGES: Final = {package.name: package for layer in LAYERS for package in layer}
WHOLE: Final = 372
LONGEST: Final = 400

# Imports against the layers, by module without `builder.`, each with its reason.
IMPORTS: Final = {
    ("problem_report", "yamlfile.places"): "a report quotes lines, which YAML counts in its own way",
}
# Names that differ by an `s` and stay, each with its reason.
PLURALS: Final = {
    ("server", "servers"): "`er server` and `er servers` are commands, and a command's module has its name",
}


@dataclass(frozen=True)
class Rules:
    """What a tree is held to."""

    layers: tuple[tuple[Package, ...], ...] = LAYERS
    whole: int = WHOLE
    longest: int = LONGEST
    imports: Mapping[tuple[str, str], str] | None = None
    plurals: Mapping[tuple[str, str], str] | None = None

    def depth(self) -> dict[str, int]:
        """Each package and its layer, counted from the top."""
        return {package.name: depth for depth, layer in enumerate(self.layers) for package in layer}


RULES: Final = Rules(imports=IMPORTS, plurals=PLURALS)


def faults(modules: Modules, rules: Rules = RULES) -> list[str]:
    """Everything that a tree has against the rules, a sentence each."""
    checks = (_unknown, _imports, _circles, _plurals, _budgets, _long, _unused)
    return [fault for check in checks for fault in check(modules, rules)]


def _unknown(modules: Modules, rules: Rules) -> Iterator[str]:
    for name in sorted({module.package for module in modules.values()} - {*rules.depth()}):
        yield f"builder/{name}/ is in no layer: give it one, a budget and a story in tests/shape/layers.py"


def _imports(modules: Modules, rules: Rules) -> Iterator[str]:
    for module, target in against(modules, rules):
        if (_short(module), _short(target)) not in (rules.imports or {}):
            lower = rules.depth()[module.package] > rules.depth()[target.package]
            how = "a lower layer than" if lower else "beside"
            yield (
                f"{module.path} imports {target.name}: {module.package} is {how} {target.package}. Move what both "
                "need to a layer below, or hand it over as an argument"
            )


def against(modules: Modules, rules: Rules = RULES) -> list[tuple[Module, Module]]:
    """Imports of a layer above or beside, exceptions too: who, and what."""
    depth = rules.depth()
    pairs = [(module, modules[name]) for _, module in sorted(modules.items()) for name in sorted(module.imports)]
    return [
        (module, target)
        for module, target in pairs
        if {module.package, target.package} <= {*depth}
        and module.package != target.package
        and depth[module.package] >= depth[target.package]
    ]


def _circles(modules: Modules, _: Rules) -> Iterator[str]:
    for circle in circles(modules):
        yield f"these import each other, so none can be read first: {', '.join(circle)}"


def _plurals(modules: Modules, rules: Rules) -> Iterator[str]:
    for one, many in plurals(modules):
        if (one, many) not in (rules.plurals or {}):
            places = sorted(module.path for module in modules.values() if module.label in {one, many})
            yield f"two names differ by an s, which nobody can guess: {', '.join(places)}"


def _budgets(modules: Modules, rules: Rules) -> Iterator[str]:
    counts = count(modules)
    for package in (package for layer in rules.layers for package in layer):
        if counts.get(package.name, 0) > package.budget:
            yield (
                f"{package.name} has {counts[package.name]} modules, its budget is {package.budget}: what one module "
                "alone imports belongs into it"
            )
    if sum(counts.values()) > rules.whole:
        yield f"builder/ has {sum(counts.values())} modules, the whole may have {rules.whole}"


def count(modules: Modules) -> dict[str, int]:
    """Each package and its number of modules, those of up to five lines left out."""
    counts: dict[str, int] = {}
    for module in modules.values():
        counts[module.package] = counts.get(module.package, 0) + module.counted
    return counts


def _long(modules: Modules, rules: Rules) -> Iterator[str]:
    for module in modules.values():
        if module.lines > rules.longest:
            yield f"{module.path} has {module.lines} lines, more than {rules.longest}: it tells more than one story"


def _unused(modules: Modules, rules: Rules) -> Iterator[str]:
    """Exceptions that nothing needs any more."""
    present = {(_short(module), _short(target)) for module, target in against(modules, rules)}
    for pair in sorted({*(rules.imports or {})} - present):
        yield f"{pair[0]} no longer imports {pair[1]}: remove the exception in tests/shape/layers.py"
    for pair in sorted({*(rules.plurals or {})} - {*plurals(modules)}):
        yield f"there is no more pair {pair[0]}, {pair[1]}: remove the exception in tests/shape/layers.py"


def _short(module: Module) -> str:
    return module.name.removeprefix("builder.")
