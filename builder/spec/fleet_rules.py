"""`fleet:`, hosts that are all the same, and what does not go with them: whatever one host would have for itself.

A host of a fleet comes and goes by itself, so nothing may be set on it, deployed to it, or kept on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from builder.messages import Text
from builder.spec import model
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.compose import StackContents
    from builder.problems import Mark
    from builder.spec.document import Document
    from builder.spec.input_model import FleetInput
    from builder.stack.model import Service
    from builder.yamlfile.source import Loc

TOO_FEW: Final = Text("at most {max}, which is less than the {min} that there are at least", "write {min} or more")
KEY: Final = Text("`{key}` does not go with `fleet`: {why}", "take it out{way}")
INTERNAL: Final = Text(
    "each host of the fleet would sign for itself, so visitors would meet several authorities",
    "letsencrypt, or the https:// address of an ACME directory: hosts share what it signs",
)
BEHIND: Final = Text(
    "a fleet is behind AWS's Network Load Balancer, which sends the visitors' addresses by the PROXY protocol",
    "take `behind` out: a fleet has aws-nlb by itself",
)
LOGIN: Final = Text(
    "a password is set on one host, and hosts of a fleet come by themselves",
    "Amazon ECR lets them in by their role: REGISTRY: aws; or have the images baked in: er build-image --with-stacks",
)
STATE: Final = Text(
    "{service} keeps data of its own in {paths}, and each host of the fleet would have its own",
    "keep it where all of them reach it, as in a database of AWS's or a bucket; what is a cache may differ: {way}",
)
CACHE_SERVICE: Final = Text("the stack has no service {name}", "it has: {known}")
WORKER: Final = Text(
    "{service} runs on every host of the fleet, so {min} to {max} times at once",
    "let it take a lock before it does what must be done once, or give it a server of its own",
    "warning",
)

# What does not go with a fleet, as steps from the top or within a stack: why not, and what to do instead.
_HOST_KEYS: Final[dict[Loc, tuple[str, str]]] = {
    ("data",): ("its hosts come and go, and no disk outlives them", ""),
    ("backup",): ("no host of it has data to back up", ""),
    ("notify",): (
        "what a host tells with is its secret, and hosts come by themselves",
        ": alarms of AWS's watch a group",
    ),
    ("update",): ("each host would run another version", ": er build-image, then er launch, brings a new one"),
}
_STACK_KEYS: Final = {
    "deploy": ("what is deployed to one host is on no other", ": er build-image, then er launch, brings a new image"),
    "build_egress": ("its hosts build nothing", ": er build-image --with-stacks builds here"),
    "update": ("each host would run another version", ": er build-image, then er launch, brings a new image"),
    "backup": ("no host of it has data to back up", ""),
}
# By service or in short form: what only one host could do.
_SERVICE_KEYS: Final = {
    "sleep": ("the balancer asks every host, and who sleeps is not ready", ""),
    "wake": ("nothing of it sleeps", ""),
}


# The only service of a stack in short form.
SHORT_NAME: Final = "web"


class Entry(Protocol):
    """An entry of `stacks`, as it has been read."""

    @property
    def name(self) -> str:
        """Its name, empty where there is none."""

    @property
    def contents(self) -> StackContents | None:
        """Of its Compose files; None in short form."""

    @property
    def loc(self) -> Loc:
        """Its place."""


def of_host(section: FleetInput | None) -> model.Fleet | None:
    """How many hosts there are; None where there is one."""
    return None if section is None else model.Fleet(section.min, section.max or section.min, section.cpu)


def check(document: Document, entries: Iterable[Entry]) -> None:
    """Report all that does not go with the fleet of a spec; nothing where it has none."""
    for entry in entries:
        _check_names(document, entry)
        if document.get(("fleet",)) is not None:
            _check_stack(document, entry)
    if document.get(("fleet",)) is not None:
        _check_numbers(document)
        _check_host(document)


def _check_numbers(document: Document) -> None:
    least, most = document.get(("fleet", "min")), document.get(("fleet", "max"))
    if isinstance(least, int) and isinstance(most, int) and most < least:
        document.report(TOO_FEW, ("fleet", "max"), min=least, max=most)


def _check_host(document: Document) -> None:
    for place, (why, way) in _HOST_KEYS.items():
        if document.get(place) is not None:
            document.report(KEY, place, on_key=True, key=".".join(map(str, place)), why=why, way=way)
    if document.text(("tls", "ca")) == "internal":
        document.report(INTERNAL, ("tls", "ca"))
    if document.get(("proxy", "behind")) not in (None, "aws-nlb"):
        document.report(BEHIND, ("proxy", "behind"))
    _check_logins(document, ())


def _check_logins(document: Document, loc: Loc) -> None:
    """No login that needs a password; `loc` is the place that has `registries`."""
    for name in document.keys((*loc, "registries")):
        place: Loc = (*loc, "registries", name, "username")
        if document.get(place) is not None:
            document.report(LOGIN, place, on_key=True)


def _check_stack(document: Document, entry: Entry) -> None:
    keys = {**_STACK_KEYS, **_SERVICE_KEYS}
    for key, (why, way) in keys.items():
        _check_key(document, (*entry.loc, key), why, way)
    for name in document.keys((*entry.loc, "public")):
        for key, (why, way) in _SERVICE_KEYS.items():
            _check_key(document, (*entry.loc, "public", name, key), why, way)
    _check_logins(document, entry.loc)
    if entry.contents is None:
        _check_volumes(document, entry)
    else:
        _check_services(document, entry, entry.contents)


def _check_key(document: Document, loc: Loc, why: str, way: str) -> None:
    # Without a backup nothing is said of what is left out of it.
    if document.get(loc) not in (None, False):
        document.report(KEY, loc, on_key=True, key=loc[-1], why=why, way=way)


def _check_volumes(document: Document, entry: Entry) -> None:
    """Of a stack in short form."""
    places = [loc for loc in document.items((*entry.loc, "volumes")) if not _is_read_only(document.text(loc))]
    targets = [(document.text(loc) or "").split(":")[1:2] for loc in places]
    if places and not _is_cache(document, entry, SHORT_NAME):
        paths = ", ".join(path for found in targets for path in found)
        values = {"service": entry.name, "paths": paths, "way": "write `local_cache: true` in this stack"}
        document.report(STATE, (*entry.loc, "volumes"), on_key=True, **values)


def _is_read_only(volume: str | None) -> bool:
    return volume is None or volume.endswith(":ro")


def _check_services(document: Document, entry: Entry, contents: StackContents) -> None:
    for service in contents.services:
        mark = service.mark or document.mark(entry.loc)
        where = dotted((*entry.loc, "services", service.name))
        is_cache = service.local_cache or _is_cache(document, entry, service.name)
        if (paths := sorted(_own_data(contents, service))) and not is_cache:
            way = f"write `local_cache: [{service.name}]` in this stack of the spec"
            STATE.add_to(document.problems, where, mark, service=service.name, paths=", ".join(paths), way=way)
        if service.kind == "worker":
            _warn_of_worker(document, service, where, mark)


def _is_cache(document: Document, entry: Entry, service: str) -> bool:
    """Whether the spec says so of what a service stores."""
    said = document.get((*entry.loc, "local_cache"))
    return said is True or (isinstance(said, list) and service in said)


def _own_data(contents: StackContents, service: Service) -> Iterator[str]:
    """Where a service writes what stays on the host; files that come with the stack are the same on each."""
    brought = [file.path for file in contents.files]
    for mount in service.mounts:
        inside = f"{mount.source}/"
        is_brought = mount.kind == "bind" and any(one == mount.source or one.startswith(inside) for one in brought)
        if not mount.read_only and not is_brought:
            yield mount.target


def _warn_of_worker(document: Document, service: Service, where: str, mark: Mark) -> None:
    least, most = document.get(("fleet", "min")), document.get(("fleet", "max"))
    if isinstance(least, int) and (most or least) != 1:
        WORKER.add_to(document.problems, where, mark, service=service.name, min=least, max=most or least)


def _check_names(document: Document, entry: Entry) -> None:
    """What `local_cache` names is there."""
    known = [service.name for service in entry.contents.services] if entry.contents else [SHORT_NAME]
    for loc in document.items((*entry.loc, "local_cache")):
        if document.text(loc) not in known:
            document.report(CACHE_SERVICE, loc, name=document.text(loc), known=", ".join(known))
