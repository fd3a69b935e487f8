"""Backups as values: where they go, what the host is told, what restic means, whose locks are whose."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

import pytest

from builder import facts, host, spec
from builder.problems import SpecError
from builder.server.remote import common
from builder.server.remote.backup import backup, backup_progress, dumps, restic
from builder.server.remote.backup.restic_errors import Done, explain
from builder.spec.model import Backup, Keep
from builder.stack.model import StackBackup
from tests.unit.test_spec import HEAD

_STACK = 'stacks: [{name: blog, image: "docker.io/library/caddy:2.11", domain: blog.your-domain.org, port: 8080%s}]\n'


def load(backup_text: str, stack_text: str = "") -> spec.Spec:
    return spec.loads(HEAD + backup_text + _STACK % stack_text, Path("easyrunner.yaml"))[0]


@pytest.mark.parametrize(
    ("to", "repository", "secrets", "optional"),
    [
        (
            "s3:https://s3.your-domain.org:9000/backups/web1",
            "s3:https://s3.your-domain.org:9000/backups/web1",
            ("s3-access-key", "s3-secret-key"),
            (),
        ),
        ("s3://backups/web1", "s3:s3.amazonaws.com/backups/web1", (), ("s3-access-key", "s3-secret-key")),
        ("sftp:me@nas.your-domain.org:/srv/web1", "sftp:me@nas.your-domain.org:/srv/web1", ("sftp-key",), ()),
        ("sftp://me@[2001:db8::7]:2222/srv/web1", "sftp://me@[2001:db8::7]:2222/srv/web1", ("sftp-key",), ()),
        (
            "rest:https://backup.your-domain.org/web1/",
            "rest:https://backup.your-domain.org/web1/",
            (),
            ("rest-username", "rest-password"),
        ),
        ("/mnt/backup/", "/mnt/backup", (), ()),
    ],
)
def test_where_backups_go(to: str, repository: str, secrets: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """As restic writes it, and with which secrets."""
    found = load(f'backup: {{to: "{to}"}}\n').backup
    assert found is not None
    assert found.repository == repository
    assert found.secrets == ("restic-password", *secrets)
    assert found.optional_secrets == optional


@pytest.mark.parametrize(
    "to",
    [
        "s3:https://s3.your-domain.org", "s3:s3.your-domain.org/backups", "s3://", "sftp:nas:/srv", "sftp:me@nas:srv",
        "sftp:-oProxyCommand=x@nas:/srv", "b2:bucket", "rclone:x:y", "mnt/backup", "/mnt/../var/lib/easyrunner/data",
        "/var/lib/easyrunner/data", "/tmp/x", "/mnt/two words", "/mnt/$HOME",
    ],
)  # fmt: skip
def test_what_is_no_place(to: str) -> None:
    with pytest.raises(SpecError, match=r"backup\.to"):
        load(f"backup: {{to: {json.dumps(to)}}}\n")


def test_defaults_and_values() -> None:
    assert load("backup: {to: /mnt/backup}\n").backup == Backup("/mnt/backup")
    found = load('backup: {to: /mnt/backup, at: "23:05", keep: {daily: 30}, bandwidth: 2.5}\n').backup
    assert found == Backup("/mnt/backup", "23:05", Keep(30, 4, 6), 2.5)
    appends = load("backup: {to: /mnt/backup, append_only: true}\n").backup
    assert appends is not None
    assert appends.keep is None


def test_what_the_host_is_told() -> None:
    """One file, the unit and its timer, and only on a host that is backed up."""
    made = load('backup: {to: /mnt/backup, at: "23:05"}\n', ", backup: {before: {web: [dump, it]}, stop: true}")
    assert made.stacks[0].backup == StackBackup((("web", ("dump", "it")),), stop=True)
    files = {file.path: file.content.decode() for file in host.build(made).files}
    told = json.loads(files[facts.BACKUP])
    assert told["stacks"] == {"blog": {"before": {"web": ["dump", "it"]}, "stop": True, "exclude": []}}
    assert told["keep"] == {"daily": 7, "weekly": 4, "monthly": 6}
    assert "OnCalendar=23:05\n" in files["/etc/systemd/system/easyrunner-backup.timer"]
    assert f"ConditionPathExists={facts.REMOTE_CODE}\n" in files["/etc/systemd/system/easyrunner-backup.service"]
    assert "restic-password" in files["/etc/systemd/system/er-first-boot.service.d/40-backup.conf"]
    without = {file.path for file in host.build(load("")).files}
    assert {path for path in files if "backup" in path or "easyrunner-drill" in path} == {*files} - without
    left_out = host.build(load("backup: {to: /mnt/backup}\n", ", backup: false")).files
    told = json.loads(next(file.content for file in left_out if file.path == facts.BACKUP))
    assert told["stacks"] == {"blog": False}


_OLD: Final = "Is there a repository at the following location?"
# What restic 0.14 and 0.18 have said, with their exit codes.
_SAID = [
    ("password", 1, "Fatal: wrong password or no key found"),
    ("password", 12, "Fatal: wrong password or no key found"),
    ("missing", 10, "Fatal: repository does not exist: unable to open config file: stat /x/config: no such file"),
    (
        "missing",
        1,
        f"Fatal: unable to open config file: stat /x/config: no such file or directory\n{_OLD}\n/x",
    ),
    (
        "refused",
        1,
        f"Fatal: unable to open config file: Stat: Access Denied.\n{_OLD}\ns3:x",
    ),
    ("locked", 11, "Fatal: unable to create lock in backend: repository is already locked by PID 7 on web1 by root"),
    ("full", 1, "Fatal: unable to save snapshot: no space left on device"),
    ("host key", 1, "subprocess ssh: Host key verification failed.\nFatal: unable to open repository at sftp:x: EOF"),
    ("refused", 1, "subprocess ssh: me@nas: Permission denied (publickey).\nFatal: unable to open repository: EOF"),
    (
        "unreachable",
        -9,
        "Stat(<config/0>) returned error, retrying after 5s: dial tcp 10.0.0.1:9000: connect: refused",
    ),
    ("", 1, "panic: something else"),
]


@pytest.mark.parametrize(("kind", "code", "said"), _SAID)
def test_what_restic_means(kind: str, code: int, said: str) -> None:
    """Never `missing`, after which a repository would be made, for one that is there and does not answer."""
    error = explain(Done(code, "", said), "/x")
    assert error.kind == kind
    assert bool(error.hint) == bool(kind)


def test_what_ssh_said_after_restic_had_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restic passes on its words when it gets to that before its own end."""
    monkeypatch.setattr(restic, "_ssh_says", lambda: "Host key verification failed.\n")
    said = "Fatal: unable to open repository at sftp:x: unexpected EOF"
    assert restic._explained(Done(1, "", said), "sftp:me@nas:/srv").kind == "host key"
    assert restic._explained(Done(1, "", said), "/srv").kind == ""
    monkeypatch.setattr(restic, "_ssh_says", lambda: "")
    assert "unexpected EOF" in str(restic._explained(Done(1, "", said), "sftp:me@nas:/srv"))


