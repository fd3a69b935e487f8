"""Domains of web services: a full ASCII name that a public CA could certify."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import TYPE_CHECKING, Final

from builder import messages

if TYPE_CHECKING:
    from builder.messages import Text
    from builder.problems import Mark, Report

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(.*)", re.DOTALL)
_PORT: Final = re.compile(r"([^:\[\]]+):[0-9]*")
_LONGEST: Final = 253
# Names that no public CA certifies (RFC 6761, RFC 6762, RFC 8375, ICANN's reserved `internal`).
_PRIVATE: Final = ("test", "localhost", "local", "internal", "invalid", "example", "home.arpa", "lan")

Fault = tuple["Text", dict[str, str]]


def normalise(text: str, where: str, mark: Mark | None, report: Report) -> str | None:
    """The domain, or None when it cannot be used; the reason is added to the report."""
    fault = find_fault(text)
    if fault is None:
        return text
    reason, values = fault
    reason.add_to(report, where, mark, **values)
    return None


def is_private(domain: str) -> bool:
    """True where no public CA will give a certificate."""
    return any(domain == suffix or domain.endswith(f".{suffix}") for suffix in _PRIVATE)


def find_fault(text: str) -> Fault | None:
    """The first thing wrong with a domain, if any: the text of the problem and the values of its fields."""
    if not text.strip():
        return messages.DOMAIN_EMPTY, {}
    return _not_a_name(text) or _not_ascii_lower(text) or _malformed(text)


def _not_a_name(text: str) -> Fault | None:
    if scheme := _SCHEME.fullmatch(text):
        return messages.DOMAIN_SCHEME, {"scheme": scheme[1], "rest": _host(scheme[2])}
    if len(names := re.split(r"[\s,;]+", text.strip(" ,;"))) > 1:
        return messages.DOMAIN_SEVERAL, {"listed": f"domains: [{', '.join(names)}]"}
    if "/" in text:
        return messages.DOMAIN_PATH, {"rest": _host(text)}
    if _is_address(text):
        return messages.DOMAIN_ADDRESS, {}
    if port := _PORT.fullmatch(text):
        return messages.DOMAIN_PORT, {"rest": port[1]}
    return (messages.DOMAIN_WILDCARD, {}) if "*" in text else None


def _not_ascii_lower(text: str) -> Fault | None:
    if not text.isascii():
        return messages.DOMAIN_UNICODE, {"punycode": _punycode(text)}
    if text != text.lower():
        return messages.DOMAIN_CASE, {"lower": text.lower()}
    return None


def _malformed(text: str) -> Fault | None:
    if "_" in text and re.fullmatch(r"[a-z0-9._-]+", text):
        return messages.DOMAIN_UNDERSCORE, {}
    if text.endswith(".") and _malformed(text[:-1]) is None:
        return messages.DOMAIN_DOT, {"rest": text[:-1]}
    labels = text.split(".")
    if len(text) > _LONGEST or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        return messages.DOMAIN_FORM, {"value": text}
    return (messages.DOMAIN_ONE_LABEL, {"value": text}) if len(labels) == 1 else None


def _host(text: str) -> str:
    return text.partition("/")[0] or "the name alone"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _punycode(text: str) -> str:
    """Each label that needs it in punycode (RFC 3492), as browsers and CAs write it."""
    labels = unicodedata.normalize("NFC", text.lower()).split(".")
    return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}" for label in labels)
