"""Spec -> Host: every file of the finished host, and when it lands."""

from __future__ import annotations

import json
import os
import textwrap
import urllib.parse
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from builder import facts, quadlet
from builder.host import edge, firewall, fleet, packages, rootfs, scanners, sections
from builder.host.model import File, Host, Part
from builder.host.rootfs import Encoded
from builder.oci import image_reference
from builder.stack import names, public, shares, sleeping, user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.spec import Spec
    from builder.stack.model import Deploy, Stack


def build(spec: Spec) -> Host:
    """The whole host of a spec, deterministic: the same spec gives the same bytes on any day and machine."""
    server = spec.server
    files = _sorted([*_baked(spec), *_first_boot(spec)])
    extra = packages.of_spec(spec)
    every = tuple(sorted({*packages.PACKAGES[server.base], *extra}))
    return Host(server.name, server.base, server.arch, files, every, extra)


def _sorted(files: Iterable[File]) -> tuple[File, ...]:
    """By path. Raises ValueError for two files at one path: a mistake of the builder, not of the user."""
    ordered = sorted(files, key=lambda file: file.path)
    for one, two in pairwise(ordered):
        if one.path == two.path:
            raise ValueError(f"two files at {one.path}: {one.part} and {two.part}")
    return tuple(ordered)


def _baked(spec: Spec) -> Iterator[File]:
    """What every host has. It depends on the base and the proxy image alone, never on who the host is for."""
    yield from rootfs.render(Part.BAKED, "host", _base_values(spec))
    yield from firewall.base_files()
    yield File(f"{facts.LIB}/packages", sections.lines(sorted(packages.PACKAGES[spec.server.base])), Part.BAKED)
    subids = f"{facts.PROXY_USER}:{facts.PROXY_SLOT * facts.SUBID_SIZE}:{facts.SUBID_SIZE}\n"
    yield File(f"{facts.LIB}/subids", subids.encode(), Part.BAKED)


def _first_boot(spec: Spec) -> Iterator[File]:
    """What this host has beside: its settings, its firewall rules, its stacks."""
    values = _values(spec)
    yield from rootfs.render(Part.FIRST_BOOT, "host", values)
    directory = _acme_directory(spec)
    port = urllib.parse.urlsplit(directory).port if directory else None
    yield from firewall.host_files(spec.ssh.allow_from, spec.stacks, port, spec.fail2ban.ignore)
    yield from edge.files(spec.proxy.edge)
    for path, content, mode in sections.contents(spec):
        if content:
            yield File(path, content, Part.FIRST_BOOT, mode)
    for stack in spec.stacks:
        yield from (_owned(stack, file) for file in _stack(stack, spec, values))


def _values(spec: Spec) -> dict[str, Any]:
    """What templates of this host may name."""
    return {
        **_base_values(spec),
        "spec": spec,
        "acme_directory": _acme_directory(spec),
        "builds": any(stack.builds for stack in spec.stacks),
        "by_name": any(rule.by_name for stack in spec.stacks for rule in (*stack.egress, *stack.build_egress)),
        "sleeps": any(sleeping.sleeping(stack.services) for stack in spec.stacks),
        "scans": scanners.scans(),
        "builds_secrets": any(_builds_secrets(stack) for stack in spec.stacks),
        "builds_images": any(service.build for stack in spec.stacks for service in stack.services),
        "quadlets": facts.QUADLETS,
        "keeps_addresses": any(service.networks for stack in spec.stacks for service in stack.services),
        "listens": any(service.listen for stack in spec.stacks for service in stack.public),
        "makes_directories": any(_makes_directories(stack) for stack in spec.stacks),
        "by_role": any(login.by_role for _, login in spec.logins),
        "ecr": f"{facts.LIB}/ecr",
        "role_logins": facts.ROLE_LOGINS,
        "role_state": facts.ROLE_STATE,
        "role_lock": facts.ROLE_LOCK,
        "config": facts.CONFIG,
        "auth_file": facts.AUTH_FILE,
        "names": facts.NAMES,
        "answers": facts.ANSWERS,
        "ignored": scanners.never_banned(spec),
        "own_pages": scanners.own_pages(spec),
        "ceiling": f"{shares.ceiling(len(spec.stacks)):g}",
        "share": f"{shares.share(len(spec.stacks)):g}",
        "own_sites": _own_sites(spec),
        "deploys": any(stack.deploy for stack in spec.stacks),
        "deploy_login": facts.DEPLOY_LOGIN,
        "deploy_uid": facts.DEPLOY_UID,
        "deploy_keys": facts.DEPLOY_KEYS,
        "deploy_shell": facts.DEPLOY_SHELL,
        "deploy_socket": facts.DEPLOY_SOCKET,
        "remote_code": facts.REMOTE_CODE,
        "updates": spec.updates_itself,
        "host_secrets": facts.HOST_SECRETS,
        "restored": facts.RESTORED,
        **fleet.values(spec),
        "data_label": facts.DATA_LABEL,
        "data_disk": facts.DATA_DISK,
        "data_said": facts.DATA_SAID,
        "storage_said": facts.STORAGE_SAID,
        "clock_limit": facts.CLOCK_LIMIT,
        "lib": facts.LIB,
        "etc": facts.ETC,
        "stacks": facts.STACKS,
        "releases": facts.RELEASES,
        "release_units": facts.RELEASE_UNITS,
        "drop_ins": quadlet.BASES[spec.server.base].drop_ins,
        "uid_base": facts.UID_BASE,
    }


