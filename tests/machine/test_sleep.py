"""Stacks that sleep: what wakes them, what does not, what a visitor notices, and what becomes of a wake that fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from builder import facts
from tests.machine import clients, hosts
from tests.sweeps import WHOLE, of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

# Seconds without a connection, and that a visitor is held: the first of the spec would take minutes.
IDLE, HELD = 1, 60
STACKS = ("quiet", "app")
# What a host without any of it is asked for in a day, by method and path.
NOISE = """
GET /.env|GET /.git/config|GET /.aws/credentials|GET /.vscode/sftp.json|GET /.DS_Store|GET /api/.env|GET /.env.bak
GET /wp-login.php|POST /wp-login.php|GET /blog/wp-admin/setup-config.php|POST /xmlrpc.php|GET /wp-includes/a.xml
GET /phpinfo.php|GET /phpmyadmin/index.php|GET /vendor/phpunit/src/Util/PHP/eval-stdin.php|GET /_ignition/health-check
GET /actuator/health|GET /solr/admin/info/system|GET /manager/html|GET /autodiscover/autodiscover.xml|GET /owa/a.js
GET /ecp/Current/exporttool/exporttool.application|GET /cgi-bin/luci|POST /cgi-bin/.%2e/bin/sh
GET /boaform/admin/formLogin|GET /HNAP1|GET /server-status|GET /%2eenv|GET //.git/HEAD|HEAD /.ssh/id_rsa|OPTIONS /.hg/x
"""


@pytest.fixture(scope="module")
def host(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts.booted("asleep", tmp_path_factory.mktemp("asleep")) as made:
        yield made


def _beside(host: Host, stack: str, name: str) -> Path:
    return host.machine.path(f"{facts.PROXY_SOCKETS}/{stack}/web.{name}")


def _woken(host: Host, stack: str) -> int:
    file = _beside(host, stack, "woken")
    return int(file.read_text()) if file.exists() else 0


def _user(host: Host, stack: str, command: str, *, check: bool = True) -> str:
    """What a command of the stack's user says."""
    uid = host.machine.user(f"er-{stack}").uid
    env = {"XDG_RUNTIME_DIR": f"/run/user/{uid}"}
    return host.machine.run(command, user=f"er-{stack}", env=env, check=check).stdout.strip()


def _states(host: Host, stack: str) -> dict[str, str]:
    """Of each service of a stack: whether it is active."""
    lines = _user(host, stack, f"systemctl --user show -p Id,ActiveState '{stack}-*.service' --all").split("\n\n")
    found = (dict(line.split("=", 1) for line in block.splitlines()) for block in lines)
    return {
        one["Id"].removeprefix(f"{stack}-").removesuffix(".service"): one["ActiveState"]
        for one in found
        if "network" not in one["Id"]
    }


def _wait_asleep(host: Host, stack: str) -> None:
    def asleep() -> bool:
        return _beside(host, stack, "asleep").exists() and set(_states(host, stack).values()) <= {"inactive"}

    host.machine.wait(asleep, timeout=90, what=f"{stack} to sleep")


def _hurry(host: Host, stack: str, idle: int = IDLE, held: int = HELD, port: int | None = None) -> None:
    """Sleep sooner, by a drop-in on the host; it stays over a boot."""
    directory = f"/etc/easyrunner/units/{host.machine.user(f'er-{stack}').uid}/er-ingress-web.service.d"
    unit = host.machine.path(directory.removesuffix(".d")).read_text()
    words = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).split()
    words[-2:] = [str(idle), str(held)]
    words[2] = str(port or words[2])
    text = f"[Service]\nExecStart=\n{' '.join(words)}\n"
    host.machine.run(f"mkdir -p {directory}; cat >{directory}/99-test.conf", stdin=text.encode())
    _user(host, stack, "systemctl --user daemon-reload")


@pytest.fixture
def asleep(host: Host) -> Host:
    """The host, with both stacks asleep, which they are soon when nobody asks for them."""
    for stack in STACKS:
        _hurry(host, stack)
        _wait_asleep(host, stack)
    return host


def _status(host: Host, name: str, path: str = "/", *words: str, timeout: int = 60) -> int:
    """What a visitor gets; 0 for no answer."""
    asked = host.curl(f"https://{name}.example.com{path}", "--path-as-is", *words, timeout=timeout)
    first = asked.stdout.split(" ", 2)
    return int(first[1]) if len(first) > 2 else 0


def _assert_never_woken(host: Host) -> None:
    for stack, services in (("quiet", {"web"}), ("app", {"web", "db", "worker"})):
        assert _states(host, stack) == dict.fromkeys(services, "inactive")
        assert _user(host, stack, "systemctl --user is-active er-ingress-web.socket") == "active"
        assert _beside(host, stack, "asleep").exists()
        assert not _beside(host, stack, "up").exists()
        assert _woken(host, stack) == 0
        assert _user(host, stack, "podman ps -qa") == ""


