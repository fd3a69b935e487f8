"""`er launch --replace` with hosts that are really booted, and a visitor who asks all the time.

As in test_whole_way, but that the image is baked without Packer: see booted_account for what the API does. `er` is a
process of its own and knows nothing of all this. Each of the calls that write ends, too; the table is docs/replace.md.
A run of the tests has neighbours of it: every call without hosts (test_replace.py), and a server that boots
(test_whole_way.py).
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from builder import process
from builder import spec as specs
from builder.host.packages import PACKAGES
from builder.lab import base_tree, preload, trial
from builder.polling import until
from tests.aws import er_command
from tests.aws.booted_account import BootedAccount, Image, public
from tests.aws.moto_account import Account, environment
from tests.aws.replace_page import Page, Row
from tests.aws.test_faults import BY_NAME, CLOSED, KILL
from tests.aws.visitor import Visitor
from tests.machine.hosts import IMAGES, ROOT
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.aws.booted_account import Host
    from tests.aws.wire import Answer, Call, Wire

pytestmark = [pytest.mark.machine, of_a_sweep]

PEM_END: Final = "-----END CERTIFICATE-----"
DOMAIN: Final = "shop.example.com"
SPEC: Final = f"""
server: {{name: web1, base: debian-13, arch: amd64}}
admin: {{name: er, ssh_keys: [id.pub]}}
tls: {{ca: internal}}
proxy: {{image: "oci-archive:{IMAGES}/caddy.tar"}}
data: {{disk: auto}}
stacks:
  - name: shop
    image: "oci-archive:{IMAGES}/app.tar"
    domain: {DOMAIN}
    port: 3000
    volumes: ["data:/srv/data"]
