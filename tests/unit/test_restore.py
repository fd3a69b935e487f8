"""A restore's switch, cut at each step; what it makes of paths, snapshots and units; what a drill looks at first."""

from __future__ import annotations

import io
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from builder import facts, files
from builder import host as hosts
from builder import spec as specs
from builder.cli.app import app
from builder.server import restore as near
from builder.server.remote import service_container as containers
from builder.server.remote import session
from builder.server.remote.backup import drill, dump_load, dumps, restored_data, restored_databases, snapshot_files
from builder.server.remote.backup.restored_data import ALL, Beside, Ids
from builder.server.remote.common import RemoteError
from tests.unit_file import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Cut(BaseException):
    """The power is gone."""


OLD = {"volumes/v/_data/rows": "old", "volumes/v/_data/gone": "old", "files/a/one": "old", "files/a/two": "old"}
NEW = {"volumes/v/_data/rows": "new", "files/a/one": "new", "files/a/more": "new"}


def lay(top: Path, content: dict[str, str]) -> None:
    for name in ("volumes", "files", "secrets"):
        (top / name).mkdir(parents=True)
    for path, text in content.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)


def found(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    """A stack's data, and the new one beside it, as a restore lays it."""
    made = Beside(tmp_path / "restores/shop", tmp_path / "stacks/shop")
    lay(made.live, OLD)
    made.begin()
    shutil.rmtree(made.tree)
    lay(made.tree, NEW)
    return made


def steps(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Every call that changes names or waits for the disk, counted; before number `at` the power goes."""
    said: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            if len(said) == at:
                raise Cut
            said.append(name)
            return real(*words, **more)

        return call

    monkeypatch.setattr(restored_data, "_rename", counted("rename", restored_data._rename))
    monkeypatch.setattr(os, "fsync", counted("fsync", os.fsync))
    monkeypatch.setattr(files, "replace", counted("record", files.replace))
    return said


def whole_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, forward: bool) -> Iterator[Beside]:
    """The same restore, or its way back, cut before each of its steps in turn."""
    for at in range(20):
        place = tmp_path / str(at)
        made = Beside(place / "restores/shop", place / "stacks/shop")
        lay(made.live, OLD)
        made.begin()
        shutil.rmtree(made.tree)
        lay(made.tree, NEW)
        if not forward:
            made.note([ALL])
            made.switch(forward=True)
        with monkeypatch.context() as patched:
            steps(patched, at)
            try:
                if forward:
                    made.note([ALL])
                made.switch(forward=forward)
            except Cut:
                pass
            else:
                assert at > 2, "nothing was counted"
                return
        yield made


@pytest.mark.parametrize("forward", [True, False])
def test_a_cut_at_any_step_leaves_the_old_or_the_new_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forward: bool
) -> None:
    """And the next one finds out which, finishes it, or takes it back."""
    seen = set()
    for made in whole_cuts(tmp_path, monkeypatch, forward=forward):
        now = found(made.live)
        assert now in (OLD, NEW), now
        assert found(made.tree) == (NEW if now == OLD else OLD)
        seen.add(str(now))
        if made.record() is None:
            assert now == OLD
            continue
        assert made.is_switched() == (now == NEW)
        made.switch(forward=True)
        assert found(made.live) == NEW
        made.switch(forward=True)
        assert found(made.live) == NEW
        made.switch(forward=False)
        assert found(made.live) == OLD
    assert len(seen) == 2


def test_some_paths_change_places_and_nothing_else(beside: Beside) -> None:
    beside.note(["files/a/one", "files/a/more", "volumes/v"])
    beside.switch(forward=True)
    assert beside.is_switched()
    kept = {"files/a/two": "old", "files/a/one": "new", "files/a/more": "new", "volumes/v/_data/rows": "new"}
    assert found(beside.live) == kept
    (beside.live / "files/a/one").unlink()
    (beside.live / "files/a/one").write_text("written since")
    assert beside.is_switched(), "what the app writes afterwards is no cut"
    beside.switch(forward=False)
    assert found(beside.live) == OLD


def test_half_of_the_paths_is_told_and_can_be_taken_back(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    beside.note(["files/a/one", "volumes/v"])
    with monkeypatch.context() as patched:
        steps(patched, 3)
        with pytest.raises(Cut):
            beside.switch(forward=True)
    assert beside.is_begun()
    assert not beside.is_switched()
    beside.switch(forward=False)
    assert found(beside.live) == OLD


def test_where_a_directory_is_gone_it_comes_back_whole(beside: Beside) -> None:
    shutil.rmtree(beside.live / "files/a")
    assert beside.place_of("files/a/one") == "files/a"
    assert beside.place_of("volumes/v/_data/rows") == "volumes/v/_data/rows"
    beside.note(["files/a"])
    beside.switch(forward=True)
    assert found(beside.live)["files/a/one"] == "new"
    beside.switch(forward=False)
    assert not (beside.live / "files/a").exists()


def test_volumes_that_no_snapshot_has_go_on(beside: Beside) -> None:
    """Left out of backups, or newer; and images that came without a registry."""
    lay(beside.live / "volumes/left_out", {"_data/cache": "kept"})
    beside.note([ALL])
    beside.switch(forward=True)
    assert (beside.live / "volumes/left_out/_data/cache").read_text() == "kept"
    beside.switch(forward=False)
    assert found(beside.live) == {**OLD, "volumes/left_out/_data/cache": "kept"}


def test_a_cut_before_those_have_moved_is_made_good(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(beside.live / "volumes/left_out", {"_data/cache": "kept"})
    beside.note([ALL])
    with monkeypatch.context() as patched:
        steps(patched, 3)
        with pytest.raises(Cut):
            beside.switch(forward=True)
    assert found(beside.live) == NEW
    beside.switch(forward=True)
    assert found(beside.live) == {**NEW, "volumes/left_out/_data/cache": "kept"}


def test_no_link_of_the_stack_leads_root_elsewhere(beside: Beside, tmp_path: Path) -> None:
    elsewhere = tmp_path / "etc"
    lay(elsewhere, {"one": "root's"})
    shutil.rmtree(beside.live / "files/a")
    (beside.live / "files/a").symlink_to(elsewhere)
    assert beside.place_of("files/a/one") == "files/a", "the link itself is what is exchanged"
    beside.note(["files/a/one"])
    with pytest.raises(NotADirectoryError):
        beside.switch(forward=True)
    assert found(elsewhere) == {"one": "root's"}
    with pytest.raises(NotADirectoryError):
        restored_data.read_json(beside.live, "files/a/one")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_owners_are_those_of_the_stack_here_and_never_roots(tmp_path: Path) -> None:
    old, own = Ids.of_uid(20_100), Ids.of_uid(20_200)
    assert own.first == 200 * facts.SUBID_SIZE
    lay(tmp_path, {"files/own": "", "files/app": "", "files/root": ""})
    (tmp_path / "files/link").symlink_to("/etc/passwd")
    for name, number in (("own", old.uid), ("app", old.first + 998), ("root", 0), ("link", old.first)):
        os.chown(tmp_path / "files" / name, number, number, follow_symlinks=False)
    (tmp_path / "files/app").chmod(0o4755)
    before = Path("/etc/passwd").stat()
    restored_data.set_owners(tmp_path, own, old)
    owners = {path.name: path.lstat().st_uid for path in (tmp_path / "files").iterdir()}
    assert owners == {"own": own.uid, "app": own.first + 998, "root": own.uid, "link": own.first}
    assert (tmp_path / "files/app").stat().st_mode & 0o7777 == 0o4755
    assert Path("/etc/passwd").stat() == before


# Words of the user's.


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("volumes/shop_rows", "volumes/shop_rows"),
        ("volumes/shop_rows/a/b", "volumes/shop_rows/_data/a/b"),
        ("volumes/shop_rows/_data/a", "volumes/shop_rows/_data/a"),
        ("./files//uploads/", "files/uploads"),
    ],
)
def test_paths_below_the_data(path: str, expected: str) -> None:
    assert restored_data.checked(path) == expected


@pytest.mark.parametrize("path", ["", "files/../../../etc/passwd", "/etc/passwd", "images/x", "../x", "."])
def test_paths_that_are_nothing_of_the_data(path: str) -> None:
    with pytest.raises(RemoteError, match="is nothing of a stack's data"):
        restored_data.checked(path)


def test_which_snapshot_is_meant() -> None:
    every = [{"id": name * 8, "at": at} for name, at in (("aa11", 100.0), ("aa22", 200.0), ("bb33", 300.0))]
    assert snapshot_files.choose(every, "shop", "") == every[2]
    assert snapshot_files.choose(every, "shop", "@299") == every[1]
    assert snapshot_files.choose(every, "shop", "aa22") == every[1]
    for at, said in (("aa", "several snapshots"), ("cc", "no snapshot"), ("@99", "no snapshot of shop that is as old")):
        with pytest.raises(RemoteError, match=said):
            snapshot_files.choose(every, "shop", at)
    with pytest.raises(RemoteError, match="there is no snapshot of shop"):
        snapshot_files.choose([], "shop", "")


def test_times_are_this_machines_and_a_day_is_meant_to_its_end() -> None:
    assert near.snapshot_at("dc5e2dc1") == "dc5e2dc1"
    noon = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))
    assert near.snapshot_at("2026-11-30 12:00") == f"@{noon + 59:.0f}"
    assert near.snapshot_at("2026-11-30T12:00:00") == f"@{noon:.0f}"
    assert near.snapshot_at("2026-11-30") == f"@{noon + 43_199:.0f}"
    for text in ("yesterday", "dc5", "DC5E2DC1", "2026-13-40"):
        with pytest.raises(ValueError, match=text):
            near.snapshot_at(text)


# Units, and what is loaded into which.

_LINE = (
    "/usr/bin/podman run --name db --cidfile=%t/%N.cid --replace --rm --cgroups=split --pull missing "
    "--tmpfs /tmp:rw,noexec --network shop_inside:${ER_ADDRESS0} --sdnotify=conmon -d --cap-drop mknod "
    '-v shop_rows:/var/lib/postgresql/data --volume "/etc/easyrunner/stacks/shop/my conf:/conf:ro" '
    "-v /var/lib/easyrunner/data/stacks/shop/files/x:/x:rw --env 'A=b \\x41$$c' --secret pw,type=mount "
    "--secret key,type=env,target=KEY --health-cmd x example.org/db:1 postgres -c a=b"
)


def test_a_container_is_made_as_its_unit_says_without_what_is_the_units() -> None:
    assert containers.split(_LINE) == split(_LINE)
    words = [session.expanded(word, []) for word in containers.split(_LINE)]
    made = containers.parsed(words, "example.org/db:1")
    assert made.options == ["--tmpfs", "/tmp:rw,noexec", "--cap-drop", "mknod", "--env", "A=b A$c"]
    assert made.mounts[0] == "shop_rows:/var/lib/postgresql/data"
    assert made.secrets == [
        containers.Secret("pw", "", "/run/secrets/pw"),
        containers.Secret("key", "KEY", ""),
    ]
    assert made.command == ["postgres", "-c", "a=b"]
    first = [f"/first:/docker-entrypoint-initdb.d{rest}" for rest in ("", "/10.sql:ro")]
    words = dump_load.run_words(made, ["/here:/x", *first], ["/given/0:/run/secrets/pw:ro"], {"TRUST": "1"})
    for option in ("--network=none", "--cgroups=disabled", "--env=KEY", "--env=TRUST=1", "--volume=/here:/x"):
        assert option in words
    assert not [word for word in words if "shop_rows" in word or "shop_inside" in word or "/first" in word]
    assert "--tmpfs=/docker-entrypoint-initdb.d" in words, "an image's own scripts are not run either"


def test_no_secret_stands_in_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of variables are in a file that systemd reads as root, those of files are mounted; both go afterwards."""
    said: list[str] = []
    read: list[str] = []

    def run(argv: list[str], *_: object) -> None:
        said.extend(argv)
        read.extend(path.read_text() for path in sorted((tmp_path / "load").glob("*/*")))

    monkeypatch.setattr(facts, "RUN", str(tmp_path))
    monkeypatch.setattr(dump_load, "_run", run)
    postgres = dumps.of_kind("postgres")
    assert postgres is not None
    made = containers.parsed([session.expanded(word, []) for word in containers.split(_LINE)], "example.org/db:1")
    account = dump_load.Account(os.getuid(), os.getgid(), (), {})
    values = {"pw": b"hid den-1", "key": b'hid"den-2'}
    dump_load.load(account, made, postgres, io.BytesIO(), mounts=[], values=values, name="db", seconds=9)
    assert not [word for word in said if "den-" in word]
    assert read[0] == "hid den-1"
    assert 'KEY="hid\\"den-2"' in read[1]
    assert [*(tmp_path / "load").iterdir()] == []


def test_secrets_are_read_from_podmans_files_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "filedriver").mkdir()
    (tmp_path / "secrets.json").write_text('{"secrets": {"i1": {"name": "pw"}}, "nameToID": {"pw": "i1"}}')
    (tmp_path / "filedriver/secretsdata.json").write_text('{"i1": "cGFzcw==", "i2": "eA=="}')
    assert containers.stored(tmp_path) == {"pw": b"pass"}
    (tmp_path / "filedriver").rename(tmp_path / "moved")
    (tmp_path / "filedriver").symlink_to("moved")
    assert containers.stored(tmp_path) == {}
    assert containers.stored(tmp_path / "nowhere") == {}


def test_the_place_of_a_database_is_known_by_where_it_is_mounted(beside: Beside) -> None:
    words = [session.expanded(word, []) for word in containers.split(_LINE)]
    made = containers.parsed(words, "example.org/db:1")
    place = restored_databases.Place("shop", beside, ())
    own, mounts = restored_databases._mounts(place, made, "/var/lib/postgresql")
    assert own == ["volumes/shop_rows/_data"]
    assert mounts == [
        f"{beside.tree}/volumes/shop_rows/_data:/var/lib/postgresql/data",
        "/etc/easyrunner/stacks/shop/my conf:/conf:ro",
    ], "what the snapshot has nothing of is not mounted"
    some = place._replace(paths=["files/uploads"])
    assert restored_databases._mounts(some, made, "/var/lib/postgresql")[0] == []
    with pytest.raises(RemoteError, match="restored whole"):
        restored_databases._mounts(place._replace(paths=["volumes/shop_rows/_data/base"]), made, "/var/lib/postgresql")


def test_what_a_load_says_is_judged_by_what_is_no_harm() -> None:
    postgres = dumps.of_kind("postgres")
    assert postgres is not None
    said = 'NOTICE:  x\nERROR:  role "shop" already exists\nERROR:  database "shop" already exists\n'
    assert dump_load.wrong_lines(said, postgres) == []
    assert dump_load.wrong_lines(f'{said}ERROR:  syntax error at or near "tabel"\n', postgres) == [
        'ERROR:  syntax error at or near "tabel"'
    ]
    mysql = dumps.of_kind("mysql")
    assert mysql is not None
    assert dump_load.wrong_lines("ERROR 1064 (42000) at line 1: You have an error\n", mysql)


# The drill.


def test_what_a_drill_lacks_is_said_in_words() -> None:

    def lacks(size: int, *, memory: int = 1 << 30, rate: float = 4 << 20) -> str:
        return drill.lacks(size, free=10 << 30, memory=memory, seconds=3600.0, rate=rate)

    assert lacks(1 << 30) == ""
    assert lacks(10 << 30) == "the snapshot has 10,240 MiB, and 10,240 are free beside what runs"
    assert "of the memory 100 MiB are free" in lacks(1, memory=100 << 20)
    assert lacks(9 << 30, rate=1 << 20) == "it would take 2.6 hours, and 1.0 are left"


def test_all_of_a_repository_is_read_in_turn() -> None:
    assert drill.share_of(1 << 30, 5) == "all"
    weeks = {drill.share_of((5 << 30) - 1, week) for week in range(10)}
    assert weeks == {f"{number}/5" for number in range(1, 6)}


_SUMMARY = '{"message_type":"summary","total_files":18,"files_restored":17}'
_NULL = '{"message_type":"error","error":{"message":"mknod /a/null: operation not permitted"},"item":"/a/null"}'
_TORN = '{"message_type":"error","error":{"message":"ciphertext verification failed"},"item":"/a/b\\u001b[2J"}'
_OLD = "ignoring error for /a/b: ciphertext verification failed"


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (0, [_SUMMARY], ([], 17)),
        (1, [_NULL, _SUMMARY], ([], 17)),
        (1, [_TORN, _SUMMARY], (["b[2J: ciphertext verification failed"], 17)),
        (1, [_OLD, _SUMMARY, "Fatal: There were 1 errors"], (["b: ciphertext verification failed"], 17)),
        (1, [_SUMMARY, "Fatal: There were 1 errors"], ([], None)),
        (12, ['{"message_type":"exit_error","code":12,"message":"Fatal: wrong password"}'], ([], None)),
    ],
    ids=["whole", "what only root can make", "torn", "restic 0.16", "not said what", "no key"],
)
def test_what_restic_says_of_a_restore(code: int, said: list[str], expected: tuple[list[str], int | None]) -> None:
    assert drill.judged(code, "\n".join(said)) == expected


