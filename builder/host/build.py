"""Spec -> Host: every file of the finished host, and when it lands."""

from __future__ import annotations

import urllib.parse
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder import facts, quadlet
from builder.host import fail2ban, firewall, model, tree
from builder.host.model import File, Host, Part, assemble
from builder.oci import image_reference
from builder.stack import names, user

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.spec import Spec
    from builder.stack.model import Stack


_ACME: Final = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}
# sshd refuses a line it does not know, and nobody could log in: what a base's OpenSSH lacks is left out.
_BASES: Final[Mapping[str, Mapping[str, object]]] = {
    "debian-13": {
        "ssh_kex": "mlkem768x25519-sha256,sntrup761x25519-sha512@openssh.com",
        "ssh_penalties": True,
        # Not tried with the services that Ubuntu starts.
        "hide_processes": True,
        "ntp_pool": model.Encoded(" ".join(f"{number}.debian.pool.ntp.org" for number in range(4))),
    },
    "ubuntu-24.04": {
        "ssh_kex": "sntrup761x25519-sha512@openssh.com",
        "ssh_penalties": False,
        "hide_processes": False,
        # Its own are compiled in.
        "ntp_pool": "",
    },
}


def build(spec: Spec) -> Host:
    """The whole host of a spec, deterministic: the same spec gives the same bytes on any day and machine."""
    server = spec.server
    files = [*_baked(spec), *_first_boot(spec)]
    return assemble(server.name, server.base, server.arch, files, PACKAGES[server.base])


def _facts(spec: Spec) -> dict[str, object]:
    podman = quadlet.BASES[spec.server.base]
    return {
        "http_port": facts.HTTP,
        "https_port": facts.HTTPS,
        "proxy_http": facts.PROXY_HTTP,
        "proxy_https": facts.PROXY_HTTPS,
        "proxy_admin": facts.PROXY_ADMIN,
        "proxy_sockets": facts.PROXY_SOCKETS,
        "proxy_user": facts.PROXY_USER,
        "proxy_uid": facts.PROXY_UID,
        "max_body": facts.MAX_BODY,
        "response_timeout": facts.RESPONSE_TIMEOUT,
        "proxy_image": image_reference.host_name("proxy", "caddy", spec.proxy.image),
        "archives": _archives("proxy", {"caddy": spec.proxy.image}),
        "network": quadlet.pasta(podman),
        "quadlet_section": quadlet.defaults(podman),
        "homes": facts.HOMES,
        "images": facts.IMAGES,
        "run": facts.RUN,
        "state": facts.STATE,
        "subid_size": facts.SUBID_SIZE,
        # useradd takes the id after the highest in its range: without an end below ours, the next one is a stack's.
        "uid_max": facts.UID_BASE - 1,
        **_BASES[spec.server.base],
    }


def _baked(spec: Spec) -> Iterator[File]:
    """What every host has. It depends on the base and the proxy image alone, never on who the host is for."""
    yield from tree.render(Part.BAKED, "host", _facts(spec))
    yield from firewall.base()
    packages = "".join(f"{name}\n" for name in sorted(PACKAGES[spec.server.base]))
    yield File(f"{facts.LIB}/packages", packages.encode(), Part.BAKED)
    subids = f"{facts.PROXY_USER}:{facts.PROXY_SLOT * facts.SUBID_SIZE}:{facts.SUBID_SIZE}\n"
    yield File(f"{facts.LIB}/subids", subids.encode(), Part.BAKED)


def _first_boot(spec: Spec) -> Iterator[File]:
    directory = acme_directory(spec)
    context = {
        **_facts(spec),
        "spec": spec,
        "acme_directory": directory,
        "by_name": any(wish.by_name for stack in spec.stacks for wish in stack.egress),
        "names": facts.NAMES,
        "answers": facts.ANSWERS,
        "ignored": fail2ban.ignored(spec),
        "own_pages": fail2ban.own_pages(spec),
    }
    yield from tree.render(Part.FIRST_BOOT, "host", context)
    if spec.tls.ca_root:
        yield File(f"{facts.ETC}/caddy/acme-root.pem", spec.tls.ca_root, Part.FIRST_BOOT)
    port = urllib.parse.urlsplit(directory).port if directory else None
    yield from firewall.host(spec.ssh.allow_from, spec.stacks, port, spec.fail2ban.ignore)
    for stack in spec.stacks:
        yield from (_of(stack, file) for file in _stack(stack, spec, context))


