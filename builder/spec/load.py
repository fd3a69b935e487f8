"""Path -> Spec and its warnings, or SpecError with every problem there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from builder.problems import Problem, Report, SpecError
from builder.spec import host_sections, model, stack_entries
from builder.spec.document import Document, validate
from builder.stack import user
from builder.stack.model import EgressRule, Stack
from builder.yamlfile import source

if TYPE_CHECKING:
    from pathlib import Path

    from builder.spec.input_model import Fail2banInput, SpecInput, StackInput
    from builder.yamlfile.source import Source


def load(path: Path) -> tuple[model.Spec, tuple[Problem, ...]]:
    """Read a spec and every file it names. Gives it with its warnings; raises SpecError with all problems."""
    report = Report()
    found = source.read(path, report, dialect="spec")
    return _finish(found, report)


def loads(text: str, path: Path) -> tuple[model.Spec, tuple[Problem, ...]]:
    """The same for a text; `path` is where it would stand."""
    report = Report()
    found = source.parse(text, path, report, dialect="spec")
    return _finish(found, report)


def _finish(found: Source | None, report: Report) -> tuple[model.Spec, tuple[Problem, ...]]:
    if found is None:
        raise SpecError(report)
    document = Document(found, report)
    keys = host_sections.admin_keys(document)
    given = validate(document)
    host_sections.check_base(document)
    host_sections.check_networks(document)
    host_sections.check_email(document)
    root, image = host_sections.ca_root(document), host_sections.proxy_image(document)
    survey = stack_entries.read_stacks(document)
    if report.failed or given is None:
        raise SpecError(report)
    spec = model.Spec(
        server=model.Server(given.server.name, given.server.base, given.server.arch, given.server.timezone),
        admin=model.Admin(given.admin.name, keys),
        ssh=model.Ssh(tuple(dict.fromkeys(given.ssh.allow_from))),
        tls=model.Tls(given.tls.email, given.tls.ca, root),
        proxy=model.Proxy(image, cast("float | None", given.proxy.body_timeout)),
        fail2ban=_fail2ban(given.fail2ban),
        aws=model.Aws(given.aws.region, given.aws.type),
        dns=given.dns,
        stacks=_stacks(document, given, survey),
    )
    return spec, tuple(report)


def _fail2ban(given: Fail2banInput) -> model.Fail2ban:
    allow = tuple((domain, tuple(dict.fromkeys(pages))) for domain, pages in given.allow.items())
    return model.Fail2ban(tuple(dict.fromkeys(given.ignore)), tuple(dict.fromkeys(given.disable)), allow)


def _stacks(document: Document, given: SpecInput, survey: tuple[stack_entries.StackEntry, ...]) -> tuple[Stack, ...]:
    return tuple(_stack(document, one, found) for one, found in zip(given.stacks, survey, strict=True))


def _stack(document: Document, given: StackInput, found: stack_entries.StackEntry) -> Stack:
    uid = given.uid or user.uid(given.name)
    egress = tuple(EgressRule(rule.to, rule.protocol, tuple(rule.ports)) for rule in given.egress)
    mark = document.mark(found.loc)
    if found.contents is None:
        service = stack_entries.short_service(given, found.image or "", mark)
        return Stack(given.name, uid, (service,), stack_entries.short_volumes(given), egress=egress, mark=mark)
    contents = found.contents
    return Stack(given.name, uid, contents.services, contents.volumes, contents.networks, contents.files, egress, mark)
