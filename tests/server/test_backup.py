"""Backups of a booted host: to a real S3 endpoint, over SFTP to a real sshd, and to a REST server that only appends.

While rows are written all the time: the power goes in the middle of one, the target is full, or gone, or somebody
else's, the password is another one. What was backed up before stays whole, and the next run goes on.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from builder.polling import until
from builder.problems import UserError
from tests.machine import hosts, package_images
from tests.server.backup_places import KEYS, Places
from tests.server.conftest import Client, client, generate_secrets
from tests.server.restic_key import cheapened
from tests.server.rows import written_all_the_time
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = pytest.mark.machine

_PASSWORD: Final = "p4ssword-of-the-repository"
_FILES: Final = "/var/lib/easyrunner/data/stacks/files/volumes/files_data/_data"
_CONFIG: Final = "/etc/easyrunner/backup.json"
_CODE: Final = "/var/lib/easyrunner/remote.zip"


@dataclass
class Saved:
    """The host, its admin, and where it may back up to."""

    web: Client
    places: Places
    rows: list[int] = field(default_factory=list)

    def run(self, command: str, *, check: bool = True) -> str:
        """As root on the host."""
        return str(self.web.host.machine.run(["sh", "-c", command], check=check).stdout)

    def goes_to(self, repository: str, **other: Any) -> None:
        """What an apply with another `backup.to` lays down, in less time."""
        file = self.web.host.machine.path(_CONFIG)
        kind = repository.partition(":")[0]
        names = {"s3": ["s3-access-key", "s3-secret-key"], "sftp": ["sftp-key"]}.get(kind, [])
        secrets = ["restic-password", *names]
        told = {**json.loads(file.read_text()), "repository": repository, "secrets": secrets, **other}
        self.web.host.machine.files.write(_CONFIG, json.dumps(told).encode())

    def set(self, name: str, value: str) -> None:
        """A secret of the host, on stdin."""
        done = self.web.er("secret set", "--host", name, stdin=f"{value}\n")
        assert done.returncode == 0, done.stderr

    def now(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A backup, to its end."""
        return self.web.er("backup", "now", *words)

    def cheapen_key(self, directory: str) -> None:
        """What opens the repository in a directory of the SFTP server does so in less time from now on."""
        (key,) = (self.places.directory / directory / "keys").iterdir()
        other, cheap = cheapened(key.read_bytes(), _PASSWORD)
        key.with_name(other).write_bytes(cheap)
        key.unlink()

    def to_sftp(self) -> None:
        """Backups go over SFTP, and one has."""
        if (self.places.directory / "sftp/saved1").exists():
            return
        self.places.start_sftp()
        self.set("sftp-key", (self.places.directory / "client_key").read_text())
        self.goes_to(self.places.sftp(), host_key=self.places.host_key)
        done = self.now()
        assert done.returncode == 0, "another place, which the spec names, is no surprise"
        self.cheapen_key("sftp/saved1")

    def snapshots(self) -> list[dict[str, Any]]:
        """What the repository has, the newest first."""
        found: list[dict[str, Any]] = self.web.json("backup", "list")["snapshots"]
        return found

    def newest(self, stack: str) -> str:
        """The id of a stack's newest snapshot."""
        return str(next(one["id"] for one in self.snapshots() if one["stack"] == stack))

    def restic(self, words: str, *, check: bool = True) -> str:
        """Restic on the host, called as the host calls it."""
        script = (
            f"import sys;sys.path.insert(0,'{_CODE}');from builder.server.remote.backup import restic;"
            f"print(restic.run({words.split()!r}).out)"
        )
        return str(self.web.host.machine.run(["python3", "-I", "-c", script], check=check).stdout)

    def dump(self, snapshot: str) -> list[int]:
        """The rows in the dump of a snapshot."""
        text = self.restic(f"dump --no-lock {snapshot} /var/lib/easyrunner/backup/shop/dumps/db.sql")
        copied = re.search(r"^COPY public\.rows .*?;\n(.*?)\\\.$", text, re.MULTILINE | re.DOTALL)
        assert copied, text[:500]
        return [int(line) for line in copied[1].split()]

    def sql(self, text: str) -> str:
        """As the database's owner; nothing where it does not answer, or the host is off."""
        argv = ["podman", "exec", "db", "psql", "-U", "shop", "-qtA", "-c", text]
        try:
            done = self.web.host.machine.run(argv, user="er-shop", check=False)
        except UserError:
            return ""
        return str(done.stdout) if done.returncode == 0 else ""


