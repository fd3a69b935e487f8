"""The base disk: what is on it, and that it boots by BIOS and by UEFI as any provider's machine would boot it."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import stat
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import data, imagecheck, process
from builder.disk import base, base_disk, from_url, unpacked
from builder.disk import image_file as images
from builder.localhost import cache, debian_mirror
from builder.problems import UserError
from builder.qemu import Settings, Vm
from tests.packer import shared_bake
from tests.packer.conftest import skip_if_emulated

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine
# A loaded machine without KVM takes minutes; a good one half a minute.
_SECONDS = 600
# There is no host on this disk, and the resolver of a stock image answers its neighbours.
_SAID_OF_A_STOCK_IMAGE = {"host-files", "host-units", "listening-ports"}


@pytest.fixture(scope="module")
def disk() -> Path:
    """The base disk of this machine's cache."""
    return base_disk("debian-13", "amd64")


@pytest.fixture(scope="module")
def tree(disk: Path) -> Iterator[Path]:
    """What is on it."""
    with unpacked(disk) as root:
        yield root


def test_nothing_on_it_is_a_machines_own(tree: Path) -> None:
    assert (tree / "etc/machine-id").read_bytes() == b""
    for pattern in ("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/lib/apt/lists/*Packages*"):
        assert list(tree.glob(pattern)) == []
    assert [path for path in (tree / "var/log").rglob("*") if path.is_file()] == []
    assert list((tree / "root").glob(".ssh/*")) == []


def test_nobody_can_log_in_with_a_password(tree: Path) -> None:
    passwords = [line.split(":")[1] for line in (tree / "etc/shadow").read_text().splitlines()]
    assert passwords
    assert all(re.fullmatch(r"!|\*|!\*", password) for password in passwords)


def test_packages_come_from_debian_and_not_from_where_it_was_made(tree: Path) -> None:
    apt = tree / "etc/apt"
    found = [path for path in (apt / "sources.list", *apt.glob("sources.list.d/*")) if path.is_file()]
    uris = {line.split()[1] for path in found for line in path.read_text().splitlines() if line.startswith("URIs:")}
    origin = base.distribution_archives(tree, "amd64")
    assert uris == {origin.primary, origin.security}
    mirror = debian_mirror.mirror()
    if mirror and mirror not in uris:
        said = process.run(["grep", "-rlF", mirror, str(tree / "etc"), str(tree / "var/lib")], check=False).stdout
        assert said == ""


def test_every_datasource_may_be_found(tree: Path) -> None:
    configs = [tree / "etc/cloud/cloud.cfg", *(tree / "etc/cloud/cloud.cfg.d").glob("*.cfg")]
    assert not [path for path in configs if re.search(r"^\s*datasource_list:", path.read_text(), re.MULTILINE)]


def test_owners_modes_links_and_capabilities_are_as_on_the_disk(tree: Path) -> None:
    sudo, shadow = (tree / "usr/bin/sudo").stat(), (tree / "etc/shadow").stat()
    assert stat.S_IMODE(sudo.st_mode) == 0o4755
    assert (stat.S_IMODE(shadow.st_mode), shadow.st_uid) == (0o640, 0)
    group = next(line for line in (tree / "etc/group").read_text().splitlines() if line.startswith("shadow:"))
    assert shadow.st_gid == int(group.split(":")[2])
    assert (tree / "bin").readlink() == Path("usr/bin")
    assert stat.S_IMODE((tree / "tmp").stat().st_mode) == 0o1777


