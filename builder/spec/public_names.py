"""Where the world reaches the stacks of a spec: which service has which path of which domain, and what is redirected.

A domain belongs to one stack: to a browser everything below one name is one site, with the same cookies and scripts,
and stacks are kept apart. Within a stack its services share a domain by `path`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.spec import host_sections, messages
from builder.stack import public
from builder.stack.public import ROOT
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from builder.compose import StackContents
    from builder.messages import Text
    from builder.problems import Mark
    from builder.spec.document import Document
    from builder.stack.model import Service
    from builder.yamlfile.source import Loc


@dataclass(frozen=True)
class _Name:
    """A public name as a service has it: all of it where `paths` is the root, or only to lead elsewhere.

    `unsure`: beside these paths is a wrong one, which may have been meant for the rest.
    """

    domain: str
    stack: int
    service: str
    where: str
    mark: Mark
    paths: tuple[str, ...] = (ROOT,)
    redirected: bool = False
    unsure: bool = False

    @property
    def place(self) -> str:
        """For a person."""
        return f"{self.mark.file}:{self.mark.line}"


def check(document: Document, stacks: Iterable[tuple[Loc, StackContents | None]]) -> None:
    """No two services may have one path of a domain, nor two stacks one domain. `stacks` are by place and contents."""
    found: dict[str, list[_Name]] = {}
    for index, (loc, contents) in enumerate(stacks):
        names = _of_short_form(document, index, loc) if contents is None else _of(document, index, loc, contents)
        for name in names:
            host_sections.check_domain(document, name.domain, name.where, name.mark)
            others = found.setdefault(name.domain, [])
            if _fits(document, others, name):
                others.append(name)
    for domain, its in found.items():
        _check_front_page(document, domain, its)
    _check_allowed(document, found)


def _check_front_page(document: Document, domain: str, names: list[_Name]) -> None:
    paths = [path for name in names for path in name.paths]
    if ROOT not in paths and not any(name.unsure for name in names):
        first, listed = names[0], ", ".join(paths)
        messages.PATH_NO_ROOT.add_to(document.problems, first.where, first.mark, domain=domain, paths=listed)


def _check_allowed(document: Document, known: Collection[str]) -> None:
    """What Fail2Ban is told of is there."""
    for domain in document.keys(("fail2ban", "allow")):
        if known and domain not in known:
            place: Loc = ("fail2ban", "allow", domain)
            document.report(messages.ALLOW_DOMAIN, place, on_key=True, domain=domain, known=", ".join(known))


def _fits(document: Document, others: list[_Name], name: _Name) -> bool:
    """Whether a name goes together with what has it already; reported where it does not."""
    for other in others:
        text = _conflict(other, name)
        if text is not None:
            both = [path for path in name.paths if path in other.paths] or [""]
            values = {"domain": name.domain, "path": both[0].rstrip("/"), "place": other.place}
            text.add_to(document.problems, name.where, name.mark, **values)
            return False
    return True


def _conflict(one: _Name, two: _Name) -> Text | None:
    if one.redirected or two.redirected:
        return messages.REDIRECT_TWICE if one.redirected and two.redirected else messages.REDIRECT_SERVED
    if one.stack != two.stack:
        return messages.DOMAIN_OTHER_STACK
    if one.service == two.service:
        return messages.DOMAIN_LISTED_TWICE
    common = {*one.paths} & {*two.paths}
    if not common:
        return None
    return messages.DOMAIN_TWICE if common == {ROOT} else messages.PATH_TWICE


def _of_short_form(document: Document, index: int, loc: Loc) -> Iterator[_Name]:
    paths, unsure = _paths(document, (*loc, "path")), _is_faulty(document, (*loc, "path"))
    for place in (*_places(document, (*loc, "domain")), *_places(document, (*loc, "domains"))):
        text = document.text(place) or ""
        yield _Name(text, index, "", dotted(place), document.mark(place), paths, unsure=unsure)
    for place in _places(document, (*loc, "redirect_from")):
        yield _Name(document.text(place) or "", index, "", dotted(place), document.mark(place), redirected=True)
    if document.get((*loc, "strip_path")) is True and paths == (ROOT,):
        document.report(messages.STRIP_ALONE, (*loc, "strip_path"), on_key=True)


def _places(document: Document, loc: Loc) -> tuple[Loc, ...]:
    """The places of the texts that are there: of the only one, or of each in a list; empty ones are left out."""
    return tuple(place for place in (*document.items(loc), loc) if document.text(place))


def _paths(document: Document, loc: Loc) -> tuple[str, ...]:
    said = [text for place in _places(document, loc) if (text := document.text(place))]
    return public.normal_paths(text for text in said if not public.path_fault(text)) or (ROOT,)


def _is_faulty(document: Document, loc: Loc) -> bool:
    return any(public.path_fault(document.text(place) or "") for place in _places(document, loc))


def _of(document: Document, index: int, loc: Loc, contents: StackContents) -> Iterator[_Name]:
    for service in contents.services:
        where = dotted((*loc, "services", service.name))
        for key, domains in (("domains", service.domains), ("redirect_from", service.redirect_from)):
            for domain in domains:
                mark = _mark(document, (*loc, "public", service.name, key), domain, service, loc)
                moved = key == "redirect_from"
                paths = (ROOT,) if moved else service.paths or (ROOT,)
                unsure = _is_faulty(document, (*loc, "public", service.name, "path"))
                yield _Name(domain, index, service.name, where, mark, paths, redirected=moved, unsure=unsure)
        if service.strip_path and not service.paths:
            said = (*loc, "public", service.name, "strip_path")
            in_spec = document.get(said) is not None
            mark = document.mark(said, key=True) if in_spec else service.mark or document.mark(loc)
            messages.STRIP_ALONE.add_to(document.problems, where, mark)


def _mark(document: Document, said: Loc, domain: str, service: Service, loc: Loc) -> Mark:
    """Where a name of a Compose service is: in the spec, else at the service."""
    for place in _places(document, said):
        if document.text(place) == domain:
            return document.mark(place)
    return service.mark or document.mark((*loc, "compose"))
