"""User-data: what a provider hands to cloud-init on first boot.

`delivery` is the entry: of all forms that a provider takes it chooses the plainest that fits, or says what would.
`cloudconfig` writes the document; `shared` writes it with what stacks have in common once; `encoding` compresses it, or
packs its files. `explanation` says in words what each part of a delivery does. All of it is made from a Host and the
rows of `builder.providers`; nothing is read or written.
"""

from builder.userdata import cloudconfig
from builder.userdata.cloudconfig import cloud_config
from builder.userdata.delivery import (
    Delivery,
    Group,
    archive_problems,
    builds,
    deliver,
    fleet_problems,
    groups,
    logins,
    role_problems,
    secrets,
    ways_out,
)
from builder.userdata.explanation import FORMS, explain

__all__ = [
    "FORMS",
    "Delivery",
    "Group",
    "archive_problems",
    "builds",
    "cloud_config",
    "cloudconfig",
    "deliver",
    "explain",
    "fleet_problems",
    "groups",
    "logins",
    "role_problems",
    "secrets",
    "ways_out",
]
