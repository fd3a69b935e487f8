"""Virtual machines: a disk image booted with its own kernel and boot loader, seen over SSH and HTTPS."""

from builder.qemu.acceleration import Accelerator, accelerator
from builder.qemu.hardware import Drive, Hardware
from builder.qemu.machine import Order, Vm

__all__ = ["Accelerator", "Drive", "Hardware", "Order", "Vm", "accelerator"]
