"""The steps of a bake, in a really booted machine: what comes out, what they say, and how they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import host
from builder.host import Part
from builder.host.packages import PACKAGES
from builder.imagecheck import check, expected
from builder.lab import base_tree
from builder.lab.machine import Machine
from builder.stack import user
from tests.machine import hosts
from tests.packer import bake_without_packer
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packer.bake_without_packer import Baked

pytestmark = pytest.mark.machine

DOMAINS = ("shop.example.com", "hello.example.com", "notes.example.com")


@of_a_sweep
def test_every_step_ran_and_the_image_judged_itself(baked: Baked) -> None:
    assert list(baked.said) == [step.name for step in bake_without_packer.steps()]
    assert "clean; " in baked.said["80-verify"]


@of_a_sweep
def test_the_checks_find_nothing_on_the_disk(baked: Baked) -> None:
    """From outside, where nothing can be hidden from them; the host's own files included."""
    files = host.build(baked.spec).only(Part.BAKED)
    assert check(baked.tree, expected=expected(files)) == ()


@of_a_sweep
def test_a_step_may_be_repeated_and_has_nothing_left_to_do(baked: Baked) -> None:
    assert baked.said["40-proxy-image"].startswith("er-proxy: ")
    assert baked.said["50-app-images"].count("\n") == 5
    for name in ("10-wait", "20-files", "40-proxy-image", "50-app-images", "60-harden"):
        assert baked.again[name] == "", name
    assert "Setting up" in baked.said["30-packages"]
    assert "Setting up" not in baked.again["30-packages"]


@of_a_sweep
def test_nothing_of_the_bake_stays(baked: Baked) -> None:
    passwd = (baked.tree / "etc/passwd").read_text()
    assert f"\n{bake_without_packer.LOGIN}:" not in passwd
    assert not (baked.tree / "home" / bake_without_packer.LOGIN).exists()
    assert not list((baked.tree / "etc/sudoers.d").glob("90-*"))
    for path in ("usr/sbin/policy-rc.d", "var/tmp/er-bake", "etc/systemd/system/apt-daily.timer"):
        assert not (baked.tree / path).exists(), path


@of_a_sweep
def test_storage_belongs_to_the_one_who_runs_the_image(baked: Baked) -> None:
    """Every file of a stack's storage is its own user's, or of its subordinate range."""
    for stack in baked.spec.stacks:
        storage = baked.tree / f"var/lib/easyrunner/home/{stack.name}/.local/share/containers/storage"
        ids = user.subids(stack.uid)
        allowed = {stack.uid, *range(ids.first, ids.first + ids.count)}
        owners = {path.lstat().st_uid for path in (storage, *storage.rglob("*"))}
        assert owners
        assert owners <= allowed


@pytest.fixture(scope="module")
def offline(baked: Baked) -> Iterator[hosts.Host]:
    """The baked image, powered on with the small user-data and without any way out."""
    with bake_without_packer.laid_out(baked, internet=False) as machine:
        machine.boot()
        yield machine


@of_a_sweep
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_baked_image_serves_without_a_network(offline: hosts.Host, domain: str) -> None:
    assert offline.curl(f"https://{domain}/").stdout.startswith("HTTP/2 200")


@of_a_sweep
def test_first_boot_finds_nothing_to_complain_of(offline: hosts.Host) -> None:
    machine = offline.machine
    assert machine.run(["cloud-init", "status"], check=False).stdout.strip() == "status: done"
    assert machine.run(["systemctl", "--failed", "--no-legend"], check=False).stdout == ""


@of_a_sweep
def test_every_host_of_an_image_has_its_own_identity(baked: Baked, offline: hosts.Host) -> None:
    assert not list((baked.tree / "etc/ssh").glob("ssh_host_*"))
    assert (baked.tree / "etc/machine-id").read_bytes() == b""
    machine = offline.machine
    assert len(machine.path("/etc/machine-id").read_text().strip()) == 32
    assert machine.path("/etc/ssh/ssh_host_ed25519_key.pub").exists()


