"""How a machine is asked from outside; a virtual one at a port of 127.0.0.1 that is forwarded to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

from builder import process
from builder.problems import UserError

if TYPE_CHECKING:
    from pathlib import Path


def ssh(key: Path, user: str, port: int, *words: str) -> list[str]:
    """Run a command line there. Host keys are made at first boot, so there is none to know yet."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    said = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-i", str(key), "-p", str(port), *said, f"{user}@127.0.0.1", *words]


def curl(domain: str, address: str, port: int, ca: Path) -> list[str]:
    """Ask for a front page over HTTPS, with the name and the certificate checked; prints the status."""
    url = f"https://{domain}:{port}/"
    there = ["--resolve", f"{domain}:{port}:{address}", "--noproxy", "*", "--cacert", str(ca)]
    show = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    return ["curl", "--silent", "--max-time", "20", *there, *show, url]


def https_status(domain: str, address: str, port: int, ca: Path) -> int:
    """The status of the domain's front page; 0 for no answer, or one with a certificate that is not `ca`'s."""
    return int(process.run(curl(domain, address, port, ca), check=False).stdout or 0)


def keygen(key: Path) -> list[str]:
    """A key pair for one run."""
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "er-verify", "-f", str(key)]


# What Linux says last; after that it hangs.
PANIC: Final = "Kernel panic - not syncing"
# How long a machine with a processor of its own may take to its kernel's first words, in seconds. Some KVMs let every
# kernel hang; an emulated machine is not judged.
SILENCE: Final = 60.0
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]")
_FIRMWARE: Final = re.compile(r"^\s*(BdsDxe|UEFI|SeaBIOS|iPXE|Booting|GRUB)\b.*$", re.MULTILINE)


class SilentError(UserError):
    """A machine's kernel has not said a word in time."""

    @classmethod
    def after(cls, seconds: float) -> Self:
        """For so many seconds."""
        what = f"the machine's console has said nothing for {seconds:.0f} s"
        return cls(f"{what}: its accelerator does not run a kernel", "--accelerator tcg")


def silent(said: str) -> bool:
    """Whether nothing but firmware has spoken yet."""
    return not _FIRMWARE.sub("", _ESCAPES.sub("", said)).strip("\0 \t\r\n")
