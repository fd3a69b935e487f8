"""What every command that writes does to devices, pipes, links and directories, as root, among devices of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from builder import spec as specs
from builder.cli.app import app
from tests import forked_er
from tests.cli.test_cli import ER, WEB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.machine

# A /dev that a fault may spoil, and a full /mnt. Then the command; the devices must be as they were.
OWN_DEVICES = """set -e
dev=$(mktemp -d)
mount -t tmpfs -o mode=755 tmpfs "$dev"
for one in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$dev/${one%:*}" c 1 "${one#*:}"; done
ln -s /proc/self/fd "$dev/fd"
for one in stdin:0 stdout:1 stderr:2; do ln -s "fd/${one#*:}" "$dev/${one%:*}"; done
mount --move "$dev" /dev
rmdir "$dev"
mount -t tmpfs -o size=4k,mode=1777 tmpfs /mnt
head -c 4096 /dev/zero > /mnt/all
devices() { stat -c '%n %F %t %T %a' /dev/* && ls -A /dev; }
before=$(devices)
code=0
"$@" || code=$?
[ "$(devices)" = "$before" ] || { echo "the devices are not as they were" >&2; exit 99; }
exit $code
"""
FILE_WRITERS = {
    "init": ["init", "--force"],
    "user-data": ["user-data", str(WEB), "--on", "stock", "-o"],
    "diagram": ["diagram", str(WEB), "-o"],
}
DIRECTORY_WRITERS = {
    "render": ["render", str(WEB), "-o"],
    "build-image": ["build-image", str(WEB), "--target", "qemu", "-o"],
}
# tests/aws/test_launch.py has these, and tests/server/test_report.py, as it needs a host.
ELSEWHERE = {("launch", "--known-hosts"), ("destroy", "--known-hosts"), ("server report", "--output")}
# It is read, or says that these lines are to be printed.
NO_OUTPUT = {("deploy", "--known-hosts"), ("server status", "--known-hosts")}


def own_devices(*words: str | Path) -> list[str]:
    """The argv that runs a command among devices of its own."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", OWN_DEVICES, "sh", *map(str, words)]


@dataclass(frozen=True)
class Done:
    """One run: its exit code, and what it said."""

    code: int
    out: bytes
    err: bytes


# A process for each run, of one that has read the program already: what is left of a run is a tenth of a second.
_RUNS = """
import importlib, json, os, sys, tempfile
from builder.cli.app import app

def run(words, out, err):
    for place, number in ((out, 1), (err, 2)):
        os.dup2(place.fileno(), number)
    try:
        app(words, prog_name="er")
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)

done = []
environment, loaded, cases = json.load(sys.stdin)
for name in loaded:
    importlib.import_module(name)
os.environ.clear()
os.environ.update(environment)
for words in cases:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if not (child := os.fork()):
            run(words, out, err)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = []
        for place in (out, err):
            place.seek(0)
            said.append(place.read().decode("latin-1"))
        done.append([code, *said])
json.dump(done, sys.stdout)
"""


def runs(
    cwd: Path,
    *cases: list[str],
    user: bool = False,
    before: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    loaded: Sequence[str] = (),
) -> list[Done]:
    """Run `er` with each of these words, as root or as nobody; `before` are words that stand before the whole.

    What is `loaded` as well, all of them need.
    """
    argv = [*before, *own_devices(*(UNPRIVILEGED if user else ()), sys.executable, "-c", _RUNS)]
    given = json.dumps([{**(env or os.environ), "NO_COLOR": "1"}, [*forked_er.LOADED, *loaded], cases]).encode()
    done = subprocess.run(argv, cwd=cwd, input=given, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [Done(code, out.encode("latin-1"), err.encode("latin-1")) for code, out, err in json.loads(done.stdout)]


# Nobody, but for reading: a checkout may lie where only its owner looks.
_READING = "-all,+dac_read_search"
UNPRIVILEGED = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", f"--inh-caps={_READING}",
    f"--ambient-caps={_READING}", f"--bounding-set={_READING}",
)  # fmt: skip


def _options(group: Any, before: str = "") -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _options(command, f"{before}{name} ")
        for option in command.params:
            words = {"--output", "--known-hosts"}.intersection(option.opts)
            yield from ((f"{before}{name}", word) for word in words)


def test_no_command_that_writes_is_missing_here() -> None:
    here = {(name, "--output") for name in (*FILE_WRITERS, *DIRECTORY_WRITERS)}
    assert set(_options(typer.main.get_command(app))) == here | ELSEWHERE | NO_OUTPUT


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """What each command writes."""
    found = {"init": specs.template().encode()}
    for name in ("user-data", "diagram"):
        said = subprocess.run([ER, *FILE_WRITERS[name][:-1]], capture_output=True, timeout=120, check=True)
        found[name] = said.stdout
    return found


def read_of(pipe: Path) -> Callable[[], bytes]:
    """Read a pipe meanwhile; what is returned waits for the end of it."""
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()

    def end() -> bytes:
        reader.join(60)
        return got[0]

    return end


@pytest.mark.parametrize("command", FILE_WRITERS)
def test_a_file_goes_where_it_is_told(command: str, contents: Mapping[str, bytes], tmp_path: Path) -> None:
    words, content = FILE_WRITERS[command], contents[command]
    (tmp_path / "real").write_text("before")
    for name, target in (("link", "real"), ("dangling", "new"), ("device", "/dev/null")):
        (tmp_path / name).symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    got = read_of(tmp_path / "pipe")
    stdouts = ("-", "/dev/stdout")
    targets = (*stdouts, "/dev/null", "link", "dangling", "device", "pipe", "made/here")
    for target, done in zip(targets, runs(tmp_path, *([*words, target] for target in targets)), strict=True):
        assert (done.code, done.out) == (0, content if target in stdouts else b""), (target, done)
    assert got() == content
    for name in ("real", "new", "made/here"):
        assert (tmp_path / name).read_bytes() == content
    assert [path.name for path in sorted(tmp_path.iterdir()) if path.is_symlink()] == ["dangling", "device", "link"]
    names = ["dangling", "device", "link", "made", "new", "pipe", "real"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("command", [*FILE_WRITERS, *DIRECTORY_WRITERS])
def test_what_cannot_be_written_is_one_clear_error(command: str, tmp_path: Path) -> None:
    words = {**FILE_WRITERS, **DIRECTORY_WRITERS}[command]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    refused = {"loop": b"circle", "file/x": b"a directory is needed"}
    if command in FILE_WRITERS:
        refused |= {".": b"names a directory", "new/": b"names a directory", "/dev/full": b"no space is left"}
        refused |= {"/mnt/file": b"no space is left"}
    elif command == "render":
        refused |= {"file": b"a directory is to be written", "/dev/full": b"no space is left", "/mnt/x": b"no space"}
    else:
        os.mkfifo(tmp_path / "pipe")
        refused |= dict.fromkeys(("file", "/dev/null", "/dev/stdout", "pipe", "-"), b"a directory is to be written")
        refused["pipe/"] = b"a directory is"
    before = sorted(tmp_path.rglob("*"))
    for target, done in zip(refused, runs(tmp_path, *([*words, target] for target in refused)), strict=True):
        assert (done.code, done.out, refused[target] in done.err) == (1, b"", True), (target, done)
        assert done.err.count(b"error: ") == done.err.count(b"hint: ") == 1, (target, done.err)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_who_may_not_write_is_told(tmp_path: Path) -> None:
    every = {**FILE_WRITERS, **DIRECTORY_WRITERS}
    (tmp_path / "shut").mkdir()
    tmp_path.chmod(0o755)
    for done in runs(tmp_path, *([*words, "shut/new"] for words in every.values()), user=True):
        assert (done.code, done.out) == (1, b""), done
        assert done.err.startswith(b"error: shut/new")
        assert b"you may not write there" in done.err
    assert list(tmp_path.rglob("*")) == [tmp_path / "shut"]


def _names(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name for member in tar if member.isfile()}


def test_a_tree_goes_where_it_is_told(tmp_path: Path) -> None:
    words = DIRECTORY_WRITERS["render"]
    (tmp_path / "old").mkdir(mode=0o750)
    (tmp_path / "old/mine").touch()
    (tmp_path / "link").symlink_to("old")
    os.mkfifo(tmp_path / "pipe")
    got = read_of(tmp_path / "pipe")
    cases = [[*words, target] for target in ("plain/", "-", "/dev/stdout", "/dev/null", "pipe", "link")]
    plain, first, second, null, pipe, link, forced = runs(tmp_path, *cases, [*words, "link", "--force"])
    assert [done.code for done in (plain, first, second, null, pipe, link, forced)] == [0, 0, 0, 0, 0, 1, 0], pipe
    wanted = {str(path.relative_to(tmp_path / "plain")) for path in (tmp_path / "plain").rglob("*") if path.is_file()}
    assert wanted == _names(first.out) == _names(second.out) == _names(got())
    assert b"--force" in link.err
    assert (tmp_path / "link").is_symlink()
    assert {
        str(path.relative_to(tmp_path / "old")) for path in (tmp_path / "old").rglob("*") if path.is_file()
    } == wanted
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old", "pipe", "plain"]


def test_a_tree_does_not_take_its_own_spec_away(tmp_path: Path) -> None:
    (tmp_path / "easyrunner.yaml").write_bytes(specs.template().encode())
    (done,) = runs(tmp_path, ["render", "easyrunner.yaml", "-o", ".", "--force"])
    assert done.code == 1
    assert b"which would go with it" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["easyrunner.yaml"]


def test_an_image_goes_into_a_directory_and_through_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    cases = [[*DIRECTORY_WRITERS["build-image"], target, "--dry-run"] for target in ("link", "new/", "real/")]
    assert [done.code for done in runs(tmp_path, *cases)] == [0, 0, 0]


def test_a_pipe_that_nobody_reads_is_not_waited_for_in_silence(tmp_path: Path, contents: Mapping[str, bytes]) -> None:
    os.mkfifo(tmp_path / "pipe")
    argv = own_devices(ER, *FILE_WRITERS["user-data"], "pipe")
    with subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"nobody reads this pipe yet" in process.stderr.readline()
        assert (tmp_path / "pipe").read_bytes() == contents["user-data"]
        process.stderr.read()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "where", "told"),
    [
        (["tree", WEB], ">/dev/full", b"no space is left"),
        (["user-data", WEB, "--on", "stock"], ">/dev/full", b"no space is left"),
        (["providers"], ">&-", b"it is not open"),
    ],
)
def test_a_stdout_that_takes_nothing_is_one_clear_error(
    words: list[str | Path], where: str, told: bytes, tmp_path: Path
) -> None:
    argv = own_devices("sh", "-c", f'"$@" {where}', "sh", ER, *words)
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert b"error: stdout: " + told in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
