"""Baked images, and hosts that have one address family only, at providers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.datasource import boots, checks
from tests.datasource.providers import ROWS
from tests.sweeps import sample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine

# What cloud-init says of dhcpcd where there is no DHCP to be had.
_NO_DHCP: Final = {"ERROR": ("No valid DHCP lease configuration found in dhcpcd lease",)}


@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize("name", sample(("aws", "hetzner"), ("hetzner",)))
def test_a_baked_image_becomes_the_host(name: str, tmp_path: Path) -> None:
    """With the little user-data that is left to pass."""
    with boots.booted(ROWS[name], tmp_path, on="baked") as boot:
        checks.check(boot)


@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize(("name", "family"), [("hetzner", 4), ("aws", 6)])
def test_a_host_of_one_address_family(name: str, family: int, tmp_path: Path) -> None:
    """Metadata, login and the site over the only one that there is."""
    row = replace(ROWS[name], own=_NO_DHCP) if family == 6 else ROWS[name]
    with boots.booted(row, tmp_path, families=(family,)) as boot:
        checks.check(boot)
        assert {":" in request["host"] for request in boot.cloud.requests} == {family == 6}
