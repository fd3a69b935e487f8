"""The sections about the host itself: what needs files, or more than one value, to be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder import facts
from builder.oci import image_reference
from builder.problems import Report
from builder.spec import messages, rules, ssh_keys
from builder.spec.rules import RuleError
from builder.stack import domains
from builder.yamlfile import source
from builder.yamlfile.places import line_starts
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from pathlib import Path

    from builder.problems import Mark
    from builder.spec.document import Document
    from builder.yamlfile.source import Loc

_LETS_ENCRYPT: Final = ("letsencrypt", "letsencrypt-staging")
_EXAMPLE_DOMAINS: Final = ("example.com", "example.net", "example.org")


def admin_keys(document: Document) -> tuple[str, ...]:
    """The lines of authorized_keys, each once."""
    place: Loc = ("admin", "ssh_keys")
    if document.get(place) == []:
        document.report(messages.KEYS_NONE, place)
    lines: list[str] = []
    for loc in document.items(place):
        entry = document.text(loc)
        found = ssh_keys.read_entry(entry, document.base) if entry is not None else ssh_keys.KeyLines((), ())
        for wrong in found.faults:
            document.report(wrong.text, loc, **wrong.values)
        lines += found.lines
    return tuple(dict.fromkeys(lines))


def check_base(document: Document) -> None:
    """Say how far a base was tried."""
    base = document.text(("server", "base"))
    if base == "ubuntu-24.04":
        document.report(messages.BASE_UNTRIED, ("server", "base"), base=base)


def check_networks(document: Document) -> None:
    """Would anybody get in? Would anybody be banned?"""
    place: Loc = ("ssh", "allow_from")
    given = [_network(document, loc) for loc in document.items(place)]
    if document.get(place) == []:
        document.report(messages.ALLOW_NONE, place)
    elif given and None not in given and not rules.reachable([text for text in given if text]):
        document.report(messages.ALLOW_UNREACHABLE, place)
    for loc in document.items(("fail2ban", "ignore")):
        text = _network(document, loc)
        if text and rules.everything(text):
            document.report(messages.IGNORE_ALL, loc, network=text)


def _network(document: Document, loc: Loc) -> str | None:
    try:
        return rules.network(document.text(loc) or "")
    except RuleError:
        return None


def check_email(document: Document) -> None:
    """Let's Encrypt refuses the domains of examples."""
    domain = (document.text(("tls", "email")) or "").rpartition("@")[2].lower()
    if domain in _EXAMPLE_DOMAINS and ca(document) in _LETS_ENCRYPT:
        document.report(messages.EMAIL_EXAMPLE, ("tls", "email"), domain=domain)


def ca(document: Document) -> str:
    """The CA by name or URL, checked or not."""
    return document.text(("tls", "ca")) or "letsencrypt"


def check_domain(document: Document, domain: str, where: str, mark: Mark) -> None:
    """A public CA only certifies public names."""
    if ca(document) in _LETS_ENCRYPT and domains.is_private(domain) and not domains.find_fault(domain):
        messages.DOMAIN_PRIVATE.add_to(document.problems, where, mark, domain=domain)


def ca_root(document: Document) -> bytes | None:
    """The PEM file of an own ACME directory's root."""
    place: Loc = ("tls", "ca_root")
    name = document.text(place)
    if name is None:
        return None
    if not ca(document).startswith("https://"):
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


def proxy_image(document: Document) -> str:
    """The image of Caddy, normalised."""
    return image(document, ("proxy", "image")) or facts.PROXY_IMAGE


def with_proxy_image(text: str, path: Path, image: str) -> str:
    """The text of a spec with this image of the proxy, where it names one, or else at its end; the rest stays.

    What comes of it is the caller's to check: YAML has more ways to write a value than this knows.
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


def image(document: Document, loc: Loc) -> str | None:
    """The image at a place, normalised; None where there is none or it is wrong."""
    text = document.text(loc)
    if text is None:
        return None
    return image_reference.normalise(text, document.base, dotted(loc), document.mark(loc), document.problems)
