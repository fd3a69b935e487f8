"""Checks of an image's hygiene, on a directory. Standard library only, as it also runs in the image, as a zipapp."""

from builder.hygiene.model import Finding, Report, from_json

__all__ = ["Finding", "Report", "from_json"]
