"""What the remote part makes of an edge: whom it does not ban, and how its networks are held against today's."""

from __future__ import annotations

import datetime
import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder.server.remote import edge
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KNOWN = ("203.0.113.0/24", "2001:db8::/48")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Say what stands before the host; its lists are files here."""

    def tell(*lists: str, as_of: str = "2026-10-05") -> Path:
        sources = []
        for number, text in enumerate(lists):
            (tmp_path / f"list-{number}").write_text(text)
            sources.append((tmp_path / f"list-{number}").as_uri())
        value: dict[str, Any] = {"name": "cloudflare", "networks": KNOWN, "as_of": as_of, "sources": sources}
        file = tmp_path / "edge.json"
        file.write_text(json.dumps(value))
        monkeypatch.setattr(facts, "EDGE", str(file))
        edge._compared.cache_clear()
        return tmp_path

    return tell


def test_the_edge_itself_is_not_banned(told: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    told()
    for inside in ("203.0.113.9", "2001:db8:0:7::1"):
        with pytest.raises(RemoteError, match="of the edge"):
            edge.refuse_to_ban(ip_address(inside))
    for outside in ("203.0.114.9", "2001:db8:1::1"):
        edge.refuse_to_ban(ip_address(outside))
    monkeypatch.setattr(facts, "EDGE", "/nowhere/edge.json")
    edge.refuse_to_ban(ip_address("203.0.113.9"))


@pytest.mark.parametrize(
    ("lists", "wrong"),
    [
        (("203.0.113.0/24\n", "2001:db8::/48"), ""),
        (("203.0.113.0/24\n198.51.100.0/24\n", "2001:db8::/48\n"), "cloudflare calls from 198.51.100.0/24 too"),
        (("203.0.113.0/24\n",), "2001:db8::/48 is no longer its own"),
        (
            ("198.51.100.0/24\n2001:db8::/48\n",),
            "cloudflare calls from 198.51.100.0/24 too; 203.0.113.0/24 is no longer its own",
        ),
    ],
)
def test_networks_are_held_against_the_list_of_today(
    told: Callable[..., Path], lists: tuple[str, ...], wrong: str
) -> None:
    told(*lists)
    assert edge.differences() == wrong
    assert edge.described() == "its networks are those that it publishes today"


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("<html>", "html"), ("\n", "no networks")])
def test_a_list_that_cannot_be_had_is_said_and_fails_when_ours_is_old(
    told: Callable[..., Path], text: str | None, why: str
) -> None:
    """What a captive network answers is no list."""

    def tell(age: int | None) -> None:
        day = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=age or 0)
        place = told(text or "", as_of=day.isoformat() if age is not None else "")
        if text is None:
            (place / "list-0").unlink()

    tell(365)
    assert (edge.differences(), why in edge.described()) == ("", True)
    tell(366)
    assert why in edge.differences()
    tell(None)
    assert (edge.differences(), "the spec's own" in edge.described()) == ("", True)


def test_what_nobody_publishes_is_not_compared(told: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    told()
    assert edge.differences() == ""
    assert "published nowhere" in edge.described()
    monkeypatch.setattr(facts, "EDGE", "/nowhere/edge.json")
    edge._compared.cache_clear()
    assert (edge.differences(), edge.described()) == ("", "")
