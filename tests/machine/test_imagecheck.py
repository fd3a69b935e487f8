"""A real host is baked, cleaned and judged from inside; its files are judged from outside, dirty and clean again."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from builder import data, imagecheck, process
from builder import host as hosts
from builder import spec as specs
from builder.host.model import Part
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.lab.machine import Machine
from builder.lab.machine_directory import REAL_DIRECTORIES
from builder.packer import upload_files
from tests.cli.test_cli import er
from tests.planted_faults import PLANTS, Plant, Soil
from tests.sweeps import WHOLE, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine

SPEC: Final = Path(__file__).resolve().parents[2] / "examples/hello.yaml"
BAKE: Final = "/var/tmp/er-bake"
# The user that a stock image's cloud-init makes for the login of a bake, and one more that nobody asked for.
LOGIN: Final = b"""#cloud-config
hostname: packer-build
users:
  - name: debian
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl x]
  - name: guest
    shell: /bin/bash
    plain_text_passwd: secret
    lock_passwd: false
"""
# apt is told of one archive, on the disk, that has a newer package and calls itself Debian's for security.
ARCHIVE: Final = """set -eu
mkdir -p /root/archive /run/er-bake
cd /root/archive
cat >Packages <<END
Package: less
Version: $(dpkg-query -W -f '${Version}' less)+fixed
Architecture: amd64
Filename: less.deb
Size: 1
SHA256: $(printf %064d 0)
END
cat >Release <<END
Origin: Debian
Label: Debian-Security
Suite: stable-security
Version: 13
Date: $(date -Ru)
SHA256:
 $(sha256sum Packages | cut -d' ' -f1) $(stat -c %s Packages) Packages
END
echo 'deb [trusted=yes] file:/root/archive ./' >/run/er-bake/apt-sources.list
cat >/run/er-bake/apt.conf <<END
Dir::Etc::SourceList "/run/er-bake/apt-sources.list";
Dir::Etc::SourceParts "/dev/null";
APT::Sandbox::User "root";
END
APT_CONFIG=/run/er-bake/apt.conf apt-get -q update
"""


# A tree as a system that does not run: a mount of its own, with /run in memory.
_INSIDE: Final = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/run"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$1" sh /step
"""


@dataclass
class Bake:
    """A baked host that was switched off: a copy of its files, and what was said on the way."""

    tree: Path
    expected: tuple[imagecheck.Expected, ...]
    said: dict[str, subprocess.CompletedProcess[str]]
    machine_id: str

    def check(self) -> tuple[imagecheck.Finding, ...]:
        return imagecheck.check(self.tree, expected=self.expected)


@pytest.fixture(scope="module")
def baked_files() -> tuple[hosts.File, ...]:
    spec, _ = specs.load(SPEC)
    return hosts.build(spec).only(Part.BAKED)


@pytest.fixture(scope="module")
def bake(
    baked_files: tuple[hosts.File, ...], example_images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bake]:
    aside = tmp_path_factory.mktemp("bake")
    said = {}
    with Machine(base_tree.tree(PACKAGES["debian-13"]), LOGIN, name="packer-build") as machine:
        machine.boot_and_wait()
        machine_id = machine.path("/etc/machine-id").read_text().strip()
        zipapp = imagecheck.bundle(aside / "check.pyz", baked_files)
        machine.files.write(f"{BAKE}/check.pyz", zipapp.read_bytes())
        machine.files.write(f"{BAKE}/rootfs.tar", upload_files.rootfs(baked_files))
        said["before"] = _judge(machine, "--json")
        said["20-files"] = run_step(machine, "20-files")
        machine.run(["/usr/lib/easyrunner/provision", "bake"], timeout=300)
        machine.run(["/usr/lib/easyrunner/users"])
        said["60-harden"] = run_step(machine, "60-harden")
        said |= _planted_live(machine)
        for name in ("70-clean", "70-clean again", "80-verify"):
            said[name] = run_step(machine, name.partition(" ")[0])
        said["after"] = machine.run("python3 -I -B /run/er-bake/check.pyz --live --json /", check=False)
        machine.poweroff()
        tree = copy_of(machine, aside / "tree")
    yield Bake(tree, imagecheck.expected(baked_files), said, machine_id)
    shutil.rmtree(tree)


