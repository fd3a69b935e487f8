"""Restores of a booted host, its weekly drill, and another machine made of spec and bucket alone.

While rows are written all the time: what a snapshot has comes back, whatever cuts a restore leaves the old or the new
data whole, and a drill says what is wrong with the repository within its run.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest

from builder.lab import trial
from builder.polling import until
from tests import local_images
from tests.machine import hosts, package_images
from tests.server.backup_places import Places
from tests.server.conftest import Client, client, generate_secrets
from tests.server.restic_key import cheapened
from tests.server.rows import written_all_the_time
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.spec import Spec

pytestmark = pytest.mark.machine

_PASSWORD: Final = "p4ssword-of-the-repository"
_KEYS: Final = ("lab-access", "lab-secret")
_BUCKET: Final = "backups"
_DATA: Final = "/var/lib/easyrunner/data"
_CODE: Final = "/var/lib/easyrunner/remote.zip"
_CONFIG: Final = "/etc/easyrunner/backup.json"
_UPLOADS: Final = f"{_DATA}/stacks/notes/files/uploads"
_POSTS: Final = f"{_DATA}/stacks/blog/volumes/blog_posts/_data"


@dataclass
class Bucket:
    """An S3 endpoint on this machine, which every host reaches at its own gateway; and what is in it."""

    port: int

    @property
    def _s3(self) -> Any:
        url = f"http://127.0.0.1:{self.port}"
        return boto3.client(
            "s3", endpoint_url=url, aws_access_key_id=_KEYS[0], aws_secret_access_key=_KEYS[1], region_name="us-east-1"
        )

    def make(self) -> None:
        """Once it answers."""
        until(self._made, timeout=60, what="the S3 endpoint")

    def _made(self) -> bool:
        try:
            self._s3.create_bucket(Bucket=_BUCKET)
        except Exception:
            return False
        return True

    def objects(self, kind: str) -> dict[str, bytes]:
        """All of a kind: data, keys, …; by name."""
        listed = self._s3.list_objects_v2(Bucket=_BUCKET, Prefix=f"web1/{kind}").get("Contents", ())
        return {one["Key"]: self._s3.get_object(Bucket=_BUCKET, Key=one["Key"])["Body"].read() for one in listed}

    def cheapen_key(self) -> None:
        """What opens the repository does so in less time from now on."""
        ((name, content),) = self.objects("keys").items()
        other, cheap = cheapened(content, _PASSWORD)
        self.put(f"{name.rpartition('/')[0]}/{other}", cheap)
        self.put(name, None)

    def put(self, name: str, content: bytes | None) -> None:
        """Replace one, or with None remove it."""
        if content is None:
            self._s3.delete_object(Bucket=_BUCKET, Key=name)
        else:
            self._s3.put_object(Bucket=_BUCKET, Key=name, Body=content)

    @contextmanager
    def changed(self, names: Callable[[dict[str, bytes]], dict[str, bytes | None]], kind: str) -> Iterator[None]:
        """Some objects otherwise, or gone, for the time of the block."""
        before = self.objects(kind)
        new = names(before)
        assert new
        for name, content in new.items():
            self.put(name, content)
        try:
            yield
        finally:
            for name in new:
                self.put(name, before[name])


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """moto's server."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(port)]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = Bucket(port)
    try:
        made.make()
        yield made
    finally:
        server.terminate()
        server.wait()


