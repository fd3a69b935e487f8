"""User-data: what a provider hands to cloud-init on first boot."""

from builder.userdata import cloudconfig
from builder.userdata.cloudconfig import cloud_config
from builder.userdata.delivery import Delivery, deliver, ways_out
from builder.userdata.explain import FORMS, Group, explain, groups
from builder.userdata.requirements import secrets

__all__ = [
    "FORMS",
    "Delivery",
    "Group",
    "cloud_config",
    "cloudconfig",
    "deliver",
    "explain",
    "groups",
    "secrets",
    "ways_out",
]