def run_step(machine: Machine, name: str) -> subprocess.CompletedProcess[str]:
    """As Packer runs it: from memory, by a login that became root."""
    script = (data.tree("images") / "steps" / name).read_bytes()
    machine.run("cat >/dev/shm/step", stdin=script)
    return machine.run(["sh", "/dev/shm/step"], env={"SUDO_USER": "debian"}, check=False, timeout=300)


def _judge(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    return machine.run(["python3", "-I", "-B", f"{BAKE}/check.pyz", "--live", *words, "/"], check=False)


def _planted_live(machine: Machine) -> dict[str, subprocess.CompletedProcess[str]]:
    """Dirt of a running system: a server, and an update that is out."""
    server = "import socket; s = socket.create_server(('0.0.0.0', 8081)); print('on', flush=True); s.accept()"
    running = machine.start(["python3", "-c", server], stdout=subprocess.PIPE)
    assert running.stdout is not None
    with running.stdout as said:
        assert said.readline() == b"on\n"
        listening = _judge(machine, "--only", "listening-ports")
        machine.run(["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8081))"])
        assert running.wait(timeout=30) == 0
    quiet = _judge(machine, "--only", "listening-ports")
    machine.run(ARCHIVE)
    out = run_step(machine, "70-clean")
    machine.run("rm -rf /root/archive /run/er-bake; find /var/lib/apt/lists -type f -delete")
    return {"listening": listening, "quiet": quiet, "update is out": out}


def copy_of(machine: Machine, target: Path) -> Path:
    """The machine's files in one tree, as they would be on a disk."""
    process.run(["cp", "--archive", str(machine.files.tree), str(target)])
    for path in REAL_DIRECTORIES:
        there = target / path.lstrip("/")
        there.mkdir(parents=True, exist_ok=True)
        process.run(["cp", "--archive", f"{machine.disk.real_directory(path)}/.", str(there)])
    return target


def test_a_host_before_it_is_cleaned_is_full_of_dirt(bake: Bake) -> None:
    found = {finding.check for finding in imagecheck.from_json(bake.said["before"].stdout).findings}
    assert found >= {
        "ssh-host-keys",
        "machine-id",
        "hostname",
        "authorized-keys",
        "accounts",
        "sudoers",
        "passwords",
        "cloud-init-state",
        "cloud-init-leftovers",
        "logs",
        "temporary-files",
        "host-files",
    }


@pytest.mark.parametrize("step", ["20-files", "60-harden", "70-clean", "70-clean again", "80-verify"])
def test_every_step_ends_well_and_says_nothing_on_stderr(bake: Bake, step: str) -> None:
    assert (bake.said[step].returncode, bake.said[step].stderr) == (0, ""), bake.said[step].stdout


def test_the_image_judges_itself_clean(bake: Bake) -> None:
    report = imagecheck.from_json(bake.said["after"].stdout)
    assert report.findings == ()
    assert {check for check, _ in report.skipped} == {"run-files", "security-updates"}
    assert bake.said["80-verify"].stdout.splitlines()[-1].startswith("clean; ")


def test_a_server_is_found_by_its_port_and_program(bake: Bake) -> None:
    assert bake.said["listening"].returncode == 1
    assert "tcp port 8081 is open to others, by python3" in bake.said["listening"].stdout
    assert bake.said["quiet"].returncode == 0, bake.said["quiet"].stdout


def test_a_security_update_that_is_out_stops_the_clean(bake: Bake) -> None:
    out = bake.said["update is out"]
    assert out.returncode == 1
    assert "less has a security update" in out.stdout
    assert out.stderr == "er-bake: 70-clean: security updates are out, see above\n"


def test_switched_off_it_is_clean_from_outside(bake: Bake) -> None:
    assert bake.check() == ()


def test_a_stock_base_has_only_what_its_packages_left() -> None:
    found = {finding.check for finding in imagecheck.check(base_tree.tree())}
    # cloud-init's package runs it once; apt keeps an index where something asked it.
    assert found <= {"run-files", "apt-caches"}


@pytest.fixture
def soil(bake: Bake) -> Iterator[Soil]:
    soil = Soil(bake.tree)
    yield soil
    soil.restore()


def _one_each() -> list[Plant]:
    """A case of each check, and all that only root can plant; the unit tests plant the others in tiny trees."""
    first = {plant.check: plant for plant in reversed(PLANTS) if not plant.needs_root}
    return [*first.values(), *(plant for plant in PLANTS if plant.needs_root)]


@pytest.mark.parametrize(
    "plant", sample(_one_each(), _one_each()[::4]), ids=lambda plant: f"{plant.check}-{plant.word}"
)
def test_dirt_on_a_real_host_is_found_by_its_check_alone(plant: Plant, soil: Soil, bake: Bake) -> None:
    plant.make(soil)
    found = bake.check()
    assert {finding.check for finding in found} == {plant.check}
    assert plant.path in {finding.path for finding in found}


def test_the_command_reads_a_disk_image_as_it_reads_the_tree(bake: Bake, soil: Soil, tmp_path: Path) -> None:
    """In the sweep a clean one, too."""
    disk = tmp_path / "host.raw"
    if WHOLE:
        process.run(["mke2fs", "-q", "-t", "ext4", "-d", str(bake.tree), str(disk), "3G"])
    done = er("check-image", disk if WHOLE else bake.tree, "--spec", SPEC)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1].startswith("clean; ")
    soil.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    soil.write("/usr/local/bin/rootsh", b"\x7fELF", 0o4755)
    process.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(bake.tree), str(disk), "3G"])
    read = [er("check-image", image, "--spec", SPEC, "--json") for image in (disk, bake.tree)]
    assert [done.returncode for done in read] == [1, 1]
    assert read[0].stdout == read[1].stdout
    assert {finding["check"] for finding in json.loads(read[0].stdout)["findings"]} == {"machine-id", "setuid"}