def test_credentials_are_quoted_for_systemd() -> None:
    assert dump_load._quoted('a"b\\c$d`e') == '"a\\"b\\\\c\\$d\\`e"'


# A new machine.


def _spec(tmp_path: Path, more: str) -> Path:
    file = tmp_path / "easyrunner.yaml"
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP3sSO1Ey5BPMvmHrC2GZ7xVnI1AE4z2ao4Bh7YQ1rJb me"
    server = f'server: {{name: web1, base: debian-13, arch: amd64}}\nadmin: {{name: er, ssh_keys: ["{key}"]}}\n'
    stacks = "stacks:\n  - {name: shop, image: example.org/shop:1, domain: shop.example.com, port: 3000}\n"
    file.write_text(f"{server}{more}{stacks}")
    return file


_BACKUP = "backup: {to: 's3:https://s3.example.com/bucket/web1'}\n"
_UNIT = facts.FIRST_RESTORE


def test_a_new_machine_waits_for_its_data_and_no_other_does(tmp_path: Path) -> None:
    """It names each secret that it waits for; and nothing is backed up before."""
    spec, _ = specs.load(_spec(tmp_path, _BACKUP))
    assert spec.backup is not None
    usual = {file.path: file.content.decode() for file in hosts.build(spec).files}
    new = {
        file.path: file.content.decode()
        for file in hosts.build(replace(spec, backup=replace(spec.backup, restores=True))).files
    }
    waits = "/etc/systemd/system/er-first-boot.service.d/50-restore.conf"
    assert new.keys() - usual.keys() == {_UNIT, waits}
    assert "for n in restic-password s3-access-key s3-secret-key;" in new[_UNIT]
    assert "Requires=easyrunner-restore.service" in new[waits]
    changed = {path for path in usual if usual[path] != new[path]}
    assert changed == {"/etc/systemd/system/easyrunner-backup.service"}
    assert f"ConditionPathExists={facts.RESTORED}" in new[changed.pop()]


def test_user_data_of_a_new_machine(tmp_path: Path) -> None:
    run = CliRunner().invoke
    words = ["--for", "nocloud", "--on", "stock", "--restore"]
    made = run(app, ["user-data", str(_spec(tmp_path, _BACKUP)), *words])
    assert made.exit_code == 0, made.stderr
    assert _UNIT in made.stdout
    # Of a baked image, whose first boot systemd has planned already.
    assert "systemctl --no-block stop er-first-boot" in yaml.safe_load(made.stdout)["bootcmd"][1]
    refused = run(app, ["user-data", str(_spec(tmp_path, "")), *words])
    assert refused.exit_code == 1
    assert "the spec has no backup, so there is nothing to restore from" in refused.stderr
