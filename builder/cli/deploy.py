"""`er deploy`: another image for one stack, with a key that may do nothing else; made for CI."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import typer

from builder import facts, problem_report
from builder.cli import building, output
from builder.cli.options import AsJson, SshOptions, Stack, asking, shared
from builder.cli.server import push
from builder.cli.server.releases import follow, show_end
from builder.problems import Report

if TYPE_CHECKING:
    from builder.server.deploy_login import Login

    State = dict[str, Any]

NAME = "deploy"


def command(
    host: Annotated[str, typer.Argument(metavar="HOST", help="As ssh takes it; without a user, deploy@.")],
    stack: Stack,
    *,
    image: Annotated[
        str,
        typer.Option(
            "--image",
            metavar="REF",
            help="An image of Docker or Podman here, an archive or a layout, which is sent; or a tag or digest of the "
            "image that the spec names, which the server fetches.",
        ),
    ] = "",
    build: Annotated[
        Path | None,
        typer.Option("--build", metavar="DIR", help="Build the image here, of this directory, and send it."),
    ] = None,
    on_server: Annotated[
        bool, typer.Option("--on-server", help="With --build: send the directory, and have the server build it.")
    ] = False,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Of a stack that has several.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until it runs, or was taken back; else only begin.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent and change nothing.")] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", min=1, max=3600, metavar="SECONDS", help="Taken back when not ready by then.")
    ] = 300,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The private key to log in with, and no other.")
    ] = None,
    host_key: Annotated[
        str, typer.Option("--host-key", metavar="SHA256:…", help="The fingerprint of the server's host key.")
    ] = "",
    known_hosts: Annotated[
        Path | None, typer.Option("--known-hosts", metavar="FILE", help="The file with the server's host key.")
    ] = None,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Give a stack another image, with the key of its deploy.ssh_keys; what does not come up is taken back.

    The host key has to be known: by --host-key, --known-hosts, or your own known_hosts.
    """
    if bool(image) == (build is not None):
        raise typer.BadParameter("say what to deploy: --image REF, or --build DIR")
    if on_server and build is None:
        raise typer.BadParameter("--on-server is for --build DIR")
    options = [*(ssh or []), *_key(key), *_host_key(host_key, known_hosts)]
    server = shared(asking(host if "@" in host else f"{facts.DEPLOY_LOGIN}@{host}", options))
    directory = _Directory(build, on_server) if build else None
    if dry_run:
        found = _look(server, stack, service, image, directory)
        if as_json:
            output.json({"phase": "dry run", "stack": stack, "missing": [], **found})
        return 0
    images, source = _brought(server, stack, service, image, directory)
    if images:
        return _switch(server, stack, images, source, timeout, wait=wait, as_json=as_json)
    if as_json:
        output.json({"stack": stack, "images": {}, "phase": "done", "changed": []})
    return 0


def _switch(
    server: Login, stack: str, images: dict[str, str], source: str, timeout: int, *, wait: bool, as_json: bool
) -> int:
    """Let the server switch to these images, by service, and say how that ended; the exit code."""
    end = _switched(server, stack, images, source, timeout, wait=wait)
    if as_json:
        output.json({"stack": stack, "images": images, **end})
    if end["phase"] not in facts.APPLY_ENDS:
        output.note(f"{stack}/{next(iter(images))}: begun ({end['phase']}); the server goes on by itself")
        return 0
    return show_end(server.host, stack, end, images)


def _key(path: Path | None) -> list[str]:
    return [] if path is None else [f"IdentityFile={path}", "IdentitiesOnly=yes"]


def _host_key(fingerprint: str, known_hosts: Path | None) -> list[str]:
    from builder.server import host_keys

    if fingerprint and known_hosts is not None:
        raise typer.BadParameter("one of --host-key and --known-hosts says it")
    try:
        words = host_keys.by_fingerprint(fingerprint) if fingerprint else ()
    except ValueError:
        raise typer.BadParameter("a fingerprint is SHA256: and 43 characters, as ssh-keygen -l shows it") from None
    if known_hosts is not None:
        if not known_hosts.is_file():
            raise typer.BadParameter(f"there is no file {known_hosts}")
        words = host_keys.by_file(str(known_hosts.absolute()))
    return list(words[1::2])


class _Directory(NamedTuple):
    """What is to be built, and whether the server does."""

    path: Path
    on_server: bool


def _brought(
    server: Login, stack: str, service: str, image: str, build: _Directory | None
) -> tuple[dict[str, str], Literal["push", "build", "registry"]]:
    """The image by its service, which the server has now or can fetch, and where it comes from; none if it runs."""
    from builder.oci import engines
    from builder.server import push as pushes

    target = pushes.target(server, stack, service)
    if build is not None:
        plan = building.plan_of(server, stack, target, build.path, on_server=build.on_server)
        building.show(plan)
        with building.built(plan) as ready:
            return push.brought(server, ready).get(stack, {}), "build"
    if name := _of_registry(server, stack, target.service, image):
        return {target.service: name}, "registry"
    with tempfile.TemporaryDirectory(prefix="er-deploy-") as scratch:
        found = engines.find(image, target.architecture, Path(scratch))
        return {target.service: push.send_image(server, stack, target.service, found)}, "push"


def _look(server: Login, stack: str, service: str, image: str, build: _Directory | None) -> State:
    """Say what would be built, fetched or sent, and return it; of a server that cannot be reached, why."""
    from builder.server import push as pushes
    from builder.server.ssh import KeyChangedError, UnreachableError

    try:
        target = pushes.target(server, stack, service)
    except KeyChangedError:
        raise
    except UnreachableError as error:
        output.note(f"what {server.host} has is unknown; {build.path if build else image} would be for {stack}")
        output.missing([error])
        return {"missing": problem_report.missing([error])}
    if build is not None:
        plan = building.plan_of(server, stack, target, build.path, on_server=build.on_server)
        building.show(plan)
        return {"builds": building.summary(plan)}
    if name := _of_registry(server, stack, target.service, image):
        output.note(f"{stack}/{target.service}: the server would fetch {name}")
        return {"images": {target.service: name}}
    return _missing_layers(server, stack, target.service, target.architecture, image)


def _missing_layers(server: Login, stack: str, service: str, architecture: str, image: str) -> State:
    from builder.oci import engines
    from builder.server import push as pushes

    with tempfile.TemporaryDirectory(prefix="er-deploy-") as scratch:
        local = engines.find(image, architecture, Path(scratch))
        found = push.summary_of(local, pushes.missing(server, stack, service, local, look=True))
    output.note(push.summary_text(f"{stack}/{service}", found))
    return found


def _of_registry(server: Login, stack: str, service: str, image: str) -> str:
    """The full name of an image that the server can fetch: of the repository that the spec names; else nothing."""
    from builder.oci import image_reference

    if image.startswith("sha256:"):
        return image
    services = server.ask("stack-status", stack)["services"]
    named = next((one["image"] for one in services if one["service"] == service), "")
    full = image_reference.normalise(image, Path(), "--image", None, Report())
    if full is None or image_reference.is_archive(full):
        return ""
    return full if image_reference.split(full)[:2] == image_reference.split(named)[:2] else ""


# In this one nothing has begun.
_WAITING: Final = "waiting for its turn"


def _switched(server: Login, stack: str, images: dict[str, str], source: str, timeout: int, *, wait: bool) -> State:
    """The state in which the switch ended, or without `wait` began."""
    from builder.server import releases

    states = releases.switch(server, stack, images, source=source, timeout=timeout)
    return follow(states) if wait else next(one for one in states if one["phase"] != _WAITING)
