"""A host whose stacks sleep, under every command of its admin: nothing wakes one unasked, and what changes is tried."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder.oci import image_archive
from builder.polling import until
from tests.machine import hosts, package_images
from tests.machine.conftest import example_maker
from tests.server.conftest import Client, client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.machine

_QUIET, _SHOP = "quiet/web", "shop/web"
_READY = "until pg_isready -qh 127.0.0.1; do sleep 0.2; done"


@dataclass
class Dozing:
    """The host and its admin."""

    web: Client

    def run(self, command: str, user: str = "root", *, check: bool = True) -> str:
        """On the host, as root or as a stack's user."""
        return str(self.web.host.machine.run(["sh", "-c", command], user=user, check=check).stdout)

    def services(self) -> dict[str, Any]:
        """What `status` says of each service, as `stack/service`."""
        stacks = self.web.json("status")["stacks"]
        return {f"{one['stack']}/{unit['service']}": unit for one in stacks for unit in one["services"]}

    def visit(self, stack: str) -> str:
        """What a visitor gets at a stack's name."""
        return self.web.host.curl(f"https://{stack}.example.com/", timeout=60).stdout

    def falls_asleep(self, stack: str) -> None:
        """As after an hour without a visitor."""
        self.run("systemctl --user stop er-ingress-web.service", f"er-{stack}")
        self.rests(stack)

    def rests(self, stack: str) -> None:
        """Until no container of the stack runs, by its own Podman, which is dear to ask."""
        monitors = f"pgrep -c -u er-{stack} conmon || :"
        until(lambda: self.run(monitors).strip() == "0", timeout=90, what=f"{stack} to rest")
        until(lambda: not self.run("podman ps -q", f"er-{stack}").strip(), timeout=30, what=f"{stack} to rest")

    def started(self, stack: str) -> int:
        """How often the container of the stack's web service was started since the boot."""
        said = self.run(
            f"journalctl --namespace=+stacks -b -q -o cat --no-pager _UID=$(id -u er-{stack}) "
            f"_COMM=systemd --grep '^Started {stack}-web.service' || :"
        )
        return len(said.splitlines())

    def woken(self, stack: str) -> int:
        """How often visitors have woken it, from where `status` has it."""
        file = self.web.host.machine.path(f"{facts.PROXY_SOCKETS}/{stack}/web.woken")
        return int(file.read_text()) if file.exists() else 0

    def image(self, greeting: str) -> str:
        """Another image of the app."""
        maker, archive = example_maker(), self.web.directory / f"{greeting}.tar"
        config = maker.APP_CONFIG
        config = replace(config, environment=(*config.environment, ("GREETING", greeting)))
        image_archive.write(archive, maker.app_files(), config)
        return f"oci-archive:{archive}"

    def apply(self, old: str, new: str) -> tuple[int, str]:
        """The spec with one change; its exit code, and all it says."""
        done = self.web.er("apply", self.web.edited(old, new), "--yes")
        return done.returncode, f"{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def dozing(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dozing]:
    tmp = tmp_path_factory.mktemp("dozing")
    images = {
        "docker.io/library/postgres:17": package_images.archive("postgres"),
        "ghcr.io/example/app:1": hosts.IMAGES / "app.tar",
    }
    with hosts.booted("dozing", tmp, images=images) as host:
        yield Dozing(client(host, tmp))


def test_status_and_doctor_know_who_sleeps_and_wake_nobody(dozing: Dozing) -> None:
    found = dozing.services()
    asleep = {name for name, one in found.items() if one["sleep"] and one["sleep"]["asleep"]}
    assert asleep == {_QUIET, _SHOP, "shop/db"}
    assert {name for name, one in found.items() if one["public"]} == {_QUIET, _SHOP, "plain/web"}
    assert found["plain/web"]["sleep"] is None
    checks = {one["check"]: one for one in dozing.web.json("doctor")}
    assert checks["stacks run"]["ok"], checks["stacks run"]
    shown = dozing.web.er("status").stdout
    assert re.search(r"quiet/web +asleep since \d\d:\d\d", shown), shown
    assert re.search(r"shop/db +asleep", shown), shown
    assert dozing.started("quiet") == dozing.started("shop") == 0