@dataclass
class Restored:
    """A host, its admin, and the rows that its database has said it has."""

    web: Client
    rows: list[int] = field(default_factory=list)

    def run(self, command: str, *, check: bool = True, timeout: float = 120) -> str:
        """As root on the host."""
        return str(self.web.host.machine.run(["sh", "-c", command], check=check, timeout=timeout).stdout)

    def in_stack(self, stack: str, *argv: str, check: bool = True) -> str:
        """As a stack's user."""
        return str(self.web.host.machine.run([*argv], user=f"er-{stack}", check=check).stdout)

    def sql(self, text: str) -> str:
        """As the database's owner; nothing where it does not answer."""
        argv = ["podman", "exec", "db", "psql", "-U", "notes", "-qtA", "-c", text]
        done = self.web.host.machine.run(argv, user="er-notes", check=False)
        return str(done.stdout).strip() if done.returncode == 0 else ""

    def numbers(self) -> list[int]:
        """The rows that are there."""
        until(lambda: self.sql("SELECT 1") == "1", timeout=120, what="the database")
        return [int(line) for line in self.sql("SELECT n FROM rows ORDER BY n").split()]

    def set_secrets(self) -> None:
        """Those of the host."""
        values = zip(("restic-password", "s3-access-key", "s3-secret-key"), (_PASSWORD, *_KEYS), strict=True)
        lines = "".join(f"{name}={value}\n" for name, value in values)
        done = self.web.er("secret set", "--host", "--from-stdin", stdin=lines)
        assert done.returncode == 0, done.stderr

    def backup(self) -> None:
        """To its end, all well."""
        done = self.web.er("backup", "now")
        assert done.returncode == 0, done.stderr

    def restore(self, stack: str, *words: str) -> subprocess.CompletedProcess[str]:
        """To its end; with the words of the case."""
        return self.web.er("restore", stack, *words)

    def drill(self) -> dict[str, Any]:
        """Run it to its end; what it says of each stack."""
        end = self.web.json("backup", "drill")
        assert end["phase"] == "done"
        found: dict[str, Any] = end["drill"]
        return found

    def restic(self, words: list[str]) -> str:
        """Restic on the host, called as the host calls it."""
        script = (
            f"import sys;sys.path.insert(0,'{_CODE}');from builder.server.remote.backup import restic;"
            f"print(restic.run({words!r}).out)"
        )
        return str(self.web.host.machine.run(["python3", "-I", "-c", script]).stdout)

    def tree(self, path: str) -> str:
        """What is below a directory: names, owners, rights, content."""
        listed = "find . -printf '%p %U:%G %m %l\\n' | sort; find . -type f -exec sha256sum {} + | sort"
        return self.run(f"cd {path} && {listed}")


def _images() -> dict[str, Any]:
    return {
        "docker.io/library/postgres:17": package_images.archive("postgres"),
        "docker.io/example/app:1": hosts.IMAGES / "app.tar",
    }


def _restoring(spec: Spec) -> bytes:
    """User-data as er user-data --restore makes it."""
    assert spec.backup is not None
    return trial.plan(replace(spec, backup=replace(spec.backup, restores=True)), timeout=300).user_data


@contextmanager
def _booted(
    tmp_path_factory: pytest.TempPathFactory, bucket: Bucket, form: Callable[[Spec], bytes] | None = None
) -> Iterator[Restored]:
    """A host that has been switched on; the spec names the bucket at an address that each host has for this machine."""
    tmp = tmp_path_factory.mktemp("restored")

    def edit(text: str) -> str:
        return text.replace(":9000/", f":{bucket.port}/")

    with hosts.booted("restored", tmp, edit=edit, images=_images(), start=False, form=form) as host:
        host.machine.boot()
        # The name in the spec is this machine as the host sees it.
        host.machine.wait(host.machine.systemd_up, timeout=60, what="systemd")
        host.machine.run(f"echo {host.machine.gateway.ipv4} objects >>/etc/hosts")
        yield Restored(client(host, tmp))


