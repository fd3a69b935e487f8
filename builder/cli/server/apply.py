"""`er server apply`: bring a running server to a changed spec."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder import files, problem_report
from builder.cli import building, output, progress
from builder.cli.options import AsJson, Host, SpecPath, SshOptions, load, remote, shared
from builder.cli.progress import NEXT, Steps, ending
from builder.cli.server import firewall, push, registries, releases
from builder.problems import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.cli.building import Plan
    from builder.host import Host as Tree
    from builder.problems import UserError
    from builder.server import Remote
    from builder.server.apply import Difference
    from builder.spec import Spec


def command(
    host: Host,
    path: SpecPath,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    newest_proxy: Annotated[
        bool, typer.Option("--newest-proxy", help="Take the proxy's newest release, and write it into SPEC.")
    ] = False,
    build: Annotated[bool, typer.Option(help="Build what the spec has `build:` for, where it has changed.")] = True,
    pull: Annotated[
        bool, typer.Option("--pull", help="Build it anew: without a cache, from the newest base images.")
    ] = False,
    on_server: Annotated[
        bool, typer.Option("--on-server", help="Build it on the server, and not here: of what counts in its directory.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and change nothing.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=10, metavar="SECONDS", help="Take it back when not ready by then.")
    ] = 300,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Bring a server to what SPEC says now; what does not come up is taken back by itself."""
    from builder import host as hosts
    from builder.server import apply
    from builder.server.releases import deployed
    from builder.server.ssh import KeyChangedError, UnreachableError

    spec = load(path)
    server = shared(remote(host, ssh))
    try:
        if newest_proxy:
            spec = apply.with_newest_proxy(server, spec, bring=not dry_run)
        tree = hosts.build(spec)
        found = apply.differences(server, tree)
        released = [one for one in deployed(server) if not building.is_built(one["of_spec"])]
    except UnreachableError as error:
        if not dry_run or isinstance(error, KeyChangedError):
            raise
        return _unreachable(host, hosts.build(spec), error, as_json=as_json)
    builds = building.plan(server, spec, pull=pull, on_server=on_server) if build else None
    _show_differences(found)
    for line in releases.before_apply(host, released, apply.changed_images(found)):
        output.note(line)
    if builds:
        building.show(builds)
    if dry_run:
        return nothing_done("dry run", found, _built(builds, {}), as_json=as_json)
    changes = len(found) + len(builds.changes if builds else ())
    if changes and not yes and not confirmed(changes):
        return 1
    # What cannot be built changes nothing; what is built comes last, as it may be for a stack that is new.
    with building.built(builds) as images:
        end = follow(_carry_out(server, spec, tree, found, timeout))
        good = end.get("phase", "done") == "done"
        if good:
            _finish(server, spec, path if newest_proxy else None)
        switched = push.deliver(server, images, timeout) if good else {}
    return _end(host, end, found, {"releases": released, **_built(builds, switched)}, as_json=as_json)


def _built(builds: Plan | None, switched: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of a spec that has something to build, what became of it."""
    return {"builds": building.summary(builds), "switched": switched} if builds else {}


def _end(host: str, end: dict[str, Any], found: tuple[Difference, ...], built: dict[str, Any], *, as_json: bool) -> int:
    """Show how it ended; the exit code."""
    switched = built.get("switched", {})
    failed = any(one["phase"] != "done" for one in switched.values())
    if not end:
        return nothing_done("done", found, built, as_json=as_json) or int(failed)
    if as_json:
        output.json({**end, "changes": summary(found), **built})
    waits = {stack: names for stack, names in end.get("images", {}).items() if stack not in switched}
    return show_result(host, {**end, "images": waits}) or int(failed)


def _carry_out(
    server: Remote, spec: Spec, tree: Tree, found: tuple[Difference, ...], timeout: float
) -> Iterator[dict[str, Any]]:
    from builder.server import apply

    if not found:
        # The files may be those of a change whose client has gone, and which would be taken back.
        return apply.resume(server)
    with Steps() as steps:
        for archive in apply.send_archives(server, spec):
            steps.next(f"sending {archive.name}")
    return apply.carry_out(server, apply.plan(spec, tree, timeout=timeout))


def _unreachable(host: str, tree: Tree, error: UserError, *, as_json: bool) -> int:
    """A dry run that cannot reach the server shows the whole tree of the spec."""
    output.note(f"what differs on {host} is unknown; the spec's tree is {len(tree.files)} files:")
    for file in tree.files:
        output.note(f"  {file.mode} {file.path}")
    output.missing([error])
    if as_json:
        desired = [{"path": file.path, "mode": file.mode} for file in tree.files]
        output.json({"phase": "dry run", "changes": None, "files": desired, "missing": problem_report.missing([error])})
    return 0


def _finish(server: Remote, spec: Spec, path: Path | None) -> None:
    """What is left to do when the server is what the spec says; a `path` is that of a spec with the newest proxy."""
    served = [
        *["deploy keys"] * any(stack.deploy for stack in spec.stacks),
        *["backups"] * bool(spec.backup),
        *["notices"] * bool(spec.notify),
        *["updates of images"] * spec.updates_itself,
    ]
    if served and server.ask("keep-code"):
        output.note(f"{' and '.join(served)} are served by this version of er from now on")
    if path is not None:
        _write_proxy_image(path, spec)


def _write_proxy_image(path: Path, spec: Spec) -> None:
    """Write the proxy's image into the spec file, if that makes it the spec that the server has now."""
    from builder import host as hosts
    from builder import spec as specs

    text = path.read_bytes().decode("utf-8-sig")
    pinned = specs.with_proxy_image(text, path, spec.proxy.image)
    try:
        same = hosts.build(specs.loads(pinned, path)[0]) == hosts.build(spec)
    except SpecError:
        same = False
    if same and pinned != text:
        files.write(path, pinned.encode())
        output.note(f"{path} names it: {spec.proxy.image}")
    if not same:
        way = f'write it there: proxy: {{image: "{spec.proxy.image}"}}'
        output.failure(
            f"{path} does not name the image that the server has now; the next apply would take it back", way
        )


def _show_differences(found: tuple[Difference, ...]) -> None:
    for one in found:
        show_difference(one)
    output.note(differ(len(found)) if found else "nothing differs: the server is what the spec says")


def show_difference(one: Difference) -> None:
    """One file, as `diff -u` shows it."""
    for line in one.lines():
        output.note(line, {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], ""))


