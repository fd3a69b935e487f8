"""What a spec changes in Fail2Ban's policy, which is baked: who is never banned, and which pages are a site's own."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from builder.host import model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec import Spec
    from builder.stack.model import Stack

# Fail2Ban counts IPv6 clients by such networks: /usr/lib/easyrunner/watch.
PREFIX: Final = 64
# What scanners ask for and these images, by the last word of their name, really have; as in er-web-scan.conf.
_OWN: Final = {
    "wordpress": r"(?:wp-(?:login|admin|content|includes)|xmlrpc\.php)",
    "phpmyadmin": r"php(?:myadmin|info)",
    "solr": "solr/",
    "tomcat": "manager/html",
}
_ANYWHERE: Final = "(?:[^?]*/)?"


def ignored(spec: Spec) -> tuple[str, ...]:
    """The networks that are never banned. An IPv6 address among them speaks for the network it counts in."""
    networks = (ipaddress.ip_network(text) for text in spec.fail2ban.ignore)
    wide = (
        one.supernet(new_prefix=PREFIX) if isinstance(one, ipaddress.IPv6Network) and one.prefixlen > PREFIX else one
        for one in networks
    )
    return tuple(dict.fromkeys(map(str, wide)))


def own_pages(spec: Spec) -> tuple[model.Encoded, ...]:
    """Pages that a site has, as regular expressions of what follows the client in a line of the web jails."""
    found = (*(_line(stack, own) for stack in spec.stacks for own in _own(stack)), *_allowed(spec))
    return tuple(map(model.fail2ban, found))


def _own(stack: Stack) -> Iterator[str]:
    """Of all images of a stack, as WordPress may stand behind a web server."""
    names = {re.split("[:@]", service.image.rpartition("/")[2])[0] for service in stack.services}
    if any(service.domains for service in stack.services):
        yield from (_ANYWHERE + path for name, path in _OWN.items() if name in names)


def _line(stack: Stack, path: str) -> str:
    return _page((domain for service in stack.services for domain in service.domains), path)


def _allowed(spec: Spec) -> Iterator[str]:
    for domain, paths in spec.fail2ban.allow:
        yield _page([domain], f"(?:{'|'.join(re.escape(path.lstrip('/')) for path in paths)})")


def _page(domains: Iterator[str] | list[str], path: str) -> str:
    return rf"4\d\d //(?:{'|'.join(map(re.escape, domains))})/+{path}"
