"""How a virtual machine is asked from outside, as values: everything goes to 127.0.0.1 at a forwarded port."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def curl(domain: str, port: int, ca: Path) -> list[str]:
    """Ask for a front page over HTTPS, with the name and the certificate checked; prints the status."""
    url = f"https://{domain}:{port}/"
    there = ["--resolve", f"{domain}:{port}:127.0.0.1", "--noproxy", "*", "--cacert", str(ca)]
    show = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    return ["curl", "--silent", "--max-time", "20", *there, *show, url]


def keygen(key: Path) -> list[str]:
    """A key pair for one run."""
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "er-verify", "-f", str(key)]
