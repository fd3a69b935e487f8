"""How the remote part counts a client, as Fail2Ban's watch does on the host."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from builder.server.remote import bans
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from pathlib import Path

OWN = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000900000000000000000002 02 40 00 80     eth0\n"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:9::77", "2001:db8:9::77"),
    ],
)
def test_an_ipv6_client_is_its_network_unless_it_is_the_hosts_own(
    address: str, counted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "if_inet6"
    own.write_text(OWN)
    monkeypatch.setattr(bans, "_OWN_ADDRESSES", own)
    assert str(bans._as_banned(ip_address(address))) == counted


def test_an_address_is_found_in_the_network_that_is_banned() -> None:
    assert bans._within(bans._address("2001:db8:1:2::9"), "2001:db8:1:2::/64")
    assert bans._within(bans._address("2001:db8:1:2::/64"), "2001:db8:1:2::/64")
    assert not bans._within(bans._address("2001:db8:1:3::9"), "2001:db8:1:2::/64")
    assert not bans._within(bans._address("203.0.113.7"), "2001:db8:1:2::/64")
    with pytest.raises(RemoteError):
        bans._address("nonsense")