@pytest.fixture(scope="module")
def old(example_images: None, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    """A host with rows, files of several owners, and a backup of them."""
    with _booted(tmp_path_factory, bucket) as host:
        generate_secrets(host.web, "notes")
        host.web.host.machine.wait_console("easyrunner: ready", timeout=120)
        until(lambda: host.sql("SELECT 1") == "1", timeout=120, what="the database")
        host.sql("CREATE TABLE rows (n int PRIMARY KEY)")
        _fill(host)
        host.set_secrets()
        with written_all_the_time(host.web.host, "notes", host.rows):
            until(lambda: len(host.rows) > 5, timeout=60, what="rows")
            host.backup()
        bucket.cheapen_key()
        yield host


def _fill(host: Restored) -> None:
    """Files of the container's root and of another of its users, a program, links that lead out."""
    line = "echo first >/srv/uploads/one; mkdir /srv/uploads/deep; echo two >/srv/uploads/deep/two"
    line += "; ln -s /etc/passwd /srv/uploads/out; chmod 4755 /srv/uploads/one"
    host.in_stack("notes", "podman", "exec", "web", "sh", "-c", line)
    host.in_stack("notes", "podman", "unshare", "chown", "-R", "998:998", f"{_UPLOADS}/deep")
    host.in_stack("blog", "podman", "exec", "web", "sh", "-c", "echo post >/srv/posts/post")


# A restore on the same host.


def test_a_stack_gets_its_data_back_and_the_old_is_kept_until_confirmed(old: Restored) -> None:
    before, files = old.numbers(), old.tree(_UPLOADS)
    old.sql("DELETE FROM rows WHERE n > 3")
    old.run(f"rm -r {_UPLOADS}/deep {_UPLOADS}/one")
    changed = old.tree(_UPLOADS)
    told = old.restore("notes", "--dry-run").stderr
    assert "notes: all of its data of" in told
    assert old.restore("notes").returncode == 1, "there is nobody to ask"
    done = old.restore("notes", "--yes")
    assert done.returncode == 0, done.stderr
    assert "loading db" in done.stderr
    assert "er server restore web notes --confirm" in done.stderr
    saved = old.numbers()
    assert saved == before[: len(saved)]
    assert len(saved) > 5
    assert old.tree(_UPLOADS) == files
    assert "scram-sha-256" in old.in_stack(
        "notes", "podman", "exec", "db", "tail", "-1", "/var/lib/postgresql/data/pg_hba.conf"
    )
    again = old.restore("notes", "--yes")
    assert again.returncode == 1
    assert "what notes had before its last restore is still kept" in again.stderr
    assert "what notes had before its restore is kept" in old.web.er("status").stderr
    assert "what notes had before its restore is still kept" in old.web.er("doctor").stdout
    back = old.restore("notes", "--back")
    assert back.returncode == 0, back.stderr
    assert old.in_stack("notes", "systemctl", "--user", "is-active", "notes-db.service", check=False) == "active\n"
    assert old.tree(_UPLOADS) == changed
    assert old.numbers() == [1, 2, 3]
    assert old.run(f"ls {_DATA}/restores") == ""


# With a database that comes back whole, as it does in the test before.
_PATHS: Final = (("files/uploads/deep",), ("files/uploads/deep", "volumes/notes_rows"))


@of_a_sweep
@pytest.mark.parametrize("paths", _PATHS, ids=len)
def test_some_paths_come_back_alone_and_a_database_whole(old: Restored, paths: tuple[str, ...]) -> None:
    old.run(f"rm -rf {_UPLOADS}/deep {_UPLOADS}/one")
    done = old.restore("notes", *(word for path in paths for word in ("--path", path)), "--yes")
    assert done.returncode == 0, done.stderr
    assert (len(old.numbers()) > 5) == (len(paths) > 1)
    assert old.run(f"cat {_UPLOADS}/deep/two; ls {_UPLOADS}").split() == ["two", "deep", "out"]
    kept = old.restore("notes", "--confirm")
    assert kept.returncode == 0, kept.stderr
    assert old.run(f"ls {_DATA}/restores") == ""
    refused = old.restore("notes", "--path", "volumes/notes_rows/base", "--yes").stderr
    assert "is a database's, which is restored whole" in refused
    assert old.restore("notes", "--back").returncode == 1, "nothing is kept any more"


@of_a_sweep
def test_what_is_no_data_of_the_stack_is_not_restored(old: Restored) -> None:
    assert "has no files/nothing" in old.restore("notes", "--path", "files/nothing", "--yes").stderr
    assert "is nothing of a stack's data" in old.restore("notes", "--path", "../x", "--yes").stderr


_STEPS: Final = ("restoring", "loading db", "switching", "waiting for the stack")


@of_a_sweep
@pytest.mark.parametrize("step", _STEPS)
def test_whatever_cuts_a_restore_the_old_or_the_new_data_stands_whole(old: Restored, step: str) -> None:
    """The power goes while it is at a step; after the boot one of both runs, and the next restore is as good."""
    old.run(f"echo of now >{_UPLOADS}/now; cp -a {_UPLOADS} /root/was")
    rows = old.numbers()
    machine = old.web.host.machine
    with subprocess.Popen(old.web.argv("restore", "notes", "--yes"), env=old.web.env, stderr=subprocess.PIPE) as asked:
        state = machine.path("/var/lib/easyrunner/restore/notes/state.json")
        until(
            lambda: state.exists() and json.loads(state.read_text())["phase"] == step,
            timeout=120,
            what=step,
            longest=0.05,
        )
        machine.cut()
        asked.kill()
    old.web.host.boot(timeout=240)
    machine.run(f"echo {machine.gateway.ipv4} objects >>/etc/hosts")
    now = old.run(f"cat {_UPLOADS}/now", check=False)
    saved = old.numbers()
    if now:
        assert saved == rows
        assert old.run(f"diff -r {_UPLOADS} /root/was && echo same") == "same\n"
    else:
        assert saved == list(range(1, len(saved) + 1))
        assert old.run(f"cat {_UPLOADS}/deep/two") == "two\n"
    (left,) = old.web.json("status")["restores"]
    assert left["state"] == ("cut" if now else "kept"), step
    assert bool(now) == (step in {"restoring", "loading db"}) or step == "switching"
    assert ("a restore of notes was cut" in old.web.er("doctor").stdout) == bool(now)
    done = old.restore("notes", "--back")
    assert done.returncode == 0, done.stderr
    assert old.run(f"ls {_DATA}/restores") == ""
    assert old.numbers() == rows
    old.run(f"rm -r /root/was {_UPLOADS}/now", check=False)


# The drill.


def _flipped(objects: dict[str, bytes]) -> dict[str, bytes | None]:
    """One byte of the largest pack."""
    name, content = max(objects.items(), key=lambda one: len(one[1]))
    at = len(content) // 2
    return {name: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]}


