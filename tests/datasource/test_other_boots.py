"""Baked images, and hosts that have one address family only, at providers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from tests.datasource import boots, checks
from tests.datasource.providers import ROWS
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from pathlib import Path

    from builder.userdata.cloudconfig import On

pytestmark = pytest.mark.machine

# What cloud-init says of dhcpcd where there is no DHCP to be had.
_NO_DHCP: Final = {"ERROR": ("No valid DHCP lease configuration found in dhcpcd lease",)}


@of_a_sweep
@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize("name", ["aws", "hetzner"])
def test_a_baked_image_becomes_the_host(name: str, tmp_path: Path) -> None:
    """With the little user-data that is left to pass; in each run with the one address family that there is, below."""
    with boots.booted(ROWS[name], tmp_path, on="baked") as boot:
        checks.check(boot)


_OF_ONE: Final[list[tuple[str, On, int]]] = [("hetzner", "baked", 4), ("hetzner", "stock", 4), ("aws", "stock", 6)]


@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize(("name", "on", "family"), sample(_OF_ONE, (_OF_ONE[2],)))
def test_a_host_of_one_address_family(name: str, on: On, family: int, tmp_path: Path) -> None:
    """Metadata, login and the site over the only one that there is."""
    row = replace(ROWS[name], own=_NO_DHCP) if family == 6 else ROWS[name]
    with boots.booted(row, tmp_path, on=on, families=(family,)) as boot:
        checks.check(boot)
        assert {":" in request["host"] for request in boot.cloud.requests} == {family == 6}
