"""Writing files: what is replaced, what is followed, what is written to, and what is refused with a way out."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import files

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.geteuid() == 0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Relative names, an umask that is known, and nothing left beside what was written."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    yield tmp_path
    os.umask(before)
    assert not list(tmp_path.rglob(".er-new-*"))


def _mode(path: str) -> str:
    return f"{stat.S_IMODE(Path(path).stat().st_mode):04o}"


def test_a_new_file_has_the_mode_that_the_umask_leaves() -> None:
    files.write("a/b/new", b"x")
    assert (Path("a/b/new").read_bytes(), _mode("a/b/new")) == (b"x", "0640")
    files.write("private", b"x", 0o600)
    files.write("open", b"x", 0o664)
    assert (_mode("private"), _mode("open")) == ("0600", "0664")


def test_an_old_file_is_replaced_whole_and_keeps_its_mode() -> None:
    Path("old").write_text("before")
    Path("old").chmod(0o604)
    with Path("old").open() as reader:
        files.write("old", b"after")
        assert reader.read() == "before"
    assert (Path("old").read_text(), _mode("old")) == ("after", "0604")
    files.write("old", b"secret", 0o600)
    assert _mode("old") == "0600"


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_an_old_file_keeps_its_owner() -> None:
    Path("old").touch()
    os.chown("old", 1234, 2345)
    files.write("old", b"after")
    assert (Path("old").stat().st_uid, Path("old").stat().st_gid) == (1234, 2345)


def test_what_fails_half_way_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    Path("old").write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(files.OutputError) as caught:
        files.write("old", b"after")
    assert caught.value.message == "old: no space is left there"
    assert caught.value.hint
    assert Path("old").read_text() == "before"


def test_a_link_stays_and_its_target_is_replaced_or_made() -> None:
    Path("there").mkdir()
    Path("there/real").write_text("before")
    Path("link").symlink_to("there/real")
    Path("second").symlink_to("link")
    Path("dangling").symlink_to("there/new")
    for name in ("second", "dangling"):
        files.write(name, b"after")
    assert [Path(name).is_symlink() for name in ("link", "second", "dangling")] == [True, True, True]
    assert sorted(path.name for path in Path("there").iterdir()) == ["new", "real"]
    assert {path.read_text() for path in Path("there").iterdir()} == {"after"}


def test_for_a_host_a_link_is_replaced_and_not_followed() -> None:
    Path("target").write_text("mine")
    Path("link").symlink_to("target")
    Path(".left").symlink_to("target")
    files.replace(Path("link"), b"after", 0o600, name=".left")
    assert (Path("target").read_text(), Path("link").is_symlink(), Path("link").read_text()) == ("mine", False, "after")
    assert not Path(".left").is_symlink()


def _refused(target: str) -> files.OutputError:
    with pytest.raises(files.OutputError) as caught:
        files.write(target, b"x")
    with pytest.raises(files.OutputError) as known:
        files.check(target)
    assert known.value.message == caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("dir", "dir: names a directory"),
        ("dir/", "dir/: names a directory"),
        ("new/", "new/: names a directory"),
        ("", ": names a directory"),
        ("file/x", "file/x: a file stands where a directory is needed"),
        ("loop", "loop: its links lead in a circle"),
        ("socket", "socket: is a socket"),
        ("n" * 300, "the name is too long"),
    ],
)
def test_what_cannot_be_written_is_one_error_with_a_way_out(target: str, told: str) -> None:
    Path("dir").mkdir()
    Path("file").touch()
    Path("loop").symlink_to("pool")
    Path("pool").symlink_to("loop")
    os.mknod("socket", stat.S_IFSOCK | 0o600)
    before = sorted(Path().rglob("*"))
    assert told in _refused(target).message
    assert sorted(Path().rglob("*")) == before


def test_a_device_is_no_file_that_is_replaced() -> None:
    """tests/cli/test_outputs.py writes to devices, where root has some to lose."""
    Path("link").symlink_to("/dev/null")
    assert (files.is_stream("link"), files.is_stream("/dev/null"), files.replaces("link")) == (True, True, False)
    files.check("link")


def test_a_pipe_is_waited_for_with_a_word_and_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo("pipe")
    got, told = [], []

    def read(text: str) -> None:
        told.append(text)
        reader.start()

    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
    files.write("pipe", b"x" * 300_000, report=read)
    reader.join()
    assert (len(got[0]), len(told), Path("pipe").is_fifo()) == (300_000, 1, True)
    monkeypatch.setattr(files, "READER_TIMEOUT", 0.0)
    with pytest.raises(files.OutputError, match="nobody reads that pipe"):
        files.write("pipe", b"x")


def test_a_reader_that_leaves_a_pipe_is_an_error() -> None:
    os.mkfifo("pipe")

    def leave(_: str) -> None:
        threading.Thread(target=lambda: Path("pipe").open("rb").close()).start()

    with pytest.raises(files.OutputError, match="its reader went away"):
        files.write("pipe", b"x" * 3_000_000, report=leave)


def test_own_descriptors_are_written_where_they_stand() -> None:
    """A redirected stdout is not replaced below the shell that holds it."""
    with Path("out").open("wb") as out:
        out.write(b"before ")
        out.flush()
        Path("link").symlink_to(f"/dev/fd/{out.fileno()}")
        files.write(f"/proc/self/fd/{out.fileno()}", b"one ")
        files.write("link", b"two")
        assert files.is_stream("link")
    assert Path("out").read_bytes() == b"before one two"
    assert files.is_stdout("-")
    assert files.is_stdout("/dev/stdout")


def test_a_finished_file_moves_whole_and_keeps_the_old_mode() -> None:
    for name in ("big", "file", "big2"):
        Path(name).write_text(name)
    Path("file").chmod(0o604)
    Path("link").symlink_to("file")
    files.move(Path("big"), "link")
    assert (Path("file").read_text(), _mode("file"), Path("link").is_symlink()) == ("big", "0604", True)
    os.mkfifo("pipe")
    reader = threading.Thread(target=lambda: Path("got").write_bytes(Path("pipe").read_bytes()))
    files.move(Path("big2"), "pipe", report=lambda _: reader.start())
    reader.join()
    assert Path("got").read_text() == "big2"
    assert not Path("big").exists()
    assert not Path("big2").exists()


def test_a_finished_file_moves_to_another_file_system() -> None:
    elsewhere = Path("/dev/shm")
    if not os.access(elsewhere, os.W_OK) or elsewhere.stat().st_dev == Path().stat().st_dev:
        pytest.skip("there is no second file system here")
    target = elsewhere / f"er-test-{os.getpid()}"
    Path("big").write_text("all of it")
    try:
        files.move(Path("big"), target)
        assert target.read_text() == "all of it"
        assert not Path("big").exists()
        assert not list(elsewhere.glob(".er-new-*"))
    finally:
        target.unlink(missing_ok=True)


def test_a_log_is_private_from_its_first_byte() -> None:
    Path("log").write_text("old")
    Path("log").chmod(0o644)
    with files.stream("log", 0o600) as log:
        log.write(b"new")
    assert (Path("log").read_text(), _mode("log")) == ("new", "0600")


@pytest.mark.parametrize("target", ["-", "file", "/dev/null", "pipe"])
def test_a_directory_is_not_made_of_anything_else(target: str) -> None:
    Path("file").touch()
    os.mkfifo("pipe")
    with pytest.raises(files.OutputError, match="a directory is to be written") as caught:
        files.directory(target)
    assert caught.value.hint == "give the name of a directory"
