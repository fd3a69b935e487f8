"""What the boots have shown, as data and as a page of the docs; both are written by a run with UPDATE=1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tests.machine.hosts import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.datasource.boots import Boot

DATA: Final = ROOT / "docs" / "providers-booted.json"
PAGE: Final = ROOT / "docs" / "providers-booted.md"
_HEAD: Final = """\
# Booted under each provider's own datasource

Made by `make sweeps` (`make test` boots at a few of them): a host of one stack, on a stock image, at
a local emulation of each provider. The cloud-init of Debian 13, unmodified, searches among all its datasources, finds
this one by the firmware's values, asks the metadata service, and configures network, logins and the host from what it
got. Each boot ends with the page answering on HTTPS over IPv4 and IPv6, the user-data byte for byte as it was handed
over, the admin logged in, root refused at every moment, and nothing in `cloud-init status --long` but what this
datasource always says.

The machine is a container that takes itself for the provider's server: DMI, virtualization and the network card are
given to it by the lab. Requests that break a provider's protocol are refused (`tests/datasource/test_protocol.py`).

| provider | datasource | encoding | bytes | fits | booted | stock login | how it asks | not as at the provider |
|---|---|---|---|---|---|---|---|---|
"""
_TAIL: Final = """
Messages of cloud-init's own, whatever the user-data:

"""


def entry(boot: Boot) -> dict[str, Any]:
    """What one boot has shown."""
    row, delivery = boot.row, boot.delivery
    return {
        "provider": row.provider,
        "datasource": row.datasource,
        "encoding": str(delivery.encoding),
        "bytes": delivery.used,
        "fits": delivery.limit is None or delivery.used <= delivery.limit,
        "booted": True,
        "stock_login": "root" if row.root else "not root",
        "protocol": list(row.features),
        "datasource_says": [f"{level}: {line}" for level, lines in row.own.items() for line in lines],
        "limits_of_the_test": row.limits,
    }


def data(seen: Mapping[str, Mapping[str, Any]]) -> str:
    """The content of DATA."""
    return json.dumps(seen, indent=2) + "\n"


def page(seen: Mapping[str, Mapping[str, Any]]) -> str:
    """The content of PAGE."""
    lines = [f"* {it['datasource']}: `{said}`\n" for it in seen.values() for said in it["datasource_says"]]
    return _HEAD + "".join(_line(it) for it in seen.values()) + _TAIL + "".join(lines)


def _line(it: Mapping[str, Any]) -> str:
    yes = {True: "yes", False: "no"}
    cells = [it["provider"], it["datasource"], it["encoding"], f"{it['bytes']:,}", yes[it["fits"]], yes[it["booted"]]]
    cells.append(it["stock_login"])
    return f"| {' | '.join([*cells, '; '.join(it['protocol']), it['limits_of_the_test']])} |\n"
