"""A virtual machine with a second disk, which another one takes over: by its own boot loader, kernel and udev.

In containers machine/test_data.py looks at more of it, and the disk alone on a kernel packer/test_data_devices.py. By
itself:

    ER_SWEEPS=1 .venv/bin/pytest -s tests/packer/test_data_disk.py
"""

from __future__ import annotations

import shlex
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest

from builder import facts, host, process, userdata
from builder.lab import trial
from builder.polling import until
from builder.qemu import Settings, Vm, verify
from builder.qemu.hardware import Drive
from tests import sweeps
from tests.machine import hosts
from tests.packer.shared_bake import bake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.spec import Spec
    from builder.stack.model import Stack

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(not sweeps.WHOLE, reason="minutes where virtual machines are emulated: make sweeps"),
]

_GIB: Final = 1 << 30
# Seconds of an emulated boot until all stacks answer, and of one command in such a machine.
_BOOT: Final = 1200.0
_COMMAND: Final = 300.0
# What each app holds in its volume, or beside its Compose file.
_CONTENT: Final = {"shop": "sold", "blog": "written", "notes": "noted"}
_SECRET: Final = "s3cret"
_BANNED: Final = "203.0.113.77"
_SUMS: Final = "find {} -name '*.crt' -o -name '*.key' | sort | xargs sha256sum"


@dataclass
class Site:
    """A spec with three stacks, its image, and the disk; machines come and go."""

    spec: Spec
    image: Path
    key: Path
    disk: Path

    @contextmanager
    def machine(self) -> Iterator[Vm]:
        """A new machine from the image with the disk beside its own; little memory, so that it swaps into that."""
        settings = Settings(
            user_data=userdata.cloud_config(self.spec, host.build(self.spec), "baked"),
            memory=1536,
            key=self.key,
            drives=(Drive(self.disk, "raw", "data"),),
        )
        with Vm(self.image, settings) as vm:
            yield vm


@pytest.fixture(scope="module")
def site(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The image is baked in a container and not proved: what is tried here proves it."""
    directory = tmp_path_factory.mktemp("site")
    spec, key = hosts.written("kept", directory, lambda text: text.replace("/dev/disk/by-id/lab-data", "auto"))
    image = bake(directory / "built", "--builder", "container", "--no-verify", spec=key.with_name("easyrunner.yaml"))
    disk = directory / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(2 * _GIB)
    own = verify.for_this_machine(spec, key.with_suffix(".pub").read_text().strip())
    return Site(replace(own, data=spec.data), image.image, key, disk)


def _asked(vm: Vm, line: str, timeout: float = _COMMAND) -> str:
    """What root is told by a command line."""
    return vm.ssh(shlex.join(["sudo", "sh", "-c", line]), timeout=timeout).stdout


def _as_stack(vm: Vm, stack: Stack, *words: str, stdin: bytes | None = None) -> str:
    """What a stack's user is told, in the session that linger keeps."""
    session = f"/run/user/{stack.uid}"
    variables = {
        "HOME": f"{facts.HOMES}/{stack.name}",
        "XDG_RUNTIME_DIR": session,
        "XDG_CONFIG_HOME": f"{facts.CONFIG}/{stack.uid}",
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={session}/bus",
    }
    user = ["setpriv", f"--reuid={stack.uid}", f"--regid={stack.uid}", "--init-groups", "env", "--chdir=/"]
    line = shlex.join(["sudo", *user, *(f"{name}={value}" for name, value in variables.items()), *words])
    return vm.ssh(line, stdin=stdin, timeout=_COMMAND).stdout


def _in_app(vm: Vm, stack: Stack, line: str) -> str:
    return _as_stack(vm, stack, "podman", "exec", "web", "sh", "-c", line)


def _until_ready(vm: Vm) -> None:
    """Until all stacks answer, or the host has given up."""

    def ended() -> bool:
        return any(line in vm.console_text() for line in (trial.READY, "easyrunner: not ready"))

    vm.wait(ended, timeout=_BOOT, what="the end of the boot")
    assert "easyrunner: not ready" not in vm.console_text(), vm.console_text()[-3000:]


def _until_served(vm: Vm, site: Site) -> None:
    """Until every domain answers with a certificate of the machine's authority."""
    ca = site.key.with_name("ca.crt")
    ca.write_text(vm.read(trial.CA))
    for one in trial.sites(site.spec):

        def served(domain: str = one.domain) -> bool:
            return vm.https_status(domain, ca) == 200

        vm.wait(served, timeout=_COMMAND, what=f"https://{one.domain}/ to answer")


def _use(vm: Vm, site: Site) -> None:
    """Data of each stack, a secret, a ban. The shop waits for its secret, so that comes first."""
    shop = site.spec.stacks[0]
    vm.wait_ssh(timeout=_BOOT)
    # Asked in one login, as each of them takes seconds of the machine's one processor.
    _asked(vm, f"until test -S /run/user/{shop.uid}/bus && mountpoint -q {facts.DATA}; do sleep 1; done", _BOOT)
    _as_stack(vm, shop, "podman", "secret", "create", "key", "-", stdin=_SECRET.encode())
    _until_ready(vm)
    _until_served(vm, site)
    for stack in site.spec.stacks:
        _in_app(vm, stack, f"echo {_CONTENT[stack.name]} >/srv/data/note")
    _asked(vm, f"fail2ban-client set sshd banip {_BANNED}")


def _destroy(vm: Vm) -> None:
    """QEMU is killed, and its own disk thrown away; what was flushed of the other one stays."""
    _asked(vm, "sync")
    vm.cut()


def test_another_machine_takes_the_disk(site: Site) -> None:
    """An empty one, made by the first machine, which is killed; larger when the second one has it."""
    seconds = {}
    with site.machine() as first:
        since = time.monotonic()
        first.boot()
        _use(first, site)
        seconds["new disk, with a secret set and data written"] = time.monotonic() - since
        certificates = _asked(first, _SUMS.format(facts.CADDY_DATA))
        assert certificates.count(".crt") >= len(site.spec.stacks)
        first_mount = _asked(first, f"findmnt -no SOURCE,FSTYPE,OPTIONS {facts.DATA}").split()
        assert first_mount[1] == "ext4"
        assert {"nodev", "nosuid", "rw"} <= set(first_mount[2].split(","))
        assert "/dev/zram0" in first.read("/proc/swaps"), "a machine with less than 2 GiB has swap in memory"
        machine = first.read("/etc/machine-id")
        _destroy(first)
    process.run(["truncate", "--size", "3G", str(site.disk)])
    with site.machine() as second:
        since = time.monotonic()
        second.boot()
        _until_ready(second)
        seconds["taken over, ready"] = time.monotonic() - since
        _until_served(second, site)
        seconds["taken over, all sites served"] = time.monotonic() - since
        print({what: round(taken) for what, taken in seconds.items()})
        assert second.read("/etc/machine-id") != machine
        for stack in site.spec.stacks:
            assert _in_app(second, stack, "cat /srv/data/note") == f"{_CONTENT[stack.name]}\n"
        assert _in_app(second, site.spec.stacks[0], "cat /run/secrets/key") == _SECRET
        assert _asked(second, _SUMS.format(facts.CADDY_DATA)) == certificates
        until(lambda: _BANNED in _asked(second, "ipset list"), timeout=_COMMAND, what="the ban")
        assert _BANNED in _asked(second, "fail2ban-client get sshd banip")
        assert int(_asked(second, f"df --output=size -B1 {facts.DATA} | tail -1")) > 2.5 * _GIB
        assert _asked(second, "systemctl --failed --no-legend") == ""
