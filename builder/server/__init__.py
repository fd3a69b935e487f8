"""A running host over ssh: `ssh` connects and sends `remote`, which runs there; `apply` changes the host's files."""

from builder.server.ssh import Remote

__all__ = ["Remote"]
