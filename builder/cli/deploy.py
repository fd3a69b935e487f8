"""`er deploy`: another image for one stack, with a key that may do nothing else; made for CI."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from builder import facts
from builder.cli import output
from builder.cli.options import AsJson, SshOptions, Stack, asking
from builder.cli.progress import Steps
from builder.problems import Report, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server import Remote
    from builder.server.deploy_login import DeployLogin
    from builder.server.push import Progress, Target

    Server = Remote | DeployLogin
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
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Of a stack that has several.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until it runs, or was taken back; else only begin.")
    ] = True,
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
    if build is not None:
        raise UserError("er deploy does not build yet", "build the image, then: er deploy HOST STACK --image NAME")
    options = [*(ssh or []), *_key(key), *_host_key(host_key, known_hosts)]
    server = asking(host if "@" in host else f"{facts.DEPLOY_LOGIN}@{host}", options)
    with Steps() as steps:
        end = _deploy(steps, server, stack, service, image, timeout, wait=wait)
    if as_json:
        output.json(end)
    return _show_end(stack, end)


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


def _deploy(steps: Steps, server: Server, stack: str, service: str, image: str, timeout: int, *, wait: bool) -> State:
    """Bring the image to the server, and switch to it; the state in which that ended, or began."""
    from builder.server import push, releases

    target = push.target(server, stack, service)
    name = _of_registry(server, stack, target.service, image)
    source = "registry" if name else "push"
    if not name:
        name = _push(steps, server, stack, target, image)
    states = releases.switch(server, stack, {target.service: name}, source=source, timeout=timeout)
    end = _followed(steps, states) if wait else _begun(states)
    return {"stack": stack, "service": target.service, "image": name, **end}


def _of_registry(server: Server, stack: str, service: str, image: str) -> str:
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


def _push(steps: Steps, server: Server, stack: str, target: Target, image: str) -> str:
    from builder.oci import engines
    from builder.server import push

    sent = [0]

    def report(progress: Progress) -> None:
        sent[0] = progress.sent
        of = f"{output.size(progress.sent)} of {output.size(progress.bytes)}"
        steps.detail(f"layer {progress.layer} of {progress.layers}, {of}")

    since = time.monotonic()
    steps.start("sending the image")
    with tempfile.TemporaryDirectory(prefix="er-deploy-") as scratch:
        found = engines.find(image, target.architecture, Path(scratch))
        name = push.push(server, stack, target.service, found, report=report)
    steps.end("sending the image", time.monotonic() - since)
    steps.line(f"{output.size(sent[0])} sent; the server has it as {name}")
    return name


def _followed(steps: Steps, states: Iterator[State]) -> State:
    state: State = {}
    since = time.monotonic()
    for new in states:
        if state:
            steps.end(state["phase"], time.monotonic() - since)
        state, since = new, time.monotonic()
        if holder := state.get("holder"):
            steps.line(f"the stack is being changed: {holder}")
        if state["phase"] not in facts.APPLY_ENDS:
            steps.start(state["phase"])
    return state


# In this one nothing has begun.
_WAITING: Final = "waiting for its turn"


def _begun(states: Iterator[State]) -> State:
    return next(state for state in states if state["phase"] != _WAITING)


def _show_end(stack: str, end: State) -> int:
    phase = end["phase"]
    if phase == "done":
        number = end["release"]["number"]
        what = f"release {number}, {end['service']} runs {end['image']}"
        output.note(f"{stack}: {what}" if end["changed"] else f"{stack}: {what}, as it did before")
        return 0
    said = "\n  ".join(["its containers said:", *end["said"]]) if end.get("said") else None
    if phase == "rolled back":
        output.failure(f"{stack} did not come up with {end['image']}, and runs what it ran: {end['why']}", said)
        return 1
    if phase == "failed":
        then = f"; then: {end['then']}" if end.get("then") else ""
        output.failure(f"{stack} was not switched: {end['why']}{then}", said)
        return 1
    output.note(f"{stack}: begun ({phase}); the server goes on by itself")
    return 0
