"""A spec file -> Spec and its warnings, or SpecError with every problem there is.

The order: the YAML is read; document checks keys and single values; host_sections and stack_entries check what needs
files, or more than one value, however broken the rest is; then the model is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from builder.problems import Problem, Report, SpecError
from builder.spec import (
    backup_rules,
    deploy_access,
    edge_rules,
    fleet_rules,
    host_sections,
    memory,
    model,
    registries,
    sleep_rules,
    stack_entries,
    storage,
    update_input,
)
from builder.spec.document import Document, validate
from builder.yamlfile import source

if TYPE_CHECKING:
    from pathlib import Path

    from builder.spec.input_model import Fail2banInput
    from builder.yamlfile.source import Source


def load(path: Path) -> tuple[model.Spec, tuple[Problem, ...]]:
    """Read a spec and every file it names: the spec and its warnings. Raises SpecError with all problems."""
    report = Report()
    return _load(source.read(path, report, dialect="spec"), report)


def loads(text: str, path: Path) -> tuple[model.Spec, tuple[Problem, ...]]:
    """The same for a text; `path` is the file that it would be in."""
    report = Report()
    return _load(source.parse(text, path, report, dialect="spec"), report)


def _load(file: Source | None, report: Report) -> tuple[model.Spec, tuple[Problem, ...]]:
    if file is None:
        raise SpecError(report)
    document = Document(file, report)
    keys = host_sections.admin_keys(document)
    deploys = deploy_access.read(document, keys)
    spec_input = validate(document)
    host_sections.check_base(document)
    host_sections.check_networks(document)
    host_sections.check_email(document)
    host_sections.check_storage(document)
    registries.check_roles(document)
    backup_rules.check_host(document)
    edge_rules.check(document)
    host_sections.check_notify(document)
    root, image = host_sections.ca_root(document), host_sections.proxy_image(document)
    entries = stack_entries.read_stacks(document)
    fleet_rules.check(document, entries)
    sleep_rules.check(document, entries)
    host_sections.check_update(document, image)
    if report.failed or spec_input is None:
        raise SpecError(report)
    stacks = stack_entries.stacks(document, spec_input.stacks, entries)
    registries.check(document, spec_input, stacks, image)
    stacks = deploy_access.added(document, registries.added(stacks, spec_input), deploys)
    if report.failed:
        raise SpecError(report)
    spec = model.Spec(
        server=model.Server(
            spec_input.server.name, spec_input.server.base, spec_input.server.arch, spec_input.server.timezone
        ),
        admin=model.Admin(spec_input.admin.name, keys),
        ssh=model.Ssh(tuple(dict.fromkeys(spec_input.ssh.allow_from))),
        tls=model.Tls(spec_input.tls.email, spec_input.tls.ca, root, storage.read(spec_input.tls.storage)),
        proxy=model.Proxy(
            image,
            cast("float | None", spec_input.proxy.body_timeout),
            registries.logins([image], spec_input.registries),
            edge_rules.of_spec(document, spec_input.proxy),
            update_input.of_host(spec_input.update),
        ),
        fail2ban=_fail2ban(spec_input.fail2ban),
        aws=model.Aws(spec_input.aws.region, spec_input.aws.type),
        dns=spec_input.dns,
        backup=backup_rules.of_host(spec_input.backup),
        data=model.Data(spec_input.data.disk) if spec_input.data else None,
        notify=host_sections.notify(spec_input.notify),
        fleet=fleet_rules.of_host(spec_input.fleet),
        stacks=stacks,
        mirrors=tuple((name, tuple(one.mirrors)) for name, one in spec_input.registries.items() if one.mirrors),
    )
    memory.check(document, spec)
    return spec, tuple(report)


def _fail2ban(section: Fail2banInput) -> model.Fail2ban:
    allow = tuple((domain, tuple(dict.fromkeys(pages))) for domain, pages in section.allow.items())
    return model.Fail2ban(tuple(dict.fromkeys(section.ignore)), tuple(dict.fromkeys(section.disable)), allow)