def differ(count: int) -> str:
    """How many files differ, in words."""
    return f"{count} files differ" if count > 1 else "1 file differs"


def nothing_done(phase: str, found: tuple[Difference, ...], built: dict[str, Any], *, as_json: bool) -> int:
    """Nothing has changed on the server; the exit code."""
    if as_json:
        output.json({"phase": phase, "changes": summary(found), "missing": [], **built})
    return 0


def summary(found: tuple[Difference, ...]) -> list[dict[str, str]]:
    """Differences as JSON has them."""
    return [{"path": one.path, "kind": one.kind} for one in found]


def confirmed(count: int) -> bool:
    """Whether somebody agrees to change so many things."""
    if not sys.stdin.isatty():
        output.failure("there is nobody to ask", "look at --dry-run, then say --yes")
        return False
    agreed = typer.confirm(f"Change {'it' if count == 1 else 'them'} on the server?", err=True)
    if not agreed:
        output.note("nothing was changed")
    return agreed


def follow(states: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Show the states of a change as they come; returns the last one."""
    try:
        return progress.follow(states, _lines)
    except KeyboardInterrupt:
        output.note("the server goes on by itself: what er does not confirm within 90 s is taken back")
        output.note("to confirm it after all, run the same command again")
        raise


def _lines(state: dict[str, Any]) -> Iterator[str]:
    """What to say of a state besides its phase."""
    if state["phase"] == "no answer":
        yield "the server cannot be reached since the change; it takes it back by itself within 90 s"
    yield from releases.holder(state)
    if names := state.get("packages"):
        yield f"the server lacks {', '.join(names)}"


def show_result(host: str, end: dict[str, Any]) -> int:
    """How a change ended, in words; the exit code."""
    if end["phase"] == "done":
        ending(_rows(host, end))
        for stack in end.get("ill", ()):
            output.failure(f"{stack} was ill before this change, and still is", f"see: er server logs {host} {stack}")
        for where, reason in end.get("restarted", {}).items():
            output.note(releases.restarted(where, reason))
        firewall.show_names(end.get("names", ()))
        return 0
    refused = [
        text for stack, found in end.get("refused", {}).items() for text in registries.refusals(host, stack, found)
    ]
    said = ["its containers said:", *end["said"]] if end.get("said") else []
    hint = "\n  ".join([*refused, *said]) or None
    if end["phase"] == "rolled back":
        output.failure(f"the change was taken back, the server is as before: {end['why']}", hint)
    else:
        output.failure(f"the change failed: {end.get('why')}; then: {end.get('then')}", "see er server doctor")
    return 1


def _rows(host: str, end: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "server", f"has the new tree; the one of before is kept on it: er server rollback {host}"
    for stack, names in end.get("waiting", {}).items():
        ways = "; ".join(f"er server secret set {host} {stack} {name}" for name in names)
        yield NEXT, f"{stack} waits for what only you know: {ways}"
    for stack, found in end.get("logins", {}).items():
        yield from ((NEXT, line) for line in registries.waits(host, stack, found))
    for stack, services in end.get("images", {}).items():
        for service in services:
            where = f"{stack}/{service}"
            yield NEXT, f"{where} waits for its first image: er server push {host} {where} IMAGE"