def test_what_is_unpacked_cannot_be_written(tree: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (tree / "etc/new").write_text("x")


def test_a_raw_image_and_a_directory_are_read_too(disk: Path, tree: Path, tmp_path: Path) -> None:
    raw = images.convert(disk, tmp_path / "disk.raw", to="raw")
    with unpacked(raw) as root:
        assert str(root) in Path("/proc/self/mounts").read_text()
        assert (root / "etc/fstab").read_text() == (tree / "etc/fstab").read_text()
    assert str(root) not in Path("/proc/self/mounts").read_text()
    assert not root.exists()
    with unpacked(tmp_path) as root:
        assert root == tmp_path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _user_data(key: Path) -> bytes:
    """The admin's login as cloud-init makes that of a provider's stock image: with sudo."""
    admin = {
        "name": "er",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "ssh_authorized_keys": [key.with_name("id.pub").read_text().strip()],
    }
    return b"#cloud-config\n" + json.dumps({"users": [admin], "ssh_genkeytypes": ["ed25519"]}).encode()


@pytest.fixture(scope="module")
def stock(disk: Path, key: Path) -> Iterator[Vm]:
    """A machine that has booted the base disk by UEFI, as any provider's would, to the end of cloud-init.

    Where that is emulated, test_bake.py has a baked disk booted by the same loader and kernel, by BIOS.
    """
    skip_if_emulated()
    settings = Settings(
        user_data=_user_data(key), key=key, firmware="uefi", size=shared_bake.GROWN, name="web1", memory=1024
    )
    with Vm(disk, settings) as vm:
        vm.boot()
        vm.wait_ssh(timeout=_SECONDS)
        yield vm


def test_it_boots_finds_its_seed_and_lets_the_admin_in(stock: Vm, disk: Path) -> None:
    before = _sha256(disk)
    done = stock.ssh("cloud-init status --wait --format=json", timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert (found["status"], found["errors"], found["recoverable_errors"]) == ("done", [], {})
    assert found["datasource"] == "nocloud"
    assert stock.ssh("systemctl is-system-running --wait", timeout=_SECONDS).stdout.strip() == "running"
    assert stock.ssh("hostname").stdout.strip() == "web1"
    keys = stock.ssh("cd /etc/ssh && ls ssh_host_*; wc -c </etc/machine-id").stdout.split()
    assert keys == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "33"]
    assert "easyrunner" not in stock.console_text()
    assert _sha256(disk) == before


def test_it_grows_with_its_disk(stock: Vm) -> None:
    shared_bake.assert_it_has_grown(stock, firmware="uefi")


def test_cleaned_and_shut_down_it_is_clean(stock: Vm, tmp_path: Path) -> None:
    """What a real kernel and a real shutdown would write comes not back. By a login that became root with sudo."""
    stock.ssh("sudo systemctl is-system-running --wait", timeout=_SECONDS)
    assert stock.ssh("sudo test -s /var/lib/systemd/random-seed", check=False).returncode == 0
    zipapp = imagecheck.bundle(tmp_path / "check.pyz").read_bytes()
    stock.ssh("sudo mkdir -p /var/tmp/er-bake && sudo tee /var/tmp/er-bake/check.pyz >/dev/null", stdin=zipapp)
    for name in ("70-clean", "80-verify"):
        stock.ssh(f"cat >/dev/shm/{name}", stdin=(data.tree("images") / "steps" / name).read_bytes())
    # One connection, as Packer keeps it: the key of the next would not be known any more.
    judged = stock.ssh("sudo sh /dev/shm/70-clean && sudo sh /dev/shm/80-verify", timeout=_SECONDS, check=False)
    found = {line.split("  ")[0] for line in judged.stdout.splitlines() if "  remedy: " in line}
    assert found == _SAID_OF_A_STOCK_IMAGE, judged.stdout + judged.stderr
    assert stock.ssh("true", check=False).returncode == 255
    stock.poweroff(timeout=_SECONDS)
    assert not stock.on
    with unpacked(stock.disk) as root:
        assert imagecheck.check(root) == ()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server with an image."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "cloud.img").write_bytes(b"QFI\xfb" + bytes(3 * 1024 * 1024))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_image_is_downloaded_once_and_only_a_right_one_is_kept(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ER_CACHE", str(tmp_path / "cache"))
    right = _sha256(tmp_path / "served/cloud.img")
    with pytest.raises(UserError, match=f"the checksum is sha256:{right}, not sha256:0"):
        from_url(f"{site}/cloud.img", "0" * 64)
    with pytest.raises(UserError, match="404"):
        from_url(f"{site}/other.img", right)
    assert [path for path in (cache.root() / "disks").iterdir() if path.is_dir()] == []
    told: list[tuple[int, int]] = []
    kept = from_url(f"{site}/cloud.img", f"sha256:{right}", progress=lambda so_far, size: told.append((so_far, size)))
    assert _sha256(kept) == right
    assert told[-1] == (3 * 1024 * 1024 + 4, 3 * 1024 * 1024 + 4)
    (tmp_path / "served/cloud.img").unlink()
    assert from_url(f"{site}/cloud.img", right) == kept
