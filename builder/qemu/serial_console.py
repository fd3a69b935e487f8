"""What a serial console shows of its machine: a kernel that crashed, or never started."""

from __future__ import annotations

import re
from typing import Final, Self

from builder.problems import UserError

# What Linux says last; after that it hangs.
PANIC: Final = "Kernel panic - not syncing"
# How long a machine with a processor of its own may take to its kernel's first words, in seconds. Some KVMs let every
# kernel hang; an emulated machine is not judged.
SILENCE: Final = 60.0
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]")
_FIRMWARE: Final = re.compile(r"^\s*(BdsDxe|UEFI|SeaBIOS|iPXE|Booting|GRUB)\b.*$", re.MULTILINE)


class SilentError(UserError):
    """The console of a machine has shown nothing of its kernel in time."""

    @classmethod
    def after(cls, seconds: float) -> Self:
        """After so many seconds."""
        what = f"the machine's console has said nothing for {seconds:.0f} s"
        return cls(f"{what}: its accelerator does not run a kernel", "--accelerator tcg")


def silent(text: str) -> bool:
    """Whether `text`, the console so far, is of the firmware alone."""
    return not _FIRMWARE.sub("", _ESCAPES.sub("", text)).strip("\0 \t\r\n")