def test_after_the_first_boot_all_is_there_and_asleep(host: Host) -> None:
    """The ready line came, though nothing of them has run; the images are there."""
    _assert_never_woken(host)
    for stack, images in (("quiet", 1), ("app", 3)):
        assert len(set(_user(host, stack, f"podman images -n | grep er/{stack}").splitlines())) == images
        assert host.machine.path(f"{facts.HOMES}/{stack}/.cache/pulled").exists()


def test_a_days_noise_wakes_nobody(asleep: Host) -> None:
    """Nor what `wake` leaves out; nor plain HTTP, a name that is none, and a handshake without a request."""
    before = [_woken(asleep, stack) for stack in STACKS]
    asked = [one.split(" ") for one in NOISE.strip().replace("\n", "|").split("|")]
    every = ["-s", "--path-as-is", "--cacert", str(asleep.ca), "-o", "/dev/null", "-w", "%{http_code}\n", "-m", "20"]
    words: list[str] = []
    for stack in STACKS:
        site = f"{stack}.example.com"
        for method, path in asked:
            how = ["-I"] if method == "HEAD" else ["-X", method]
            words += ["--next", *every, *how, "--resolve", f"{site}:443:{asleep.address(4)}", f"https://{site}{path}"]
    said = asleep.machine.attacker(0).run(["curl", *words[1:]], check=False, timeout=120).stdout.split()
    assert said == ["404"] * 2 * len(asked)
    for path in ("/other", "/indoors", "/favicon.ico"):
        assert _status(asleep, "app", path) == 404
    assert asleep.curl("http://quiet.example.com/").stdout.startswith("HTTP/1.1 308")
    assert [_woken(asleep, stack) for stack in STACKS] == before
    assert {state for stack in STACKS for state in _states(asleep, stack).values()} == {"inactive"}


_WAKES: list[tuple[str, str, tuple[str, ...]]] = [
    ("quiet", "/anything?a=b", ()),
    # A page of its own, by the spec.
    ("quiet", "/wp-content/a.css", ("-X", "DELETE")),
    ("app", "/in/x", ()),
    ("app", "/other", ("--data", "x")),
]


@pytest.mark.parametrize(("stack", "path", "words"), sample(_WAKES, (_WAKES[1], _WAKES[2])))
def test_what_may_wake_wakes(asleep: Host, stack: str, path: str, words: tuple[str, ...]) -> None:
    before = _woken(asleep, stack)
    assert _status(asleep, stack, path, *words) == 200
    assert _woken(asleep, stack) == before + 1
    assert not _beside(asleep, stack, "asleep").exists()
    assert _beside(asleep, stack, "up").exists()


def test_two_hundred_visitors_at_once_are_one_start(asleep: Host) -> None:
    before = _woken(asleep, "quiet")
    started = _started(asleep)
    _assert_two_hundred_are_answered(asleep)
    assert _woken(asleep, "quiet") == before + 1
    assert _started(asleep) == started + 1


def _assert_two_hundred_are_answered(asleep: Host) -> None:
    argv = ["curl", "-sZ", "--parallel-max", "200", "-o", "/dev/null", "-w", "%{http_code}\n", "--max-time", "60"]
    argv += ["--cacert", str(asleep.ca), "--resolve", f"quiet.example.com:443:{asleep.address(4)}"]
    said = asleep.machine.attacker(0).run([*argv, "https://quiet.example.com/?[1-200]"], check=False, timeout=90).stdout
    assert said.split() == ["200"] * 200


def _started(host: Host) -> int:
    """How often the unit's container was started."""
    argv = "journalctl --namespace=+stacks -b -o cat | grep -c '^Started quiet-web.service'"
    return int(host.machine.run(argv, check=False).stdout)


def test_an_upload_wakes_and_is_whole(asleep: Host, tmp_path: Path) -> None:
    """Larger than what any buffer on the way holds."""
    content = bytes(range(256)) * 4096 * 24
    (tmp_path / "body").write_bytes(content)
    before = _woken(asleep, "app")
    asked = asleep.curl("https://app.example.com/up", "--data-binary", f"@{tmp_path / 'body'}", timeout=60)
    assert asked.stdout.endswith(f"{hashlib.sha256(content).hexdigest()}\n")
    assert _woken(asleep, "app") == before + 1


