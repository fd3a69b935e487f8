"""What outlives the machine: on a disk of its own, which another machine takes over; and what is never taken for it."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from builder import facts, host, process, userdata
from builder.host.model import Part
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.lab.machine import Machine
from builder.packer import upload_files
from builder.polling import until
from tests.machine import hosts
from tests.machine.derived_tree import with_packages
from tests.machine.test_acme import NAME, PORT, Pebble, authority
from tests.machine.test_imagecheck import BAKE, LOGIN, copy_of, run_step
from tests.server.conftest import client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.spec import Spec
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

_SIZE: Final = 2 << 30
_DOMAINS: Final = tuple(f"{name}.example.com" for name in ("shop", "blog", "notes"))


@pytest.fixture(scope="module")
def image(example_images: None, toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What both machines start from."""
    yield from baked(tmp_path_factory, ("e2fsprogs",))


def baked(tmp_path_factory: pytest.TempPathFactory, packages: tuple[str, ...]) -> Iterator[Path]:
    """A baked image, as a tree, with these packages."""
    spec, _ = hosts.written("three", tmp_path_factory.mktemp("spec"))
    files = host.build(spec).only(Part.BAKED)
    target = tmp_path_factory.mktemp("image") / "tree"
    with Machine(with_packages(base_tree.tree(PACKAGES["debian-13"]), packages), LOGIN, name="bake") as machine:
        machine.boot_and_wait()
        machine.files.write(f"{BAKE}/rootfs.tar", upload_files.rootfs(files))
        run_step(machine, "20-files")
        machine.run(["/usr/lib/easyrunner/provision", "bake"], timeout=300)
        machine.run(["/usr/lib/easyrunner/users"])
        for name in ("60-harden", "70-clean", "80-verify"):
            run_step(machine, name)
        machine.poweroff()
        copy_of(machine, target)
    yield target
    shutil.rmtree(target)


def _user_data(spec: Spec) -> bytes:
    """What a machine from the image gets. Not `er try`'s, which has no second disk."""
    return userdata.cloud_config(spec, host.build(spec), "baked")


@dataclass
class Site:
    """The directory of one spec, an ACME server's keys, and the disk; machines come and go."""

    image: Path
    directory: Path
    disk: Path

    @contextmanager
    def machine(self, name: str) -> Iterator[tuple[Host, Pebble]]:
        """A new machine from the image with the disk, and an ACME server that has never heard of it."""
        here = self.directory / name
        here.mkdir()
        authority(here)

        def edit(text: str) -> str:
            shutil.copy(here / "root.pem", here / "kept" / "root.pem")
            (here / "kept" / "own").mkdir()
            (here / "kept" / "own" / "Containerfile").write_text("FROM scratch\n")
            (here / "kept" / "own" / "compose.yaml").write_text(_OWN)
            text = text.replace(
                "{ca: internal}", f'{{ca: "https://{NAME}:{PORT}/dir", ca_root: root.pem, email: a@b.test}}'
            )
            return f"{text}\n  - {{name: own, compose: own/compose.yaml}}\n"

        with hosts.booted(
            "kept", here, edit=edit, start=False, form=_user_data, second=self.disk, tree=self.image
        ) as machine:
            pebble = Pebble(machine, machine.machine.attacker(40), here)
            known = machine.machine.files.path("/etc/hosts").read_text()
            machine.machine.files.write("/etc/hosts", f"{known}\n{pebble.place.ipv4} {NAME}\n".encode())
            with (here / "pebble.log").open("wb") as log:
                running = pebble.start(stdout=log.fileno())
                try:
                    yield machine, pebble
                finally:
                    for each in running:
                        each.kill()
                        each.wait()

    def ordered(self, name: str) -> int:
        """How many certificates the ACME server of a machine was asked for."""
        return (self.directory / name / "pebble.log").read_text().count("/order-plz")


