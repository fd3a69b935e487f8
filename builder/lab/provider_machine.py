"""A machine that takes itself for a provider's server: it finds a firmware, a network card and a hypervisor.

Nothing of cloud-init is changed. What it asks for who it is (DMI, systemd-detect-virt, /proc/cmdline, its network
card) is mounted over by the machine's first process before it becomes systemd; the rest is files of a cloud image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder.lab.network import Card

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT: Final = "/.lab"
INIT: Final = f"{_ROOT}/init"
_VIRTUALIZATION: Final = "kvm"
_CMDLINE: Final = "BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1 ro console=ttyS0\n"
# /sys/class is this kernel's, by mounts into a fresh directory; DMI and the card's `device`, by which a real card is
# told from a virtual one, are added. Without `container` in its environment, no process finds one in /proc/1/environ;
# systemd itself still knows from nspawn what it must leave alone.
_INIT: Final = """#!/bin/sh
set -e
card=$1
driver=$2
mount -t tmpfs -o mode=0755 lab /mnt
mount --make-private /mnt
for class in /sys/class/*; do
  mkdir "/mnt/${class##*/}"
  [ "${class##*/}" = net ] || [ "${class##*/}" = dmi ] || mount --bind "$class" "/mnt/${class##*/}"
done
mkdir -p /mnt/dmi/id "/mnt/net/$card"
cp /.lab/dmi/* /mnt/dmi/id/
cp --no-dereference /sys/class/net/lo /mnt/net/
for entry in /sys/class/net/"$card"/*; do
  ln -s "../../../devices/virtual/net/$card/${entry##*/}" "/mnt/net/$card/${entry##*/}"
done
mkdir -p "/mnt/net/$card/device" "/mnt/.drivers/$driver"
echo "DRIVER=$driver" > "/mnt/net/$card/device/uevent"
echo 0x1af4 > "/mnt/net/$card/device/vendor"
echo 0x0001 > "/mnt/net/$card/device/device"
ln -s "../../../.drivers/$driver" "/mnt/net/$card/device/driver"
mount --make-rprivate /mnt
mount --rbind /mnt /sys/class
umount --recursive --lazy /mnt
mount --bind /.lab/cmdline /proc/cmdline
mount --bind /.lab/systemd-detect-virt /usr/bin/systemd-detect-virt
exec env --unset=container /usr/lib/systemd/systemd
"""
# Answers systemd-detect-virt(1): no container, a virtual machine.
_DETECT: Final = f"""#!/bin/sh
quiet= container=
for option; do
  case $option in
    -q|--quiet) quiet=1 ;;
    -c|--container) container=1 ;;
    -r|--chroot|--private-users|--cvm) exit 1 ;;
  esac
done
[ -z "$container" ] || {{ [ -n "$quiet" ] || echo none; exit 1; }}
[ -n "$quiet" ] || echo {_VIRTUALIZATION}
"""
# systemd tells its generators what it runs in: a wrapper runs cloud-init's with the answer of a virtual machine.
_GENERATOR: Final = f"""#!/bin/sh
SYSTEMD_VIRTUALIZATION=vm:{_VIRTUALIZATION} exec /usr/lib/systemd/system-generators/cloud-init-generator "$@"
"""
_UDEV: Final = ("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket")
# systemd leaves devices and the network to others in a container; a cloud image has udev and networkd on.
_WANTS: Final = {
    "multi-user.target": "systemd-networkd.service",
    "network-online.target": "systemd-networkd-wait-online.service",
}
# The root here is no disk that could grow.
_CONFIG: Final = 'growpart: {mode: "off"}\nresize_rootfs: false\n'
# Netplan has networkd ask for a card's permanent address and its driver; a virtual card has neither.
_FIND_CARD: Final = r"""[Service]
ExecStartPre=+/bin/sh -c 'for file in /run/systemd/network/*.network; do \
  [ ! -e "$file" ] || sed -i -e "s/^PermanentMACAddress=/MACAddress=/" -e "/^Driver=/d" "$file"; done'
"""


@dataclass(frozen=True, slots=True)
class ProviderMachine:
    """What such a machine finds: DMI by the kernel's file names, its network card with the driver, files and disks.

    `files` maps a path to content; they are the provider's image's, not a seed's. `disks` maps a device of the machine
    to one of this machine's.
    """

    dmi: Mapping[str, str]
    card: Card = field(default_factory=lambda: Card("eth0", addressed=False))
    driver: str = "virtio_net"
    files: Mapping[str, bytes] = field(default_factory=dict)
    disks: Mapping[str, str] = field(default_factory=dict)

    @property
    def init(self) -> list[str]:
        """The options of systemd-nspawn for the disks, then the first process with its arguments."""
        return [*(f"--bind={device}:{path}" for path, device in self.disks.items()), INIT, self.card.name, self.driver]

    def image_files(self) -> dict[str, tuple[bytes, int]]:
        """Everything that is on its disk for this: path -> content and mode."""
        units = {f"/etc/systemd/system/{unit}.d/50-lab.conf": "[Unit]\nConditionPathIsReadWrite=\n" for unit in _UDEV}
        wants = {f"/etc/systemd/system/{unit}.d/50-lab.conf": f"[Unit]\nWants={on}\n" for unit, on in _WANTS.items()}
        dmi = {f"{_ROOT}/dmi/{name}": f"{value}\n" for name, value in self.dmi.items()}
        plain = {**units, **wants, **dmi, f"{_ROOT}/cmdline": _CMDLINE}
        plain["/etc/cloud/cloud.cfg.d/95-lab.cfg"] = _CONFIG
        plain["/etc/systemd/system/systemd-networkd.service.d/50-lab.conf"] = _FIND_CARD
        programs = {
            INIT: _INIT,
            f"{_ROOT}/systemd-detect-virt": _DETECT,
            "/etc/systemd/system-generators/cloud-init-generator": _GENERATOR,
        }
        return (
            {path: (text.encode(), 0o644) for path, text in plain.items()}
            | {path: (text.encode(), 0o755) for path, text in programs.items()}
            | {path: (content, 0o755 if content.startswith(b"#!") else 0o644) for path, content in self.files.items()}
        )
