"""User-data: what a provider hands to cloud-init on first boot."""

from builder.userdata import cloudconfig
from builder.userdata.cloudconfig import cloud_config

__all__ = ["cloud_config", "cloudconfig"]