@pytest.fixture(scope="module")
def site(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    directory = tmp_path_factory.mktemp("site")
    disk = directory / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(_SIZE)
    return Site(image, directory, disk)


def _until_mounted(one: Host, timeout: float = 60) -> None:
    mounted = ["mountpoint", "--quiet", facts.DATA]
    one.machine.wait(
        lambda: one.machine.run(mounted, check=False).returncode == 0, timeout=timeout, what="the disk to be mounted"
    )


def _until_ready(one: Host, since: float) -> float:
    """The seconds until every site has answered with a certificate of the ACME server."""
    one.machine.wait_console("easyrunner: ready", timeout=120)
    one.machine.wait(lambda: len(_certificates(one)) == len(_DOMAINS), timeout=60, what="certificates")
    one.machine.wait(lambda: all(_status(one, domain) == "200" for domain in _DOMAINS), timeout=60, what="sites")
    return time.monotonic() - since


def _status(one: Host, domain: str) -> str:
    return one.curl(f"https://{domain}/", "-o", "/dev/null", "-w", "%{http_code}").stdout[-3:]


def _certificates(one: Host) -> dict[str, bytes]:
    place = one.machine.path(f"{facts.CADDY_DATA}/caddy/certificates")
    return {path.stem: path.read_bytes() for path in place.glob("*/*/*.crt")}


# Two services whose images no registry has.
_OWN: Final = """
services:
  kept: {build: ., labels: {xyz.easyrunner.service.type: worker}}
  late: {build: ., command: [sleep, infinity], labels: {xyz.easyrunner.service.type: worker}}
"""
_LATE: Final = "own/late waits for its first image: er server apply HOST SPEC, or er server push HOST own/late IMAGE"


def _push_own(one: Host, directory: Path) -> None:
    """The images of both, and what it says of a disk without room for a copy; the second one's copy is lost then."""
    er = client(one, directory).er
    machine = one.machine
    # A tenth is to be free, and below a twentieth stacks are stopped.
    machine.run(
        f"""set -- $(stat -fc '%b %a %S' {facts.DATA}); fallocate -l $((($2 - $1 * 8 / 100) * $3)) {facts.DATA}/fill"""
    )
    for service, archive in (("kept", "app"), ("late", "toolbox")):
        done = er("push", f"own/{service}", f"oci-archive:{hosts.IMAGES}/{archive}.tar")
        assert done.returncode == 0, done.stderr
    said = er("status").stderr
    assert "another machine would lack the image of own/kept, own/late: they need " in said
    assert " MiB where the data is, and 0 may be used; see er server doctor HOST --fix" in said
    machine.run(f"rm {facts.DATA}/fill")
    mended = [one["check"] for one in json.loads(er("doctor", "--fix", "--json").stdout) if one["fixed"]]
    assert mended == ["images with the data"]
    assert "another machine would lack" not in er("status").stderr
    place = f"{facts.STACK_DATA}/own/images/blobs/sha256"
    (user,) = {*machine.run(f"find {facts.STACK_DATA}/own/images -printf '%u\\n'").stdout.split()}
    assert user == "er-own"
    number = machine.run(["podman", "inspect", "--format", "{{.Image}}", "late"], user="er-own").stdout.strip()
    machine.run(f"rm {place}/{number}")


# What each app holds: in a volume, beside its Compose file, and in a volume that has become another user's meanwhile.
_CONTENT: Final = (
    ("er-shop", "echo sold >/srv/data/orders"),
    ("er-blog", "echo written >/srv/data/page"),
    ("er-notes", "mkdir /srv/data/in; echo noted >/srv/data/in/note; chown -R 999:998 /srv/data; chmod 0750 /srv/data"),
)
_BANNED: Final = "203.0.113.77"


def _container(one: Host, user: str, line: str) -> str:
    return one.machine.run(["podman", "exec", "web", "sh", "-c", line], user=user).stdout


@dataclass
class Kept:
    """What was on the disk when its machine was destroyed, and the machine that has taken it over."""

    certificates: dict[str, bytes]
    host: Host
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def kept(site: Site) -> Iterator[Kept]:
    """The disk of a machine whose every process was killed, in another one from the same image."""
    seconds = {}
    with site.machine("first") as (first, pebble):
        since = time.monotonic()
        first.machine.boot()
        _until_mounted(first)
        session = first.machine.path("/run/user/43062/bus")
        first.machine.wait(session.exists, timeout=60, what="the shop's manager")
        root = first.machine.wait(pebble.root, what="pebble")
        assert root is not None
        first.ca = root
        first.machine.run(["podman", "secret", "create", "key", "-"], user="er-shop", stdin=b"s3cret")
        seconds["new disk"] = _until_ready(first, since)
        for user, line in _CONTENT:
            _container(first, user, line)
        first.machine.run(["fail2ban-client", "set", "sshd", "banip", _BANNED])
        _push_own(first, site.directory / "first")
        certificates = _certificates(first)
        assert site.ordered("first") == len(_DOMAINS)
        first.machine.run("sync")
        first.machine.cut()
    with site.machine("second") as (second, _):
        since = time.monotonic()
        second.machine.boot()
        second.ca = root
        _until_mounted(second)
        seconds["taken over"] = _until_ready(second, since)
        yield Kept(certificates, second, seconds)


def test_every_site_is_served_by_the_machine_that_takes_the_disk(kept: Kept) -> None:
    """With what the other one had written, in volumes of whatever owner, and with the stack's secret."""
    for user, path, content in (
        ("er-shop", "orders", "sold"),
        ("er-blog", "page", "written"),
        ("er-notes", "in/note", "noted"),
    ):
        assert _container(kept.host, user, f"cat /srv/data/{path}").strip() == content
    assert (
        _container(kept.host, "er-notes", "stat -c '%u:%g %a' /srv/data /srv/data/in").split("\n")[0] == "999:998 750"
    )
    assert _container(kept.host, "er-shop", "cat /run/secrets/key") == "s3cret"


def test_no_certificate_is_ordered_again(kept: Kept, site: Site) -> None:
    """The same ones, and its ACME server was not asked for any."""
    assert _certificates(kept.host) == kept.certificates
    assert site.ordered("second") == 0


def test_an_image_without_a_registry_comes_with_the_disk(kept: Kept) -> None:
    """It runs by the same name, as a release."""
    run = kept.host.machine.run
    assert run("podman ps --format '{{.Names}} {{.Image}}'", user="er-own").stdout.startswith(
        "kept localhost/own/kept:"
    )
    (unit,) = kept.host.machine.path(facts.QUADLETS).glob("*/own-kept.container.d/90-release.conf")
    assert unit.stat().st_mode & 0o777 == 0o640
    (released,) = client(kept.host, kept.host.key.parents[1]).json("status")["stacks"][2]["releases"]
    assert released["service"] == "kept"
    assert released["image"].startswith("localhost/own/kept:")


@of_a_sweep
def test_one_that_has_not_come_is_waited_for_with_the_command_that_brings_it(kept: Kept) -> None:
    """On the console and in the status; and that command does."""
    er = client(kept.host, kept.host.key.parents[1]).er
    console = kept.host.machine.console_text()
    assert f"easyrunner: {_LATE}" in console
    assert "own/late: its image has not come with its data: er server push HOST own/late IMAGE" in console
    assert _LATE.replace(":", ";", 1) in er("status").stderr
    done = er("push", "own/late", f"oci-archive:{hosts.IMAGES}/toolbox.tar")
    assert done.returncode == 0, done.stderr
    assert "own/late" not in er("status").stderr


def test_bans_hold(kept: Kept) -> None:
    assert _BANNED in kept.host.machine.run(["fail2ban-client", "get", "sshd", "banip"]).stdout
    assert _BANNED in kept.host.machine.run(["ipset", "list"]).stdout


def test_it_is_mounted_without_devices_and_setuid(kept: Kept) -> None:
    options = kept.host.machine.run(["findmnt", "-no", "OPTIONS", facts.DATA]).stdout.strip().split(",")
    assert {"nodev", "nosuid", "rw"} <= set(options)


def test_nothing_has_failed(kept: Kept) -> None:
    assert kept.host.machine.run(["systemctl", "--failed", "--no-legend"]).stdout == ""
    print(kept.seconds)


_FILL: Final = """systemctl stop er-room
cd {place}
fallocate -l $(($(stat -fc '%f * %S - 8192 * %S' .))) fill
cat /dev/zero >>fill
while echo x; do :; done >>fill
chown er-shop: fill
sync
echo x >>fill || echo full
find {data}/stacks {data}/caddy/caddy/certificates -type f ! -name fill -exec sha256sum {{}} + >/root/sums
"""


@of_a_sweep
def test_a_disk_that_is_full_to_the_last_byte(kept: Kept) -> None:
    """After a cut of power: it is mounted, and said to be full; nothing on it changes; who has filled it is stopped."""
    machine = kept.host.machine
    place = f"{facts.STACK_DATA}/shop/volumes/shop_data/_data"
    filled = machine.run(_FILL.format(place=place, data=facts.DATA), check=False, timeout=120)
    assert filled.stdout == "full\n", filled.stderr
    machine.cut()
    kept.host.boot(timeout=240)
    assert "is nearly full: 0 MiB are left" in machine.wait_console("is nearly full", timeout=5)
    er = client(kept.host, kept.host.key.parents[1]).er
    machine.wait(lambda: "shop was stopped" in er("status").stderr, timeout=60, what="the end of who fills it")
    said = er("status").stderr
    assert "the disk for data has 0 B left" in said
    assert "of a full disk; it starts again when there is room" in said
    assert machine.run("sha256sum --check --quiet /root/sums", check=False).stdout == ""
    assert [_status(kept.host, name) for name in _DOMAINS[1:]] == ["200", "200"]
    assert machine.run("systemctl --failed --no-legend").stdout == ""
    machine.run(f"rm {place}/fill")
    machine.wait(lambda: _status(kept.host, _DOMAINS[0]) == "200", timeout=60, what="the shop")


# A disk that is not for it.


@pytest.fixture(scope="module")
def refused(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Path]]:
    """A machine whose disk is somebody's, half a minute after power-on; and the disk."""
    directory = tmp_path_factory.mktemp("refused")
    disk = directory / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(_SIZE)
    process.run(["mke2fs", "-qFt", "ext4", "-L", "photos", str(disk)])
    with hosts.booted("kept", directory, start=False, form=_user_data, second=disk, tree=image) as machine:
        machine.machine.boot()
        machine.machine.wait_console("easyrunner: data: /dev/loop", timeout=60)
        yield machine, disk