def _gone(objects: dict[str, bytes]) -> dict[str, bytes | None]:
    return dict.fromkeys(objects)


def test_a_drill_restores_every_stack_and_loads_its_dump(old: Restored) -> None:
    found = old.drill()
    assert {name: one["error"] or one["skipped"] for name, one in found.items()} == {
        "blog": "",
        "notes": "",
        "host": "",
    }
    assert found["notes"]["loaded"] == ["db"]
    assert found["notes"]["files"] > 900
    assert found["host"]["read"] == "all"
    assert "db" in old.in_stack("notes", "podman", "ps", "--format={{.Names}}")
    assert old.run("find / -xdev -user 20006; getent passwd 20006; ls /var/lib/easyrunner/drills", check=False) == ""
    assert "restored" in old.web.er("status").stdout


def test_a_full_disk_ends_the_drill_and_no_stack(old: Restored) -> None:
    """A drill that runs, and what er-room does when its disk is nearly full."""
    machine = old.web.host.machine
    home = machine.path("/var/lib/easyrunner/drills/1/home/files")
    current = machine.path("/run/easyrunner/drill-of")
    old.run("sed '/^round=0/,$d' /usr/lib/easyrunner/room >/root/room; mkdir -p /run/easyrunner/room")
    old.run("systemctl start --no-block easyrunner-drill.service")
    until(lambda: home.exists() and current.read_text() == "notes", timeout=120, what="the files", longest=0.05)
    said = machine.run(["sh", "-c", "disk=/var/lib/easyrunner of=; . /root/room; stop_worst"]).stdout
    assert said == "the disk is nearly full: drills end\n"
    assert old.run("systemctl is-active easyrunner-drill", check=False).strip() in {"inactive", "failed"}
    found = json.loads(old.run("cat /var/lib/easyrunner/backup/state.json"))["drill"]["notes"]
    assert found["skipped"].startswith("it was ended before its end: the disk was nearly full")
    assert old.run("ls /var/lib/easyrunner/drills") == ""
    assert old.run("ls /run/easyrunner/room") == "", "no stack was stopped"
    assert old.run("systemctl is-active drills.slice", check=False).strip() == "inactive"
    assert "notes was not tried: it was ended" in old.web.er("doctor").stdout
    assert old.numbers()[:3] == [1, 2, 3]


# Another thing that is wrong with the repository.
@of_a_sweep
def test_a_flipped_byte_is_found_within_its_run(old: Restored, bucket: Bucket) -> None:
    with bucket.changed(_flipped, "data"):
        found = old.drill()
        assert "ciphertext verification failed" in found["notes"]["error"] + found["host"]["error"]
        assert "the repository is damaged" in found["host"]["error"]
        (told,) = (one for one in old.web.json("doctor") if one["check"] == "restores tried")
        assert "damaged" in told["wrong"]
        assert "a restore of host was tried, and failed: the repository is damaged" in old.web.er("status").stderr


def test_a_missing_key_is_found_within_its_run(old: Restored, bucket: Bucket) -> None:
    with bucket.changed(_gone, "keys"):
        found = old.drill()
        assert {"password" in one["error"] for one in found.values()} == {True}


@of_a_sweep
def test_a_dump_that_does_not_load_is_found_within_its_run(old: Restored) -> None:
    """Beside the same files, as if its tool had written something else than it can read."""
    uid = old.run("id -u er-notes").strip()
    made = {"db": {"file": "dumps/db.sql", "kind": "postgres", "bytes": 20}}
    told = {"format": 1, "stack": "notes", "uid": int(uid), "dumps": made}
    place = "/var/lib/easyrunner/backup/notes"
    old.run(f"mkdir -p {place}/dumps; echo 'CREATE TABEL x;' >{place}/dumps/db.sql")
    old.web.host.machine.run(["sh", "-c", f"cat >{place}/stack.json"], stdin=json.dumps(told).encode())
    said = old.restic(["backup", "--json", "--host=web1", "--tag=er,stack=notes", f"{_DATA}/stacks/notes", place])
    try:
        found = old.drill()
        assert found["notes"]["error"] == 'the dump of db: it does not load: ERROR:  syntax error at or near "TABEL"'
        refused = old.restore("notes", "--yes")
        assert refused.returncode == 1
        assert 'syntax error at or near "TABEL"' in refused.stderr
        assert old.run(f"ls {_DATA}/restores") == "", "the old runs on, and nothing is left"
        assert len(old.numbers()) > 5
    finally:
        old.run(f"rm -r {place}")
        old.restic(["forget", json.loads(said.strip().splitlines()[-1])["snapshot_id"]])


