"""What a host of an older er has elsewhere, moved while it is in use: found at both places until the links go."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.server.remote import common, moved_data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a host with a certificate, a file that an app has open, and a ban."""
    for name in ("STATE", "HOMES", "DATA", "CADDY_DATA", "STACK_DATA", "BANS"):
        place = str(getattr(facts, name)).replace("/var/lib/easyrunner", str(tmp_path))
        monkeypatch.setattr(facts, name, place)
    monkeypatch.setattr(common, "stacks", lambda: ["blog", "shop"])
    bans = tmp_path / "fail2ban.sqlite3"
    monkeypatch.setattr(moved_data, "_OLD_BANS", bans)
    for path, content in (("caddy/caddy/a.crt", "certificate"), ("home/blog/data/page", "written")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(content)
    with sqlite3.connect(bans) as database:
        database.execute("create table bans (ip text)")
        database.execute("insert into bans values ('203.0.113.7')")
    return tmp_path


def _both(state: Path) -> list[str]:
    paths = ("caddy/caddy/a.crt", "data/caddy/caddy/a.crt", "home/blog/data/page", "data/stacks/blog/files/page")
    return [(state / path).read_text() for path in paths]


@pytest.mark.parametrize("made", [False, True])
def test_it_is_at_both_places_and_whoever_has_it_open_writes_to_the_same_file(old: Path, made: bool) -> None:
    """Also where the new directories are there already, and empty."""
    if made:
        (old / "data" / "caddy").mkdir(parents=True)
        (old / "data/stacks/blog/files").mkdir(parents=True)
    with (old / "home/blog/data/page").open("a") as page:
        moved_data.move()
        page.write(" on")
    assert _both(old) == ["certificate"] * 2 + ["written on"] * 2
    moved_data.move()
    assert _both(old) == ["certificate"] * 2 + ["written on"] * 2
    moved_data.remove_links()
    assert not os.path.lexists(old / "caddy")
    assert (old / "data/stacks/blog/files/page").read_text() == "written on"


def test_nothing_is_lost_where_both_places_have_something(old: Path) -> None:
    (old / "data/caddy").mkdir(parents=True)
    (old / "data/caddy/other").write_text("kept")
    with pytest.raises(OSError, match="not empty"):
        moved_data.move()
    assert (old / "data/caddy/other").read_text() == "kept"
    assert (old / "caddy/caddy/a.crt").read_text() == "certificate"


def test_bans_are_copied_once(old: Path) -> None:
    moved_data.move()
    with sqlite3.connect(old / "data/fail2ban/fail2ban.sqlite3") as database:
        assert database.execute("select ip from bans").fetchall() == [("203.0.113.7",)]
        database.execute("delete from bans")
    moved_data.move()
    with sqlite3.connect(old / "data/fail2ban/fail2ban.sqlite3") as database:
        assert database.execute("select ip from bans").fetchall() == []