@of_a_sweep
def test_a_report_asks_no_page_of_who_sleeps(dozing: Dozing, tmp_path: Path) -> None:
    found = dozing.web.json("report", dozing.web.spec, "-o", tmp_path / "page.html")
    rows = {row["what"]: row for section in found["sections"] for row in section["rows"]}
    for stack in ("quiet", "shop"):
        site = rows[f"https://{stack}.example.com/"]
        assert (site["state"], "was not asked" in site["seen"]) == ("untried", True)
        assert rows[f"{stack}/web"]["seen"] == "asleep, 0 restarts"
        assert rows[f"{stack}.example.com"]["state"] != "bad"
    assert rows["https://plain.example.com/"]["state"] == "good"
    assert dozing.started("quiet") == dozing.started("shop") == 0


def test_a_secret_is_read_by_the_next_wake(dozing: Dozing) -> None:
    """First boot did not wait for it, as nobody has asked for the database."""
    done = dozing.web.er("secret generate", "shop")
    assert done.returncode == 0
    assert "db reads them when it wakes" in done.stderr
    assert dozing.started("shop") == 0
    assert " 200" in dozing.visit("shop").splitlines()[0]
    found = dozing.services()
    assert found[_SHOP]["sleep"] == {"asleep": False, "since": None, "woken": 1, "failed": ""}
    assert found["shop/db"]["state"] == "active"
    assert re.search(r"shop/web +active \(running\), woken 1 time ", dozing.web.er("status").stdout)
    dozing.falls_asleep("shop")


def test_an_apply_starts_once_what_changes_and_leaves_others_asleep(dozing: Dozing) -> None:
    """After a boot, which has not even started their managers. What changes sleeps again."""
    dozing.web.host.reboot()
    assert dozing.services()[_QUIET]["sleep"]["asleep"]
    checks = {one["check"]: one for one in dozing.web.json("doctor")}
    assert checks["stacks run"]["ok"], checks["stacks run"]
    before = dozing.started("quiet"), dozing.woken("quiet")
    others = dozing.started("shop"), dozing.woken("shop")
    file = dozing.web.edited("first}\n  - name: shop", "changed}\n  - name: shop")
    file.write_text("second".join(file.read_text().rsplit("first", 1)))
    done = dozing.web.er("apply", file, "--yes")
    assert done.returncode == 0, done.stderr
    assert "second" in dozing.visit("plain")
    dozing.rests("quiet")
    assert (dozing.started("quiet"), dozing.woken("quiet")) == (before[0] + 1, before[1])
    assert (dozing.started("shop"), dozing.woken("shop")) == others
    assert "changed" in dozing.visit("quiet")
    assert dozing.woken("quiet") == before[1] + 1
    dozing.falls_asleep("quiet")


# Of an app that is awake: test_apply.py.
@of_a_sweep
@pytest.mark.parametrize("command", ["[/nonexistent]", '[sh, -c, "sleep infinity"]'])
def test_what_does_not_come_up_is_taken_back(dozing: Dozing, command: str) -> None:
    new = f"changed}}\n    command: {command}\n  - name: shop"
    file = dozing.web.edited("first}\n  - name: shop", new)
    file.write_text("second".join(file.read_text().rsplit("first", 1)))
    done = dozing.web.er("apply", file, "--yes", "--timeout", "20")
    assert done.returncode == 1
    assert "quiet/web" in done.stderr
    dozing.rests("quiet")
    assert dozing.services()[_QUIET]["sleep"]["asleep"]
    assert "changed" in dozing.visit("quiet")
    dozing.falls_asleep("quiet")


@of_a_sweep
def test_what_changes_awake_serves_its_visitors_anew(dozing: Dozing) -> None:
    """As a release does: test_releases.py has stacks that are awake."""
    assert " 200" in dozing.visit("quiet").splitlines()[0]
    code, said = dozing.apply("first}\n  - name: shop", "again}\n  - name: shop")
    assert code == 0, said
    assert "it sleeps when nobody asks" in said
    assert "again" in dozing.visit("quiet")
    dozing.falls_asleep("quiet")


# As what an apply changes.
@of_a_sweep
def test_a_release_is_tried_and_sleeps(dozing: Dozing) -> None:
    before = dozing.started("shop")
    done = dozing.web.er("push", "shop/web", dozing.image("pushed"))
    assert done.returncode == 0, done.stderr
    dozing.rests("shop")
    assert dozing.started("shop") == before + 1
    assert "pushed" in dozing.visit("shop")
    dozing.falls_asleep("shop")
    assert [one["current"] for one in dozing.web.json("releases", "shop")] == [True, False]


@of_a_sweep
def test_the_way_back_is_tried_and_sleeps(dozing: Dozing) -> None:
    """As the release before it is."""
    done = dozing.web.er("rollback", "shop")
    assert done.returncode == 0, done.stderr
    dozing.rests("shop")
    assert dozing.services()[_SHOP]["sleep"]["asleep"]