@of_a_sweep
def test_over_sftp_the_user_of_the_drill_has_a_copy_of_the_key_and_no_more(old: Restored, tmp_path: Path) -> None:
    """As an apply with another `backup.to` lays it down, in less time."""
    places = Places(old.web.host.machine.attacker(50), tmp_path / "places")
    told = json.loads(old.run(f"cat {_CONFIG}"))
    sftp = {
        "repository": places.sftp("sftp/web1"),
        "host_key": places.host_key,
        "secrets": ["restic-password", "sftp-key"],
    }
    try:
        places.start_sftp()
        old.web.host.machine.files.write(_CONFIG, json.dumps({**told, **sftp}).encode())
        done = old.web.er("secret set", "--host", "sftp-key", "--file", tmp_path / "places/client_key")
        assert done.returncode == 0, done.stderr
        old.backup()
        found = old.drill()
        said = {name: one["error"] or one["skipped"] for name, one in found.items()}
        assert said == dict.fromkeys(found, ""), old.run("journalctl -u easyrunner-drill -n 40 -o cat")
        assert old.run("ls /run/easyrunner/drill.env /run/easyrunner/load/*", check=False) == ""
    finally:
        places.stop()
        old.web.host.machine.files.write(_CONFIG, json.dumps(told).encode())


# Another machine.


@of_a_sweep
def test_another_machine_is_made_of_spec_and_bucket_alone(
    old: Restored, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The old one is destroyed while rows are written; the new one waits for what only the admin knows."""
    image = local_images.changed(hosts.IMAGES / "app.tar", tmp_path_factory.mktemp("image"), {"srv/own": b"mine"})
    pushed = old.web.er("push", "blog", image)
    assert pushed.returncode == 0, pushed.stderr
    old.rows[:] = old.numbers()
    with written_all_the_time(old.web.host, "notes", old.rows):
        count = len(old.rows)
        until(lambda: len(old.rows) > count, timeout=60, what="rows")
        certain = set(old.rows)
        old.backup()
    posts, certificates = old.tree(_POSTS), old.tree(f"{_DATA}/caddy/caddy/certificates")
    deep = old.tree(f"{_UPLOADS}/deep")
    secret = old.in_stack(
        "notes", "podman", "secret", "inspect", "--showsecret", "--format={{.SecretData}}", "db_password"
    )
    old.web.host.machine.cut()
    with _booted(tmp_path_factory, bucket, _restoring) as new:
        machine = new.web.host.machine
        machine.wait_console("waits for its data: er server secret set HOST --host restic-password", timeout=120)
        machine.wait(machine.started, timeout=120, what="the end of start-up")
        assert new.run("ls /var/lib/systemd/linger", check=False) == ""
        refused = new.web.er("apply", new.web.spec, "--yes")
        assert "the data of this new server has not come from the backup yet" in refused.stderr
        since = time.monotonic()
        new.set_secrets()
        machine.wait_console("easyrunner: ready", timeout=300)
        took = time.monotonic() - since
        assert "easyrunner: notes: restored as it was at" in machine.console_text()
        numbers = new.numbers()
        assert certain <= set(numbers) <= {*old.rows, max(old.rows) + 1}
        assert new.tree(_POSTS) == posts
        assert new.in_stack("blog", "podman", "exec", "web", "cat", "/srv/own") == "mine"
        assert new.web.json("releases", "blog")[0]["source"] == "push"
        assert new.tree(f"{_UPLOADS}/deep") == deep
        assert new.tree(f"{_DATA}/caddy/caddy/certificates") == certificates, "no certificate was made anew"
        argv = ["podman", "secret", "inspect", "--showsecret", "--format={{.SecretData}}", "db_password"]
        assert new.in_stack("notes", *argv) == secret
        new.sql("INSERT INTO rows VALUES (0)")
        new.web.host.reboot()
        assert 0 in new.numbers(), "it is restored once"
        machine.run(f"echo {machine.gateway.ipv4} objects >>/etc/hosts")
        new.backup()
        print(f"a new machine had its data {took:.0f} s after its secrets were set")
