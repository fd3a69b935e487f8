"""`er build-image`: bake the hardened base into an image, and prove it.

The way down: packer.request, packer.build, packer.build_local, packer.run; packer.artifact is what comes back.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from builder import problem_report, providers
from builder.cli import building, output
from builder.cli import clean as cleaning
from builder.cli.options import AsJson, load
from builder.cli.progress import NEXT, Steps, ending
from builder.packer.convert import FORMATS
from builder.packer.targets import BY_NAME, TARGETS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from builder.lab.events import Progress
    from builder.manifest import Difference
    from builder.packer.artifact import Result
    from builder.packer.request import Request
    from builder.packer.run import Job
    from builder.problems import UserError
    from builder.spec import Spec

NAME = "build-image"
_TARGETS = ", ".join(row.name for row in TARGETS)


def _known_target(name: str) -> str:
    if name and name not in BY_NAME:
        raise typer.BadParameter(f"{name!r} is not one of {_TARGETS}")
    return name


def _known_clean(name: str | None) -> str | None:
    return name and _known_target(name)


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}")
    return name


# Named for what the user writes; the command below is what is done with them.
Target = Annotated[
    str, typer.Option("--target", callback=_known_target, metavar="TARGET", help=f"Where to bake: {_TARGETS}.")
]
Directory = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where image, manifest and log go.")]
Form = Annotated[
    str,
    typer.Option("--format", callback=_known_format, metavar="FORMAT", help=f"qemu: one of {', '.join(FORMATS)}."),
]
WithStacks = Annotated[
    bool, typer.Option("--with-stacks", help="Also bake the stacks' images: first boot pulls nothing.")
]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="qemu: boot the image twice and look at the host.")]
Size = Annotated[str, typer.Option("--size", metavar="SIZE", help="qemu: size of the disk, such as 10G.")]
BaseImage = Annotated[str, typer.Option("--base-image", metavar="FILE|URL", help="qemu: start from this cloud image.")]
Checksum = Annotated[str, typer.Option("--checksum", metavar="sha256:…", help="What --base-image must be.")]
Accelerator = Annotated[
    Literal["auto", "kvm", "tcg"], typer.Option("--accelerator", help="qemu: how the machine is run.")
]
Builder = Annotated[
    Literal["auto", "machine", "container"],
    typer.Option("--builder", help="qemu: bake in a virtual machine, or in a container where that would be emulated."),
]
VarFile = Annotated[
    list[Path] | None,
    typer.Option(
        "--var-file", metavar="FILE", exists=True, dir_okay=False, help="Values for the template; repeatable."
    ),
]
Compare = Annotated[
    Path | None,
    typer.Option("--compare", metavar="MANIFEST", exists=True, dir_okay=False, help="Say what differs from it."),
]
Reuse = Annotated[bool, typer.Option("--reuse", help="qemu: keep an image that is there and made of the same.")]
KeepLog = Annotated[bool, typer.Option("--keep-log", help="Keep the log of a good build, too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be laid and run.")]


Clean = Annotated[
    str | None,
    typer.Option("--clean", metavar="TARGET", callback=_known_clean, help="Show and remove what builds left there."),
]
Keep = Annotated[int | None, typer.Option("--keep", metavar="N", min=1, help="Remove older images of this spec there.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="--clean, --keep: do not ask.")]


def command(
    path: Annotated[Path | None, typer.Argument(metavar="SPEC", help="The YAML file that describes the host.")] = None,
    target: Target = "",
    directory: Directory = Path("build"),
    form: Form = "qcow2",
    with_stacks: WithStacks = False,
    verify: Verify = True,
    size: Size = "",
    base_image: BaseImage = "",
    checksum: Checksum = "",
    accelerator: Accelerator = "auto",
    builder: Builder = "auto",
    var_file: VarFile = None,
    compare: Compare = None,
    reuse: Reuse = False,
    keep_log: KeepLog = False,
    clean: Clean = None,
    keep: Keep = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Bake an image of SPEC's base with Packer: every host's files and packages, no key and no name of yours."""
    from builder.packer import build
    from builder.packer.account import APIS
    from builder.packer.request import LOCAL, Request

    if clean:
        return cleaning.clean(clean, directory, yes=yes, dry_run=dry_run, as_json=as_json)
    if path is None or not target:
        raise typer.BadParameter("SPEC and --target are needed")
    if keep and target not in APIS:
        raise typer.BadParameter(f"--keep: for {', '.join(APIS)}")
    if target != LOCAL:
        _refuse(
            {"--format": form != "qcow2", "--size": size, "--base-image": base_image, "--checksum": checksum,
             "--accelerator": accelerator != "auto", "--builder": builder != "auto", "--reuse": reuse},
        )  # fmt: skip
    spec = load(path)
    request = Request(
        spec, BY_NAME[target], directory, FORMATS[form], with_stacks, verify, size, accelerator, builder,
        base_image, checksum, tuple(file.absolute() for file in var_file or ()), keep_log, reuse, compare,
        _image_tags(target, spec),
    )  # fmt: skip
    if dry_run:
        _show_dry_run(request, *build.plan_dry_run(request), as_json=as_json)
        return 0
    with tempfile.TemporaryDirectory(prefix="er-images-") as images:
        if with_stacks:
            request = replace(request, spec=building.with_archives(spec, Path(images)))
        job = build.plan(request)
        with Steps() as steps:
            result = follow(build.bake(request, job, steps.line), steps)
    code = show(result, path, as_json=as_json)
    if keep:
        cleaning.keep(target, keep, result, yes=yes)
    return code