def test_an_open_websocket_keeps_awake_and_its_end_lets_all_sleep(asleep: Host) -> None:
    """As long as another stack takes to wake and to sleep again; then its database and worker stop, too."""
    argv = clients.argv("upgrade", asleep, "app.example.com")
    argv = asleep.machine.attacker(0).argv(argv)
    client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stdout.readline() == "open\n"
    assert _status(asleep, "quiet") == 200
    _wait_asleep(asleep, "quiet")
    asleep.machine.wait(lambda: set(_states(asleep, "app").values()) == {"active"}, what="database and worker to run")
    said, _ = client.communicate("\n", timeout=30)
    assert json.loads(said)["echoes"] == ["one\n", "two\n", "three\n"]
    _wait_asleep(asleep, "app")


def test_who_holds_a_connection_keeps_awake_what_he_has_woken_and_no_longer(asleep: Host) -> None:
    """A request that does not become whole wakes nobody while it is small, and holds one when it is large.

    A client's connection on which nothing is asked holds nothing but the proxy.
    """
    before, client = _woken(asleep, "app"), asleep.machine.attacker(1)

    def slow(size: int) -> subprocess.Popen[str]:
        argv = client.argv(clients.argv("slow", asleep, "app.example.com", "http/1.1", 5, 1, size))
        one = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert one.stdout is not None
        assert one.stdout.readline() == "5\n"
        return one

    small = slow(100)
    assert _status(asleep, "quiet") == 200
    assert _woken(asleep, "app") == before
    large = slow(9_000)
    asleep.machine.wait(lambda: _woken(asleep, "app") == before + 1, what="the wake")
    # Longer than the proxy keeps a connection for the next request, and than it takes to sleep.
    _wait_asleep(asleep, "quiet")
    assert _states(asleep, "app")["web"] == "active"
    large.terminate()
    large.communicate(timeout=60)
    _wait_asleep(asleep, "app")
    assert small.poll() is None
    assert _woken(asleep, "app") == before + 1
    small.terminate()
    small.communicate(timeout=60)


def test_no_request_is_lost_where_sleep_and_wake_meet(asleep: Host) -> None:
    """Asked at the socket itself, as the proxy keeps connections: where the last one is just too old, or nearly so."""
    ask = f"curl -sm 30 -o /dev/null -w '%{{http_code}} ' --unix-socket {facts.PROXY_SOCKETS}/quiet/web.sock http://x/"
    after = " ".join(f"{IDLE}.{hundredths:02}" for hundredths in (0, 2, 4, 6, 8, 9, 10, 11, 12, 14, 16, 18, 20, 25, 30))
    before = _woken(asleep, "quiet")
    said = asleep.machine.run(f"for n in {after}; do {ask}; sleep $n; done", timeout=120).stdout
    assert said.split() == ["200"] * 15
    assert _woken(asleep, "quiet") > before + 1


def _refused(host: Host, stack: str) -> float:
    """Ask for a site that does not wake: it says so, and for how long. The seconds that took."""
    began = time.monotonic()
    asked = host.curl(f"https://{stack}.example.com/", timeout=60)
    assert asked.stdout.startswith("HTTP/2 503"), asked.stdout
    assert "\nretry-after: 10\n" in asked.stdout.replace("\r", "")
    assert "did not wake up" in asked.stdout
    return time.monotonic() - began


def test_a_wake_that_fails_is_told_at_once_and_tried_again(asleep: Host) -> None:
    """Its image is gone: as often as somebody asks. Once it is back, so is the site."""
    image = _user(asleep, "quiet", "podman images -n --format '{{.Repository}}:{{.Tag}}' | grep er/quiet")
    number = _user(asleep, "quiet", f"podman images -q {image}")
    _user(asleep, "quiet", f"podman untag {image}")
    for _ in range(7):
        assert _refused(asleep, "quiet") < HELD / 2
    asleep.machine.wait(_beside(asleep, "quiet", "asleep").exists, what="the end of the wake")
    assert _states(asleep, "quiet") == {"web": "failed"}
    _user(asleep, "quiet", f"podman tag {number} {image}")
    assert _status(asleep, "quiet") == 200


def test_an_app_that_does_not_listen_is_given_up_on_in_time(asleep: Host) -> None:
    """And stops; the next visitor starts it again."""
    _hurry(asleep, "quiet", held=3, port=3999)
    for _ in range(2):
        assert 3 <= _refused(asleep, "quiet") < HELD / 2
        _wait_asleep(asleep, "quiet")
    _hurry(asleep, "quiet")
    assert _status(asleep, "quiet") == 200


@of_a_sweep
def test_an_app_that_ends_before_it_listens_is_told_at_once(asleep: Host) -> None:
    """Also one that calls that well: nobody waits for its port."""
    unit = f"{facts.QUADLETS}/{asleep.machine.user('er-quiet').uid}/quiet-web.container"
    whole = asleep.machine.path(unit).read_text()
    asleep.machine.path(unit).write_text(whole.replace("[Container]\n", "[Container]\nExec=sleep 0.2\n"))
    _user(asleep, "quiet", "systemctl --user daemon-reload")
    assert _refused(asleep, "quiet") < HELD / 2
    asleep.machine.path(unit).write_text(whole)
    _user(asleep, "quiet", "systemctl --user daemon-reload")
    assert _status(asleep, "quiet") == 200


