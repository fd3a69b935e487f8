"""What scanners ask for, whom Fail2Ban never bans for it, and which of that are pages of a site's own."""

from __future__ import annotations

import ipaddress
import re
from functools import cache
from typing import TYPE_CHECKING, Final

from builder import data
from builder.host import rootfs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.host.rootfs import Encoded
    from builder.spec import Spec
    from builder.stack.model import Stack

# Fail2Ban's policy is baked. A spec changes who is never banned, and which pages are a site's own.
# Fail2Ban counts IPv6 clients by networks of this prefix, as /usr/lib/easyrunner/watch.awk does.
_CLIENT_PREFIX: Final = 64


def never_banned(spec: Spec) -> tuple[str, ...]:
    """The networks that are never banned. An IPv6 address among them stands for the network it is counted in."""
    edges = spec.proxy.edge.networks if spec.proxy.edge else ()
    networks = (ipaddress.ip_network(text) for text in (*spec.fail2ban.ignore, *edges))
    counted = (
        one.supernet(new_prefix=_CLIENT_PREFIX)
        if isinstance(one, ipaddress.IPv6Network) and one.prefixlen > _CLIENT_PREFIX
        else one
        for one in networks
    )
    return tuple(dict.fromkeys(map(str, counted)))


def own_pages(spec: Spec) -> tuple[Encoded, ...]:
    """Pages that a site has, as regular expressions of what follows the client in a line of the web jails."""
    found = (
        *(_page_line(_domains(stack), path) for stack in spec.stacks for path in _image_pages(stack)),
        *(_page_line([domain], _any_of(paths)) for domain, paths in spec.fail2ban.allow),
    )
    return tuple(map(rootfs.fail2ban, found))


# What scanners ask for and these images, by the last word of their name, really have; as in er-web-scan.conf.
_IMAGE_PAGES: Final = {
    "wordpress": r"(?:wp-(?:login|admin|content|includes)|xmlrpc\.php)",
    "phpmyadmin": r"php(?:myadmin|info)",
    "solr": "solr/",
    "tomcat": "manager/html",
}
_IN_ANY_DIRECTORY: Final = "(?:[^?]*/)?"


def _image_pages(stack: Stack) -> Iterator[str]:
    """Of all images of a stack, as WordPress may stand behind a web server."""
    images = {re.split("[:@]", service.image.rpartition("/")[2])[0] for service in stack.services}
    if _domains(stack):
        yield from (_IN_ANY_DIRECTORY + pages for image, pages in _IMAGE_PAGES.items() if image in images)


def _any_of(paths: Iterable[str]) -> str:
    return f"(?:{'|'.join(re.escape(path.lstrip('/')) for path in paths)})"


def _page_line(domains: Sequence[str], path: str) -> str:
    return rf"4\d\d //(?:{'|'.join(map(re.escape, domains))})/+{path}"


def _domains(stack: Stack) -> list[str]:
    return [domain for service in stack.services for domain in service.domains]


@cache
def scans() -> str:
    """The paths that only scanners ask for, as one regular expression: those for which Fail2Ban bans.

    That filter is the only list of them; its syntax is Python's, which Caddy's is the same as as far as it goes.
    """
    text = (data.tree("images") / "rootfs/etc/fail2ban/filter.d/er-web-scan.conf").read_text()
    found = re.findall(r"%\(path\)s(\S+)", text)
    return f"^/+{_IN_ANY_DIRECTORY}(?:{'|'.join(found)})"


# No path is empty.
_NOTHING: Final = "^$"


def own_paths(spec: Spec, stack: Stack) -> str:
    """What scanners ask for and a stack's sites have, as one regular expression."""
    domains = _domains(stack)
    allowed = (_any_of(paths) for domain, paths in spec.fail2ban.allow if domain in domains)
    found = [*_image_pages(stack), *allowed]
    return f"^/+(?:{'|'.join(found)})" if found else _NOTHING
