"""A running host, asked and told over the system's ssh. Its Python runs what is sent; nothing is installed there."""

from builder.server.ssh import Remote

__all__ = ["Remote"]