"""
# Rows without end, each as it is written, from the number after the last one on.
WRITER: Final = """cd /srv/data
n=0; while read -r last; do n=$last; done <rows
while :; do n=$((n+1)); echo $n >>rows; sleep 0.1; done"""
# Of an image that takes the disk and starts nothing: its crun cannot be run.
BROKEN: Final = {
    "/usr/bin/crun": b"",
    "/etc/systemd/system/er-first-boot.service.d/50-lab.conf": b"[Service]\nEnvironment=READY_TIMEOUT=15\n",
}
CALLS: Final = (
    "RunInstances",
    "StopInstances",
    "CreateSnapshot",
    "DetachVolume",
    "AttachVolume",
    "AssociateAddress",
    "CreateTags",
)
WAYS: Final = ("done, then server error", "denied", KILL)
POINTS: Final = [(call, way) for call in CALLS for way in WAYS]


@dataclass
class Site:
    """A server with data, and the account that it is in."""

    account: Account
    wire: Wire
    cloud: BootedAccount
    images: dict[str, str]
    tmp: Path
    visitor: Visitor = field(init=False)
    writer: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, stdin: int | None = None, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """`er` in a process of its own."""
        argv, env = [str(er_command.PROGRAM), *words], environment(self.wire.url, self.tmp)
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env=env, cwd=ROOT, stdin=stdin, stdout=pipe, stderr=stderr, text=True)

    def er(self, *words: str) -> tuple[int, str, str]:
        """A whole run: its exit code and what it wrote."""
        with self.start(*words) as running:
            try:
                out, err = running.communicate(timeout=600)
            finally:
                running.kill()
        return running.returncode, out, err

    def launch(self, *words: str) -> tuple[int, str, str]:
        return self.er(*self.launch_words(*words))

    def launch_words(self, *words: str) -> list[str]:
        known = ["--known-hosts", str(self.tmp / "known_hosts"), "--identity", str(self.tmp / "id")]
        return ["launch", str(self.tmp / "easyrunner.yaml"), "--json", "--timeout", "240", *known, *words]

    def replace(self, image: str = "good") -> tuple[int, str, str]:
        return self.launch("--replace", "--image", self.images[image])

    def destroy_old(self) -> None:
        """What an earlier replacement has left, so that there can be another one."""
        if len(self.account.instances()) == 1:
            return
        code, _, err = self.er("destroy", "web1", "--old", "--yes", "--known-hosts", str(self.tmp / "known_hosts"))
        assert code == 0, err

    @property
    def server(self) -> Host:
        """Who has the volume."""
        return self.cloud.hosts[self.cloud.holder()]

    def in_app(self, line: str) -> str:
        return self.server.machine.run(["podman", "exec", "web", "sh", "-c", line], user="er-shop").stdout

    def rows(self) -> list[int]:
        return [int(word) for word in self.in_app("cat /srv/data/rows").split()]

    def write(self) -> None:
        """Rows without end, until the machine goes off."""
        self.in_app("touch /srv/data/rows")
        before = len(self.rows())
        if self.writer is None or self.writer.poll() is not None:
            self.writer = self.server.machine.start(["podman", "exec", "web", "sh", "-c", WRITER], user="er-shop")
        until(lambda: len(self.rows()) > before + 5, timeout=60, what="rows")

    def certificate(self) -> str:
        """The one that is on the disk for the domain."""
        place = self.server.machine.path("/var/lib/easyrunner/data/caddy/caddy/certificates/local")
        first = (place / DOMAIN / f"{DOMAIN}.crt").read_text().split(PEM_END)[0]
        return ssl.PEM_cert_to_DER_cert(f"{first}{PEM_END}\n").hex()


@dataclass(frozen=True)
class Kept:
    """What a server has, that another one is to have after it."""

    server: str
    rows: int
    certificate: str
    ca: bytes

    @classmethod
    def of(cls, site: Site) -> Kept:
        return cls(site.server.id, site.rows()[-1], site.certificate(), site.server.machine.path(trial.CA).read_bytes())


def held(site: Site, before: Kept) -> int:
    """Nothing of what was there is lost: how many rows there are now."""
    now = Kept.of(site)
    assert (now.certificate, now.ca) == (before.certificate, before.ca), "a certificate was made anew"
    rows = site.rows()
    assert rows == list(range(1, len(rows) + 1)), "a row is missing"
    assert now.rows >= before.rows
    return now.rows


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    page = Page(2 + 1 + len(CALLS) * len(WAYS))
    yield page
    page.write()


@pytest.fixture(scope="module")
def site(
    the_account: Account, the_wire: Wire, ami_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server that serves and writes; a visitor who asks."""
    tmp = tmp_path_factory.mktemp("replace")
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(tmp / "id")])
    (tmp / "easyrunner.yaml").write_text(SPEC)
    spec, _ = specs.load(tmp / "easyrunner.yaml")
    the_wire.reset()
    the_account.reset()
    images = {name: the_account.bake() for name in ("dead", "broken", "good")}
    kinds = {"dead": Image(ami_disk, goes_off=True), "broken": Image(ami_disk, BROKEN), "good": Image(ami_disk)}
    volume = tmp / "volume.raw"
    with volume.open("wb") as file:
        file.truncate(2 << 30)
    base = base_tree.tree(PACKAGES["debian-13"])
    preloads = tuple(preload.prepare(base, owner, found) for owner, found in trial.images_by_owner(spec))
    by_id = {images[name]: kind for name, kind in kinds.items()}
    with BootedAccount(the_account, the_wire, by_id, preloads, volume, er_command.KEY, tmp) as cloud:
        made = Site(the_account, the_wire, cloud, images, tmp)
        code, _, err = made.launch("--image", images["good"])
        cloud.settle()
        assert code == 0, err + made.server.console()[-3000:]
        (tmp / "ca.crt").write_bytes(made.server.machine.path(trial.CA).read_bytes())
        (address,) = the_account.addresses()
        with Visitor(public(address["PublicIp"]), DOMAIN, tmp / "ca.crt") as made.visitor:
            yield made
        assert cloud.wrongs == []
    if made.writer is not None:
        made.writer.wait(60)


