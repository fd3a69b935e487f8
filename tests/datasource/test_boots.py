"""The unmodified cloud-init of Debian 13 finds each provider's own datasource, takes our bytes, and makes the host."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.datasource import boots, table
from tests.datasource.boots import Login
from tests.datasource.providers import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.datasource.boots import Boot

pytestmark = pytest.mark.machine

_DOMAIN: Final = "hello.example.com"
# What cloud-init says of dhcpcd where there is no DHCP to be had.
_NO_DHCP: Final = {"ERROR": ("No valid DHCP lease configuration found in dhcpcd lease",)}
# What this run has seen, by the row's name.
_SEEN: Final[dict[str, dict[str, Any]]] = {}


def complaints(boot: Boot) -> dict[str, set[str]]:
    """What cloud-init complained of, without what its datasource always says at this provider."""
    status = json.loads(boot.machine.run("cloud-init status --format json", check=False).stdout)
    assert status["status"] == "done"
    assert status["errors"] == []
    found = {}
    for level, said in status["recoverable_errors"].items():
        own = boot.row.own.get(level, ())
        if rest := {line for line in said if not line.startswith(tuple(own))}:
            found[level] = rest
        assert all(any(line.startswith(start) for line in said) for start in own), said
    assert set(boot.row.own) <= set(status["recoverable_errors"])
    return found


def found_datasource(boot: Boot) -> None:
    """ds-identify chose it among all, and cloud-init took it."""
    chosen = boot.machine.run("cat /run/cloud-init/cloud.cfg").stdout
    assert boot.row.datasource in chosen.split("[")[1].replace(",", " ").split(), chosen
    assert boot.machine.run("cloud-id").stdout.strip() == boot.row.cloud_id
    data = json.loads(boot.machine.run("cat /run/cloud-init/instance-data.json").stdout)
    assert data["v1"]["cloud_id"] == boot.row.cloud_id
    assert boot.machine.run("cat /var/lib/cloud/instance/datasource").stdout.startswith(
        f"DataSource{boot.row.datasource}"
    )


def took_our_bytes(boot: Boot) -> None:
    """Byte for byte what the provider was given."""
    text = boot.machine.run("base64 /var/lib/cloud/instance/user-data.txt").stdout
    assert base64.b64decode(text) == boot.row.before + boot.delivery.wire
    assert boot.machine.path("/run/provider-was-first").exists() == bool(boot.row.before)


def kept_the_protocol(boot: Boot) -> None:
    """What had to be asked was asked, and nothing was refused."""
    values = {"hardware": boot.row.hardware}
    for method, path in boot.row.asked:
        wanted = path.format_map(values)
        assert boot.requests(method=method, path=wanted, status=200), wanted
    assert [request for request in boot.cloud.requests if request["rule"]] == boot.requests(method="PUT", status=403)


def answers(boot: Boot) -> None:
    """HTTPS and SSH over each family that the host has; root nowhere."""
    for family in boot.families:
        answer = boot.host.curl(f"https://{_DOMAIN}/", family=family).stdout
        assert answer.startswith("HTTP/2 200"), (family, answer)
        assert boot.host.ssh("sudo", "id", "-un", family=family).stdout == "root\n"
    assert boot.machine.run("systemctl --failed --no-legend").stdout == ""


def nobody_was_locked_out(boot: Boot) -> None:
    """From the first moment that sshd lets anyone in, somebody who should can log in; root never could."""
    story = [(look.admin.name, look.root.name, look.stock.name) for look in boot.looks]
    assert Login.IN not in {look.root for look in boot.looks}, story
    able = [Login.IN in {look.admin, look.stock} for look in boot.looks]
    first = able.index(True)
    assert {look.admin for look in boot.looks[:first]} <= {Login.AWAY, Login.BOOTING}, story
    assert all(able[first:]), story
    assert boot.looks[-1].admin is Login.IN, story


def check(boot: Boot) -> None:
    """All of it."""
    assert complaints(boot) == {}
    found_datasource(boot)
    took_our_bytes(boot)
    kept_the_protocol(boot)
    nobody_was_locked_out(boot)
    answers(boot)


@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize("name", ROWS)
def test_a_stock_image_becomes_the_host(name: str, tmp_path: Path) -> None:
    """At this provider, over both address families."""
    row = ROWS[name]
    with boots.booted(row, tmp_path) as boot:
        check(boot)
        _SEEN[name] = table.entry(boot)


@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize("name", ["aws", "hetzner"])
def test_a_baked_image_becomes_the_host(name: str, tmp_path: Path) -> None:
    """With the little user-data that is left to pass."""
    with boots.booted(ROWS[name], tmp_path, on="baked") as boot:
        check(boot)


@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize(("name", "family"), [("hetzner", 4), ("aws", 6)])
def test_a_host_of_one_address_family(name: str, family: int, tmp_path: Path) -> None:
    """Metadata, login and the site over the only one that there is."""
    row = replace(ROWS[name], own=_NO_DHCP) if family == 6 else ROWS[name]
    with boots.booted(row, tmp_path, families=(family,)) as boot:
        check(boot)
        assert {":" in request["host"] for request in boot.cloud.requests} == {family == 6}


def test_the_table_is_what_was_seen() -> None:
    """docs/providers-booted.json says what this run has seen; bytes change with the host and are not compared."""
    assert _SEEN, "no boot was seen in this run"
    written = json.loads(table.DATA.read_text()) if table.DATA.exists() else {}
    if os.environ.get("UPDATE"):
        written = {name: it for name in ROWS if (it := _SEEN.get(name) or written.get(name))}
        table.DATA.write_text(table.data(written))
        table.PAGE.write_text(table.page(written))
    assert list(written) == list(ROWS)
    for name, seen in _SEEN.items():
        assert {**seen, "bytes": None} == {**written[name], "bytes": None}
