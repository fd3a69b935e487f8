"""User-data: what a provider hands to cloud-init on first boot."""

from builder.userdata import cloudconfig
from builder.userdata.cloudconfig import cloud_config
from builder.userdata.delivery import Delivery, deliver

__all__ = ["Delivery", "cloud_config", "cloudconfig", "deliver"]