def _refuse(given: Mapping[str, object]) -> None:
    """Raise BadParameter for options that mean nothing to a provider."""
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise typer.BadParameter(f"only for --target qemu: {', '.join(wrong)}")


def _image_tags(target: str, spec: Spec) -> dict[str, str]:
    """By these `er launch` finds the image."""
    from builder import host as hosts
    from builder.aws import tags
    from builder.host import packages

    if target != "aws":
        return {}
    baked = hosts.digest(hosts.build(spec).only(hosts.Part.BAKED))
    return tags.image(spec.server.base, spec.server.arch, packages.of_spec(spec), baked)


def follow(events: Generator[Progress, None, Result], steps: Steps) -> Result:
    """Show the steps as they come and go; the result is the generator's."""
    from builder.lab.events import Ended, Line, Note, Started

    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: Result = end.value
                return result
            match event:
                case Started(step):
                    steps.start(step)
                case Ended(step, seconds):
                    steps.end(step, seconds)
                case Line(text):
                    steps.detail(text)
                case Note(text):
                    steps.line(text)


def show(result: Result, spec: Path, *, as_json: bool) -> int:
    """Show a good build. The exit code is 1 when something stays that goes on costing, though the image is good."""
    from builder.packer import leftovers

    for line in leftovers.lines(result.left):
        output.note(f"warning: {line}")
    if result.left:
        output.note(f"hint: er build-image --clean {result.target} shows and removes what stayed")
    if as_json:
        output.json(_as_json(result))
    else:
        _show(result, spec)
    return int(leftovers.costly(result.left))


def _show(result: Result, spec: Path) -> None:
    ending(_rows(result, spec))
    if result.differences is not None:
        output.note(compared(result.differences))


def _rows(result: Result, spec: Path) -> Iterator[tuple[str, str]]:
    for answer in result.proof.answers if result.proof else ():
        when = f"{answer.seconds:.0f} s after power-on {answer.boot}"
        yield "site", f"https://{answer.domain}/ answered {answer.status}, {when}"
    if result.image is not None:
        again = " (there already, made of the same)" if result.reused else ""
        yield "image", f"{result.image}, {(result.size or 0) / 1e6:,.0f} MB{again}"
        yield "sha256", result.sha256 or ""
    yield from (("image", name) for name in result.ids)
    yield "manifest", str(result.manifest)
    yield from ((NEXT, line) for line in next_steps(result, spec))


def next_steps(result: Result, spec: Path) -> list[str]:
    """How a server of an image at a provider is started: its user-data, then the provider's own command."""
    if not result.ids:
        return []
    if result.target == "aws":
        return [f"er launch {spec}"]
    target = BY_NAME[result.target]
    command = providers.get(result.target).command.value.format(file="user-data", name="user-data").removesuffix(" …")
    # Ids read `region:id,region:id`; the first without its region.
    image = re.split(r"[,\s]", result.ids[0])[0].rpartition(":")[2]
    return [
        f"er user-data {spec} --for {result.target} --on baked -o user-data",
        f"{command} {target.use.format(id=image)} …",
    ]


def compared(differences: tuple[Difference, ...]) -> str:
    """What is worth saying of a comparison with the build before."""
    surprising = [found.what for found in differences if not found.expected]
    rest = len(differences) - len(surprising)
    if not surprising:
        return f"same as the build before, but for {rest} things that no two builds share: times, hashes"
    return "\n  ".join(["differs from the build before:", *surprising])


def _as_json(result: Result) -> dict[str, object]:
    differences = result.differences
    return {
        "target": result.target,
        "image": str(result.image) if result.image else None,
        "ids": list(result.ids),
        **({"size": result.size, "sha256": result.sha256} if result.image else {"name": result.name}),
        "left": [asdict(one) for one in result.left],
        "manifest": str(result.manifest),
        "reused": result.reused,
        "answers": [asdict(answer) for answer in result.proof.answers] if result.proof else None,
        "steps": {step.name: round(step.seconds, 1) for step in result.steps},
        "differences": differences and [{"expected": found.expected, "what": found.what} for found in differences],
    }


def _show_dry_run(request: Request, job: Job, missing: Sequence[UserError], *, as_json: bool) -> None:
    """Show the calls and the files; the work directory's name is made up only when it is made."""
    from builder.packer import program, work_directory
    from builder.packer.build_local import ACCELERATOR_VARIABLES

    work = f"{request.directory.absolute()}/{work_directory.PREFIX}*"
    template = (*job.files, work_directory.values_file(job.variables))
    upload = (*job.upload.files, *job.upload.archives)
    paths = sorted(
        [
            *(f"{work_directory.TEMPLATE}/{file.path}" for file in template),
            *(f"{work_directory.PAYLOAD}/{name}" for name in upload),
        ]
    )
    calls = job.commands()
    output.missing(missing)
    if as_json:
        of_machine = ACCELERATOR_VARIABLES if request.local and job.variables["source"] == request.target.label else ()
        unknown = [name for name in of_machine if name not in job.variables]
        shown = {"directory": work, "commands": calls, "files": paths, "variables": dict(job.variables)}
        output.json({**shown, "unknown": unknown, "missing": problem_report.missing(missing)})
        return
    lines = [f"# in {work}:", *(f"# lays {path}" for path in paths), *(program.shell_line(call) for call in calls)]
    output.data("".join(f"{line}\n" for line in lines).encode())
