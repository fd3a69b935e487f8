"""What the picture of a host says, in words: made of its spec, and of the firewall's and the host's own facts."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.diagram.model import Content, ServiceShown, StackShown, Words
from builder.host import firewall
from builder.oci import image_reference
from builder.stack import names, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.diagram.model import Marks
    from builder.spec import Spec
    from builder.stack.model import EgressRule, Mount, Service, Stack


def of(spec: Spec, marks: Marks | None = None) -> Content:
    """What is said of the host of a spec, and what was seen of it.

    Places of marks are `wall`, `proxy`, `gate:udp`, `ssh`, `data`, `backup`; of stacks `stack:NAME`, `out:NAME`,
    `site:DOMAIN` and `service:STACK/NAME`.
    """
    server, stacks, seen = spec.server, len(spec.stacks), marks or {}
    return Content(
        name=server.name,
        machine=f"{server.base}, {server.arch}, {_count(stacks, 'stack')}",
        visitors=tuple(_visitors(spec)),
        wall=(Words("Firewall", "head"), Words("IPv4 and IPv6 alike")),
        web_gates=tuple(_gate(*redirect, seen) for redirect in firewall.REDIRECTS if _is_open(spec, redirect[0])),
        limits=(*_limits(spec), *_seen(seen, "wall")),
        sockets=(Words("unix"), Words("sockets")),
        proxy=(Words("Caddy", "head"), Words(f"{facts.PROXY_USER}, uid {facts.PROXY_UID}")),
        proxy_foot=(*_proxy_foot(spec), *_seen(seen, "proxy")),
        stacks=tuple(_stack(stack, seen) for stack in spec.stacks),
        elsewhere=(Words("Elsewhere", "name"), Words(_elsewhere(spec), lines=3)),
        way_out=(Words("out, by user", "name"), Words("else refused")),
        admins=tuple(_admins(spec)),
        ssh_gate=(Words(str(facts.SSH), "name"), Words("tcp, SSH")),
        sshd=(*_sshd(spec), *_seen(seen, "ssh")),
        data=(*_data(spec), *_seen(seen, "data")),
        backup=tuple(_backup(spec, seen)),
        backup_leaves=_backup_leaves(spec),
    )


# Of one place; the report itself has all.
_MOST_MARKS: Final = 5


def _seen(marks: Marks, place: str) -> Iterator[Words]:
    """What was seen at a place."""
    found = marks.get(place, ())
    yield from (mark.words for mark in found[:_MOST_MARKS])
    if len(found) > _MOST_MARKS:
        yield Words(f"and {len(found) - _MOST_MARKS} more")


def _visitors(spec: Spec) -> Iterator[Words]:
    """Who comes to the open ports; an edge may be all that does."""
    edge = spec.proxy.edge
    yield Words("Visitors", "name")
    if edge:
        yield Words(f"by {edge.name or 'an edge'},", lines=2)
        yield Words(edge.header or "PROXY protocol", lines=2)
        yield Words("nobody else" if edge.only else "or straight")
    else:
        yield Words("any address,")
        yield Words("IPv4 and IPv6")


def _count(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


_GATES: Final = {
    ("tcp", facts.HTTP): "to HTTPS",
    ("tcp", facts.HTTPS): "HTTPS",
    ("udp", facts.HTTPS): "HTTP/3",
}


def _gate(protocol: str, outside: int, inside: int, seen: Marks) -> tuple[Words, ...]:
    words = (Words(f"{outside} → {inside}", "name"), Words(f"{protocol}, {_GATES[protocol, outside]}"))
    return (*words, *_seen(seen, f"gate:{protocol}"))


def _is_open(spec: Spec, protocol: str) -> bool:
    """HTTP/3 does not come through an edge, and is closed then."""
    return protocol == "tcp" or spec.proxy.edge is None


_JAILS: Final = ("web-scan", "web-flood")


def _limits(spec: Spec) -> Iterator[Words]:
    edge = spec.proxy.edge
    if edge is None or not edge.only:
        yield Words("Who comes straight" if edge else "Each visitor", "term")
        yield Words(f"{facts.CLIENT_RATE} new a second,")
        yield Words(f"{facts.CLIENT_CONNECTIONS} at a time")
    yield Words("Fail2Ban bans by", "term")
    jails = ("sshd", "recidive", *(jail for jail in _JAILS if jail not in spec.fail2ban.disable))
    yield Words(", ".join(jails), lines=4)
    edges = edge.networks if edge else ()
    if spec.fail2ban.ignore or edges:
        yield Words("Neither for", "term")
        yield from _networks((*spec.fail2ban.ignore, *edges))
    yield Words("All else", "term")
    yield Words("dropped, save ping")


_MOST_NETWORKS: Final = 12


def _networks(networks: tuple[str, ...]) -> Iterator[Words]:
    yield from (Words(network, lines=3) for network in networks[:_MOST_NETWORKS])
    if len(networks) > _MOST_NETWORKS:
        yield Words(f"and {len(networks) - _MOST_NETWORKS} more")


_CAS: Final = {
    "letsencrypt": "Let's Encrypt",
    "letsencrypt-staging": "Let's Encrypt, staging",
    "internal": "its own CA",
}


def _proxy_foot(spec: Spec) -> Iterator[Words]:
    yield Words("Certificates", "term")
    yield Words(_CAS.get(spec.tls.ca, _without_login(spec.tls.ca)), lines=3)
    yield Words("Image", "term")
    yield Words(_image(spec.proxy.image), "code", lines=4)
    yield Words("Admin API", "term")
    yield Words(f"127.0.0.1:{facts.PROXY_ADMIN}", "code")
    yield Words("for root and itself")


_DIGEST: Final = re.compile(r"(@sha256:[0-9a-f]{12})[0-9a-f]{52}")


def _image(image: str) -> str:
    """An image without what is of this machine alone: of an archive its name, of a digest its beginning."""
    if image_reference.is_archive(image):
        return f"{image.rpartition('/')[2]} (archive)"
    return _DIGEST.sub(r"\1…", image)


def _stack(stack: Stack, seen: Marks) -> StackShown:
    return StackShown(
        head=(*_stack_head(stack), *_seen(seen, f"stack:{stack.name}")),
        services=tuple(_service(stack, service, seen) for service in stack.services),
        networks=tuple(f"network {one.name}{', internal' if one.internal else ''}" for one in stack.networks),
        out=(*_out(stack), *_seen(seen, f"out:{stack.name}")),
        has_way_out=not stack.no_egress or (stack.builds and not stack.no_build_egress),
    )


def _stack_head(stack: Stack) -> Iterator[Words]:
    yield Words(stack.name, "head", lines=2)
    yield Words(f"user {user.user(stack.name)}, uid {stack.uid}", lines=2)
    if stack.builds:
        builder = user.build_uid(stack.uid)
        yield Words(f"builds as {user.build_user(stack.uid)}, uid {builder}", lines=2)
    if stack.deploy:
        pushed = f", git push of {stack.deploy.git}" if stack.deploy.git else ""
        yield Words(f"deployed with {_count(len(stack.deploy.ssh_keys), 'key')}{pushed}", lines=2)


def _service(stack: Stack, service: Service, seen: Marks) -> ServiceShown:
    is_public = service in stack.public
    return ServiceShown(
        name=service.name,
        side=_listens(service) if is_public else "",
        words=(
            Words("its own image" if service.build else _image(service.image), "code", 3),
            *_unusual(service),
            *(_mount(stack, mount) for mount in service.mounts),
            *_seen(seen, f"service:{stack.name}/{service.name}"),
        ),
        networks=_joined(stack, service),
        socket=f"{facts.PROXY_SOCKETS}/{stack.name}/{service.name}.sock" if is_public else "",
        sites=tuple(_sites(service, seen)) if is_public else (),
    )


def _listens(service: Service) -> str:
    where = f"port {service.port}" if service.listen is None else _own_socket(service)
    return where + (f", {service.protocol}" if service.protocol != "http" else "")


def _own_socket(service: Service) -> str:
    return "passed socket" if service.own_socket is None else service.own_socket[1]


def _unusual(service: Service) -> Iterator[Words]:
    """What differs from what every container has."""
    if service.hardening != "standard":
        yield Words(f"hardening {service.hardening}")
    if service.network_mode == "none":
        yield Words("no network")
    elif service.network_mode != "private":
        yield Words(f"in the network of {service.network_mode.removeprefix('service:')}", lines=2)


def _mount(stack: Stack, mount: Mount) -> Words:
    """A volume, a directory that is kept as one is, or files that come with the spec."""
    is_file = mount.kind == "bind" and names.is_brought(stack, mount)
    read_only = " (read-only)" if mount.read_only or is_file else ""
    return Words(f"{mount.source} → {mount.target}{read_only}", "note", 2, "file" if is_file else "volume")


def _joined(stack: Stack, service: Service) -> tuple[int, ...]:
    """The networks of a service by number."""
    joined = {attachment.network for attachment in service.networks}
    return tuple(number for number, network in enumerate(stack.networks) if network.name in joined)


def _sites(service: Service, seen: Marks) -> Iterator[Words]:
    """The addresses that the proxy has for a service, and the names that only lead to it."""
    for domain in service.domains:
        for path in service.paths or ("",):
            yield Words(f"{domain}{path}", "site", 3)
        yield from _seen(seen, f"site:{domain}")
    yield from (Words(f"{name}, moved", lines=3) for name in service.redirect_from)


def _out(stack: Stack) -> Iterator[Words]:
    if stack.no_egress:
        yield Words("out: nothing at all", "plain")
    else:
        yield Words(f"out: {_ways_out()}", "plain", 2)
        yield from (Words(_destination(rule), "plain", 2) for rule in stack.egress)
    if stack.builds and stack.no_build_egress:
        yield Words("its builds: nothing at all", "plain")
    elif stack.builds:
        yield Words(f"its builds: {_ways_out()}", "plain", 2)
        yield from (Words(_destination(rule), "plain", 2) for rule in stack.build_egress)


_PORT_NAMES: Final = {53: "DNS", facts.HTTP: "HTTP", facts.HTTPS: "HTTPS"}


def _ways_out() -> str:
    """What everybody may reach: DNS, HTTP, HTTPS."""
    ports = sorted({port for _, ports in firewall.WAYS_OUT for port in ports})
    return ", ".join(_PORT_NAMES.get(port, str(port)) for port in ports)


def _destination(rule: EgressRule) -> str:
    ports = " " + ", ".join(map(str, rule.ports)) if rule.ports else ", all ports"
    return f"+ {rule.to}, {rule.protocol}{ports}"


def _elsewhere(spec: Spec) -> str:
    """What is called from the host."""
    called = (
        "registries",
        "" if spec.tls.ca == "internal" else "CA",
        "backup" if spec.backup else "",
        "what apps call",
    )
    return ", ".join(filter(None, called))


def _admins(spec: Spec) -> Iterator[Words]:
    yield Words("Admin", "name")
    yield Words(f"{spec.admin.name}, {_count(len(spec.admin.ssh_keys), 'key')}", lines=2)
    if deploy := {key for stack in spec.stacks if stack.deploy for key in stack.deploy.ssh_keys}:
        yield Words(f"{facts.DEPLOY_LOGIN}, {_count(len(deploy), 'key')}", lines=2)
    yield from _allowed(spec.ssh.allow_from)


_ANY: Final = {4: "0.0.0.0/0", 6: "::/0"}


def _allowed(networks: tuple[str, ...]) -> Iterator[Words]:
    """From where SSH can be reached, by family."""
    if {*_ANY.values()} <= {*networks}:
        yield Words("from anywhere", lines=2)
        return
    yield Words("from")
    for version, every in _ANY.items():
        if every in networks:
            yield Words(f"any IPv{version} address", lines=2)
    yield from _networks(tuple(network for network in networks if not _is_covered(network, networks)))


def _is_covered(network: str, networks: tuple[str, ...]) -> bool:
    return _ANY[ipaddress.ip_network(network, strict=False).version] in networks


def _sshd(spec: Spec) -> Iterator[Words]:
    yield Words("SSH", "head")
    yield Words("by key alone, never root", lines=2)
    yield Words(f"{spec.admin.name} may use sudo", lines=2)
    if any(stack.deploy for stack in spec.stacks):
        yield Words(f"{facts.DEPLOY_LOGIN} may deploy its key's stack, nothing else", lines=2)


def _data(spec: Spec) -> Iterator[Words]:
    yield Words("Data", "head", icon="volume")
    yield Words("volumes, secrets, certificates, bans", lines=2)
    yield Words(facts.DATA, "code", 2)
    if spec.data is None:
        yield Words("on the machine's own disk", lines=2)
    else:
        label = f"LABEL={facts.DATA_LABEL}"
        yield Words(f"on a disk of its own, {label if spec.data.disk == 'auto' else spec.data.disk}", lines=3)


def _backup(spec: Spec, seen: Marks) -> Iterator[Words]:
    if spec.backup is None:
        return
    yield Words("Backup", "head")
    yield Words(f"each day at {spec.backup.at}, encrypted")
    yield Words(_without_login(spec.backup.to), "code", 3)
    if left_out := [stack.name for stack in spec.stacks if stack.backup is None]:
        yield Words(f"without {', '.join(left_out)}", lines=3)
    yield from _seen(seen, "backup")


def _backup_leaves(spec: Spec) -> bool:
    """Whether backups go to another machine, not to a directory of this one."""
    return spec.backup is not None and not spec.backup.to.startswith("/")


_LOGIN: Final = re.compile(r"//[^/]*@")


def _without_login(url: str) -> str:
    return _LOGIN.sub("//", url)
