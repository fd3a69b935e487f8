"""What a host of an older er has elsewhere: Caddy's data, moved while it is in use, and Fail2Ban's bans, copied."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.server.remote import common
from builder.server.remote.move import moved_data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a host with a certificate and a ban."""
    for name in ("STATE", "HOMES", "DATA", "CADDY_DATA", "STACK_DATA", "BANS"):
        place = str(getattr(facts, name)).replace("/var/lib/easyrunner", str(tmp_path))
        monkeypatch.setattr(facts, name, place)
    monkeypatch.setattr(common, "stacks", list)
    bans = tmp_path / "fail2ban.sqlite3"
    monkeypatch.setattr(moved_data, "_OLD_BANS", bans)
    (tmp_path / "caddy/caddy").mkdir(parents=True)
    (tmp_path / "caddy/caddy/a.crt").write_text("certificate")
    with sqlite3.connect(bans) as database:
        database.execute("create table bans (ip text)")
        database.execute("insert into bans values ('203.0.113.7')")
    return tmp_path


def _both(state: Path) -> list[str]:
    return [(state / path).read_text() for path in ("caddy/caddy/a.crt", "data/caddy/caddy/a.crt")]


@pytest.mark.parametrize("made", [False, True])
def test_it_is_at_both_places_and_whoever_has_it_open_writes_to_the_same_file(old: Path, made: bool) -> None:
    """Also where the new directory is there already, and empty."""
    if made:
        (old / "data" / "caddy").mkdir(parents=True)
    with (old / "caddy/caddy/a.crt").open("a") as file:
        moved_data.begin()
        file.write(" on")
    assert _both(old) == ["certificate on"] * 2
    moved_data.begin()
    moved_data.take_back()
    assert _both(old) == ["certificate on"] * 2
    moved_data.end()
    assert not os.path.lexists(old / "caddy")
    assert (old / "data/caddy/caddy/a.crt").read_text() == "certificate on"


def test_nothing_is_lost_where_both_places_have_something(old: Path) -> None:
    (old / "data/caddy").mkdir(parents=True)
    (old / "data/caddy/other").write_text("kept")
    with pytest.raises(OSError, match="not empty"):
        moved_data.begin()
    assert (old / "data/caddy/other").read_text() == "kept"
    assert (old / "caddy/caddy/a.crt").read_text() == "certificate"


def test_bans_are_copied_once(old: Path) -> None:
    moved_data.begin()
    with sqlite3.connect(old / "data/fail2ban/fail2ban.sqlite3") as database:
        assert database.execute("select ip from bans").fetchall() == [("203.0.113.7",)]
        database.execute("delete from bans")
    moved_data.begin()
    with sqlite3.connect(old / "data/fail2ban/fail2ban.sqlite3") as database:
        assert database.execute("select ip from bans").fetchall() == []
