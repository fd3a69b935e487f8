"""What goes wrong in a bake ends in one clear message, with nothing left running or lying about."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import process
from builder.packer import run as jobs
from builder.packer import work_directory
from builder.packer.build_log import Log
from builder.polling import until
from builder.qemu.power import SilentError
from tests.packer import bake_program
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packer.conftest import Oven

pytestmark = pytest.mark.machine
NOWHERE = "deb http://127.0.0.1:9/debian trixie main\n"


class Rehearsal:
    """A bake under way in a process of its own; `place` is where it may write."""

    def __init__(self, place: Path, *words: str | Path) -> None:
        self.place = place
        self._talk = place.parent / f"{place.name}.talk"
        argv = [sys.executable, "-m", "tests.packer.bake_program", place, *words]
        environment = {**os.environ, "HCLOUD_TOKEN": "tell-nobody-of-this", "NO_COLOR": "1", "COLUMNS": "100"}
        with self._talk.open("wb") as talk:
            self.process = subprocess.Popen(
                list(map(str, argv)), cwd=bake_program.ROOT, stdout=talk, stderr=talk, env=environment,
                start_new_session=True,
            )  # fmt: skip

    @property
    def talk(self) -> str:
        return self._talk.read_text()

    def reach(self, step: str) -> None:
        """Wait until this step is over."""

        def there() -> bool:
            assert self.process.poll() is None, self.talk
            return f"\n  {step} " in f"\n{self.talk}"

        until(there, timeout=120, what=f"the end of step {step}")

    def end(self) -> int:
        return self.process.wait(180)

    def packers(self) -> list[int]:
        """Packer's processes, the outermost first."""
        return sorted(pid for pid in self.living() if Path(f"/proc/{pid}/comm").read_text().strip() == "packer")

    def living(self) -> list[int]:
        """Whatever carries this bake's directory in its environment or its command."""
        return self.living_in(self.place / ".er-bake")

    @staticmethod
    def living_in(place: Path) -> list[int]:
        """The same of a directory whose path begins like this; not the one that asks."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                known = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
            except OSError:
                continue
            if str(place).encode() in known and int(path.name) != os.getpid():
                found.append(int(path.name))
        return found

    def failed_cleanly(self, code: int, *words: str) -> None:
        """The exit code, one error that says these words, and nothing but the log left behind."""
        assert self.end() == code, self.talk
        assert self.talk.count("error: ") == (code == 1), self.talk
        assert "Traceback" not in self.talk
        for word in words:
            assert word in self.talk, self.talk
        assert self.living() == []
        (log,) = self.place.iterdir()
        assert str(log) in self.talk or code != 1
        assert "tell-nobody-of-this" not in log.read_text() + self.talk


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def disk(tmp_path: Path, key: Path) -> Path:
    """A disk of nothing that could boot."""
    return _disk(tmp_path, key, 2**20)


@pytest.fixture
def large_disk(tmp_path: Path, key: Path) -> Path:
    """One of 160 MiB, that does not shrink."""
    return _disk(tmp_path, key, 160 * 2**20)


def _disk(place: Path, key: Path, size: int) -> Path:
    (place / "id").write_bytes(key.read_bytes())
    (place / "id").chmod(0o600)
    raw, disk = place / "raw", place / "disk.qcow2"
    raw.write_bytes(random.Random(1).randbytes(size))
    process.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)])
    raw.unlink()
    return disk


def test_a_step_that_fails(oven: Oven, place: Path) -> None:
    bake = Rehearsal(place, "ssh", oven.machine.ipv4, oven.key, "rootfs.tar=no archive")
    bake.failed_cleanly(1, "20-files", "the files of the host could not be laid", "not look like a tar archive")


@of_a_sweep
def test_a_mirror_out_of_reach(oven: Oven, place: Path) -> None:
    bake = Rehearsal(place, "ssh", oven.machine.ipv4, oven.key, f"apt={NOWHERE}")
    bake.failed_cleanly(1, "30-packages", "hint: the package mirror cannot be reached", "127.0.0.1")


def test_a_machine_that_lets_nobody_in(oven: Oven, place: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)])
    bake = Rehearsal(place, "ssh", oven.machine.ipv4, stranger)
    bake.failed_cleanly(1, "step boot", "hint: the machine never let Packer in")


@of_a_sweep
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_a_step(oven: Oven, place: Path, number: signal.Signals) -> None:
    bake = Rehearsal(place, "ssh", oven.machine.ipv4, oven.key)
    bake.reach("20-files")
    bake.process.send_signal(number)
    bake.failed_cleanly(130, "interrupted")


_PROCESSES = {"outer": 0, "inner": 1}


@pytest.mark.parametrize("victim", sample(_PROCESSES, ("inner",)))
def test_packer_killed_in_a_step(oven: Oven, place: Path, victim: str) -> None:
    """Packer is two processes: one that works, and one around it that waits for a crash."""
    bake = Rehearsal(place, "ssh", oven.machine.ipv4, oven.key)
    bake.reach("20-files")
    os.kill(bake.packers()[_PROCESSES[victim]], signal.SIGKILL)
    bake.failed_cleanly(1, "30-packages", "Packer was killed")


def _machine(bake: Rehearsal) -> int:
    """The virtual machine of a bake."""
    names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in bake.living()}
    return next(pid for pid, name in names.items() if name.startswith("qemu-system"))


def test_an_interrupt_takes_the_virtual_machine_away(disk: Path, place: Path) -> None:
    bake = Rehearsal(place, "qemu", disk)
    bake.reach("start")
    assert _machine(bake)
    bake.process.send_signal(signal.SIGINT)
    bake.failed_cleanly(130, "interrupted")


@of_a_sweep
@pytest.mark.parametrize("victim", _PROCESSES)
def test_killed_packer_leaves_no_virtual_machine(disk: Path, place: Path, victim: str) -> None:
    bake = Rehearsal(place, "qemu", disk)
    bake.reach("start")
    assert _machine(bake)
    os.kill(bake.packers()[_PROCESSES[victim]], signal.SIGKILL)
    bake.failed_cleanly(1, "step boot", "Packer was killed")


# Real mode: each byte after the code to the first serial port, then halt for ever.
_SAYS = bytes.fromhex("31c08ed8be157cbaf803ac84c07403eeebf8f4ebfd")


def test_a_machine_whose_kernel_crashes(disk: Path, place: Path) -> None:
    """Packer would wait for its SSH until it gives up, which takes 20 minutes."""
    raw = disk.with_name("raw")
    raw.write_bytes(
        (_SAYS + b"Oops: int3\nKernel panic - not syncing: x\n").ljust(510, b"\0") + b"\x55\xaa" + bytes(2**20)
    )
    process.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)])
    bake = Rehearsal(place, "qemu", disk)
    bake.failed_cleanly(1, "the kernel of the machine being baked crashed", "| Oops: int3")


def test_a_machine_that_never_says_a_word_is_given_up(disk: Path, place: Path, tmp_path: Path) -> None:
    """As under an accelerator that lets every kernel hang; whoever runs it may then start it once more, emulated."""
    wanted = bake_program.order(place)
    planned = bake_program.on_disk(wanted, disk)
    told: list[str] = []
    with work_directory.make(place) as places, Log(tmp_path / "log") as log:
        jobs.write_files(planned, places)
        events = jobs.build(planned, places, log, told.append, speaks_within=2)
        with pytest.raises(SilentError, match="the machine's console has said nothing for 2 s"):
            list(events)
        assert (places.root / work_directory.CONSOLE).exists()
        assert Rehearsal.living_in(places.root) == []
    assert told == ["Packer takes everything away; Ctrl-C ends it at once, and leaves what is there"]
    assert list(place.iterdir()) == []


@of_a_sweep
def test_er_itself_killed(disk: Path, place: Path) -> None:
    """Packer hears of it and takes its machine away; the directory goes with the next bake."""
    bake = Rehearsal(place, "qemu", disk)
    bake.reach("start")
    assert _machine(bake)
    bake.process.kill()
    assert bake.end() == -signal.SIGKILL
    until(lambda: not bake.living(), timeout=60, what="the end of Packer and its machine")
    assert len(list(place.glob(".er-bake-*"))) == 1
    work_directory.sweep(place)
    assert list(place.glob(".er-bake-*")) == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    process.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(place)])
    yield place
    process.run(["umount", str(place)])


def test_a_disk_that_fills_up(large_disk: Path, small: Path) -> None:
    bake = Rehearsal(small, "qemu", large_disk)
    bake.failed_cleanly(1, "disk is full", "-o")