@pytest.fixture(scope="module")
def saved(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """A host that has been told in its spec where to back up, and lacks the secrets for that."""
    tmp = tmp_path_factory.mktemp("backup")
    images = {
        "docker.io/library/postgres:17": package_images.archive("postgres"),
        "ghcr.io/example/app:1": hosts.IMAGES / "app.tar",
    }
    with hosts.booted("backups", tmp, images=images, start=False) as host:
        saved = Saved(client(host, tmp), Places(host.machine.attacker(50), tmp / "places"))
        try:
            host.machine.boot()
            generate_secrets(saved.web, "shop")
            host.machine.wait_console("easyrunner: ready", timeout=120)
            yield saved
        finally:
            saved.places.stop()


def test_what_is_missing_is_told_everywhere(saved: Saved) -> None:
    """On the console, by status and by doctor, with the command to type; and nothing runs by half."""
    said = saved.web.host.machine.console_text()
    for name in ("restic-password", *KEYS):
        assert f"easyrunner: no backup yet: er server secret set HOST --host {name}" in said
    done = saved.web.er("status")
    assert done.returncode == 1
    assert "no backup without the host's secret s3-secret-key: er server secret set HOST --host" in done.stderr
    assert "the host lacks the secret restic-password" in saved.web.er("doctor").stdout
    assert saved.web.er("secret list", "--host").returncode == 1
    done = saved.now()
    assert done.returncode == 1
    assert "these secrets of the host are not set: restic-password, s3-access-key, s3-secret-key" in done.stderr
    assert "easyrunner-backup.timer" in saved.run("systemctl list-timers --no-pager")


def test_secrets_of_the_host_are_roots(saved: Saved) -> None:
    """No stack reads one, and none stands in a log."""
    done = saved.web.er("secret set", "--host", "restic-password", stdin=f"{_PASSWORD}\n")
    assert "keep restic-password elsewhere too" in done.stderr
    assert "still missing: er server secret set web --host s3-access-key" in done.stderr
    lines = "".join(f"{name}={value}\n" for name, value in KEYS.items())
    assert saved.web.er("secret set", "--host", "--from-stdin", stdin=lines).returncode == 0
    assert saved.web.er("secret list", "--host").returncode == 0
    path = "/var/lib/easyrunner/data/secrets/restic-password"
    assert saved.run(f"stat -c '%U %a' {path} $(dirname {path})").split() == ["root", "600", "root", "700"]
    for stack in ("shop", "files", "temp", "proxy"):
        assert saved.web.host.machine.run(["cat", path], user=f"er-{stack}", check=False).returncode != 0
    assert _PASSWORD not in saved.run("journalctl --no-pager -o verbose; cat /var/log/*.log 2>/dev/null")
    wrong = saved.web.er("secret set", "--host", "../passwd", stdin="x\n")
    assert wrong.returncode == 1
    assert saved.web.er("secret set", "shop", "--host", "x", stdin="x\n").returncode == 2


def test_a_backup_to_s3(saved: Saved) -> None:
    """By the spec, as an apply lays it: each stack that is not left out, with what its rows need, and without temp."""
    saved.places.start_s3()
    spec = saved.web.edited("s3:http://127.0.0.1:9000/backups/saved1", saved.places.s3)
    done = saved.web.er("apply", spec, "--yes")
    assert done.returncode == 0, done.stderr
    saved.sql("CREATE TABLE rows (n int)")
    saved.run(f"head -c 300000 /dev/urandom >{_FILES}/kept; touch {_FILES}/left.tmp")
    before = saved.run("md5sum <" + f"{_FILES}/kept")
    with written_all_the_time(saved.web.host, "shop", saved.rows):
        until(lambda: len(saved.rows) > 3, timeout=30, what="rows")
        sure = len(saved.rows)
        done = saved.now()
    assert done.returncode == 0, done.stderr
    found = saved.snapshots()
    assert [one["stack"] for one in found] == ["host", "shop", "files"]
    host, shop, of_files = (str(one["id"]) for one in found)
    assert saved.dump(shop)[:sure] == saved.rows[:sure]
    described = json.loads(saved.restic(f"dump {shop} /var/lib/easyrunner/backup/shop/stack.json"))
    assert described["dumps"]["db"]["kind"] == "postgres"
    assert described["services"]["db"]["digest"].startswith("sha256:")
    files = saved.restic(f"ls {of_files}")
    assert "files_data/_data/kept" in files
    assert "left.tmp" not in files
    of_host = saved.restic(f"ls {host}")
    assert "caddy/pki" in of_host
    assert "restic-password" not in of_host
    assert saved.run(f"cd /tmp && md5sum <{_FILES}/kept") == before
    # Nothing of a dump is left on the disk; and what was stopped runs.
    assert saved.run("find /var/lib/easyrunner/backup -name '*.sql'") == ""
    assert saved.web.host.curl("https://files.example.com/").stdout.startswith("HTTP/2 200")
    assert saved.web.er("status").returncode == 0
    assert saved.web.er("backup", "check", "--read", "100").returncode == 0


def test_a_run_that_is_killed_leaves_no_stack_stopped(saved: Saved) -> None:
    """While the stack that asks for that is stopped."""
    saved.run("systemctl start --no-block easyrunner-backup.service")
    state = "systemctl --user --machine=er-files@ is-active files-web.service"
    killed = "systemctl kill --kill-whom=main --signal=KILL easyrunner-backup.service"
    saved.run(f"timeout 120 sh -c 'until [ \"$({state})\" = inactive ]; do :; done; {killed}'")
    until(lambda: saved.run(state, check=False).strip() == "active", timeout=90, what="the start")
    until(lambda: "the last backup failed: it was cut off" in saved.web.er("status").stderr, timeout=60, what="a word")


# As when a run is killed, and as the power goes in a restore: test_restore.py.
@of_a_sweep
def test_the_power_goes_in_the_middle(saved: Saved) -> None:
    """Over SFTP. The lock that is left is known to be ours; the run after that is whole, and so is what was there."""
    saved.to_sftp()
    first = saved.newest("shop")
    rows = saved.dump(first)
    saved.run(f"head -c 8000000 /dev/urandom >{_FILES}/large")
    saved.goes_to(saved.places.sftp(), bandwidth=8.0)
    locks = saved.places.directory / "sftp/saved1/locks"
    with written_all_the_time(saved.web.host, "shop", saved.rows):
        saved.run("systemctl start --no-block easyrunner-backup.service")
        until(lambda: any(locks.iterdir()), timeout=60, what="a lock")
        count = len(saved.rows)
        until(lambda: len(saved.rows) > count + 20, timeout=60, what="rows that come while it runs")
        saved.web.host.machine.cut()
    assert any(locks.iterdir())
    saved.web.host.boot(timeout=120)
    saved.goes_to(saved.places.sftp(), bandwidth=None)
    until(lambda: saved.sql("SELECT max(n) FROM rows").strip() != "", timeout=60, what="the database")
    sure = int(saved.sql("SELECT max(n) FROM rows"))
    with written_all_the_time(saved.web.host, "shop", saved.rows):
        done = saved.now()
    assert done.returncode == 0, done.stderr
    assert not any(locks.iterdir())
    assert saved.dump(first) == rows
    assert saved.dump(saved.newest("shop"))[:sure] == list(range(1, sure + 1))
    assert saved.web.er("backup", "check", "--read", "100").returncode == 0


@of_a_sweep
def test_a_lock_of_a_machine_that_lives_is_left_alone(saved: Saved) -> None:
    """Of another machine; and of one that has this one's name, as an old server has when a new one takes over."""
    saved.to_sftp()
    locks = saved.places.directory / "sftp/saved1/locks"
    script = (
        "import json,os,sys,time,subprocess;sys.path.insert(0,'{code}')\n"
        "from builder.server.remote.backup import restic\n"
        "argv=[*restic.base_words(restic.settings()),'backup','--stdin','--host=other']\n"
        "held=subprocess.Popen(argv,env=restic.environment(),stdin=subprocess.PIPE,stdout=subprocess.DEVNULL)\n"
        "while not restic.locked_by(): time.sleep(0.2)\n"
        "held.send_signal(19)\n"  # as if it were elsewhere: no process of restic's here
        "note=restic._is_restic; restic._is_restic=lambda pid: False\n"
        "print(restic.remove_dead_locks(), len(restic.locked_by()))\n"
        "held.kill(); held.wait(); restic._is_restic=note\n"
        "print(len(restic.locked_by()))\n"
    )
    said = saved.web.host.machine.run(["python3", "-I", "-c", script.replace("{code}", _CODE)]).stdout.split()
    assert said == ["False", "1", "1"]
    for path in locks.iterdir():
        path.unlink()


@of_a_sweep
def test_a_full_target_takes_nothing_from_what_is_there(saved: Saved) -> None:
    """Said in status; and with room again the next run is good."""
    saved.places.stop(*saved.places.running[1:])
    server = saved.places.start_sftp(small="small", megabytes=12)
    saved.goes_to(saved.places.sftp("small/saved1"))
    saved.run(f"rm -f {_FILES}/large")
    assert saved.now("--anew").returncode == 0
    first = saved.newest("shop")
    saved.run(f"head -c 16000000 /dev/urandom >{_FILES}/large")
    done = saved.now()
    assert done.returncode == 1
    assert "there is no room left where backups go" in done.stderr
    assert "the last backup of files failed: there is no room left" in saved.web.er("status").stderr
    assert first in [one["id"] for one in saved.snapshots()]
    assert saved.web.host.curl("https://files.example.com/").stdout.startswith("HTTP/2 200")
    saved.run(f"rm {_FILES}/large")
    saved.places.stop(server)
    saved.places.start_sftp()
    saved.goes_to(saved.places.sftp())


def test_what_does_not_fit_is_told(saved: Saved) -> None:
    """Another password, with the way out. The next test has other repositories, none, and another host key."""
    saved.to_sftp()
    saved.set("restic-password", "another")
    said = saved.now().stderr
    assert "the repository does not open with the host's secret restic-password" in said
    assert "er server secret set web --host restic-password" in said
    assert "the last backup failed: the repository does not open" in saved.web.er("status").stderr
    saved.set("restic-password", _PASSWORD)


@of_a_sweep
def test_another_repository_and_none_are_told(saved: Saved) -> None:
    """As another password is; and another host key."""
    assert saved.now().returncode == 0, "this one is known from then on"
    where = saved.places.directory / "sftp/saved1"
    where.rename(where.with_name("away"))
    done = saved.now()
    assert "is gone; is what it is on mounted, and the right one?" in done.stderr
    assert "if this is meant: er server backup web now --anew" in done.stderr
    assert not where.exists()
    saved.restic("init")
    assert "another repository is at" in saved.now().stderr
    shutil.rmtree(where)
    where.with_name("away").rename(where)
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    saved.goes_to(saved.places.sftp(), host_key=other)
    assert "the server of the repository has another host key" in saved.web.er("backup", "list").stderr


# Of a directory are those of test_sleep.py.
@of_a_sweep
def test_a_directory_is_one_of_another_disk(saved: Saved) -> None:
    """Where none is mounted, nothing is made on the host's own."""
    saved.goes_to("/mnt/backup/saved1")
    assert "/mnt/backup/saved1 lies on a disk of the host's own" in saved.now().stderr
    saved.run("test ! -e /mnt/backup; mkdir /mnt/backup; mount -t tmpfs tmpfs /mnt/backup")
    assert saved.now().returncode == 0
    assert len(saved.snapshots()) == 3


# Other places and what is missing there are told in the tests before.
@of_a_sweep
def test_a_host_that_only_appends_and_a_dump_that_fails(saved: Saved) -> None:
    """Nothing is forgotten, and the server would not let it; files without their dump are saved, and told."""
    saved.places.start_rest()
    saved.goes_to(saved.places.rest, append_only=True, keep=None)
    saved.web.host.machine.run("systemctl --user stop shop-db.service", user="er-shop")
    done = saved.now("--anew")
    assert done.returncode == 1
    assert "shop: db could not be dumped, its files are there: it does not run" in done.stderr
    assert {one["stack"] for one in saved.snapshots()} == {"host", "shop", "files"}
    saved.web.host.machine.run("systemctl --user start shop-db.service", user="er-shop")
    done = saved.now()
    assert done.returncode == 0, done.stderr
    assert len(saved.snapshots()) == 6
    saved.restic(f"forget {saved.newest('shop')}", check=False)
    assert len(saved.snapshots()) == 6