def _of(stack: Stack, file: File) -> File:
    """A file as the stack's: what says how it runs, its environment too, is read by its own group alone.

    What its containers mount is read by any user in them; there the directory keeps out who is not of the group.
    """
    unit, told = (file.path.startswith(f"{top}/") for top in (f"{facts.QUADLETS}/{stack.uid}", f"{facts.STACKS}"))
    group = user.user(stack.name) if unit or told else file.group
    return replace(file, stack=stack.name, group=group, mode="0640" if unit else file.mode)


def _archives(owner: str, wanted: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and path on the host of each image that comes as an archive, of an owner's services and their images."""
    return [
        (image_reference.host_name(owner, service, image), path)
        for service, image in wanted.items()
        if (path := archive_path(owner, service, image))
    ]


def _stack(stack: Stack, spec: Spec, context: Mapping[str, object]) -> Iterator[File]:
    more = {
        "stack": stack,
        "subid": (stack.uid - facts.UID_BASE) * facts.SUBID_SIZE,
        "archives": _archives(stack.name, {service.name: service.image for service in stack.services}),
        "data": any(names.data_directories(stack, service) for service in stack.services),
    }
    words = {"stack": stack.name, "uid": stack.uid}
    yield from tree.render(Part.FIRST_BOOT, "stack", {**context, **more}, **words)
    for service in stack.services:
        named = {**context, **more, "service": service}
        yield from tree.render(Part.FIRST_BOOT, "service", named, **words, service=service.name)
    for name, text in quadlet.units(stack, base=spec.server.base, server=spec.server.name):
        yield File(f"{facts.QUADLETS}/{stack.uid}/{name}", text.encode(), Part.FIRST_BOOT)
    for file in stack.files:
        yield File(f"{facts.STACKS}/{stack.name}/files/{file.path}", file.content, Part.FIRST_BOOT, file.mode)


def archive_path(stack: str, service: str, image: str) -> str | None:
    """Where the OCI archive of a service lies on the host, when its image is one."""
    if not image_reference.is_archive(image):
        return None
    name = image_reference.host_name(stack, service, image)
    return f"{facts.IMAGES}/{name.rpartition('/')[2].replace(':', '-')}.tar"


def acme_directory(spec: Spec) -> str | None:
    """The ACME directory's URL, or None with the internal CA."""
    return None if spec.tls.ca == "internal" else _ACME.get(spec.tls.ca, spec.tls.ca)


# Reasons where they are not plain: nftables is how netavark makes a private network; catatonit is `init: true`;
# dbus-user-session gives rootless units their bus; systemd-resolved is the one resolver that the egress rules know;
# python3-systemd lets Fail2Ban read the journal; aide tells what changed in the system's files; gpg is all that Podman
# needs of gnupg, whose whole would be installed otherwise, or not, as a cut of power has left it.
_COMMON: Final = (
    "aardvark-dns",
    "aide",
    "apparmor",
    "apparmor-utils",
    "auditd",
    "ca-certificates",
    "catatonit",
    "crun",
    "curl",
    "dbus-user-session",
    "fail2ban",
    "gpg",
    "iproute2",
    "ipset",
    "iptables",
    "libpam-pwquality",
    "libpam-systemd",
    "logrotate",
    "netavark",
    "nftables",
    "openssh-server",
    "passt",
    "podman",
    "procps",
    "python3-systemd",
    "sudo",
    "systemd-resolved",
    "systemd-timesyncd",
    "uidmap",
    "unattended-upgrades",
)

# Podman 4.9 makes a private network for rootless containers with slirp4netns alone, which it only recommends.
PACKAGES: Final = {"debian-13": _COMMON, "ubuntu-24.04": (*_COMMON, "slirp4netns")}
