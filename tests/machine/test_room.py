"""Who is stopped when a disk fills: /usr/lib/easyrunner/room on a small file system, with stand-ins in its path.

A file system in memory in a mount namespace stands for the disk; tests/packer/test_attacks.py fills a real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import data
from builder.localhost import requirements
from builder.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine
MIB = 1 << 20
SIZE = 200
"""MiB of the disk."""
FILES = 20_000
"""That it can hold."""
STACKS = ("blog", "shop", "wiki")
_START = """set -e
mount -t tmpfs -o size={size}m,nr_inodes={files} disk /var/lib
mount -t tmpfs run /run
mkdir -p /var/lib/easyrunner/room /run/easyrunner/room /var/lib/easyrunner/data
{data}
mount -t tmpfs new /mnt
cp -a /etc/alternatives /mnt
mount --move /mnt /etc
cd /var/lib/easyrunner
for stack in {stacks}; do mkdir -p /etc/easyrunner/stacks/$stack home/$stack data/stacks/$stack; done
mount -t tmpfs groups /sys/fs/cgroup
echo ready
exec cat
"""
# What it was told last of a unit says whether that runs.
_SYSTEMCTL = """#!/bin/sh
[ "$1" != is-active ] || ! grep -F "$3" {calls} | tail -n 1 | grep -q stop || exit 3
[ "$1" = is-active ] || echo "$*" >>{calls}
"""
_RUN = '#!/bin/sh\n[ -e .ballast ] && echo "ballast is in the way" >>{calls}\necho "$*" >>{calls}\n'
_ID = '#!/bin/sh\necho "uid-of-${2#er-}"\n'


@dataclass
class Disk:
    """Seen through the root of the process that holds its mount namespace."""

    holder: int
    calls: Path
    program: Path
    running: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.holder}/root")

    def home(self, stack: str) -> Path:
        return self.root / "var/lib/easyrunner/home" / stack

    def data(self, stack: str) -> Path:
        return self.root / "var/lib/easyrunner/data/stacks" / stack

    def room(self, name: str) -> Path:
        return self.root / "var/lib/easyrunner/room" / name

    def full(self, stack: str) -> Path:
        """What it had grown by, in KiB, while it is stopped for that."""
        return self.root / "run/easyrunner/room" / stack

    @property
    def asked(self) -> list[str]:
        """What systemctl and systemd-run were told."""
        return self.calls.read_text().splitlines()

    def start(self) -> None:
        path = f"{self.program.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        argv = ["nsenter", "--target", str(self.holder), "--mount", "env", f"PATH={path}", "sh", str(self.program)]
        self.running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True)

    def kill(self) -> None:
        if self.running is not None:
            os.killpg(self.running.pid, 9)
            self.running.wait()


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """`request.param` is a command that mounts a second one for data."""
    requirements.check_booting()
    calls = tmp_path / "calls"
    calls.touch()
    stubs = {"systemctl": _SYSTEMCTL.format(calls=calls), "systemd-run": _RUN.format(calls=calls), "id": _ID}
    for name, text in stubs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    program = tmp_path / "room"
    program.write_bytes((data.tree("images") / "rootfs/usr/lib/easyrunner/room").read_bytes())
    script = _START.format(size=SIZE, files=FILES, stacks=" ".join(STACKS), data=getattr(request, "param", ""))
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        made = Disk(holder.pid, calls, program)
        (made.home("wiki") / "large").write_bytes(bytes(90 * MIB))
        made.start()
        try:
            until(lambda: all(_written(made.room(stack)) for stack in STACKS), timeout=60, what="the first measure")
            assert _written(made.room(".ballast"))
            yield made
        finally:
            made.kill()
            assert holder.stdin is not None
            holder.stdin.close()


def _written(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def stopped(disk: Disk, stack: str) -> None:
    """Then what its containers have written is taken away, with the room that was kept for that."""
    until(lambda: len(disk.asked) > 2, timeout=60, what="a stop")
    uid = f"uid-of-{stack}"
    own = f"-E XDG_RUNTIME_DIR=/run/user/{uid} -E XDG_CONFIG_HOME=/var/lib/easyrunner/config/{uid}"
    clean = f"-qp User=er-{stack} -p RuntimeMaxSec=300 {own} --wait podman rm -favt0"
    forget = f"-qGp WorkingDirectory=/run/user/{uid} --wait rm -rf --one-file-system containers crun libpod netns"
    assert disk.asked == [f"stop user@{uid}.service", forget, clean]
    assert disk.full(stack).exists()


def test_the_one_that_grew_is_stopped_and_not_the_largest(disk: Disk) -> None:
    """While it holds more than a third of what that one holds."""
    (disk.home("wiki") / "old").write_bytes(bytes(40 * MIB))
    used_to(disk, wiki=130)
    (disk.home("shop") / "more").write_bytes(bytes(8 * MIB))
    (disk.home("blog") / "fill").write_bytes(bytes(53 * MIB))
    stopped(disk, "blog")
    assert int(disk.full("blog").read_text()) // 1024 in range(52, 56)
    (disk.home("blog") / "fill").unlink()
    until(lambda: len(disk.asked) > 3, timeout=60, what="a start")
    assert disk.asked[3:] == ["start user@uid-of-blog.service"]
    assert not disk.full("blog").exists()


_SECOND = "mount -t tmpfs -o size=100m second /var/lib/easyrunner/data"


@pytest.mark.parametrize("disk", [_SECOND], indirect=True)
def test_a_disk_for_data_is_looked_at_for_itself(disk: Disk) -> None:
    """Who fills it is stopped, whoever holds more on the other one; and that is not half as full."""
    (disk.data("shop") / "much").write_bytes(bytes(40 * MIB))
    until(lambda: _written(disk.room("shop+")), timeout=60, what="a measure of the second disk")
    disk.room("shop+").write_text(f"{40 << 10}\n")
    (disk.data("blog") / "fill").write_bytes(bytes(56 * MIB))
    stopped(disk, "blog")
    (disk.data("blog") / "fill").unlink()
    until(lambda: len(disk.asked) > 3, timeout=60, what="a start")
    assert disk.asked[3:] == ["start user@uid-of-blog.service"]


def test_data_on_the_machines_own_disk_counts_there(disk: Disk) -> None:
    used_to(disk, wiki=90)
    (disk.data("blog") / "fill").write_bytes(bytes(101 * MIB))
    stopped(disk, "blog")


def test_what_is_built_goes_before_any_stack(disk: Disk) -> None:
    home = disk.root / "var/lib/easyrunner/builds/blog/home"
    home.mkdir(parents=True)
    (home / "layer").write_bytes(bytes(102 * MIB))
    until(lambda: disk.asked[-1:] and disk.asked[-1].startswith("-qG"), timeout=60, what="the end of builds")
    shutil.rmtree(home)
    path = "/var/lib/easyrunner/builds/blog/home"
    # Which needs no room.
    assert [line for line in disk.asked if "ballast" not in line][:2] == [
        "stop builds.slice",
        f"-qG --wait rm -rf --one-file-system {path}",
    ]
    time.sleep(5)
    assert not any(disk.full(stack).exists() for stack in STACKS)
    assert not any("user@" in line for line in disk.asked)


def used_to(disk: Disk, **stacks: int) -> None:
    """What stacks have held for long, in MiB."""
    for stack, size in stacks.items():
        disk.room(stack).write_text(f"{size << 10}\n")


def test_a_slow_filler_is_stopped_and_not_a_small_bystander(disk: Disk) -> None:
    """However long it took: what it held an hour ago says nothing."""
    (disk.home("wiki") / "slowly").write_bytes(bytes(84 * MIB))
    used_to(disk, wiki=174, shop=1)
    (disk.home("shop") / "at once").write_bytes(bytes(17 * MIB))
    stopped(disk, "wiki")
    # Nor is it the next one, for the same; who fills what is left is.
    until(lambda: int(disk.room("shop").read_text() or 0) >> 10 in range(16, 19), timeout=60, what="a new measure")
    (disk.home("blog") / "fill").write_bytes(bytes(6 * MIB))
    until(lambda: len(disk.asked) > 3, timeout=60, what="a second stop")
    assert disk.asked[3] == "stop user@uid-of-blog.service"


def test_what_a_stack_is_used_to_follows_slowly(disk: Disk) -> None:
    """Or who fills by night would be used to it by day. Less is taken over at once."""
    disk.kill()
    (disk.home("shop") / "more").write_bytes(bytes(42 * MIB))
    (disk.home("wiki") / "large").unlink()
    used_to(disk, shop=0, wiki=90)
    (disk.room(".ballast")).unlink()
    disk.start()
    until(disk.room(".ballast").exists, timeout=60, what="a round")
    until(lambda: int(disk.room("wiki").read_text() or 90 << 10) < 1 << 10, timeout=60, what="the measure")
    assert int(disk.room("shop").read_text()) in range(42 * 1024 // 168, 43 * 1024 // 168)


def test_a_stop_outlives_the_guard(disk: Disk) -> None:
    (disk.home("blog") / "fill").write_bytes(bytes(103 * MIB))
    stopped(disk, "blog")
    disk.kill()
    (disk.home("blog") / "fill").unlink()
    disk.start()
    until(lambda: len(disk.asked) > 3, timeout=60, what="a start")
    assert disk.asked[3:] == ["start user@uid-of-blog.service"]


def test_a_stack_that_an_admin_starts_on_a_full_disk_is_stopped_again(disk: Disk) -> None:
    (disk.home("blog") / "fill").write_bytes(bytes(103 * MIB))
    stopped(disk, "blog")
    with disk.calls.open("a") as calls:
        calls.write("start user@uid-of-blog.service\n")
    until(lambda: len(disk.asked) > 6, timeout=60, what="a second stop")
    assert disk.asked[4:] == disk.asked[:3]


def test_empty_files_count(disk: Disk) -> None:
    for number in range(FILES * 96 // 100):
        (disk.home("shop") / str(number)).touch()
    stopped(disk, "shop")


def test_a_file_without_a_name_is_found_where_it_is_open(disk: Disk) -> None:
    """It is counted once, whoever else holds it."""
    group = disk.root / "sys/fs/cgroup/stacks.slice/user@uid-of-blog.service/app.slice"
    group.mkdir(parents=True)
    path = disk.home("blog") / "nameless"
    with path.open("wb") as file:
        path.unlink()
        file.write(bytes(103 * MIB))
        file.flush()
        (group / "cgroup.procs").write_text(f"{os.getpid()}\n{os.getpid()}\n")
        stopped(disk, "blog")
        assert int(disk.full("blog").read_text()) // 1024 in range(102, 106)


def test_nobody_is_stopped_for_what_the_host_itself_has_written(disk: Disk) -> None:
    """Nor for less than a hundredth; when a stack adds to it, the one that holds most is."""
    (disk.home("shop") / "little").write_bytes(bytes(MIB))
    (disk.root / "var/lib/log").write_bytes(bytes(104 * MIB))
    with pytest.raises(Exception, match="stop"):
        until(lambda: disk.asked, timeout=8, what="a stop")
    (disk.home("shop") / "more").write_bytes(bytes(3 * MIB))
    stopped(disk, "wiki")
