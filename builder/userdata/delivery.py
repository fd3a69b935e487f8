"""Host -> the bytes that a provider is handed: the plainest form that fits."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder import facts, providers
from builder.oci import image_reference
from builder.problems import Problem, UserError
from builder.providers import Encoding
from builder.userdata import encoding
from builder.userdata.cloudconfig import PARTS, cloud_config, entry_text, head_and_tail
from builder.userdata.encoding import packed
from builder.userdata.shared import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.host import File, Host
    from builder.problems import Mark
    from builder.providers import Provider
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On


@dataclass(frozen=True, slots=True)
class Delivery:
    """User-data, ready to hand over.

    `content` is what is pasted, or given to the provider's CLI or SDK, which does its own base64 where the API wants
    it. `used` is what that takes of `limit`, as the provider counts; no limit is None. `shared`: what the stacks have
    in common stands there once, and cloud-init's Jinja writes it out.
    """

    provider: str
    on: On
    encoding: Encoding
    shared: bool
    content: bytes = field(repr=False)
    used: int
    limit: int | None


def deliver(spec: Spec, host: Host, provider: str, on: On, *, smallest: bool = False) -> Delivery:
    """The user-data of a host for a provider; with `smallest` its smallest form, even when a plainer one fits.

    Raises UserError for an unknown provider, and when no form fits. A limit that nobody has published refuses nothing:
    the smallest form may be beyond it.
    """
    row = providers.get(provider)
    found = []
    for form, is_shared, content in forms(spec, host, row, on):
        used = row.used(len(content))
        found.append(Delivery(provider, on, form, is_shared, content, used, row.limit.value))
        if not smallest and row.fits(used):
            return found[-1]
    best = min(found, key=lambda one: one.used)
    if row.limit.verified and not row.fits(best.used):
        raise _too_large(spec, host, row, on, best.used)
    return best


def forms(spec: Spec, host: Host, row: Provider, on: On) -> Iterator[tuple[Encoding, bool, bytes]]:
    """Encoding, whether it is shared, and content of every form that the provider takes, plainest first.

    Forms that cannot fit are left out, except the smallest.
    """
    document = cloud_config(spec, host, on, ascii_only=True)
    if row.script:
        yield Encoding.SCRIPT, False, encoding.script(document)
        return
    yield Encoding.PLAIN, False, cloud_config(spec, host, on, ascii_only=not row.binary.value)
    if row.fits(row.used(encoding.least_gzip(document))):
        yield Encoding.MIME, False, encoding.multipart(encoding.gzip(document))
    small = encoding.gzip(shared(spec, host, on))
    yield Encoding.MIME, True, encoding.multipart(small)
    if row.binary.value:
        yield Encoding.GZIP, True, small
    form = Encoding.PACKED_GZIP if row.binary.value else Encoding.PACKED
    if (content := packed(spec, host, on, binary=row.binary.value)) is not None:
        yield form, False, content


def _too_large(spec: Spec, host: Host, row: Provider, on: On, used: int) -> UserError:
    biggest = groups(spec, host, on, used, compressed=True)[:3]
    message = (
        f"the user-data takes {used:,} at its smallest; {row.title} takes {row.limit.value:,} {row.counted.value}; "
        f"the biggest: {', '.join(f'{one.name} ({one.used:,})' for one in biggest)}"
    )
    return UserError(message, ways_out(spec, host, row, on, [one.name for one in biggest]))


def ways_out(spec: Spec, host: Host, row: Provider, on: On, biggest: list[str]) -> str:
    """What would bring it under the limit, tried out where that can be done; `biggest` are names of groups."""
    return "; ".join(_ways_out(spec, host, row, on, biggest))


def _ways_out(spec: Spec, host: Host, row: Provider, on: On, biggest: list[str]) -> Iterator[str]:
    if on == "stock":
        baked = min(row.used(len(content)) for _, _, content in forms(spec, host, row, "baked"))
        verdict = "fits" if row.fits(baked) else "is still too much"
        yield f"--on baked takes {baked:,}, which {verdict}"
    stacks = [stack for stack in spec.stacks if f"stack {stack.name}" in biggest]
    for stack in stacks:
        if size := sum(len(file.content) for file in stack.files):
            yield f"stack {stack.name} brings {size:,} bytes of files, which its image or a volume could hold"
    if stacks:
        yield "a smaller compose file: shorter environments, fewer services"
    yield "or put some of the stacks on another server"


SETTINGS: Final = "admin, keys, settings"
_REST: Final = "system settings"
# Which group a file of the host itself belongs to: the first with a word that is in the file's path.
_WORDS: Final = {
    "firewall": ("firewall",),
    "Caddy": ("/caddy/", f"/{facts.PROXY_UID}", f"@{facts.PROXY_UID}"),
    "Fail2Ban": ("/fail2ban/",),
    "SSH": ("/ssh/",),
    "provisioning and first boot": (facts.LIB, "er-first-boot", "server.env"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """Something that takes space: its name, how many bytes of the limit, about, and how many files it is."""

    name: str
    used: int
    files: int


def groups(spec: Spec, host: Host, on: On, used: int, *, compressed: bool) -> tuple[Group, ...]:
    """The groups of a delivery that takes `used`, largest first; the sizes add up to it.

    Compressed, a group counts what it adds to the groups before it: text that it shares with them is theirs.
    """
    texts: dict[str, list[str]] = {SETTINGS: ["".join(head_and_tail(spec, ascii_only=compressed))]}
    for file in sorted(host.only(*PARTS[on]), key=lambda file: bool(file.stack)):
        texts.setdefault(_group_of(file), []).append(entry_text(file, ascii_only=compressed))
    contents = {name: "".join(entries).encode() for name, entries in texts.items()}
    sizes = _added(contents) if compressed else {name: len(content) for name, content in contents.items()}
    scale = used / sum(sizes.values())
    found = (Group(name, round(size * scale), len(texts[name]) - (name == SETTINGS)) for name, size in sizes.items())
    return tuple(sorted(found, key=lambda one: -one.used))


def _group_of(file: File) -> str:
    if file.stack:
        return f"stack {file.stack}"
    return next((name for name, words in _WORDS.items() if any(word in file.path for word in words)), _REST)


def _added(contents: dict[str, bytes]) -> dict[str, int]:
    stream = zlib.compressobj(9)
    return {name: len(stream.compress(content) + stream.flush(zlib.Z_SYNC_FLUSH)) for name, content in contents.items()}


def archive_problems(spec: Spec, on: On) -> tuple[Problem, ...]:
    """Images that are archives of this machine, which user-data cannot carry.

    An error each on a stock image, where the server has no other way to them; a warning on a baked one.
    """
    return tuple(_archive_problem(where, mark, on) for where, mark in _archives(spec))


def _archives(spec: Spec) -> Iterator[tuple[str, Mark | None]]:
    if image_reference.is_archive(spec.proxy.image):
        yield "proxy.image", None
    for stack in spec.stacks:
        for service in stack.services:
            if image_reference.is_archive(service.image):
                yield f"stack {stack.name}, service {service.name}: image", service.mark


def _archive_problem(where: str, mark: Mark | None, on: On) -> Problem:
    if on == "baked":
        message, hint = "the baked image must hold this archive", "er build-image --with-stacks bakes it in"
        return Problem("warning", where, message, mark, hint)
    hint = "push it to a registry and name it there, or bake it into an image; er try takes archives as they are"
    return Problem("error", where, "an archive on this machine cannot travel in user-data", mark, hint)


def logins(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Stack and registry of each login whose password is set on the server: user-data never carries it."""
    return tuple((owner, login.registry) for owner, login in spec.logins if not login.by_role)


