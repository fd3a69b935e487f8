"""What the rows of all targets name: bases, architectures, where the builders are documented."""

from __future__ import annotations

from typing import Final

DEBIAN: Final = "debian-13"
UBUNTU: Final = "ubuntu-24.04"
AMD64: Final = "amd64"
ARM64: Final = "arm64"
HASHICORP: Final = "https://developer.hashicorp.com/packer/integrations"
