"""The clean of a bake on a virtual machine: what a real kernel and a real shutdown would write comes not back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from builder import data, disk, hygiene, process
from builder.disk.unpack import unpacked
from builder.qemu import Order, Vm, client

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine

# Emulation on a busy machine.
_SECONDS = 600
# There is no host on this disk, and the resolver of a stock image answers its neighbours.
_SAID_OF_A_STOCK_IMAGE = {"host-files", "host-units", "listening-ports"}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = tmp_path_factory.mktemp("key") / "id"
    process.run(client.keygen(key))
    return key


def _user_data(key: Path) -> bytes:
    public = key.with_name("id.pub").read_text().strip()
    login = {"name": "debian", "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash", "ssh_authorized_keys": [public]}
    return b"#cloud-config\n" + json.dumps({"users": [login], "ssh_genkeytypes": ["ed25519"]}).encode()


def test_a_machine_that_was_cleaned_and_shut_down_is_clean(key: Path, tmp_path: Path) -> None:
    """By a login that became root with sudo, as on most providers."""
    order = Order(user_data=_user_data(key), key=key, user="debian", name="packer-build")
    steps = data.tree("images") / "steps"
    with Vm(disk.base_disk("debian-13", "amd64"), order) as vm:
        vm.boot()
        vm.wait_ssh(timeout=_SECONDS)
        vm.ssh("sudo systemctl is-system-running --wait", timeout=_SECONDS)
        assert vm.ssh("sudo test -s /var/lib/systemd/random-seed", check=False).returncode == 0
        zipapp = hygiene.bundle(tmp_path / "check.pyz").read_bytes()
        vm.ssh("sudo mkdir -p /var/tmp/er-bake && sudo tee /var/tmp/er-bake/check.pyz >/dev/null", stdin=zipapp)
        for name in ("70-clean", "80-verify"):
            vm.ssh(f"cat >/dev/shm/{name}", stdin=(steps / name).read_bytes())
        cleaned = vm.ssh("sudo sh /dev/shm/70-clean", timeout=_SECONDS, check=False)
        assert (cleaned.returncode, cleaned.stderr) == (0, ""), cleaned.stdout
        judged = vm.ssh("sudo sh /dev/shm/80-verify", timeout=_SECONDS, check=False)
        found = {line.split("  ")[0] for line in judged.stdout.splitlines() if "  remedy: " in line}
        assert found == _SAID_OF_A_STOCK_IMAGE, judged.stdout + judged.stderr
        vm.poweroff(timeout=_SECONDS)
        with unpacked(vm.power.hardware.drives[0].file) as root:
            assert hygiene.check(root) == ()
