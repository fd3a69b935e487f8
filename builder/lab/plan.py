"""Spec -> what to try: the user-data a provider would get, and the images it leaves to be brought."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder import facts, host, userdata
from builder.lab import preload
from builder.lab.trial import Plan, Site
from builder.oci import image_reference
from builder.problems import UserError
from builder.stack import user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec import Spec

# Caddy's internal authority, below the proxy's data directory.
CA = f"{facts.STATE}/caddy/caddy/pki/authorities/local/root.crt"


def plan(spec: Spec, *, timeout: float) -> Plan:
    """What `er try` boots. Raises UserError when the lab has no such machine."""
    refuse_foreign(spec)
    built = host.build(spec)
    return Plan(
        name=spec.server.name,
        user_data=userdata.cloud_config(spec, built, "stock"),
        sites=tuple(sites(spec)),
        ca=CA,
        packages=built.packages,
        images=tuple(owned_images(spec)),
        timeout=timeout,
    )


def refuse_foreign(spec: Spec) -> None:
    """Only a base whose packages this machine can fetch and run is tried."""
    if spec.server.base != "debian-13":
        raise UserError(
            f"er try boots debian-13, not {spec.server.base}",
            "try it with base: debian-13; the stacks are the same on both",
        )


def sites(spec: Spec) -> Iterator[Site]:
    """Every domain of every stack."""
    for stack in spec.stacks:
        for service in stack.public:
            yield from (Site(stack.name, domain) for domain in service.domains)


def owned_images(spec: Spec) -> Iterator[tuple[preload.Owner, tuple[preload.Image, ...]]]:
    """The archives by the user whose storage they go to: the proxy's, then each stack's."""
    for name, uid, services in _users(spec):
        found = tuple(
            preload.Image(
                Path(image.removeprefix(image_reference.ARCHIVE)), image_reference.host_name(name, service, image)
            )
            for service, image in services
            if image_reference.is_archive(image)
        )
        if found:
            yield preload.Owner(uid, user.subids(uid).first, f"{facts.HOMES}/{name}"), found


def _users(spec: Spec) -> Iterator[tuple[str, int, tuple[tuple[str, str], ...]]]:
    """Name, uid, and the services with their images."""
    yield "proxy", facts.PROXY_UID, (("caddy", spec.proxy.image),)
    for stack in spec.stacks:
        yield stack.name, stack.uid, tuple((service.name, service.image) for service in stack.services)