def test_files_that_cannot_be_read() -> None:
    """One that has gone since it was listed is none."""
    gone = '{"message_type":"error","error":{"message":"lstat /x/y: no such file or directory"},"item":"/x/y"}'
    lost = '{"message_type":"error","error":{"message":"read /x/z: input/output error"},"item":"/x/z"}'
    last = "Warning: at least one source file could not be read"
    assert backup.unreadable(f"{gone}\n{last}\n") == []
    (found,) = backup.unreadable(f"{gone}\n{lost}\n{last}\n")
    assert found.startswith("1 files could not be read, as in: ")
    assert "/x/z" in found


_NOW = 1_000_000.0
_BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
_MINE = os.uname().nodename


@pytest.mark.parametrize(
    ("hostname", "age", "note", "alive", "gone"),
    [
        (_MINE, 60, {"boot": _BOOT, "since": _NOW - 61}, True, False),  # it runs
        (_MINE, 60, {"boot": _BOOT, "since": _NOW - 61}, False, True),  # it was killed
        (_MINE, 60, {"boot": "another", "since": _NOW - 61}, True, True),  # the power went, the number is another's
        (_MINE, 60, None, False, False),  # another machine of this name
        (_MINE, 600, {"boot": "another", "since": _NOW - 60}, False, False),  # that one, with a number of ours
        ("other", 60, {"boot": "another", "since": _NOW - 61}, False, False),  # another machine
        ("other", 1900, None, False, True),  # which has not been seen for long
    ],
)
def test_whose_lock_it_is(hostname: str, age: float, note: dict[str, object] | None, alive: bool, gone: bool) -> None:
    lock = {"hostname": hostname, "time": _NOW - age, "pid": 7}
    assert restic.is_gone(lock, _NOW, note, alive=alive) is gone


