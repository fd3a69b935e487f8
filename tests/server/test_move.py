"""`er server move` with two booted hosts: a writer writes all the time, and whatever is cut, no row is lost or doubled.

The tests are steps of one story: what is refused, what is cut, then the move itself, and the way back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from builder.polling import until
from tests import forked_er
from tests.machine import hosts
from tests.server.conftest import client
from tests.sweeps import WHOLE, of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.hosts import Host
    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

DATA: Final = "/var/lib/easyrunner/data"
ROWS: Final = f"{DATA}/stacks/ledger/volumes/ledger_rows/_data"
SITES: Final = ("ledger.example.com", "notes.example.com", "hello.example.com")
ROOT: Final = Path(__file__).parents[2]


@dataclass
class Pair:
    """Two hosts of one spec, and the ssh that knows them by name."""

    old: Host
    new: Host
    env: dict[str, str]

    def start(self, *words: object) -> subprocess.Popen[str]:
        """`er server …`, of less patience."""
        argv = [sys.executable, "-m", "tests.server.quick_move", "server", *map(str, words)]
        out = subprocess.PIPE
        return subprocess.Popen(
            argv, env=self.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True
        )

    def er(self, *words: object, module: str = "tests.server.quick_move") -> subprocess.CompletedProcess[str]:
        """The same to the end, unless it is `builder.cli` itself."""
        return forked_er.run(["server", *map(str, words)], env=self.env, cwd=ROOT, timeout=900, module=module)

    def forget(self) -> None:
        """The new host, which is held, is one that nobody has moved anything to."""
        script = """cd /var/lib/easyrunner/move; rm -f state.json held; cd /etc/systemd/system
            systemctl start $(ls -d user@2*.service.d user@3*.service.d user@4*.service.d | sed 's/.d$//')"""
        self.new.machine.run(["bash", "-c", script])

    def move(self, *words: object) -> subprocess.CompletedProcess[str]:
        """From the old to the new one."""
        return self.er("move", "old", "new", "--yes", *words)


@pytest.fixture(scope="module")
def pair(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    tmp = tmp_path_factory.mktemp("move")
    directories = [tmp / name for name in ("old", "new")]
    for directory in directories:
        directory.mkdir()
    old, new = (hosts.booted("travels", directory, start=False) for directory in directories)
    with old as first, new as second:
        found = Pair(first, second, _admin(tmp, first, second).env)
        for host in (first, second):
            host.machine.boot()
        for host in (first, second):
            # Not ready: a secret is missing.
            until(lambda host=host: _status(host) == "200", timeout=120, what="a server")  # type: ignore[misc]
        assert found.er("secret", "generate", "old", "ledger").returncode == 0
        until(lambda: len(_rows(first)) > 20, timeout=60, what="rows")
        yield found


def _admin(tmp: Path, *machines: Host) -> Client:
    """An ssh that knows both by their names."""
    clients = [client(host, host.key.parents[1], sharing=False) for host in machines]
    config = tmp / "config"
    texts = [(one.directory / "config").read_text() for one in clients]
    config.write_text(
        "".join(text.replace("Host web", f"Host {name}") for text, name in zip(texts, ("old", "new"), strict=True))
    )
    ssh = clients[0].directory / "ssh"
    ssh.write_text(ssh.read_text().replace(str(clients[0].directory / "config"), str(config)))
    return clients[0]


def _rows(host: Host, where: str = ROWS) -> list[tuple[int, float]]:
    """Number and time of each row; the clock is the same on both hosts, as it is the kernel's."""
    file = host.machine.files.path(f"{where}/log")
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(number), float(when)) for number, when in (line.split() for line in lines if line.count(" ") == 1)]


def _serves(host: Host) -> bool:
    """Whether visitors are answered at all its sites, and the writer writes."""
    before = len(_rows(host))
    time.sleep(0.3)
    return all(_status(host, site) == "200" for site in SITES) and len(_rows(host)) > before