def test_an_image_boots_into_a_machine_of_its_own(bake: Bake) -> None:
    with Machine(bake.tree, b"#cloud-config\n{}\n", name="web9") as machine:
        machine.boot_and_wait()
        assert machine.run(["systemctl", "is-system-running"], check=False).stdout == "running\n"
        assert len(machine.path("/etc/machine-id").read_text().strip()) == 32
        assert machine.path("/etc/machine-id").read_text().strip() != bake.machine_id
        assert machine.path("/etc/ssh/ssh_host_ed25519_key").stat().st_size > 0
        assert machine.run(["hostname"]).stdout == "web9\n"
        on = machine.run("systemctl is-enabled podman.socket netavark-dhcp-proxy.socket", check=False).stdout
        assert on == "disabled\ndisabled\n"


def test_all_dirt_at_once_is_cleaned_but_for_mistakes(
    bake: Bake, baked_files: tuple[hosts.File, ...], tmp_path: Path
) -> None:
    """A key, a program or a setting that should not be there is a mistake of the bake: it is told, never hidden."""
    tree = tmp_path / "tree"
    process.run(["cp", "--archive", str(bake.tree), str(tree)])
    soil = Soil(tree)
    for plant in PLANTS:
        if plant.word != "locked":  # It is root's hash once more, in the same field.
            plant.make(soil)
    planted = {plant.check for plant in PLANTS}
    assert {finding.check for finding in imagecheck.check(tree, expected=bake.expected)} == planted
    step = soil.write("/step", (data.tree("images") / "steps/70-clean").read_bytes())
    for _ in range(2):
        process.run(["unshare", "--mount", "--pid", "--fork", "sh", "-euc", _INSIDE, "sh", str(tree)], timeout=300)
    step.unlink()
    shutil.rmtree(tree / BAKE[1:])  # 80-verify takes the upload, which the checks are still run from.
    left = {finding.check for finding in imagecheck.check(tree, expected=bake.expected)}
    assert left == {check.id for check in imagecheck.CHECKS if not check.cleaned and check.id in planted}
    shutil.rmtree(tree)