@pytest.fixture
def stock() -> Iterator[Machine]:
    """A stock image with the provider's login, on; it has the packages, which the shared bake installs."""
    tree = base_tree.tree(PACKAGES["debian-13"])
    with Machine(tree, bake_without_packer.STOCK.encode(), name="stock") as machine:
        machine.boot_and_wait()
        yield machine


def failure(machine: Machine, name: str) -> str:
    """The last line of a step that must fail."""
    done = bake_without_packer.run(machine, bake_without_packer.step(name))
    assert done.returncode != 0, done.stdout[-2000:]
    return done.stderr.splitlines()[-1]


def test_each_failure_is_one_clear_line(stock: Machine, example_images: None, tmp_path: Path) -> None:
    """An upload that did not arrive, a mirror out of reach, an image that is none: told by step, at once."""
    bake_without_packer.must(stock, bake_without_packer.step("10-wait"))
    assert failure(stock, "20-files") == "er-bake: 20-files: the files of the host could not be laid"

    spec, _ = hosts.written("three", tmp_path)
    unreachable = "deb http://127.0.0.1:9/debian trixie main\n"
    bake_without_packer.upload(
        stock, bake_without_packer.wanted(spec, tmp_path, apt_sources=unreachable), tmp_path / "upload"
    )
    bake_without_packer.must(stock, bake_without_packer.step("20-files"))
    line = "er-bake: 30-packages: the package lists could not be read: is the mirror within reach?"
    assert failure(stock, "30-packages") == line
    assert not stock.path("/usr/sbin/policy-rc.d").exists()

    stock.path(f"{bake_without_packer.UPLOAD}/apt-sources.list").unlink()
    bake_without_packer.must(stock, bake_without_packer.step("30-packages"))
    for archive in stock.path(f"{bake_without_packer.UPLOAD}/images").glob("*.tar"):
        archive.write_bytes(b"not an archive")
    line = "er-bake: 40-proxy-image: the image of the proxy could not be stored: is its registry within reach?"
    assert failure(stock, "40-proxy-image") == line
    line = (
        "er-bake: 50-app-images: an image of a stack could not be stored: does its registry answer, and give it to who "
        "is not logged in?"
    )
    assert failure(stock, "50-app-images") == line

    stock.path("/etc/ssh/sshd_config.d/99-broken.conf").write_text("Nonsense yes\n")
    assert failure(stock, "60-harden") == "er-bake: 60-harden: sshd refuses its policy"
    stock.path("/etc/ssh/sshd_config.d/99-broken.conf").unlink()
    stock.path("/root/.ssh").mkdir(mode=0o700, exist_ok=True)
    stock.path("/root/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA leftover\n")
    assert failure(stock, "80-verify") == "er-bake: 80-verify: the image is not clean: see above"


def may_do_everything(machine: Machine) -> bool:
    """Whether cloud-init has come as far as the stock login."""
    known = f"\n{bake_without_packer.LOGIN}:" in machine.path("/etc/passwd").read_text()
    return known and machine.run(["sudo", "-n", "true"], user=bake_without_packer.LOGIN, check=False).returncode == 0


_ENDS = {
    "error": ('runcmd: [["false"]]\n', 1, "er-bake: 10-wait: cloud-init ended with an error: see what it says above"),
    "recoverable": ("nonsense: true\n", 0, "recoverable_errors"),
}


@pytest.mark.parametrize("end", sample(_ENDS, ("error",)))
def test_cloud_init_is_waited_for_and_believed(end: str) -> None:
    """Its errors end the bake; what it recovered from is shown and is no reason to stop."""
    more, code, said = _ENDS[end]
    with Machine(base_tree.tree(), (bake_without_packer.STOCK + more).encode(), name="stock") as machine:
        machine.boot()
        machine.wait(machine.systemd_up, what="systemd")
        machine.wait(lambda: may_do_everything(machine), what="the login and its rights")
        done = bake_without_packer.run(machine, bake_without_packer.step("10-wait"))
        assert done.returncode == code, done.stdout + done.stderr
        assert said in done.stdout + done.stderr
