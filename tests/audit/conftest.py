"""Two booted hosts side by side, a stock Debian and ours, each with the audits' tools inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from builder import hardening, process
from builder.host.packages import PACKAGES
from builder.lab import base, needs, sources
from builder.lab.machine import Machine
from tests.audit import report
from tests.machine import hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = ("lynis", "openscap-scanner", "ssg-debian")
ANSWERS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "answers.yaml").read_text())


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    needs.check()


@pytest.fixture(scope="session")
def findings() -> Iterator[report.Findings]:
    """What the audits found; written to docs/audits.md at the end, under UPDATE=1."""
    found = report.Findings(ANSWERS)
    yield found
    found.write()


def files() -> dict[str, bytes]:
    """What both hosts get: the source of security fixes that every stock image has, and what a container cannot set.

    The kernel's settings belong to the machine that the lab runs on; Lynis leaves out those on both hosts.
    """
    kernel = [row.line.split(" = ")[0] for row in hardening.settings() if row.file.startswith("/etc/sysctl.d/")]
    skipped = "".join(f"skip-test=KRNL-6000:{key}\n" for key in kernel if not key.startswith("net."))
    uri = sources.mirror(archive="debian-security")
    repository = f"deb {uri} {base.RELEASE}-security main\n" if uri else ""
    return {
        "/etc/lynis/custom.prf": skipped.encode(),
        "/etc/apt/sources.list.d/security.list": repository.encode(),
    }


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hosts.Host]:
    tools = (*PACKAGES["debian-13"], *TOOLS)
    with hosts.booted("three", tmp_path_factory.mktemp("ours"), packages=tools, extra_files=files()) as host:
        yield host


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """What a provider's image comes to with its defaults: one user, one key."""
    key = tmp_path_factory.mktemp("stock") / "id"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    user = {"name": "debian", "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash", "lock_passwd": True}
    user["ssh_authorized_keys"] = [key.with_suffix(".pub").read_text().strip()]
    data = b"#cloud-config\n" + yaml.safe_dump({"users": [user]}).encode()
    with Machine(base.tree(TOOLS), data, name="stock", extra_files=files()) as machine:
        machine.boot_and_wait()
        yield machine