def _status(host: Host, site: str = SITES[-1]) -> str:
    """As who does not look at the certificate asks; 000 where there is no answer."""
    argv = ["curl", "-sk", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*"]
    argv += ["--resolve", f"{site}:443:{host.machine.ipv4}", f"https://{site}/"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def _is_silent(host: Host) -> bool:
    """Whether nobody is answered, and nothing of a stack or of the proxy runs."""
    running = host.machine.run("pgrep -c -u er-proxy,er-ledger,er-notes,er-hello || true").stdout.strip()
    return running == "0" and _status(host) == "000"


def _check_rows(*logs: list[tuple[int, float]]) -> None:
    """Each is whole, and of rows that are not the same none was written while another host wrote."""
    for rows in logs:
        assert [number for number, _ in rows] == list(range(1, len(rows) + 1)), "a row is lost, or there twice"
    first, second = logs
    common = sum(1 for one, other in zip(first, second, strict=False) if one == other)
    ours, theirs = [when for _, when in first[common:]], [when for _, when in second[common:]]
    for when in theirs:
        around = [other for other in ours if abs(other - when) < 0.1]
        assert not around, f"both wrote at {when}"


# What is refused.


@contextmanager
def _changed(host: Host, do: str, undo: str) -> Iterator[None]:
    host.machine.run(["sh", "-ec", do])
    try:
        yield
    finally:
        host.machine.run(["sh", "-ec", undo])


def test_hosts_that_are_not_of_one_spec(pair: Pair) -> None:
    """All that differs is told at once, and nothing is begun."""
    stacks = "/etc/easyrunner/stacks"
    other = f"sed -i.was s/:6/:7/ {stacks}/notes/subids; mv {stacks}/hello /root/hello"
    with _changed(pair.new, other, f"mv {stacks}/notes/subids.was {stacks}/notes/subids; mv /root/hello {stacks}/"):
        done = pair.move()
    assert done.returncode == 1
    assert "new has no stack hello" in done.stderr
    assert "the stack notes has other ids" in done.stderr
    assert "er server apply new SPEC" in done.stderr
    assert "uid:" in done.stderr
    assert not pair.new.machine.files.path(f"{DATA}/.incoming").exists()


@of_a_sweep
def test_one_host(pair: Pair) -> None:
    assert pair.er("move", "old", "old", "--yes").stderr.startswith("error: old and old are one server")


def test_data_of_the_new_hosts_own(pair: Pair) -> None:
    """What was written later than a first start writes is somebody's."""
    file = f"{DATA}/stacks/notes/files/uploads/kept"
    with _changed(pair.new, f"touch -d '+2 hours' {file}", f"rm {file}"):
        done = pair.move()
    assert done.returncode == 1
    assert "new has data of its own: notes, 0 bytes, and it was written after the first start" in done.stderr
    assert "--replace-data" in done.stderr


@of_a_sweep
def test_a_disk_that_is_too_small(pair: Pair) -> None:
    """Known before anything stops, on a file system of 8 MB for 20 MB."""
    managers = "$(systemctl list-units --no-legend --plain 'user@[2-9]????.service' | cut -d' ' -f1)"
    small = f"""users="{managers}"; echo "$users" >/run/users; systemctl stop $users
        mount -t tmpfs -o size=8m small /mnt; cp -a {DATA}/. /mnt; mount --bind /mnt {DATA}; umount -l /mnt
        systemctl start $users"""
    large = f"systemctl stop $(cat /run/users); umount {DATA}; systemctl start $(cat /run/users)"
    with (
        _changed(pair.old, f"head -c 20000000 /dev/urandom >{ROWS}/large", f"rm {ROWS}/large"),
        _changed(pair.new, small, large),
    ):
        done = pair.move()
        assert done.returncode == 1
        assert "new has room for" in done.stderr
        assert "give it a larger disk" in done.stderr
        assert _serves(pair.old)
        assert pair.er("move", "old", "new", "--back", "--yes").returncode == 0
    until(lambda: _status(pair.new) == "200", timeout=60, what="the new server as it was")


# What is cut.

# Where er is ended or the power cut: a phase of one of the hosts.
_PHASES: Final = (
    ("new", "filling"),
    ("old", "stopping"),
    ("old", "stopped"),
    ("new", "quiet"),
    ("new", "switching"),
    ("new", "starting"),
    ("new", "ready"),
)
_INCOMING: Final = f"{DATA}/.incoming/stacks/ledger/volumes/ledger_rows/_data"


def _until_phase(pair: Pair, which: str, phase: str) -> subprocess.Popen[str]:
    """Begin a move; returns it once it is so far."""
    # In a sweep it is not the first one.
    running = pair.start("move", "old", "new", "--yes", "--replace-data")
    state = getattr(pair, which).machine.files.path("/var/lib/easyrunner/move/state.json")

    def is_there() -> bool:
        assert running.poll() is None, running.communicate()
        return state.exists() and f'"phase": "{phase}"' in state.read_text()

    until(is_there, timeout=400, what=phase, longest=0.02)
    return running


def _check_both_are_as_before(pair: Pair) -> None:
    until(lambda: _status(pair.old) == "200", timeout=400, what="the old server")
    until(lambda: _serves(pair.old), timeout=60, what="its writer")
    until(lambda: _status(pair.new) == "200", timeout=400, what="the new server as it was")
    _check_rows(_rows(pair.old), _rows(pair.new, _INCOMING))


@of_a_sweep
@pytest.mark.parametrize(("which", "phase"), [*_PHASES, ("old", "moved")])
def test_er_is_killed(pair: Pair, which: str, phase: str) -> None:
    """By itself the old host serves again, and the new one is what it was.

    Between er's last two words the old one is to stay stopped: nothing runs then, until the same command goes on.
    """
    running = _until_phase(pair, which, phase)
    running.kill()
    running.communicate()
    if phase != "moved":
        _check_both_are_as_before(pair)
        return
    done = pair.move()
    assert done.returncode == 0, done.stderr
    _check_it_has_moved(pair)


_CUTS: Final = [(cut, which, phase) for cut in ("new", "old") for which, phase in _PHASES]


@of_a_sweep
@pytest.mark.parametrize(("cut", "which", "phase"), _CUTS)
def test_the_power_goes(pair: Pair, cut: str, which: str, phase: str) -> None:
    """Of either host. In the end the old one serves, or the move has come to its end."""
    running = _until_phase(pair, which, phase)
    machine = getattr(pair, cut).machine
    machine.cut()
    if cut == "new":
        running.communicate(timeout=900)
        assert running.returncode == 1
        machine.boot()
    else:
        machine.boot()
        running.communicate(timeout=900)
    if running.returncode:
        _check_both_are_as_before(pair)
        return
    _check_it_has_moved(pair)


def _check_it_has_moved(pair: Pair) -> None:
    """And back."""
    until(lambda: _serves(pair.new), timeout=60, what="the new server")
    assert _is_silent(pair.old)
    _check_rows(_rows(pair.old), _rows(pair.new))
    assert pair.er("move", "old", "new", "--back", "--yes").returncode == 0
    pair.forget()


# The move.

_PLANTED: Final = f"""cd {ROWS}
ln -s /etc/shadow shadow; ln -s /etc etc; ln -s ../../../../notes up; ln -s log here
echo one >one; ln one two; mkdir deep; ln one deep/three; chmod 2750 deep; touch "$(printf 'odd \\n\\377')"
truncate -s 40M sparse; echo end >>sparse; mkfifo pipe; chown 2000000:2000001 one; chmod 4711 one
setfattr -n user.er -v tested log 2>/dev/null || python3 -c 'import os; os.setxattr("log", "user.er", b"tested")'
"""
# But for the release that goes there.
_ETC: Final = "find /etc -newer /etc/hostname -type f ! -name 90-release.conf | sort | xargs sha256sum"
_LISTED: Final = f"""import hashlib,os,stat
for top, names, files in os.walk({DATA!r}):
    names[:] = sorted(name for name in names if not name.startswith(".") and name != "fail2ban")
    for name in sorted([*names, *files]):
        path = os.path.join(top, name)
        s = os.lstat(path)
        more = os.readlink(path) if stat.S_ISLNK(s.st_mode) else os.listxattr(path, follow_symlinks=False)
        if stat.S_ISREG(s.st_mode):
            more = s.st_nlink, s.st_mtime_ns, hashlib.sha256(open(path, "rb").read()).hexdigest(), more
        print(ascii((path, s.st_mode, s.st_uid, s.st_gid, more)))
"""


def _listed(host: Host) -> set[str]:
    return {*host.machine.run(["python3", "-c", _LISTED]).stdout.splitlines()}


@pytest.fixture(scope="module")
def moved(pair: Pair) -> tuple[subprocess.CompletedProcess[str], str]:
    """The move, once all has been cut; what er said, and the new host's /etc as it was before."""
    pair.old.machine.run(["sh", "-ec", _PLANTED])
    # A stack of the new host had its directory lead elsewhere.
    pair.new.machine.run(
        ["sh", "-ec", f"cd {DATA}/stacks/notes/files; mv uploads was; ln -s /etc uploads; chown -h er-notes uploads"]
    )
    assert pair.er("ban", "old", "203.0.113.9").returncode == 0
    pushed = pair.er("push", "old", "hello", f"oci-archive:{hosts.IMAGES}/app.tar")
    assert pushed.returncode == 0, pushed.stderr
    etc = pair.new.machine.run(_ETC).stdout
    # Nobody is killed here: with the patience that users have.
    return pair.er("move", "old", "new", "--yes", "--json", "--replace-data", module="builder.cli"), etc


def test_nothing_is_lost_and_nothing_happens_twice(
    pair: Pair, moved: tuple[subprocess.CompletedProcess[str], str]
) -> None:
    done, etc = moved
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["phase"] == "done"
    assert told["gap"] > 0
    assert f"nothing was served for {told['gap']} s" in done.stderr
    assert {record["domain"] for record in told["records"]} == {*SITES}
    assert {record["address"] for record in told["records"]} >= {pair.new.machine.ipv4}
    assert pair.new.machine.ipv4 in told["known_hosts"]
    assert _serves(pair.new)
    assert _is_silent(pair.old)
    old, new = _rows(pair.old), _rows(pair.new)
    assert new[: len(old)] == old
    _check_rows(old, new)
    assert pair.new.machine.path(f"{ROWS}/ends").read_text().splitlines()[-1] == f"end {len(old)}"
    assert pair.new.machine.run(_ETC).stdout == etc


@pytest.mark.usefixtures("moved")
def test_all_of_it_is_there(pair: Pair) -> None:
    """But for what runs on: names, kinds, owners, modes, times, contents, links, names of one file, attributes."""
    changing = ("/ledger_rows/_data/log'", "/caddy/")
    kept = {line for line in _listed(pair.old) if not any(one in line for one in changing)}
    assert kept - _listed(pair.new) == set()
    assert any("shadow" in line for line in kept)
    blocks = pair.new.machine.run(f"stat -c %b {ROWS}/sparse").stdout
    assert int(blocks) < 1000, "holes stay holes"
    assert (
        "tested"
        in pair.new.machine.run(["python3", "-c", f"import os; print(os.getxattr('{ROWS}/log', 'user.er'))"]).stdout
    )
    # It goes on by itself once it serves.
    until(lambda: not list(Path(pair.new.machine.path(DATA)).glob(".[!.]*")), timeout=60, what="the end of the move")


@pytest.mark.usefixtures("moved")
def test_certificates_secrets_and_bans_are_there(pair: Pair) -> None:
    """The same leaf as before: nothing was ordered. The ban is in force, and Fail2Ban knows it."""
    found = [
        {path.name: path.read_bytes() for path in host.machine.path(f"{DATA}/caddy").rglob("*.crt")}
        for host in (pair.old, pair.new)
    ]
    assert found[0]
    assert found[0] == found[1]
    secrets = [
        host.machine.run(f"cat {DATA}/stacks/ledger/secrets/filedriver/secretsdata.json").stdout
        for host in (pair.old, pair.new)
    ]
    assert len(secrets[0]) > 60
    assert secrets[0] == secrets[1]
    until(lambda: "203.0.113.9" in pair.er("fail2ban-status", "new").stdout or None, timeout=20, what="the ban")
    assert "203.0.113.9" in pair.new.machine.run("ipset list").stdout


@pytest.mark.usefixtures("moved")
def test_an_image_of_no_registry_is_there(pair: Pair) -> None:
    """It runs by the same release as before."""
    (running,) = pair.new.machine.run("podman ps --format {{.Image}}", user="er-hello").stdout.split()
    assert running.startswith("localhost/hello/web:")
    told = [json.loads(pair.er("releases", which, "hello", "--json").stdout) for which in ("old", "new")]
    assert told[0]
    assert told[0] == told[1]


@pytest.mark.usefixtures("moved")
def test_the_old_host_stays_stopped(pair: Pair) -> None:
    """Also after a boot, which is of the sweep; and nobody changes it."""
    if WHOLE:
        pair.old.machine.poweroff()
        pair.old.machine.boot()
        pair.old.machine.wait(pair.old.machine.started, timeout=90, what="the end of start-up")
    assert _is_silent(pair.old)
    for words in (("restart", "old", "hello"), ("secret", "generate", "old", "ledger")):
        done = pair.er(*words)
        assert done.returncode == 1
        assert "this server was moved to another one" in done.stderr
    status = pair.er("status", "old")
    assert "moved to new" in status.stderr
    failed = [
        (one["check"], one["wrong"]) for one in json.loads(pair.er("doctor", "old", "--json").stdout) if not one["ok"]
    ]
    assert failed == [("not held", "this host is held: its data has moved to new")]
    again = pair.move()
    assert again.returncode == 0
    assert "new serves already" in again.stderr
    assert _serves(pair.new)


@pytest.mark.usefixtures("moved")
def test_the_way_back(pair: Pair) -> None:
    rows = len(_rows(pair.old))
    done = pair.er("move", "old", "new", "--back", "--yes")
    assert done.returncode == 0, done.stderr
    assert "stays there, and is not on old" in done.stderr
    until(lambda: _serves(pair.old), timeout=60, what="the old server")
    assert _is_silent(pair.new)
    assert len(_rows(pair.old)) > rows
    _check_rows(_rows(pair.old), _rows(pair.new))
    assert os.path.lexists(pair.old.machine.path("/var/lib/easyrunner/complete"))
