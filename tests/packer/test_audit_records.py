"""What the audit system of a real kernel says of what the rules for notices are about, as er reads it.

A container has no audit system. This is a kernel with a host's rules, without the rest of a host: programs that a stack
runs from where nothing may be run, or out of its data, also by another mount of it; and changes of watched files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from builder import facts, host, process
from builder import spec as specs
from builder.disk import base_disk, image_file, kernel
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.polling import until
from builder.qemu import accelerator, hardware
from builder.qemu.hardware import Drive, Hardware
from builder.server.remote.notify import audit_log
from builder.spec.model import Notify
from tests.packer.bake_program import SPEC
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.machine, of_a_sweep]

_UID: Final = 32994
_CONTAINER_UID: Final = (_UID - facts.UID_BASE) * facts.SUBID_SIZE + 999
# Instead of an init, in the tree of a host.
_RUN: Final = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /mnt/proc; mount -t sysfs sys /mnt/sys; mount -t devtmpfs dev /mnt/dev; mount -t tmpfs run /mnt/run
mount -t tmpfs -o noexec,mode=1777 tmp /mnt/tmp
exec chroot /mnt sh /er-attack
"""
_ATTACK: Final = """
mkdir -p /var/log/audit {data}/volumes/v/_data /srv/app
cp /bin/true /tmp/x; cp /bin/true {data}/volumes/v/_data/tool; cp /etc/hostname /tmp/plain
chmod 755 /tmp/x; chmod 644 /tmp/plain; chown -R {uid} {data}
auditd -s enable
i=0; until auditctl -s | grep -q 'pid [1-9]'; do sleep 0.2; i=$((i + 1)); [ $i -lt 300 ] || break; done
auditctl -R /etc/audit/rules.d/60-easyrunner.rules; auditctl -R {etc}/notify.rules
auditctl -l
setpriv --reuid {uid} --clear-groups sh -c '/tmp/x; /tmp/plain; /bin/true'
setpriv --reuid {inside} --clear-groups python3 -c 'import os; os.execv("/tmp/x", ["x"])'
mount --bind {data}/volumes/v/_data /srv/app
setpriv --reuid {inside} --clear-groups sh -c 'cd /srv/app && ./tool'
/tmp/x; {data}/volumes/v/_data/tool
echo evil >/etc/sudoers.d/evil
chmod 600 /etc/easyrunner/server.env
rm /etc/sudoers.d/evil
sleep 1; sync
echo er-log; cat /var/log/audit/audit.log; echo er-end
sleep 2; echo o >/proc/sysrq-trigger; poweroff -f
"""


def _tree_disk(directory: Path) -> Path:
    """A host's packages and files, as a disk of their own; what runs there is in it."""
    spec, _ = specs.load(SPEC)
    place, target = directory / "tree", directory / "tree.raw"
    process.run(["cp", "-a", "--reflink=auto", str(base_tree.tree(PACKAGES["debian-13"])), str(place)], timeout=600)
    wanted = (f"{facts.ETC}/notify.rules", f"{facts.ETC}/server.env", "/etc/audit/rules.d/60-easyrunner.rules")
    for file in host.build(replace(spec, notify=Notify("json"))).files:
        if file.path in wanted:
            path = place / file.path.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
    values = {"uid": _UID, "inside": _CONTAINER_UID, "etc": facts.ETC, "data": f"{facts.STACK_DATA}/blog"}
    (place / "er-run").write_text(_RUN)
    (place / "er-attack").write_text(_ATTACK.format(**values))
    process.run(["mke2fs", "-qt", "ext4", "-d", str(place), str(target), "3G"], timeout=600)
    shutil.rmtree(place)
    return target


def _boot(directory: Path) -> str:
    """What the console says."""
    initrd, overlay, console = (directory / name for name in ("initrd", "root.qcow2", "console"))
    image, loads = base_disk("debian-13", "amd64"), partial(kernel, "debian-13", "amd64")
    with image_file.unpacked(image) as root:
        initrd.write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(overlay)])
    console.write_text("")
    init = '"mount /dev/vdb /mnt;exec sh /mnt/er-run"'
    words = f"root=/dev/vda1 rw console=ttyS0 no_timer_check panic=-1 audit=1 quiet init=/bin/sh -- -c {init}"
    machine = Hardware(
        arch="amd64",
        drives=(Drive(overlay, "qcow2", "root"), Drive(_tree_disk(directory), "raw", "tree")),
        console=console,
        memory=1024,
        cpus=1,
        forwards=(),
        extra=("-kernel", str(loads()), "-initrd", str(initrd), "-append", words, "-no-reboot"),
    )
    argv = [word.replace(",bootindex=0", "") for word in hardware.argv(machine, accelerator("amd64", loads))]
    running = process.start(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        until(lambda: re.search(r"^er-end", _said(console), re.MULTILINE), timeout=900, what="its end")
    finally:
        running.kill()
        running.wait()
        if running.stdin is not None:
            running.stdin.close()
    return _said(console)


def _said(console: Path) -> str:
    return console.read_text(errors="replace").replace("\r", "")


def test_what_the_kernel_says_is_read_as_it_was(tmp_path: Path) -> None:
    said = _boot(tmp_path)
    log = said.partition("er-log\n")[2].partition("er-end")[0]
    events = [*audit_log.events(log)]
    programs = [(one["uid"], one["path"], one["ran"]) for one in audit_log.programs(events)]
    # Who is no stack is none of these; nor what nobody may execute.
    assert programs == [
        (_UID, "/tmp/x", False),
        (_CONTAINER_UID, "/tmp/x", False),
        (_CONTAINER_UID, "/srv/app/tool", True),
    ], said[-6000:]
    changes = [(one["path"], one["program"].rpartition("/")[2]) for one in audit_log.changes(events)]
    wanted = [("/etc/sudoers.d/evil", "dash"), ("/etc/easyrunner/server.env", "chmod"), ("/etc/sudoers.d/evil", "rm")]
    assert [one for one in wanted if one not in changes] == [], changes
