"""What an `er server move` sends and removes, and what speaks against it, as values."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder import facts
from builder.problems import UserError
from builder.server import move, move_look
from builder.server.move_look import Difference, Entry, Item, Look, differing
from builder.server.remote import doctor, held
from builder.server.remote.common import RemoteError
from builder.server.remote.move import data_copy, data_list


def _entry(path: str, kind: str = "f", **more: Any) -> Entry:
    values = {"mode": 0o644, "uid": 1, "gid": 1, "size": 3, "mtime": 5, "ctime": 10**9, "link": "", "number": 0}
    if kind == "d":
        values |= {"mode": 0o755, "size": 0}
    return Entry(path, kind, **{**values, **more})


def test_images_that_are_kept_with_the_data_do_not_go_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to the store of the new host, which keeps them itself."""
    monkeypatch.setattr(facts, "DATA", str(tmp_path))
    for path in ("stacks/app/images/blobs/sha256/0", "stacks/app/files/images/0", "stacks/images/files/0"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    found = {entry[0] for entry in data_list.listed() if entry[1] == "f"}
    assert found == {"stacks/app/files/images/0", "stacks/images/files/0"}


def test_nothing_differs() -> None:
    every = [_entry("a", "d"), _entry("a/b"), _entry("a/c", number=7), _entry("a/d", number=7)]
    other = [entry._replace(number=entry.number * 3, ctime=9**9) for entry in every]
    assert differing(every, other) == ((), (), ())


@pytest.mark.parametrize("change", [{"mode": 0o600}, {"uid": 2}, {"gid": 2}, {"size": 4}, {"mtime": 6}])
def test_what_differs_is_sent_with_its_directories(change: dict[str, Any]) -> None:
    """A directory gets its own time back after what is written into it."""
    there = [_entry("a", "d"), _entry("a/b"), _entry("c", "d")]
    here = [there[0], there[1]._replace(**change), there[2]]
    assert differing(here, there).send == (Item("a", "", 0), Item("a/b", "", here[1].size))


def test_what_is_gone_is_removed_the_deepest_first() -> None:
    there = [_entry("a", "d"), _entry("a/b", "d"), _entry("a/b/c"), _entry("a-b")]
    assert differing([_entry("a", "d")], there).remove == ("a/b/c", "a/b", "a-b")


def test_a_directory_that_became_a_link_is_removed_with_all_that_was_in_it() -> None:
    there = [_entry("a", "d"), _entry("a/b")]
    different = differing([_entry("a", "l", link="/etc")], there)
    assert different.remove == ("a/b", "a")
    assert [item.path for item in different.send] == ["a"]


def test_names_of_one_file_are_sent_together() -> None:
    """Also where only one of them is new, or one is a file of its own by now."""
    here = [_entry("a", number=1), _entry("b", number=1)]
    for there in ([_entry("a")], [_entry("a"), _entry("b")], [_entry("a", mtime=1), _entry("b", mtime=1)]):
        assert Item("b", "a", 0) in differing(here, there).send
    apart = differing([_entry("a"), _entry("b")], [_entry("a", number=1), _entry("b", number=1)])
    assert [(item.path, item.first) for item in apart.send] == [("b", "")]


def test_what_changed_since_is_sent_whatever_it_looks_like() -> None:
    """A time that was set back, a page of mapped memory that is written late; of either host, by its own clock."""
    here, there = [_entry("a", ctime=100 * 10**9)], [_entry("a", ctime=50 * 10**9)]
    assert not differing(here, there, since=103).send
    assert differing(here, there, since=101).send
    assert not differing(here, there, tried=53).send
    assert differing(here, there, tried=51).send


def test_a_device_is_told_and_left() -> None:
    different = differing([_entry("a", "?")], [])
    assert different == ((), (), ("a",))


def _facts(**more: Any) -> dict[str, Any]:
    stacks = {"blog": ["20100", "20100", "er-blog:6553600:65536"]}
    return {"id": "1", "name": "web", "stacks": stacks, "format": "1", "state": {}, "own": [], **more}


def _problems(old: dict[str, Any], new: dict[str, Any], *, replace: bool = False) -> list[str]:
    look = Look(old, new, "1-2", ())
    return [problem.message for problem in move_look._problems("old", "new", look, replace=replace)]


def test_all_that_speaks_against_it_is_told_at_once() -> None:
    own = {"stack": "blog", "bytes": 5000, "written": 0, "visited": True}
    other = {"shop": ["1", "1", "x"], "blog": ["20200", "20200", "er-blog:13107200:65536"]}
    found = _problems(_facts(), _facts(id="2", name="web2", stacks=other, format="2", own=[own]))
    here, there = (" ".join(ids["blog"]) for ids in (_facts()["stacks"], other))
    assert found == [
        "new is the server web2, old is web",
        "old has no stack shop",
        f"the stack blog has other ids: {here} on old and {there} on new",
        "the data is of form 1 on old and 2 on new",
        "new has data of its own: blog, 5,000 bytes, and its sites have answered visitors",
    ]


def test_data_of_its_own_is_looked_at_before_it_begins() -> None:
    own = {"stack": "blog", "bytes": 1, "written": 0, "visited": False}
    new = _facts(id="2", own=[own])
    assert _problems(_facts(), new)
    assert not _problems(_facts(), new, replace=True)
    assert not _problems(_facts(), {**new, "state": {"pair": "1-2", "phase": "filling"}})
    assert _problems(_facts(), {**new, "state": {"pair": "3-2", "phase": "filling"}})


def test_a_server_is_moved_once() -> None:
    assert _problems(_facts(state={"pair": "1-9", "phase": "moved", "to": "other"}), _facts(id="2")) == [
        "old was moved to other already"
    ]
    assert _problems(_facts(), _facts()) == ["old and new are one server"]


# What is sent, and what comes of it.


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The data of a host, and what came of it to another one."""
    here, there = tmp_path / "data", tmp_path / "incoming"
    here.mkdir()
    there.mkdir()
    monkeypatch.setattr(facts, "DATA", str(here))
    monkeypatch.setattr(data_copy, "INCOMING", there)
    monkeypatch.setattr(data_list, "INCOMING", there)
    monkeypatch.setattr(data_copy, "BANS_COPY", tmp_path / "bans")
    monkeypatch.setattr(data_list, "BANS_COPY", tmp_path / "bans")
    monkeypatch.setattr(data_copy, "free", lambda: 1 << 40)
    return here, there


def _different() -> Difference:
    return differing(move_look.entries(data_list.listed()), move_look.entries(data_list.listed(incoming=True)))


class _Out:
    def __init__(self) -> None:
        self.buffer = io.BytesIO()


def _sent(monkeypatch: pytest.MonkeyPatch, wanted: list[list[Any]]) -> bytes:
    out = _Out()
    monkeypatch.setattr("sys.stdin", type("In", (), {"buffer": io.BytesIO(json.dumps(wanted).encode())}))
    monkeypatch.setattr("sys.stdout", out)
    with pytest.raises(SystemExit):
        data_copy.move_send()
    return out.buffer.getvalue()


def _receive(content: bytes) -> Any:
    return data_copy._Receiver(io.BytesIO(content)).run()


def _copy(monkeypatch: pytest.MonkeyPatch, blocks: dict[str, list[str]] | None = None) -> int:
    different = _different()
    data_copy.remove(different.remove)
    wanted = [[item.path, item.first, (blocks or {}).get(item.path)] for item in different.send]
    content = _sent(monkeypatch, wanted)
    _receive(content)
    assert _different()[:2] == ((), ())
    return len(content)


def test_a_tree_comes_as_it_is(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = trees
    (here / "d/e").mkdir(parents=True)
    (here / "d/one").write_text("one")
    os.link(here / "d/one", here / "d/e/two")
    (here / "d/link").symlink_to("/etc/passwd")
    os.mkfifo(here / "d/pipe")
    (here / os.fsdecode(b"odd \n\xff")).write_text("odd")
    with (here / "sparse").open("wb") as file:
        file.seek(1 << 24)
        file.write(b"end")
    listening = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(here)
    listening.bind("socket")
    os.utime(here / "d", ns=(5, 5))
    (here / "d/one").chmod(0o4750)
    _copy(monkeypatch)
    assert (there / "d/one").stat().st_ino == (there / "d/e/two").stat().st_ino
    assert (there / "d/link").readlink() == Path("/etc/passwd")
    assert (there / "sparse").stat().st_blocks < 1000
    assert (there / "d").stat().st_mtime_ns == 5
    assert (there / "d/one").stat().st_mode & 0o7777 == 0o4750
    assert not (there / "socket").exists()
    listening.close()


def test_only_blocks_that_differ_are_sent(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = trees
    content = bytearray(os.urandom(10 * data_copy.BLOCK + 5))
    (here / "large").write_bytes(content)
    assert _copy(monkeypatch) > len(content)
    content[3 * data_copy.BLOCK] ^= 1
    del content[-3:]
    (here / "large").write_bytes(content)
    monkeypatch.setattr("sys.stdin", type("In", (), {"buffer": io.BytesIO(b'["large"]')}))
    assert _copy(monkeypatch, data_copy.move_blocks()) < 2 * data_copy.BLOCK
    assert (there / "large").read_bytes() == content


def test_a_directory_that_is_swapped_for_a_link_is_not_followed(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the list and the sending: root would read what is not the stack's."""
    here, _ = trees
    (here / "d").mkdir()
    (here / "d/passwd").write_text("mine")
    wanted = [[item.path, item.first, None] for item in _different().send]
    (here / "d").rename(here / "was")
    (here / "d").symlink_to("/etc")
    content = _sent(monkeypatch, wanted)
    assert b"root:" not in content
    assert b"passwd" not in content
    (here / "d").unlink()
    (here / "was").rename(here / "d")
    (here / "d/passwd").unlink()
    (here / "d/passwd").symlink_to("/etc/passwd")
    assert b"root:" not in _sent(monkeypatch, wanted)


_OWNER = [os.getuid(), os.getgid()]


@pytest.mark.parametrize("path", ["../out", "/etc/out", "link/out", "a/../../out", ".", "", "link"])
def test_nothing_is_written_outside(trees: tuple[Path, Path], path: str) -> None:
    """Whatever the other host sends, and whatever came before."""
    _, there = trees
    outside = there.parent / "outside"
    outside.mkdir()
    (there / "link").symlink_to(outside)
    record = {"path": path, "kind": "d", "mode": 0o777, "owner": _OWNER, "mtime": 1, "xattrs": {}}
    before = outside.stat().st_mode
    with pytest.raises((RemoteError, OSError)):
        _receive(json.dumps(record).encode() + b'\n{"end": 1}\n')
    file = {**record, "kind": "f", "size": 1, "keep": False, "extents": [[0, 1]]}
    if path != "link":
        with pytest.raises((RemoteError, OSError)):
            _receive(json.dumps(file).encode() + b'\nx{"end": 1}\n')
    assert outside.stat().st_mode == before
    assert not any(outside.iterdir())
    assert sorted(one.name for one in there.parent.iterdir()) == ["data", "incoming", "outside"]


def test_what_is_cut_is_no_end(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = trees
    (here / "one").write_text("one" * 1000)
    content = _sent(monkeypatch, [["one", "", None]])
    for end in (0, 10, len(content) - 2000, len(content) - 5):
        with pytest.raises(RemoteError, match="the connection was cut"):
            _receive(content[:end])
    _copy(monkeypatch)


def test_a_full_disk_ends_it(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = trees
    (here / "one").write_text("one" * 1000)
    content = _sent(monkeypatch, [["one", "", None]])
    monkeypatch.setattr(data_copy, "free", lambda: 100)
    with pytest.raises(RemoteError, match="too small for the data"):
        _receive(content)


def test_of_a_held_host_that_is_said_and_nothing_that_follows_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check that is left out is one that there is."""
    monkeypatch.setattr(held, "HELD", tmp_path / "held")
    monkeypatch.setattr(held, "state", lambda: {"phase": "moved", "to": "new"})
    monkeypatch.setattr(doctor, "_examine", lambda check, **_: {"check": check.name})
    every = {one["check"] for one in doctor.doctor()}
    assert held.described() == ""
    held.HELD.touch()
    assert held.described() == "this host is held: its data has moved to new"
    left = {one["check"] for one in doctor.doctor()}
    assert every - left == doctor._OF_STACKS
    assert {"not held", "firewall in force", "ssh by key only", "disk for data"} <= left


class _Hosts:
    """What both hosts answer, while no time goes by but in `move-stop`: the old one's database takes long to end."""

    def __init__(self, longest: float) -> None:
        self.now, self.longest, self.until = 1000.0, longest, 0.0
        self.is_heard = threading.Event()
        self.begun = {"phase": "filling", "since": 0}

    def ask(self, verb: str, *words: str, stdin: bytes = b"", **_: object) -> Any:
        if verb == "move-quiet":
            return {"clock": self.now - 1000}
        if verb == "move-stop":
            assert self.is_heard.wait(20), "nobody looks at the clock when the new host has made way"
            self.now += self.longest
        if verb == "move-trial":
            self.until = json.loads(stdin)["until"]
            raise UserError("enough was seen")
        if verb == "move-word":
            return {"phase": "stopped", "run": json.loads(stdin)["run"]}
        return self.begun

    def monotonic(self) -> float:
        if threading.current_thread() is not threading.main_thread():
            self.is_heard.set()
        return self.now


def test_a_database_that_takes_long_to_stop_leaves_the_new_host_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trial may go on for a while from the end of that, by its own clock."""
    hosts: Any = _Hosts(600)
    monkeypatch.setattr(move, "time", SimpleNamespace(monotonic=hosts.monotonic, sleep=lambda _: None))
    for name in ("_send_images", "_answers", "_last_pass", "_take_back"):
        monkeypatch.setattr(move.Move, name, lambda *_: {})
    monkeypatch.setattr(move.Move, "_while_it_serves", lambda _, state: state)
    look = Look(_facts(ill=[], releases={}, word=None), _facts(id="2"), "1-2", ())
    report = move.Reporter(lambda _: None, lambda *_: None, lambda _: None)
    with pytest.raises(UserError, match="enough"):
        move.Move(hosts, hosts, look, report).carry_out()
    assert hosts.until == 600 + move.NEW_LEASE
