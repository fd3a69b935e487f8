"""A whole fleet whose hosts are really booted: made, grown, rolled, rolled back from a bad image, taken away.

`er` is a process of its own; what Auto Scaling does is the wire's model of it, with AWS's delays, five times as fast.
Nothing of it was ever run on AWS. Two visitors ask all the time from when the fleet is made until it is taken away.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from builder import spec as specs
from builder.host.packages import PACKAGES
from builder.lab import base_tree, preload, trial
from builder.polling import until
from tests.aws import booted_fleet, er_command, moto_account
from tests.aws.booted_fleet import MOUNTED, BootedFleet
from tests.aws.moto_account import REGION, environment
from tests.machine import fleet_proxies
from tests.machine.fleet_proxies import Authority, Visitor
from tests.machine.hosts import IMAGES, ROOT
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.moto_account import Account
    from tests.aws.wire import Wire

pytestmark = [pytest.mark.machine, of_a_sweep]

DOMAIN: Final = "shop.example.com"
SPEC: Final = f"""
server: {{name: web, base: debian-13, arch: amd64}}
admin: {{name: er, ssh_keys: ["{moto_account.KEY}"]}}
aws: {{region: {REGION}}}
tls:
  ca: https://AUTHORITY:{fleet_proxies.PORT}/dir
  ca_root: root.pem
  email: a@b.test
  storage: {MOUNTED}
proxy: {{image: "oci-archive:{IMAGES}/caddy.tar"}}
fleet: {{min: 2, max: 4, cpu: 60}}
stacks:
  - name: shop
    image: "oci-archive:{IMAGES}/app.tar"
    domain: {DOMAIN}
    port: 3000
    secret_env: {{web: {{GREETING: "release-1-{{word}}"}}}}
"""
# Of an image that starts nothing: its crun cannot be run.
BROKEN: Final = {
    "/usr/bin/crun": b"",
    "/etc/systemd/system/er-first-boot.service.d/50-lab.conf": b"[Service]\nEnvironment=READY_TIMEOUT=15\n",
}


@dataclass
class Site:
    """The account, its fleet, and who works on it."""

    account: Account
    wire: Wire
    fleet: BootedFleet
    images: dict[str, str]
    tmp: Path
    authority: Authority
    visitor: Visitor

    def er(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """As a process, to which names lead to the balancer."""
        names = f"er-web-1.{REGION}.elb.amazonaws.com {DOMAIN}"
        (self.tmp / "hosts").write_text(f"127.0.0.1 localhost\n{self.fleet.middle.ipv4} {names}\n")
        env = {**environment(self.wire.url, self.tmp), "SSL_CERT_FILE": str(self.authority.issued)}
        own = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts; exec "$@"', str(self.tmp / "hosts")]
        argv = [*own, str(er_command.PROGRAM), *words]
        return subprocess.run(
            argv, env=env, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=1500, check=False
        )

    def launch(self, image: str) -> subprocess.CompletedProcess[str]:
        spec = str(self.tmp / "easyrunner.yaml")
        return self.er("launch", spec, "--image", self.images[image], "--timeout", "1200")

    def edit(self, old: str, new: str) -> None:
        spec = self.tmp / "easyrunner.yaml"
        assert old in spec.read_text()
        spec.write_text(spec.read_text().replace(old, new))

    def serving(self) -> list[str]:
        """The hosts in service, which are healthy."""
        members = self.wire.autoscaling.groups["er-web"].members
        return [one.instance for one in members if one.state == "InService" and self.fleet.is_healthy(one.instance)]


@pytest.fixture(scope="module")
def site(
    the_account: Account, the_wire: Wire, ami_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A fleet that is made by the first test."""
    booted_fleet.needs()
    tmp, storage = tmp_path_factory.mktemp("fleet"), tmp_path_factory.mktemp("storage")
    storage.chmod(0o755)
    authority = Authority(tmp)
    the_wire.reset()
    the_account.reset()
    address = booted_fleet.source(the_account)
    authority.sign(address)
    (tmp / "easyrunner.yaml").write_text(SPEC.replace("AUTHORITY", address))
    spec, _ = specs.load(tmp / "easyrunner.yaml")
    images = {name: the_account.bake() for name in ("broken", "good")}
    base = base_tree.tree(PACKAGES["debian-13"])
    preloads = tuple(preload.prepare(base, owner, found) for owner, found in trial.images_by_owner(spec))
    disks: dict[str, dict[str, bytes]] = {images["good"]: {}, images["broken"]: BROKEN}
    own = (ami_disk, disks, preloads, storage, tmp)
    with BootedFleet(the_account, the_wire, "er-web", *own) as fleet:
        authority.start(fleet.middle)
        visitor = Visitor(fleet.middle.ipv4, DOMAIN, authority.issued)
        try:
            yield Site(the_account, the_wire, fleet, images, tmp, authority, visitor)
        finally:
            if visitor.running:
                visitor.__exit__()
            authority.end()
    the_wire.reset()


def test_it_is_made(site: Site) -> None:
    """Its secrets before its hosts; each name is ordered once."""
    done = site.er("secret", "set", str(site.tmp / "easyrunner.yaml"), "shop", "word", stdin="hello")
    assert done.returncode == 0, done.stderr
    done = site.launch("good")
    assert done.returncode == 0, done.stderr + site.fleet.consoles() + str(site.fleet.wrongs)
    assert len(site.serving()) == 2
    assert site.authority.count()[1] == 1
    site.visitor.__enter__()
    until(lambda: "release-1-hello" in site.visitor.last, timeout=30, what="a visitor")


def test_it_grows_and_shrinks(site: Site) -> None:
    """As the policy for the processors' time has it, which is AWS's."""
    before, group = site.authority.count(), site.wire.autoscaling.groups["er-web"]
    group.parameters["DesiredCapacity"] = 3
    until(lambda: len(site.serving()) == 3, timeout=300, what="a third host")
    group.parameters["DesiredCapacity"] = 2
    until(lambda: len(group.members) == 2, timeout=300, what="the end of one")
    assert len(site.serving()) == 2
    assert site.authority.count() == before
    assert not site.visitor.bad


def test_it_is_rolled(site: Site) -> None:
    """To other hosts of a changed spec."""
    old = set(site.serving())
    site.edit("release-1", "release-2")
    done = site.launch("good")
    assert done.returncode == 0, done.stderr + site.fleet.consoles() + str(site.fleet.wrongs)
    assert not old & set(site.serving())
    until(lambda: "release-2-hello" in site.visitor.last, timeout=30, what="the new release")
    assert not site.visitor.bad


def test_a_bad_image_is_rolled_back(site: Site) -> None:
    """No host of it serves anybody; what the command says is what its console said."""
    before = set(site.serving())
    site.edit("release-2", "release-3")
    done = site.launch("broken")
    assert done.returncode == 1
    assert "not ready: name=web missing: shop/web" in done.stderr, done.stderr
    assert before <= set(site.serving())
    assert "release-2-hello" in site.visitor.last
    assert not site.visitor.bad


def test_it_is_taken_away(site: Site) -> None:
    assert site.visitor.good > 500
    site.visitor.__exit__()
    assert not site.visitor.bad
    done = site.er("destroy", "web", "--yes", "--region", REGION)
    assert done.returncode == 0, done.stderr
    assert site.account.everything() == []
    assert all(one.ended for one in site.fleet.hosts.values())
    assert not site.fleet.wrongs
