"""`er user-data`: what to paste into a provider's console, or to hand to its command line."""

from __future__ import annotations

import base64
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from builder import files, providers
from builder.cli import output
from builder.cli.options import AsJson, OutputFile, SpecPath, load, restoring
from builder.cli.progress import size_bar
from builder.cli.server import registries
from builder.problems import SpecError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder import userdata
    from builder.host import Host
    from builder.problems import Problem
    from builder.spec import Spec
    from builder.userdata import Delivery

NAME = "user-data"
# Groups of files that are named, by the space that they take.
_BIGGEST = 6


class Image(StrEnum):
    """What the server starts from."""

    STOCK = "stock"
    BAKED = "baked"


def known_provider(name: str) -> str:
    """The name of a provider, as given; any other word is wrong usage."""
    if name not in providers.NAMES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(providers.NAMES)}")
    return name


def command(
    path: SpecPath,
    *,
    on: Annotated[
        Image, typer.Option("--on", help="What the server starts from: the provider's image, or one that er baked.")
    ],
    provider: Annotated[
        str,
        typer.Option(
            "--for",
            callback=known_provider,
            autocompletion=lambda: providers.NAMES,
            metavar="PROVIDER",
            help="Who takes the user-data; see er providers.",
        ),
    ] = "nocloud",
    file: OutputFile = None,
    small: Annotated[
        bool, typer.Option("--small", help="The smallest form that PROVIDER takes, even when a readable one fits.")
    ] = False,
    image_manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", metavar="FILE", exists=True, dir_okay=False, help="That image's manifest: say what it lacks."
        ),
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="The data of before comes from the spec's backup, before anything starts.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say on stdout what each part does.")] = False,
    as_json: AsJson = False,
    flat: Annotated[
        bool, typer.Option("--flat", help="With --json: each value as text, as OpenTofu's external data source wants.")
    ] = False,
) -> int:
    """Write the user-data that turns a server into the host: the plainest form that fits the provider."""
    from builder import host as hosts
    from builder import userdata

    if file is not None:
        files.check(file)
    target, stdout_taken = file or files.STDOUT, explain or as_json
    if file is not None and stdout_taken and files.is_stdout(file):
        raise typer.BadParameter("stdout has --json or --explain already: give a file name, or leave those out")
    if flat and not as_json:
        raise typer.BadParameter("--flat says how --json writes its values: add that")
    if image_manifest is not None and on is not Image.BAKED:
        raise typer.BadParameter("--manifest is that of a baked image: it goes with --on baked")
    spec = restoring(load(path)) if restore else load(path)
    roles, archives = userdata.role_problems(spec, provider), userdata.archive_problems(spec, on.value)
    _check([*roles, *archives, *userdata.fleet_problems(spec, on.value)])
    host = hosts.build(spec)
    if image_manifest is not None:
        _report_lacking(host, image_manifest)
    delivery = userdata.deliver(spec, host, provider, on.value, smallest=small)
    if file is not None or not stdout_taken:
        _write(target, delivery)
    # The commands to use next cannot name a descriptor, device or pipe.
    named = None if files.is_stream(target) else Path(target)
    if as_json:
        told = _as_json(spec, host, delivery, named)
        output.json({key: _as_text(value) for key, value in told.items()} if flat else told)
    elif explain:
        _explain(spec, host, delivery)
    _report(spec, host, delivery, named)
    return 0


def _explain(spec: Spec, host: Host, delivery: Delivery) -> None:
    from builder import userdata

    output.data("".join(f"{part:<32}{words}\n" for part, words in userdata.explain(spec, host, delivery)).encode())


def _write(target: str, delivery: Delivery) -> None:
    if delivery.encoding.is_binary and files.is_terminal(target):
        raise UserError("this user-data is binary, not for a terminal", "write it to a file with -o FILE")
    if target == files.STDOUT:
        output.data(delivery.content)
        return
    files.write(target, delivery.content, report=output.note)
    output.note(f"wrote {len(delivery.content):,} bytes to {target}")