def _builds_secrets(stack: Stack) -> bool:
    return any(secret.built is not None for service in stack.services for secret in service.env_secrets)


def _makes_directories(stack: Stack) -> bool:
    return any(names.data_directories(stack, service) for service in stack.services)


def _stack(stack: Stack, spec: Spec, values: Mapping[str, object]) -> Iterator[File]:
    """The files of a stack: from templates, its Quadlet units, and what the user's Compose file mounts."""
    values = {
        **values,
        "stack": stack,
        "sites": public.sites(stack),
        "subid": user.subids(stack.uid).first,
        "builder": _builder(stack),
        "sleeping": (asleep := sleeping.sleeping(stack.services)),
        # No boot starts its manager then.
        "all_sleep": len(asleep) == len(stack.services),
        "own_paths": scanners.own_paths(spec, stack),
        "wakes": {one.name: sleeping.paths_and_methods(one.wake) for one in stack.services if one.name in asleep},
        "pulls": [
            image_reference.host_name(stack.name, one.name, one.image)
            for one in stack.services
            if one.name in asleep and one.pull != "never" and not image_reference.is_archive(one.image)
        ],
        "archives": _archives(stack.name, {service.name: service.image for service in stack.services}),
    }
    words = {"stack": stack.name, "uid": stack.uid}
    yield from rootfs.render(Part.FIRST_BOOT, "stack", values, **words)
    for service in stack.services:
        yield from rootfs.render(
            Part.FIRST_BOOT, "service", {**values, "service": service}, **words, service=service.name
        )
    if stack.deploy and stack.deploy.git:
        yield File(f"{facts.STACKS}/{stack.name}/{facts.GIT}", _git(stack, stack.deploy), Part.FIRST_BOOT)
    for name, text in quadlet.units(stack, base=spec.server.base, server=spec.server.name):
        yield File(f"{facts.QUADLETS}/{stack.uid}/{name}", text.encode(), Part.FIRST_BOOT)
    for file in stack.files:
        yield File(names.file_path(stack.name, file.path), file.content, Part.FIRST_BOOT, file.mode)


def _git(stack: Stack, deploy: Deploy) -> bytes:
    """What a push is built with: the spec is not on the server, and no source is in it."""
    directories = dict(deploy.directories)
    services = {
        one.name: {
            **{name: value for name, value in one.build.options.items() if value},
            "context": directories[one.name],
            "containerfile": one.build.containerfile,
            "inline": one.build.inline,
            "max_age": int(one.build.oldest),
            "never": _inside(one.build.context, one.build.never),
        }
        for one in stack.services
        if one.build
    }
    return json.dumps({"branch": deploy.git, "services": services}).encode() + b"\n"


def _inside(directory: Path, paths: Iterable[Path]) -> list[str]:
    """Those of the paths that are below a directory, as seen from there."""
    found = (os.path.relpath(path, directory) for path in paths)
    return sorted(path for path in found if not path.startswith("../"))