# Where a server may have a role of AWS's: EC2, and who may be anybody.
_MAY_HAVE_ROLE: Final = frozenset({"aws", "nocloud"})


def role_problems(spec: Spec, provider: str) -> tuple[Problem, ...]:
    """An error for each login by the server's role at a provider whose servers have none."""
    if provider in _MAY_HAVE_ROLE:
        return ()
    message = f"a server of {providers.get(provider).title} has no role of AWS's that could log in"
    hint = "write {username: AWS}; before each change of an image:"
    hint += " aws ecr get-login-password | er server registry login HOST REGISTRY"
    named = dict.fromkeys(login.registry for _, login in spec.logins if login.by_role)
    return tuple(Problem("error", f'registries["{name}"]', message, None, hint) for name in named)


def fleet_problems(spec: Spec, on: On) -> tuple[Problem, ...]:
    """An error on a stock image, where each host of a fleet would fetch what its packages are on that day."""
    if spec.fleet is None or on == "baked":
        return ()
    message = "hosts of a fleet start from one baked image: a stock one becomes another host every day, and slowly"
    return (Problem("error", "fleet", message, None, "er build-image, then --on baked; er launch does both by itself"),)


def builds(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Stack and name of each service that is built, whose image comes once the server is up."""
    return tuple((stack.name, service.name) for stack in spec.stacks for service in stack.services if service.build)


def secrets(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Stack and name of each secret, which user-data never carries; each pair once, in the order of the spec."""
    found = [(stack.name, name) for stack in spec.stacks for service in stack.services for name in service.secret_names]
    return tuple(dict.fromkeys(found))
