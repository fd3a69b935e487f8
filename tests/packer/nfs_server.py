"""A server of NFS 4.1 in a virtual machine beside the one under test: Debian's kernel and nfs-kernel-server.

This machine's kernel has neither side of NFS. The server has no systemd: its init is the few lines below, and a shell
on its second serial port does what a test wants. Both machines have a network card more than usual, on one wire.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from builder import process
from builder.disk import base_disk, image_file, kernel
from builder.lab import base_tree
from builder.localhost import cache, debian_mirror
from builder.polling import until
from builder.qemu import accelerator
from builder.qemu.hardware import Hardware
from builder.qemu.power import Power

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

ADDRESS: Final = "192.168.77.1"
CLIENT: Final = "192.168.77.2"
CLIENT_MAC: Final = "52:54:00:00:77:02"
EXPORT: Final = "/srv/certificates"
_MAC: Final = "52:54:00:00:77:01"
_PACKAGES: Final = ("iproute2", "kmod", "nfs-kernel-server", "python3-minimal")
# Root is nobody there, as Debian exports by default. After a start it waits some seconds for what clients of before
# held, as all servers do; most wait for 90.
_INIT: Final = f"""#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
modprobe -a virtio_net nfsd
card=$(grep -l {_MAC} /sys/class/net/*/address | cut -d/ -f5)
ip link set "$card" up
ip addr add {ADDRESS}/24 dev "$card"
ip link set lo up
mkdir -p {EXPORT} /run/rpc_pipefs /var/lib/nfs/nfsdcld
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs pipefs /run/rpc_pipefs
echo '{EXPORT} 192.168.77.0/24(rw,no_subtree_check)' >/etc/exports
echo 15 >/proc/fs/nfsd/nfsv4leasetime
echo 15 >/proc/fs/nfsd/nfsv4gracetime
nfsdcld
exportfs -a
rpc.nfsd -N 3 4
rpc.mountd -N 3
echo nfs-up
stty -F /dev/ttyS1 raw -echo
while :; do PS1= PS2= sh </dev/ttyS1 >/dev/ttyS1 2>&1; done
"""


def card(mac: str, own: int, other: int) -> tuple[str, ...]:
    """QEMU's words for a network card on the wire between two machines, which are ports of this one's loopback."""
    wire = f"socket,id=wire,udp=127.0.0.1:{other},localaddr=127.0.0.1:{own}"
    return ("-netdev", wire, "-device", f"virtio-net-pci,netdev=wire,mac={mac},romfile=")


def free_ports(count: int) -> list[int]:
    """UDP ports that nobody has now."""
    taken = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


@dataclass
class NfsServer:
    """A context manager: entered, it serves. Its disk outlives that it is cut and booted again."""

    directory: Path
    wire: tuple[int, int]

    def __enter__(self) -> Self:
        self._initrd = self.directory / "initrd"
        with image_file.unpacked(base_disk("debian-13", "amd64")) as root:
            self._initrd.write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
            tree = self.directory / "tree"
            process.run(["cp", "--archive", str(_tree()), str(tree)])
            process.run(["cp", "--archive", str(root / "usr/lib/modules"), str(tree / "usr/lib/")])
        init = tree / "sbin/er-init"
        init.write_text(_INIT)
        init.chmod(0o755)
        process.run(["mke2fs", "-qt", "ext4", "-d", str(tree), str(self.directory / "root.raw"), "800M"])
        process.run(["rm", "-r", str(tree)])
        self.power = self._power()
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power.cut()

    def _power(self) -> Power:
        loads = partial(kernel, "debian-13", "amd64")
        words = "root=/dev/vda rw console=ttyS0 no_timer_check panic=-1 init=/sbin/er-init"
        machine = Hardware(
            arch="amd64",
            drives=(),
            console=self.directory / "console",
            memory=512,
            cpus=1,
            forwards=(),
            internet=False,
            extra=(
                # By hand: a disk of Hardware's has the first place in the order of boots, where the kernel stands.
                *("-drive", f"file={self.directory / 'root.raw'},format=raw,if=virtio"),
                *("-kernel", str(loads()), "-initrd", str(self._initrd), "-append", words, "-no-reboot"),
                *("-chardev", f"socket,id=shell,path={self._shell},server=on,wait=off", "-serial", "chardev:shell"),
                *card(_MAC, *self.wire),
            ),
        )
        return Power(machine, accelerator("amd64", loads), self.directory / "qemu.log")

    @property
    def _shell(self) -> Path:
        return self.directory / "shell"

    def boot(self) -> None:
        """Until it serves."""
        console = self.directory / "console"
        console.write_text("")
        self.power.boot()
        until(lambda: "nfs-up" in console.read_text(errors="replace"), timeout=600, what="the NFS server")

    def run(self, line: str, timeout: float = 120) -> str:
        """What root's shell there prints."""
        mark = f"end-{time.monotonic_ns()}"
        said = b""
        with socket.socket(socket.AF_UNIX) as shell:
            shell.settimeout(timeout)
            shell.connect(str(self._shell))
            shell.sendall(f"{{ {line}\n}} 2>&1; echo {mark[:3]}''{mark[3:]}\n".encode())
            while mark.encode() not in said:
                said += shell.recv(65536)
        return said.decode(errors="replace").replace("\r", "").partition(mark)[0]

    def stop(self) -> None:
        """From now on it answers nothing, as behind a wire that was pulled."""
        self.power.qmp.command("stop")

    def go_on(self) -> None:
        """As if nothing had been."""
        self.power.qmp.command("cont")


def _tree() -> Path:
    edition = debian_mirror.edition(debian_mirror.mirror(), base_tree.RELEASE)
    target = cache.root() / "trees" / f"nfs-server-{base_tree.key(_PACKAGES, base_tree.RELEASE)}"
    return cache.current(target, edition, _make)


def _make(aside: Path) -> None:
    aside.parent.mkdir(parents=True, exist_ok=True)
    process.run(base_tree.argv(aside, _PACKAGES, base_tree.RELEASE, debian_mirror.mirror()))