@of_a_sweep
def test_one_that_is_started_by_hand_falls_asleep(asleep: Host) -> None:
    """As a change is tried; nobody has asked it anything."""
    _user(asleep, "quiet", "systemctl --user start er-ingress-web.service")
    asleep.machine.wait(lambda: _beside(asleep, "quiet", "up").exists(), what="the app to listen")
    _wait_asleep(asleep, "quiet")


def test_one_that_crashes_is_started_by_the_next_visitor(asleep: Host) -> None:
    assert _status(asleep, "app") == 200
    _user(asleep, "app", "podman kill web")
    asleep.machine.wait(lambda: not _beside(asleep, "app", "up").exists(), what="the end of the ingress")
    assert _status(asleep, "app") == 200


def _assert_rests(host: Host) -> None:
    """Not even the manager of the stack's user has run since the boot."""
    for stack in STACKS:
        uid = host.machine.user(f"er-{stack}").uid
        assert host.machine.run(f"systemctl is-active user@{uid}.service", check=False).stdout == "inactive\n"
        assert not host.machine.path(f"/var/lib/systemd/linger/er-{stack}").exists()
        said = host.machine.run(f"stat -c '%a %U %G' {facts.PROXY_SOCKETS}/{stack}/web.sock").stdout
        assert said == f"660 root {facts.PROXY_USER}\n"
        assert _beside(host, stack, "asleep").exists()


def test_a_reboot_and_a_cut_of_power_leave_it_asleep(asleep: Host) -> None:
    """With no manager until somebody comes, who is not lost."""
    machine = asleep.machine
    if WHOLE:
        machine.poweroff()
        asleep.boot()
        _assert_rests(asleep)
    machine.cut()
    asleep.boot()
    assert _status(asleep, "quiet", "/.env") == 404
    _assert_rests(asleep)
    _assert_two_hundred_are_answered(asleep)
    assert (_woken(asleep, "quiet"), _started(asleep)) == (1, 1)


@of_a_sweep
def test_a_cut_of_power_while_it_wakes_leaves_it_asleep(asleep: Host, tmp_path: Path) -> None:
    machine = asleep.machine
    argv = ["curl", "-sk", "-m", "60", "--resolve", f"app.example.com:443:{asleep.address(4)}"]
    argv += ["https://app.example.com/"]
    visitor = machine.attacker(0).start(argv, stdout=subprocess.DEVNULL)
    machine.wait(lambda: not _beside(asleep, "app", "asleep").exists(), what="the wake")
    machine.cut()
    # Nobody tells the visitor that the power is gone.
    visitor.kill()
    visitor.wait()
    asleep.boot()
    _assert_rests(asleep)
    content = b"x" * (1 << 24)
    (tmp_path / "body").write_bytes(content)
    asked = asleep.curl("https://app.example.com/up", "--data-binary", f"@{tmp_path / 'body'}", timeout=60)
    assert asked.stdout.endswith(f"{hashlib.sha256(content).hexdigest()}\n")


def _start_while_the_manager_is_busy(host: Host, stack: str) -> str:
    """Start a stack's web service; its manager reads nothing from the container's start to Podman's end. The result."""
    machine, user = host.machine, host.machine.user(f"er-{stack}")
    manager = machine.run(f"systemctl show -p MainPID --value user@{user.uid}.service").stdout.strip()
    _user(host, stack, f"systemctl --user start --no-block er-ingress-web.service {stack}-web.service")

    def podman(words: str) -> bool:
        return machine.run(f"pgrep -u {user.uid} -f '^/usr/bin/podman {words}'", check=False).returncode == 0

    machine.wait(lambda: podman("run"), what="Podman")
    machine.run(f"kill -STOP {manager}")
    try:
        machine.wait(lambda: not podman("run"), timeout=60, what="the end of Podman")
    finally:
        machine.run(f"kill -CONT {manager}")
    machine.wait(lambda: _states(host, stack)["web"] != "activating", what="systemd to hear of it")
    return _user(host, stack, f"systemctl --user show -P Result {stack}-web.service")


def test_a_container_comes_up_while_its_manager_is_busy(host: Host) -> None:
    """The first one that its manager starts, as after a boot, and its next one."""
    manager = f"user@{host.machine.user('er-quiet').uid}.service"
    host.machine.run(f"systemctl stop {manager}; loginctl enable-linger er-quiet; systemctl start {manager}")
    _hurry(host, "quiet")
    before = _started(host)
    for number in (1, 2):
        assert _start_while_the_manager_is_busy(host, "quiet") == "success"
        _wait_asleep(host, "quiet")
        assert _started(host) == before + number
