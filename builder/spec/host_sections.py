"""The sections about the host itself: checks that need files, or more than one value, and what they read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.oci import image_reference
from builder.problems import Report
from builder.spec import messages, model, notify_input, rules, ssh_keys, storage, update_input
from builder.spec.rules import RuleError
from builder.stack import domains
from builder.yamlfile import source
from builder.yamlfile.places import line_starts
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from pathlib import Path

    from builder.problems import Mark
    from builder.spec.document import Document
    from builder.spec.notify_input import EmailInput, NotifyInput
    from builder.yamlfile.source import Loc


def admin_keys(document: Document) -> tuple[str, ...]:
    """The lines of authorized_keys from `admin.ssh_keys`, each once."""
    place: Loc = ("admin", "ssh_keys")
    if document.get(place) == []:
        document.report(messages.KEYS_NONE, place)
    lines: list[str] = []
    for loc in document.items(place):
        entry = document.text(loc)
        found = ssh_keys.read_entry(entry, document.base) if entry is not None else ssh_keys.KeyLines((), ())
        for fault in found.faults:
            document.report(fault.text, loc, **fault.values)
        lines += found.lines
    return tuple(dict.fromkeys(lines))


def check_base(document: Document) -> None:
    """Warn of a base that has not been booted."""
    base = document.text(("server", "base"))
    if base == "ubuntu-24.04":
        document.report(messages.BASE_UNTRIED, ("server", "base"), base=base)


def check_networks(document: Document) -> None:
    """Refuse `allow_from` that lets nobody in, warn of `ignore` by which nobody is banned."""
    place: Loc = ("ssh", "allow_from")
    given = [_network(document, loc) for loc in document.items(place)]
    if document.get(place) == []:
        document.report(messages.ALLOW_NONE, place)
    elif given and None not in given and not rules.reachable([text for text in given if text]):
        document.report(messages.ALLOW_UNREACHABLE, place)
    for loc in document.items(("fail2ban", "ignore")):
        text = _network(document, loc)
        if text and rules.is_everything(text):
            document.report(messages.IGNORE_ALL, loc, network=text)


def _network(document: Document, loc: Loc) -> str | None:
    try:
        return rules.network(document.text(loc) or "")
    except RuleError:
        return None


_LETS_ENCRYPT: Final = ("letsencrypt", "letsencrypt-staging")
_EXAMPLE_DOMAINS: Final = ("example.com", "example.net", "example.org")


def check_email(document: Document) -> None:
    """Warn of an e-mail address at a domain of examples, which Let's Encrypt refuses."""
    domain = (document.text(("tls", "email")) or "").rpartition("@")[2].lower()
    if domain in _EXAMPLE_DOMAINS and ca_name(document) in _LETS_ENCRYPT:
        document.report(messages.EMAIL_EXAMPLE, ("tls", "email"), domain=domain)


def ca_root(document: Document) -> bytes | None:
    """The content of the PEM file with the root of an own ACME directory; None without one, or with a problem."""
    place: Loc = ("tls", "ca_root")
    name = document.text(place)
    if name is None:
        return None
    if not ca_name(document).startswith("https://"):
        document.report(messages.CA_ROOT_UNUSED, place)
        return None
    try:
        content = (document.base / name).read_bytes()
    except (OSError, ValueError):
        document.report(messages.CA_ROOT_MISSING, place, path=name)
        return None
    if b"-----BEGIN CERTIFICATE-----" not in content or b"PRIVATE KEY" in content:
        document.report(messages.CA_ROOT_FORM, place, path=name)
    return content


def notify(section: NotifyInput | None) -> model.Notify | None:
    """Who is told; None where nobody is."""
    if section is None:
        return None
    webhook = section.webhook and section.webhook.is_wanted and (section.webhook.format or "auto")
    first, _, last = (section.quiet or "").partition("-")
    return model.Notify(
        webhook or None,
        _mail(section.email),
        section.heartbeat,
        (first, last) if section.quiet else None,
        tuple(dict.fromkeys(section.allow_exec)),
    )


def _mail(section: EmailInput | None) -> model.Email | None:
    if section is None:
        return None
    to = tuple(dict.fromkeys(section.to))
    return model.Email(to, section.sender, section.server, section.port, section.username or section.sender)


def check_notify(document: Document) -> None:
    """Refuse a section by which nobody is told, and stacks that are not there."""
    place: Loc = ("notify",)
    if not isinstance(document.get(place), dict):
        return
    if not any(document.get((*place, name)) for name in ("webhook", "email", "heartbeat")):
        document.report(notify_input.NOBODY, place, on_key=True)
    known = [document.text((*loc, "name")) or "" for loc in document.items(("stacks",))]
    for loc in document.items((*place, "allow_exec")):
        name = document.text(loc)
        if name is not None and name not in known:
            document.report(notify_input.STACK, loc, name=name, known=", ".join(known) or "none")


def check_storage(document: Document) -> None:
    """Refuse shared certificates of Caddy's own authority."""
    if document.text(("tls", "storage")) is not None and ca_name(document) == "internal":
        document.report(storage.INTERNAL, ("tls", "storage"))


_RELEASE: Final = re.compile(r"v?\d+\.\d+\.\d+(?![.\d])")


def check_update(document: Document, image: str) -> None:
    """Report what keeps the proxy of a spec, which has this image, from updating itself."""
    place: Loc = ("update", "proxy")
    if document.get(place) is None:
        return
    base = document.text(("server", "base"))
    if base == "ubuntu-24.04":  # see quadlet.BASES
        document.report(update_input.BASE, place, base=base)
    elif image.startswith(image_reference.ARCHIVE):
        document.report(update_input.ARCHIVE, place)
    elif not _RELEASE.match(image.partition("@")[0].rpartition(":")[2]):
        document.report(update_input.RELEASE, place, image=image)


def check_domain(document: Document, domain: str, where: str, mark: Mark) -> None:
    """Warn of a name that no public CA certifies."""
    if ca_name(document) in _LETS_ENCRYPT and domains.is_private(domain) and not domains.find_fault(domain):
        messages.DOMAIN_PRIVATE.add_to(document.problems, where, mark, domain=domain)


def ca_name(document: Document) -> str:
    """The CA as written, by name or URL; Let's Encrypt where there is none."""
    return document.text(("tls", "ca")) or "letsencrypt"


def proxy_image(document: Document) -> str:
    """The image of Caddy, normalised; the default where none is written, or a wrong one."""
    return image(document, ("proxy", "image")) or facts.PROXY_IMAGE


def image(document: Document, loc: Loc) -> str | None:
    """The image at a place, normalised; None where there is none or it is wrong."""
    text = document.text(loc)
    if text is None:
        return None
    return image_reference.normalise(text, document.base, dotted(loc), document.mark(loc), document.problems)


def with_proxy_image(text: str, path: Path, image: str) -> str:
    """The text of a spec with this image as `proxy.image`: in place of the one it has, or else in a line at its end.

    The caller checks what comes of it: YAML has more ways to write a value than this knows.
    """
    found = source.parse(text, path, Report(), dialect="spec")
    if found is None:
        return text
    place: Loc = ("proxy", "image")
    if place not in found.places:
        end = "" if text.endswith("\n") else "\n"
        return f'{text}{end}proxy: {{image: "{image}"}}\n'
    mark = found.mark(place)
    start = line_starts(text)[mark.line - 1] + mark.column - 1
    return f'{text[:start]}"{image}"{text[start + mark.length :]}'
