"""`er check`: every problem of a spec in one run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from builder import problem_report
from builder.cli import output
from builder.cli.options import AsJson, SpecPath
from builder.problems import Problem, SpecError
from builder.stack import sleeping

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.spec import Spec
    from builder.spec.model import Notify
    from builder.stack.model import EgressRule, Service, Stack

NAME = "check"
# When a server asks for the addresses of what `egress:` names.
RESOLVED: Final = ("at its boots", "er server apply", "er server reapply-firewall")


def command(path: SpecPath, as_json: AsJson = False) -> int:
    """Read SPEC and everything it names; show all problems, or what will be served."""
    from builder import spec as specs

    spec: Spec | None
    problems: Sequence[Problem]
    try:
        spec, problems = specs.load(path)
    except SpecError as error:
        spec, problems = None, error.problems
    if as_json:
        found = {"ok": spec is not None, "problems": problem_report.as_json(problems), "stacks": _stacks(spec)}
        about = {"memory": _memory(spec), "backup": _backup(spec), "edge": _edge(spec), "notify": _notify(spec)}
        output.json({**found, **about})
    else:
        output.problems(problems)
        if spec is not None:
            _summary(spec)
    return 0 if spec is not None else 1


def _stacks(spec: Spec | None) -> list[dict[str, object]]:
    return [
        {
            "name": stack.name,
            "uid": stack.uid,
            "egress": [
                {
                    "to": rule.to,
                    "protocol": rule.protocol,
                    "ports": list(rule.ports),
                    "resolved": list(RESOLVED) if rule.by_name else None,
                }
                for rule in stack.egress
            ],
            "no_egress": stack.no_egress,
            "secrets": list(_secrets(stack)),
            "logins": [
                {"registry": one.registry, "username": one.username, "by_role": one.by_role} for one in stack.logins
            ],
            "services": [
                {
                    "name": s.name,
                    "type": s.kind,
                    "domains": list(s.domains),
                    "port": s.port if s.kind == "web" else None,
                    "paths": list(s.paths),
                    "redirect_from": list(s.redirect_from),
                    "users": [name for name, _ in s.basic_auth],
                    "image": s.image,
                    "hardening": s.hardening,
                    "sleep": s.sleep,
                    "wake": list(s.wake),
                    "wake_timeout": s.wake_timeout,
                }
                for s in stack.services
            ],
        }
        for stack in (spec.stacks if spec else ())
    ]


def _backup(spec: Spec | None) -> dict[str, object] | None:
    if spec is None or spec.backup is None:
        return None
    left_out = [stack.name for stack in spec.stacks if stack.backup is None]
    return {
        "to": spec.backup.to, "at": spec.backup.at, "secrets": list(spec.backup.secrets), "left_out": left_out
    }  # fmt: skip


def _edge(spec: Spec | None) -> dict[str, object] | None:
    edge = spec.proxy.edge if spec else None
    return {**asdict(edge), "proxy_protocol": edge.proxy_protocol} if edge else None


def _notify(spec: Spec | None) -> dict[str, object] | None:
    if spec is None or spec.notify is None:
        return None
    quiet = "-".join(spec.notify.quiet) if spec.notify.quiet else None
    return {"channels": _channels(spec.notify), "quiet": quiet, "secrets": list(spec.notify.secrets)}


def _channels(notify: Notify) -> list[str]:
    every = {"webhook": notify.webhook, "email": notify.email, "heartbeat": notify.heartbeat}
    return [name for name, is_wanted in every.items() if is_wanted]


def _memory(spec: Spec | None) -> dict[str, object] | None:
    """What heavy images want, in bytes, and the size of a server in GiB; None where none is known to be heavy."""
    from builder.spec import memory

    if spec is None or not (found := memory.wanted(spec.stacks)):
        return None
    stacks = [{"name": one.stack, "wanted": one.total, "services": dict(one.services)} for one in found]
    return {"wanted": sum(one.total for one in found), "server": memory.server_size(spec), "stacks": stacks}


def _summary(spec: Spec) -> None:
    server = spec.server
    output.note(f"{server.name}: {server.base} {server.arch}, {len(spec.stacks)} stack{'s' * (len(spec.stacks) != 1)}")
    for stack in spec.stacks:
        for service in stack.services:
            output.note(f"  {_line(stack, service)}")
        for rule in stack.egress:
            output.note(f"  {_egress(stack, rule)}")
        if stack.no_egress:
            output.note(f"  er-{stack.name} {stack.uid}  may reach nothing outside, not even DNS and the web")
        if names := _secrets(stack):
            output.note(f"  er-{stack.name} {stack.uid}  waits for its secrets: {', '.join(names)}")
        for line in (*_sleepers(stack), *_builds(stack)):
            output.note(f"  er-{stack.name} {stack.uid}  {line}")
        for login in stack.logins:
            whom = "by the server's role, which only EC2 has" if login.by_role else f"as {login.username}"
            output.note(f"  er-{stack.name} {stack.uid}  logs in to {login.registry} {whom}")
    for text in _maybe_private(spec):
        output.note(f"  {text}")
    lines = (*_edge_lines(spec), *_memory_lines(spec), *_backup_lines(spec), *_notify_lines(spec))
    for line in lines:
        output.note(line)


def _sleepers(stack: Stack) -> Iterator[str]:
    """What sleeps with the public services that do, and what does not."""
    asleep = sleeping.sleeping(stack.services)
    if not asleep:
        return
    if along := [one.name for one in stack.services if one.name in asleep and one.kind != "web"]:
        yield f"{', '.join(along)}: sleeping along"
    if awake := [one.name for one in stack.services if one.name not in asleep]:
        yield f"{', '.join(awake)}: always on, with all that it needs"


def _builds(stack: Stack) -> Iterator[str]:
    """What is built here, and brought to the server by `er server apply`."""
    for service in stack.services:
        if service.build:
            way = f"er server apply HOST SPEC builds it from {service.build.context}"
            yield f"{service.name} waits for its first image: {way}"


def _memory_lines(spec: Spec) -> Iterator[str]:
    from builder.spec import memory

    found = memory.wanted(spec.stacks)
    for one in found:
        each = ", ".join(f"{name} {output.size(size)}" for name, size in one.services)
        yield f"  er-{one.stack} wants {output.size(one.total)} of memory at least: {each}"
    if found:
        total = output.size(sum(one.total for one in found))
        size = memory.server_size(spec)
        yield f"memory: {total} for heavy images, and the other services: take a server with {size} GB or more"


def _edge_lines(spec: Spec) -> Iterator[str]:
    edge = spec.proxy.edge
    if edge:
        how = edge.header or "the PROXY protocol"
        yield f"behind {edge.name or 'an edge'}: {len(edge.networks)} networks say by {how} who a visitor is"
    if edge and edge.only:
        yield "  80 and 443 answer to them alone"


def _backup_lines(spec: Spec) -> Iterator[str]:
    if spec.backup:
        left_out = [stack.name for stack in spec.stacks if stack.backup is None]
        without = f", without {', '.join(left_out)}" if left_out else ""
        yield f"backup to {spec.backup.to} at {spec.backup.at}{without}"
        yield f"  waits for secrets of the host: {', '.join(spec.backup.secrets)}"


def _notify_lines(spec: Spec) -> Iterator[str]:
    if spec.notify:
        quiet = f", between {' and '.join(spec.notify.quiet)} only what cannot wait" if spec.notify.quiet else ""
        yield f"what is wrong is told by {', '.join(_channels(spec.notify))}{quiet}"
        yield f"  waits for secrets of the host: {', '.join(spec.notify.secrets)}"


def _secrets(stack: Stack) -> tuple[str, ...]:
    """What is to be set on the server, each once."""
    return tuple(dict.fromkeys(name for service in stack.services for name in service.secret_names))


def _maybe_private(spec: Spec) -> Iterator[str]:
    """What to write should an image be private."""
    from builder.spec import registries

    named = {one.registry for stack in spec.stacks for one in stack.logins}
    images = (service.image for stack in spec.stacks for service in stack.services)
    for image, registry, owner in registries.maybe_private(images, named):
        yield f"should {image} be private: registries: {{{registry}: {{username: {owner}}}}}"


def _line(stack: Stack, service: Service) -> str:
    addresses = (f"https://{domain}{path}" for domain in service.domains for path in service.paths or ("",))
    where = " ".join(addresses) or service.kind
    return f"er-{stack.name} {stack.uid}  {service.name}: {where}{''.join(f'  ({note})' for note in _notes(service))}"


_LEVELS: Final = {
    "standard": "",
    "strict": "security-hardening strict: no capabilities, and a root that cannot be written",
    "off": "security-hardening off",
}


def _notes(service: Service) -> Iterator[str]:
    if service.kind == "web":
        yield f"port {service.port}" if service.listen is None else f"listen {service.listen}"
    if service.sleep:
        yield f"sleeps after {service.sleep}s without a connection"
    if service.redirect_from:
        yield f"{', '.join(service.redirect_from)} leads there"
    if service.basic_auth:
        yield f"for {', '.join(name for name, _ in service.basic_auth)}"
    if level := _LEVELS[service.hardening]:
        yield level


def _egress(stack: Stack, rule: EgressRule) -> str:
    ports = ",".join(map(str, rule.ports)) or "all ports"
    when = f"  (resolved by the server {RESOLVED[0]}, by {' and '.join(RESOLVED[1:])})" if rule.by_name else ""
    return f"er-{stack.name} {stack.uid}  may reach {rule.to} {rule.protocol} {ports}{when}"