def _report(spec: Spec, host: Host, delivery: Delivery, file: Path | None) -> None:
    from builder import spec as specs
    from builder import userdata

    row = providers.get(delivery.provider)
    output.note(f"{row.title}, {delivery.on} image: {userdata.FORMS[delivery.encoding, delivery.shared]}")
    output.note(f"  {size_bar(delivery.used, delivery.limit)} ({row.counted.value})")
    if not row.limit.verified:
        output.note("  that limit is not published where it could be read: it is the lowest of all providers")
    biggest = _groups(spec, host, delivery)[:_BIGGEST]
    if not row.fits(delivery.used):
        way = userdata.ways_out(spec, host, row, delivery.on, [one.name for one in biggest])
        output.note(f"  warning: this is more, and {row.title} may refuse it; then: {way}")
    output.note(f"  what takes the space: {', '.join(f'{one.name} {one.used:,}' for one in biggest)}")
    for stack, secret in userdata.secrets(spec):
        when = "before" if spec.fleet else "once"
        output.note(
            f"  secret {secret} of stack {stack} is not in it; {when} the server is up: {_push(spec, stack, secret)}"
        )
    for stack, registry in userdata.logins(spec):
        way = registries.way("ADDRESS", registry, stack)
        output.note(f"  the password of {stack} at {registry} is not in it; once the server is up: {way}")
    for name, what in _host_secrets(spec):
        way = f"er server secret set ADDRESS --host {name}"
        output.note(f"  the host's secret {name}, for {what}, is not in it; once the server is up: {way}")
    for stack, service in userdata.builds(spec):
        way = "er build-image --with-stacks" if spec.fleet else "once the server is up: er server apply ADDRESS SPEC"
        output.note(f"  {service} of stack {stack} waits for its first image; {way}")
    if policy := specs.role_policy(spec):
        does = [words for sid, words in _ROLE_DOES.items() if any(one["Sid"] == sid for one in policy["Statement"])]
        way = "attach an instance profile; --json has its policy as role_policy"
        output.note(f"  the server's role {' and '.join(does)}: {way}")
    output.note(f"  use it:     {_filled(row.command.value, file)}")
    output.note(f"  or here:    {_filled(row.console.value, file)}")
    login = row.login.value.get(spec.server.base, "") if delivery.on == "stock" else ""
    closed = "; root, the image's own login, is shut" if login == "root" else ""
    output.note(f"  then:       ssh {spec.admin.name}@ADDRESS{closed}")


def _host_secrets(spec: Spec) -> Iterator[tuple[str, str]]:
    """The secrets of the host that its spec needs, and what for."""
    yield from ((name, "backups") for name in (spec.backup.secrets if spec.backup else ()))
    yield from ((name, "notices") for name in (spec.notify.secrets if spec.notify else ()))


# What the server's role is for, by a statement of its policy.
_ROLE_DOES: Final = {"Pull": "logs in to ECR", "Store": "opens the bucket of its backups"}


def _groups(spec: Spec, host: Host, delivery: Delivery) -> tuple[userdata.Group, ...]:
    from builder import userdata
    from builder.providers import Encoding

    compressed = delivery.encoding is not Encoding.PLAIN
    return userdata.groups(spec, host, delivery.on, delivery.used, compressed=compressed)


def _push(spec: Spec, stack: str, secret: str) -> str:
    return f"er secret set SPEC {stack} {secret}" if spec.fleet else f"er server secret set ADDRESS {stack} {secret}"


def _filled(template: str, file: Path | None) -> str:
    return template.replace("{file}", str(file or "FILE")).replace("{name}", file.name if file else "FILE")


def _as_json(spec: Spec, host: Host, delivery: Delivery, file: Path | None) -> dict[str, object]:
    from builder import spec as specs
    from builder import userdata

    row = providers.get(delivery.provider)
    binary = delivery.encoding.is_binary
    content = base64.b64encode(delivery.content) if binary else delivery.content
    return {
        "name": spec.server.name,
        "domains": sorted({domain for stack in spec.stacks for domain in stack.domains}),
        "provider": delivery.provider,
        "on": delivery.on,
        "encoding": delivery.encoding,
        "shared": delivery.shared,
        "bytes": len(delivery.content),
        "used": delivery.used,
        "limit": delivery.limit,
        "limit_published": row.limit.verified,
        "counted": row.counted.value,
        "groups": [{"name": one.name, "used": one.used, "files": one.files} for one in _groups(spec, host, delivery)],
        "secrets": [{"stack": stack, "name": secret} for stack, secret in userdata.secrets(spec)],
        "host_secrets": [name for name, _ in _host_secrets(spec)],
        "builds": [{"stack": stack, "service": service} for stack, service in userdata.builds(spec)],
        "logins": [{"stack": stack, "registry": registry} for stack, registry in userdata.logins(spec)],
        "role_policy": specs.role_policy(spec),
        "packages": dict(host.extra_packages),
        "command": _filled(row.command.value, file),
        "console": _filled(row.console.value, file),
        "login": spec.admin.name,
        "user_data_base64" if binary else "user_data": content.decode(),
    }


def _as_text(value: object) -> str:
    """Text as it is, and anything else as the JSON of it: `jsondecode` reads that."""
    return value if isinstance(value, str) else json.dumps(value)


def _check(found: Sequence[Problem]) -> None:
    if any(problem.severity == "error" for problem in found):
        raise SpecError(found)
    output.problems(found)


def _report_lacking(host: Host, path: Path) -> None:
    """What the image lacks of the packages, each with its reason: first boot installs it, which takes its time."""
    from builder import manifest

    there = {package["name"] for package in manifest.read(path)["packages"]}
    for name in (name for name in host.packages if name not in there):
        reason = f" ({host.extra_packages[name]})" if name in host.extra_packages else ""
        output.note(f"warning: the image of {path} lacks {name}{reason}: first boot installs it from the network")
