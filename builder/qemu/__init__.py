"""Virtual machines: a disk image booted by QEMU with its own boot loader and kernel, reached over SSH and HTTPS.

`machine` is one on an overlay of an image: its `hardware` as an argv, `power` for QEMU's process and monitor, `seed`
for the disks beside it, `serial_console` for what its kernel says. `acceleration` finds the accelerator that works.
`verify` proves an image with them, or in a container of `builder.lab`. Packer's builds stand on this package.
"""

from builder.qemu.acceleration import Accelerator, accelerator
from builder.qemu.hardware import Drive, Hardware
from builder.qemu.machine import Settings, Vm

__all__ = ["Accelerator", "Drive", "Hardware", "Settings", "Vm", "accelerator"]