@dataclass(frozen=True, slots=True)
class _Builder:
    """The user that builds a stack's images."""

    name: str
    uid: int
    subid: int
    home: str


def _builder(stack: Stack) -> _Builder | None:
    """None where nothing of it is built."""
    if not stack.builds:
        return None
    uid = user.build_uid(stack.uid)
    return _Builder(user.build_user(stack.uid), uid, user.subids(uid).first, f"{facts.BUILDS}/{stack.name}/home")


def _owned(stack: Stack, file: File) -> File:
    """A file as the stack's: its units, with their environment, are readable for its own group alone.

    What its containers mount is read by any user in them; there the directory keeps out who is not of the group.
    """
    is_unit = file.path.startswith(f"{facts.QUADLETS}/{stack.uid}/")
    is_stacks = is_unit or file.path.startswith(f"{facts.STACKS}/")
    group = user.user(stack.name) if is_stacks else file.group
    return replace(file, stack=stack.name, group=group, mode="0640" if is_unit else file.mode)


def _archives(owner: str, images: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and path on the host of each image that comes as an archive; `images` by service."""
    return [
        (image_reference.host_name(owner, service, image), path)
        for service, image in images.items()
        if (path := archive_path(owner, service, image))
    ]


def archive_path(stack: str, service: str, image: str) -> str | None:
    """Where the OCI archive of a service lies on the host, when its image is one."""
    if not image_reference.is_archive(image):
        return None
    name = image_reference.host_name(stack, service, image)
    return f"{facts.IMAGES}/{name.rpartition('/')[2].replace(':', '-')}.tar"


_ACME: Final = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}


def _acme_directory(spec: Spec) -> str | None:
    """The ACME directory's URL, or None with the internal CA."""
    return None if spec.tls.ca == "internal" else _ACME.get(spec.tls.ca, spec.tls.ca)


_LONGEST_LINE: Final = 400


def _own_sites(spec: Spec) -> list[Encoded]:
    """Lines of /etc/hosts for this host's domains; musl reads at most 511 characters of one."""
    domains = dict.fromkeys(domain for stack in spec.stacks for domain in stack.domains)
    lines = textwrap.wrap(" ".join(domains), _LONGEST_LINE, break_long_words=False, break_on_hyphens=False)
    return [Encoded(f"{address} {line}") for address in facts.OWN_SITES for line in lines]


def _base_values(spec: Spec) -> dict[str, object]:
    """What the templates of every host are rendered with."""
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
        "queue_timeout": facts.QUEUE_TIMEOUT,
        "wake_timeout": sleeping.WAKE_TIMEOUT,
        "proxy_image": image_reference.host_name("proxy", "caddy", spec.proxy.image),
        "archives": _archives("proxy", {"caddy": spec.proxy.image}),
        "network": quadlet.pasta(podman),
        "quadlet_section": quadlet.defaults(podman),
        "homes": facts.HOMES,
        "images": facts.IMAGES,
        "run": facts.RUN,
        "listen": facts.LISTEN,
        "state": facts.STATE,
        "data": facts.DATA,
        "deploy_group": facts.DEPLOY_GROUP,
        "subid_size": facts.SUBID_SIZE,
        # useradd takes the id after the highest in its range: without an end below ours, the next one is a stack's.
        "uid_max": facts.UID_BASE - 1,
        **_BASE_VALUES[spec.server.base],
    }


# sshd refuses a line it does not know, and nobody could log in: what a base's OpenSSH lacks is left out.
_BASE_VALUES: Final[Mapping[str, Mapping[str, object]]] = {
    "debian-13": {
        "ssh_kex": "mlkem768x25519-sha256,sntrup761x25519-sha512@openssh.com",
        "ssh_penalties": True,
        # Not tried with the services that Ubuntu starts.
        "hide_processes": True,
        "ntp_pool": Encoded(" ".join(f"{number}.debian.pool.ntp.org" for number in range(4))),
    },
    "ubuntu-24.04": {
        "ssh_kex": "sntrup761x25519-sha512@openssh.com",
        "ssh_penalties": False,
        "hide_processes": False,
        # Its own are compiled in.
        "ntp_pool": "",
    },
}
