"""The host as values: `build(spec)` gives every file, its mode, its owner, and when it lands."""

from builder.host.build import acme_directory, archive_path, build
from builder.host.model import File, Host, Part

__all__ = ["File", "Host", "Part", "acme_directory", "archive_path", "build"]
