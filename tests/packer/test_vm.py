"""Virtual machines themselves, with disks too small to boot from: power, ports, and that nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import disk, process
from builder.lab.events import Note
from builder.localhost import cache
from builder.polling import NotInTimeError, until
from builder.problems import UserError
from builder.qemu import Settings, Vm, acceleration, verify
from tests.sweeps import sample
from tests.unit.test_host import spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.events import Progress

pytestmark = pytest.mark.machine
_EMULATED = acceleration.emulation("amd64")
_BLANK = Settings(user_data=None, memory=64, cpus=1, accelerator=_EMULATED)
# Boots a machine, says where it is, and holds it.
_HOLDER = """
import sys, time
from pathlib import Path
from builder.qemu import Settings, Vm, acceleration
with Vm(Path(sys.argv[1]), Settings(user_data=None, memory=64, accelerator=acceleration.emulation("amd64"))) as vm:
    vm.boot()
    print(vm.power.pid, vm.console.parent, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A raw disk with nothing on it."""
    path = tmp_path / "blank.raw"
    path.write_bytes(bytes(1024 * 1024))
    return path


@pytest.fixture(scope="module")
def kernel() -> Path:
    """The base disk's."""
    return disk.kernel("debian-13", "amd64")


# Before QEMU on the search path: what a KVM does, by the name of the first line. It never comes to the real one.
_STAND_IN = """#!/usr/bin/env python3
import os, sys, time
way, real = {way!r}, {real!r}
words = sys.argv[1:]
native = "-accel" in words and words[words.index("-accel") + 1].startswith("kvm")
if native:
    words[words.index("-accel") + 1] = "tcg"
    words[words.index("-cpu") + 1] = "Opteron_G3,-cx16,-misalignsse"
    if way == "refuses":
        sys.exit("Could not access KVM kernel module: No such file or directory")
    if way == "stands still":
        words.append("-S")
    if way == "is slower":
        time.sleep(300)
elif way == "is faster" and "-kernel" in words:
    time.sleep(5)
os.execv(real, [real, *words])
"""


def _with_kvm(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine has all of them: a KVM under which a kernel stands still, one that is slow, one that is none."""
    program = tmp_path / "bin/qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text(_STAND_IN.format(way=way, real=shutil.which("qemu-system-x86_64")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(acceleration, "_no_kvm", lambda: "")


_KVMS = {"stands still": "tcg", "is slower": "tcg", "refuses": "tcg", "is faster": "kvm"}


@pytest.mark.parametrize("way", sample(_KVMS, ("stands still",)))
def test_an_accelerator_is_believed_when_a_kernel_has_run_under_it(
    way: str, kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_kvm(way, tmp_path, monkeypatch)
    found = acceleration.accelerator("amd64", lambda: kernel)
    assert found.name == _KVMS[way]
    assert found.why.startswith("a kernel has run under it" if found.name == "kvm" else "KVM is here, but")
    assert acceleration.known("amd64") == found


def _gather(events: Iterator[Progress], told: list[Progress]) -> None:
    """Into a list that is there when they end in an exception."""
    for event in events:
        told.append(event)  # noqa: PERF402 - extend() would keep none of them


def test_a_machine_that_hangs_under_its_accelerator_is_emulated_instead(
    blank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing boots from this disk; emulated, it is waited for to the end."""
    _with_kvm("stands still", tmp_path, monkeypatch)
    monkeypatch.setattr(verify, "SILENCE", 1.0)
    kvm = acceleration.Accelerator("kvm", "kvm", "host")
    request = verify.Request(image=blank, spec=spec_of(), accelerator=kvm, timeout=20, memory=64)
    told: list[Progress] = []
    with pytest.raises(NotInTimeError, match="in vain for all stacks to answer"):
        _gather(verify.verify(request), told)
    notes = [event.text for event in told if isinstance(event, Note)]
    assert len(notes) == 1
    assert notes[0].endswith("its accelerator does not run a kernel: once more, emulated")


def test_two_machines_have_ports_of_their_own_on_the_loopback_only(blank: Path) -> None:
    with Vm(blank, _BLANK) as one, Vm(blank, _BLANK) as two:
        one.boot()
        two.boot()
        ports = {vm.port(there) for vm in (one, two) for there in (22, 443)}
        assert len(ports) == 4
        listening = process.run(["ss", "-Hltn"]).stdout.split()
        assert {f"127.0.0.1:{port}" for port in ports} <= set(listening)
        assert not {f"{every}:{port}" for port in ports for every in ("0.0.0.0", "*", "[::]")} & set(listening)


def test_power_is_cut_and_comes_back_and_the_image_is_untouched(blank: Path) -> None:
    with Vm(blank, _BLANK) as vm:
        with pytest.raises(UserError, match="is off"):
            vm.poweroff()
        vm.boot()
        with pytest.raises(UserError, match="on already"):
            vm.boot()
        first = vm.power.pid
        vm.cut()
        assert not vm.on
        assert not Path(f"/proc/{first}").exists()
        vm.boot()
        assert vm.on
        assert vm.power.pid != first
        place = vm.console.parent
        assert place.is_dir()
    assert not place.exists()
    assert blank.read_bytes() == bytes(1024 * 1024)


def test_a_machine_that_does_not_start_says_why(blank: Path) -> None:
    with (
        Vm(blank, Settings(user_data=None, extra=("-device", "no-such-device"))) as vm,
        pytest.raises(UserError, match="no-such-device"),
    ):
        vm.boot()


def test_waiting_ends_when_the_machine_does(blank: Path) -> None:
    with Vm(blank, _BLANK) as vm:
        vm.boot()

        def cut() -> bool:
            os.kill(vm.power.pid, signal.SIGKILL)
            return False

        with pytest.raises(UserError, match="went off while waiting for nothing"):
            vm.wait(cut, timeout=60, what="nothing")


@pytest.fixture
def holder(blank: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """Another process with a machine: itself, the machine's process, and its directory."""
    held = process.start([sys.executable, "-c", _HOLDER, str(blank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert held.stdout is not None
    assert held.stderr is not None
    pid, place = held.stdout.readline().decode().split()
    yield held, int(pid), Path(place)
    held.kill()
    held.wait()
    held.stdout.close()
    held.stderr.close()


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_ctrl_c_leaves_nothing(holder: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    held, pid, place = holder
    held.send_signal(signal.SIGINT)
    held.wait(60)
    assert _gone(pid)
    assert not place.exists()


def test_a_killed_owner_takes_the_machine_along_and_the_next_run_its_directory(
    holder: tuple[subprocess.Popen[bytes], int, Path], blank: Path
) -> None:
    held, pid, place = holder
    held.kill()
    held.wait()
    until(lambda: _gone(pid), timeout=20, what="the end of the machine")
    assert place.is_dir()
    with Vm(blank, _BLANK):
        assert not place.exists()


def test_an_image_that_does_not_boot_is_not_proven(
    blank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(NotInTimeError, match="in vain for all stacks to answer"):
        list(verify.verify(verify.Request(image=blank, spec=spec_of(), accelerator=_EMULATED, timeout=3, memory=64)))
    assert [path.name for path in cache.root().rglob("*") if path.name != ".lock"] == ["vms"]