def test_somebodys_disk_is_named_on_the_console_and_left_alone(refused: tuple[Host, Path]) -> None:
    machine, disk = refused
    assert "is not empty, it has photos" in machine.machine.wait_console("easyrunner: data:")
    assert process.run(["e2fsck", "-fn", str(disk)]).returncode == 0
    assert "photos" in process.run(["dumpe2fs", "-h", str(disk)]).stdout


def test_without_its_disk_nothing_starts_that_would_write_elsewhere(refused: tuple[Host, Path]) -> None:
    """Neither a stack nor the proxy; SSH answers, and the firewall is in force."""
    machine, _ = refused
    states = machine.machine.run("systemctl list-units --all --no-legend 'user@*'", check=False).stdout
    assert " active " not in states
    assert "easyrunner-data.service" in machine.machine.run("systemctl list-jobs --no-legend").stdout
    assert machine.ssh("true").returncode == 0
    found = machine.machine.run(
        f"find {facts.STATE}/home/*/.local/share/containers/storage/volumes/* || :", check=False
    )
    assert found.stdout == ""


def test_it_goes_on_by_itself_once_the_disk_is_empty(refused: tuple[Host, Path]) -> None:
    machine, _ = refused
    machine.machine.run("dd if=/dev/zero of=/dev/disk/by-id/lab-data bs=1M count=1 conv=notrunc,fsync")
    _until_mounted(machine)
    assert machine.machine.run("blkid -o value -s LABEL /dev/disk/by-id/lab-data").stdout.strip() == "er-data"
    machine.machine.wait(
        lambda: "web.service" in machine.machine.run("systemctl --user list-units", user="er-blog", check=False).stdout,
        timeout=60,
        what="a stack",
    )


