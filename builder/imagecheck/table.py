"""Every check of an image, in the order of the report, and running them on a tree."""

from __future__ import annotations

from typing import Final

from builder.imagecheck import access, cloud_init, host, identity, packages, privileges, secrets, services, traces

CHECKS: Final = (
    *identity.CHECKS,
    *access.CHECKS,
    *secrets.CHECKS,
    *cloud_init.CHECKS,
    *traces.CHECKS,
    *packages.CHECKS,
    *privileges.CHECKS,
    *services.CHECKS,
    *host.CHECKS,
)
IDS: Final = tuple(check.id for check in CHECKS)