def test_the_ssh_of_a_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(restic, "DIRECTORY", tmp_path / "kept")
    monkeypatch.setattr(restic, "_RUN", tmp_path / "run")
    (tmp_path / "kept").mkdir()
    told = {"repository": "sftp://me@nas.your-domain.org:2222/srv", "host_key": "ssh-ed25519 AAAA"}
    argv = restic.sftp_command(told)
    assert argv[-7:] == ["-p", "2222", "-l", "me", "nas.your-domain.org", "-s", "sftp"]
    assert "StrictHostKeyChecking=yes" in argv
    assert (tmp_path / "run/known_hosts").read_text() == "[nas.your-domain.org]:2222 ssh-ed25519 AAAA\n"
    argv = restic.sftp_command({"repository": "sftp:me@nas:/srv", "host_key": None})
    assert argv[-7:] == ["-p", "22", "-l", "me", "nas", "-s", "sftp"]
    assert f"UserKnownHostsFile={tmp_path}/kept/known_hosts" in argv


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("docker.io/library/postgres:17", "postgres"),
        ("docker.io/pgvector/pgvector:pg17", "postgres"),
        ("docker.io/library/mariadb@sha256:abc", "mariadb"),
        ("registry.your-domain.org:5000/mysql", "mysql"),
        ("docker.io/prodrigestivill/postgres-backup-local:17", None),
        ("docker.io/library/redis:8", None),
    ],
)
def test_databases_are_known_by_their_images(image: str, kind: str | None) -> None:
    found = dumps.of_image(image)
    assert (found.kind if found else None) == kind
    assert found is None or dumps.of_kind(found.kind) is found


def test_a_time_with_nanoseconds() -> None:
    assert time.gmtime(restic._seconds("2026-11-30T03:26:50.140340487+01:00"))[3] == 2


def test_a_servers_role_may_open_its_bucket_and_no_other_path() -> None:
    """On AWS, where no keys are needed; of a host that only appends, nothing but restic's locks may be removed."""
    policy = spec.role_policy(load('backup: {to: "s3://backups/web1"}\n'))
    assert policy is not None
    found = {one["Sid"]: one for one in policy["Statement"]}
    assert found["Store"]["Resource"] == found["Remove"]["Resource"] == "arn:aws:s3:::backups/web1/*"
    assert found["List"]["Condition"] == {"StringLike": {"s3:prefix": ["web1/*"]}}
    appends = spec.role_policy(load('backup: {to: "s3://backups/web1", append_only: true}\n'))
    assert appends is not None
    assert appends["Statement"][-1]["Resource"] == "arn:aws:s3:::backups/web1/locks/*"
    whole = spec.role_policy(load('backup: {to: "s3://backups"}\n'))
    assert whole is not None
    assert "Condition" not in whole["Statement"][1]
    assert spec.role_policy(load("backup: {to: /mnt/backup}\n")) is None


@pytest.mark.parametrize(
    ("phase", "states", "joined"),
    [
        ("blog: files", ["activating"], True),
        ("failed", ["activating", "deactivating", "failed"], False),
        ("done", ["activating", "inactive"], False),
        ("done", ["inactive"], False),
    ],
)
def test_a_run_that_has_said_its_end_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, states: list[str], joined: bool
) -> None:
    """Its unit is waited for: started while it is about to end, it would not start anew."""
    monkeypatch.setattr(backup_progress, "_FILE", tmp_path / "run" / "progress.json")
    monkeypatch.setattr(common, "show", lambda *_: {"ActiveState": states.pop(0)})
    backup_progress.say(phase)
    assert backup_progress.joins() is joined
    assert not states