@of_a_sweep
def test_a_disk_with_stacks_of_other_users_is_not_taken_up(refused: tuple[Host, Path]) -> None:
    """It says which number to write, before anything of another user's is read."""
    machine, _ = refused
    run = machine.machine.run
    # A start that something else asks for at that moment takes its place.
    stop = "systemctl stop var-lib-easyrunner-data.mount easyrunner-data"
    until(lambda: run(stop, timeout=120, check=False).returncode == 0, timeout=120, what="the stop")
    run(
        ["sh", "-c", "mount /dev/disk/by-id/lab-data /mnt; sed -i 's/blog=[0-9]*/blog=20100/' /mnt/format; umount /mnt"]
    )
    run("systemctl --no-block start var-lib-easyrunner-data.mount")
    said = "the stack blog is the user 20100 there: write uid: 20100"
    assert machine.machine.wait_console(said, timeout=30)
    run(
        ["sh", "-c", "mount /dev/disk/by-id/lab-data /mnt; rm /mnt/format; ln -s /etc/shadow /mnt/secrets; umount /mnt"]
    )
    assert machine.machine.wait_console("it has the label er-data, but is of no er", timeout=30)
    run(["sh", "-c", "mount /dev/disk/by-id/lab-data /mnt; echo 1 >/mnt/format; umount /mnt"])
    assert machine.machine.wait_console("secrets on it is not as er makes it", timeout=30)
    run(["sh", "-c", "mount /dev/disk/by-id/lab-data /mnt; echo 2 >/mnt/format; umount /mnt"])
    assert machine.machine.wait_console("is of a newer er", timeout=30)