def measured(site: Site, page: Page, name: str, work: Callable[[], tuple[str, float | None]]) -> Row:
    """Do it while rows are written and the visitor asks; what was lost."""
    site.write()
    before = Kept.of(site)
    site.visitor.begin()
    ended, told = work()
    site.cloud.settle()
    seen = site.visitor.end()
    rows = held(site, before)
    assert seen.certificates == {before.certificate}
    row = Row(name, ended, seen.seconds, told, seen.gap, seen.sent, seen.lost, rows)
    page.add(row)
    print(row)
    return row


def test_a_new_server_takes_over(site: Site, page: Page) -> None:
    site.destroy_old()
    old = site.server.id

    def work() -> tuple[str, float]:
        code, out, err = site.replace()
        assert code == 0, err + site.server.console()[-3000:]
        return "the new one serves", json.loads(out)["seconds_without_service"]

    row = measured(site, page, "a new server from the same image", work)
    assert site.server.id != old
    assert row.told is not None
    # What is told is what a visitor has seen; er stops to count when it has asked, a moment later.
    assert row.gap <= row.told + 2
    assert row.lost > 0


def test_an_image_that_does_not_start_costs_nothing(site: Site, page: Page) -> None:
    site.destroy_old()
    old = site.server.id

    def work() -> tuple[str, None]:
        code, _, err = site.replace("dead")
        assert code == 1
        assert f"web1 is back on {old}" in err
        return "the old one serves", None

    row = measured(site, page, "an image whose kernel does not start", work)
    assert site.server.id == old
    assert row.lost == 0


def test_an_image_that_starts_nothing_gives_the_data_back(site: Site, page: Page) -> None:
    site.destroy_old()
    old = site.server.id

    def work() -> tuple[str, None]:
        code, _, err = site.replace("broken")
        assert code == 1, err
        assert "first boot has failed: not ready: name=web1 missing: " in err
        assert f"web1 is back on {old}" in err
        return "the old one serves", None

    measured(site, page, "an image that does not serve with the data", work)
    assert site.server.id == old
    assert [one["State"]["Name"] for one in site.account.instances()] == ["running"]


@pytest.mark.parametrize(("call", "way"), POINTS, ids=lambda one: one.replace(" ", "-"))
def test_a_call_that_fails_leaves_one_server_and_the_same_command_goes_on(
    site: Site, page: Page, call: str, way: str
) -> None:
    """The first of its name. As long as the command is given again, the new one serves in the end."""
    site.destroy_old()
    old = site.server.id

    def work() -> tuple[str, None]:
        runs = [_run_with(site, call, way)]
        while runs[-1] and len(runs) < 4:
            runs.append(_again(site))
        assert not runs[-1], runs
        return f"the new one serves, run {len(runs)}", None

    measured(site, page, f"`{call}`: {way}", work)
    assert site.server.id != old


def _run_with(site: Site, operation: str, way: str) -> str:
    """Run it with this call failing; what it said when it did not end well."""
    struck: list[Call] = []
    argv = site.launch_words("--replace", "--image", site.images["good"])
    with site.start(*argv) as running:

        def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
            kind = BY_NAME.get(way)
            lasting = kind is not None and kind.lasts == "operation"
            if call.dry or call.operation != operation or (struck and not lasting):
                return None
            struck.append(call)
            if kind is not None:
                return kind.answer(call, do)
            do()
            os.kill(running.pid, signal.SIGKILL)
            return CLOSED

        site.cloud.fault = fault
        try:
            _, err = running.communicate(timeout=900)
        finally:
            running.kill()
            site.cloud.fault = None
    assert struck, err
    return f"{running.returncode}: {err}" if running.returncode else ""


def _again(site: Site) -> str:
    """The same command once more; what it said when all is not done yet."""
    code, _, err = site.replace()
    return "" if code == 0 or "was replaced, and" in err else f"{code}: {err}"