def test_a_command_wakes_knowingly(dozing: Dozing) -> None:
    woken = dozing.woken("shop")
    sql = "CREATE TABLE rows AS SELECT 42 AS n"
    done = dozing.web.er("exec", "shop", "db", "--", "sh", "-c", f"{_READY}; psql -U shop -qtAc '{sql}'")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("shop/db was asleep: it is awake as long as this runs")
    dozing.rests("shop")
    found = dozing.services()
    assert (found["shop/db"]["sleep"]["asleep"], found[_SHOP]["sleep"]["asleep"]) == (True, True)
    assert dozing.woken("shop") == woken


def test_the_backup_of_a_night_wakes_a_database_for_its_dump_alone(dozing: Dozing) -> None:
    dozing.run("mkdir -p /mnt/backup && mount -t tmpfs none /mnt/backup")
    assert dozing.web.er("secret set", "--host", "restic-password", stdin="p4ssword\n").returncode == 0
    before = dozing.started("shop"), dozing.started("quiet"), dozing.woken("shop")
    done = dozing.web.er("backup", "now")
    assert done.returncode == 0, done.stderr
    dozing.rests("shop")
    assert (dozing.started("shop"), dozing.started("quiet"), dozing.woken("shop")) == before
    stacks = {one["stack"]: one for one in dozing.web.json("status")["backup"]["stacks"]}
    assert stacks["shop"]["error"] == ""


@of_a_sweep
def test_a_drill_wakes_nobody(dozing: Dozing) -> None:
    """It has a database of its own, whoever sleeps: test_restore.py."""
    before = dozing.started("shop"), dozing.started("quiet"), dozing.woken("shop")
    done = dozing.web.er("backup", "drill")
    assert done.returncode == 0, done.stderr
    dozing.rests("shop")
    assert (dozing.started("shop"), dozing.started("quiet"), dozing.woken("shop")) == before
    (found,) = (one for one in dozing.web.json("status")["backup"]["stacks"] if one["stack"] == "shop")
    assert (found["error"], found["drill"]["loaded"]) == ("", ["db"])


@of_a_sweep
def test_a_restore_is_tried_and_sleeps(dozing: Dozing) -> None:
    """The database of the snapshot, and the app with it."""
    before, woken = dozing.started("shop"), dozing.woken("shop")
    done = dozing.web.er("restore", "shop", "--yes")
    assert done.returncode == 0, done.stderr
    dozing.rests("shop")
    assert dozing.started("shop") == before + 1
    found = dozing.services()
    assert (found["shop/db"]["sleep"]["asleep"], found[_SHOP]["sleep"]["asleep"]) == (True, True)
    assert dozing.woken("shop") == woken
    done = dozing.web.er("exec", "shop", "db", "--", "sh", "-c", f"{_READY}; psql -U shop -qtAc 'SELECT n FROM rows'")
    assert done.stdout.split() == ["42"], done.stderr


def test_a_wake_that_failed_is_said_until_one_succeeds(dozing: Dozing) -> None:
    unit = "/etc/containers/systemd/users/$(id -u er-quiet)/quiet-web.container"
    name = dozing.run(f"sed -n s/^Image=//p {unit}").strip()
    dozing.run(f"podman tag {name} localhost/kept:1 && podman untag {name} {name}", "er-quiet")
    assert " 503" in dozing.visit("quiet").splitlines()[0]
    done = dozing.web.er("status")
    assert done.returncode == 1
    assert "quiet/web has failed" in done.stderr
    assert "quiet/web (failed)" in {one["check"]: one["wrong"] for one in dozing.web.json("doctor")}["stacks run"]
    dozing.run(f"podman tag localhost/kept:1 {name}", "er-quiet")
    assert " 200" in dozing.visit("quiet").splitlines()[0]
    assert {one["check"]: one["wrong"] for one in dozing.web.json("doctor")}["stacks run"] == ""
    dozing.falls_asleep("quiet")


@of_a_sweep
def test_who_was_stopped_by_hand_does_not_count_as_asleep(dozing: Dozing) -> None:
    assert dozing.web.er("stop", "quiet").returncode == 0
    assert dozing.services()[_QUIET]["sleep"]["asleep"] is False
    assert "quiet/web (inactive)" in {one["check"]: one["wrong"] for one in dozing.web.json("doctor")}["stacks run"]
    done = dozing.web.er("start", "quiet")
    assert done.returncode == 0
    assert "quiet/web: asleep" in done.stderr
    assert " 200" in dozing.visit("quiet").splitlines()[0]
