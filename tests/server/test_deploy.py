"""Deploy keys on a booted host: what they may do, over `er deploy`, and everything that they may not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder.oci import image_archive
from builder.polling import until
from tests import forked_er
from tests.machine import hosts
from tests.machine.conftest import example_maker
from tests.server import deploy_page
from tests.server.conftest import ER, Client, client
from tests.server.deploy_attacks import ATTACKS, Attack
from tests.sweeps import WHOLE, of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.lab.network import Namespace

pytestmark = pytest.mark.machine

_STACKS = ("blog", "shop")


@dataclass
class World:
    """The host, its admin, and the machine that deploys: it has the keys, and no known_hosts of its own."""

    web: Client
    ci: Namespace

    @property
    def directory(self) -> Path:
        """Where the keys are."""
        return self.web.host.key.parent

    def options(self, key: str) -> list[str]:
        """Of ssh, scp and sftp: this key alone."""
        known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return [
            "-F",
            "none",
            "-i",
            str(self.directory / key),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            *known,
        ]

    def ssh(self, *words: str, key: str = "blog", stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """A request as it is, of a deploy key."""
        login = f"deploy@{self.web.host.address(4)}"
        return self.ci.run(["ssh", *self.options(key), login, *words], check=False, stdin=stdin, timeout=120)

    def er(self, *words: object, key: str = "blog") -> subprocess.CompletedProcess[str]:
        """`er deploy` to a stack, as CI runs it: the key is in a file, the host key is known by its fingerprint."""
        own = ["--key", self.directory / key, "--host-key", self.fingerprint]
        return forked_er.run([*map(str, ("deploy", self.web.host.address(4), *words, *own))], env=self.web.env)

    @cached_property
    def fingerprint(self) -> str:
        """Of the host key, as the host shows it."""
        found: str = self.web.json("status")["host_keys"][0]["fingerprint"]
        return found

    def image(self, name: str, *command: str) -> Path:
        """An archive of the app that greets with its name; or one with a command that it is not."""
        maker, path = example_maker(), self.directory / f"{name}.tar"
        config = replace(maker.APP_CONFIG, environment=(*maker.APP_CONFIG.environment, ("GREETING", name)))
        image_archive.write(path, maker.app_files(), replace(config, command=command or config.command))
        return path

    def greeting(self, stack: str = "blog") -> str:
        """What a visitor reads."""
        found = self.web.host.curl(f"https://{stack}.example.com/").stdout
        return next(
            (line.partition("greeting: ")[2].strip() for line in found.splitlines() if "greeting: " in line), ""
        )

    def greets(self, name: str) -> None:
        """Soon."""
        until(lambda: self.greeting() == name, timeout=60, what=f"the greeting {name}")


@pytest.fixture(scope="module")
def world(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Booted from user-data, and nothing applied yet."""
    tmp = tmp_path_factory.mktemp("deploys")
    with hosts.booted("deploys", tmp, keys=_STACKS, timeout=300) as host:
        yield World(client(host, tmp), host.machine.attacker(0))


# ---- what it may do


def test_keys_are_served_from_the_first_apply_on(world: World) -> None:
    """User-data has no room for what serves them; until then everybody says what to do."""
    done = world.ssh("stack-status", "blog")
    assert done.returncode == 1
    assert (
        "er-error: deploy keys are not served here yet\ner-hint: its admin does that, once: er server apply"
        in done.stderr
    )
    status = world.web.er("status")
    assert "deploy keys are not served yet; that begins with: er server apply HOST SPEC" in status.stderr
    assert world.web.er("apply", world.web.spec, "--dry-run").returncode == 0
    assert world.web.json("status")["deploys"] == {"keys": 2, "served": False}
    done = world.web.er("apply", world.web.spec, "--yes")
    assert "deploy keys are served by this version of er from now on" in done.stderr
    assert "nothing differs" in done.stderr
    assert world.web.json("status")["deploys"] == {"keys": 2, "served": True}
    assert "served" not in world.web.er("apply", world.web.spec, "--yes").stderr
    assert json.loads(world.ssh("stack-status", "blog").stdout)["services"][0]["state"] == "active"


def test_an_image_is_sent_and_runs(world: World) -> None:
    """Plain lines and an exit code; as JSON: the next test."""
    assert world.greeting() == "hello"
    done = world.er("blog", "--image", world.image("second"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^blog/web runs localhost/blog/web:[0-9a-f]{12}, release 2$", done.stderr, re.MULTILINE)
    assert "\x1b" not in done.stderr
    assert done.stdout == ""
    world.greets("second")
    assert world.greeting("shop") == "hello"


@of_a_sweep
def test_what_runs_already_is_told_as_json(world: World) -> None:
    found = json.loads(world.er("blog", "--image", world.directory / "second.tar", "--json").stdout)
    assert (found["phase"], [*found["images"]], found["changed"]) == ("done", ["web"], [])


# As of any release: test_releases.py.
@of_a_sweep
def test_what_does_not_come_up_is_taken_back(world: World) -> None:
    """Exit code 1, the reason, and what runs runs on."""
    done = world.er("blog", "--image", world.image("broken", "caddy", "nonsense"), "--timeout", "20")
    assert done.returncode == 1
    assert "blog/web did not come up and runs what it ran before: " in done.stderr
    world.greets("second")


def test_it_sees_its_stack_and_goes_back(world: World) -> None:
    """By the commands of the admin, whose HOST says which login."""
    own = ("-o", f"IdentityFile={world.directory / 'blog'}")
    login = Deployer(world.web)
    status = login.er("status", "blog", *own)
    assert "web" in status.stdout
    assert "active (running)" in status.stdout
    assert "server running" in login.er("logs", "blog", *own).stdout
    assert login.er("logs", "blog", "--follow", *own).returncode == 2
    assert login.er("status", *own).returncode == 2
    listed = json.loads(world.ssh("release-list", "blog").stdout)
    assert [(one["source"], one["by"]) for one in listed[:1]] == [("push", "ci of blog")]


@dataclass
class Deployer(Client):
    """`er server` with deploy@ before the host's name."""

    def __init__(self, web: Client) -> None:
        super().__init__(web.host, web.directory)

    def argv(self, command: str, *words: object) -> list[str]:
        return [str(ER), "server", *command.split(), "deploy@web", *map(str, words)]


def test_the_host_key_is_never_taken_on_trust(world: World, tmp_path: Path) -> None:
    """By fingerprint, and not at all without; by a file: the next test."""
    wrong = "SHA256:" + "A" * 43
    done = _deploy(world, "--host-key", wrong)
    assert done.returncode == 1
    assert f"the host key is {world.fingerprint}, and not the one that was given" in done.stderr
    assert "the host key is not known" in _deploy(world, "-o", f"UserKnownHostsFile={tmp_path / 'none'}").stderr


@of_a_sweep
def test_the_host_key_is_known_by_a_file(world: World, tmp_path: Path) -> None:
    """With what `er server status --known-hosts` prints."""
    lines = world.web.er("status", "--known-hosts").stdout
    assert lines == world.web.json("status")["known_hosts"]
    known = tmp_path / "known hosts"
    known.write_text(lines)
    assert _deploy(world, "--known-hosts", str(known)).returncode == 0
    known.write_text(lines.replace(" AAAA", " AAAB"))
    assert _deploy(world, "--known-hosts", str(known)).returncode == 1
    assert _deploy(world, "--host-key", "MD5:aa").returncode == 2


def _deploy(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    image = ["--image", str(world.directory / "second.tar"), "--key", str(world.directory / "blog")]
    return forked_er.run(["deploy", world.web.host.address(4), "blog", *image, *words], env=world.web.env)


# ---- what it may not do


# Of sshd and of the service, and of each kind of word.
_SOME = (
    "a shell",
    "a command behind one that is allowed",
    "secrets",
    "another stack's log",
    "an option as a word",
    "scp as of old",
    "sftp",
    "a port of the server's loopback",
    "a port on the server",
    "the agent",
    "the admin's login",
)


def test_everything_else_is_refused(world: World) -> None:
    """Each attempt, its answer, and what the journal has of it: the table of docs/own-apps.md."""
    chosen = sample([attack.what for attack in ATTACKS], _SOME)
    attacks = [attack for attack in ATTACKS if attack.what in chosen]
    tried = [(attack, time.time(), _answered(world, attack)) for attack in attacks]
    ends = [*(begun for _, begun, _ in tried[1:]), time.time() + 60]
    journal = _journal(world, tried[0][1])
    rows = []
    for (attack, begun, answer), end in zip(tried, ends, strict=True):
        log = [text for when, text in journal if begun <= when < end]
        rows.append(deploy_page.Row(attack.what, answer, deploy_page.lines(log)))
        assert attack.said in answer, attack
        if attack.by == "service":
            assert any("refused: " in line for line in log), (attack, log)
    deploy_page.write(rows, [attack.what for attack in ATTACKS])
    assert world.greeting() == "second"


def _answered(world: World, attack: Attack) -> str:
    """What ssh says at its end; what the service says of it is in the journal then, which may be a moment later."""
    begun = time.time()
    answer = _try(world, attack)
    if attack.by == "service":
        until(lambda: _refusals(world, begun), timeout=30, what=attack.what)
    return answer


def _refusals(world: World, since: float) -> list[str]:
    return [text for when, text in _journal(world, since) if when >= since and "refused: " in text]


def _try(world: World, attack: Attack) -> str:
    """What ssh says at its end, or that the request went through as if nothing else had been asked."""
    login = f"deploy@{world.web.host.address(4)}"
    words = [word.replace("HOST", login) for word in attack.words]
    own = [*world.options("blog"), "-o", "ExitOnForwardFailure=yes", *attack.before]
    argv = [attack.program, *own, *words] if attack.program != "ssh" else ["ssh", *own, login, *words]
    # Fail2Ban counts refused logins: by another machine, so that this one goes on.
    source = world.web.host.machine.attacker(2) if "-l" in attack.before else world.ci
    done = source.run(argv, check=False, stdin=b"", timeout=60)
    if attack.by == "no effect":
        assert json.loads(done.stdout)["stack"] == "blog", (attack, done)
        return "the request, and nothing beside it"
    assert done.returncode != 0, (attack, done.stdout)
    assert done.stdout == "", attack
    said = [
        line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("Private system", "er-hint"))
    ]
    return said[-1].removeprefix("er-error: ") if said else f"exit code {done.returncode}"


def _journal(world: World, since: float) -> list[tuple[float, str]]:
    """Time and text of what sshd and the service have written since then."""
    argv = [
        "journalctl",
        "-q",
        "--no-pager",
        "-o",
        "json",
        f"--since=@{int(since)}",
        "-t",
        "er-deploy",
        "-t",
        "sshd-session",
    ]
    found = map(json.loads, world.web.host.machine.run(argv).stdout.splitlines())
    return [
        (int(one["__REALTIME_TIMESTAMP"]) / 1e6, one["MESSAGE"]) for one in found if isinstance(one["MESSAGE"], str)
    ]


@pytest.mark.parametrize(
    "forward",
    [
        ("-L", "127.0.0.1:7001:127.0.0.1:2019"),
        ("-L", f"127.0.0.1:7001:{facts.DEPLOY_SOCKET}"),
        ("-D", "127.0.0.1:7001"),
    ],
    ids=["port", "socket", "proxy"],
)
def test_nothing_of_the_host_is_reached_through_it(world: World, forward: tuple[str, str]) -> None:
    """The client listens; the host opens nothing."""
    argv = ["ssh", *world.options("blog"), "-N", *forward, f"deploy@{world.web.host.address(4)}"]
    running = world.ci.start(argv)
    try:
        until(lambda: ":7001" in world.ci.run(["ss", "-Htln"]).stdout, timeout=30, what="the client's port")
        proxy = ["--proxy", "socks5h://127.0.0.1:7001"] if forward[0] == "-D" else []
        url = "http://127.0.0.1:2019/config/" if proxy else "http://127.0.0.1:7001/config/"
        done = world.ci.run(["curl", "-sS", "-m", "10", *proxy, url], check=False)
        assert done.returncode != 0
        assert done.stdout == ""
    finally:
        running.kill()
        running.wait()


_FOREIGN = (
    "localhost/shop/web:1",
    "localhost/blog/../shop:1",
    "docker.io/library/caddy:2",
    "oci-archive:/x",
    "--help",
    "/",
)


@pytest.mark.parametrize("name", sample(_FOREIGN, _FOREIGN[:2]))
def test_no_image_but_its_own_is_switched_to(world: World, name: str) -> None:
    request = json.dumps({"images": {"web": name}, "source": "push", "by": "the admin"}).encode()
    done = world.ssh("release-start", "blog", stdin=request)
    assert done.returncode == 1
    assert "cannot run" in done.stderr


def test_who_deploys_is_the_key_whatever_is_said(world: World) -> None:
    """In the record of releases, as in the journal."""
    newest = json.loads(world.ssh("release-list", "blog").stdout)[0]
    name = newest["images"]["web"]["name"]
    request = {"images": {"web": name}, "source": "push", "by": "the admin", "timeout": 1e400}
    assert world.ssh("release-start", "blog", stdin=json.dumps(request).encode()).returncode == 1
    request["timeout"] = 60
    assert world.ssh("release-start", "blog", stdin=json.dumps(request).encode()).returncode == 0
    until(
        lambda: json.loads(world.ssh("release-list", "blog").stdout)[0]["number"] > newest["number"],
        timeout=60,
        what="it",
    )
    assert json.loads(world.ssh("release-list", "blog").stdout)[0]["by"] == "ci of blog"


def test_a_push_of_10_gb_is_refused_before_it_begins(world: World) -> None:
    """And no byte beyond what was announced is taken."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}}
    layer = {"digest": "sha256:" + "1" * 64, "diff_id": "sha256:" + "1" * 64, "compression": ""}
    for size, fits in ((10 << 30, False), (1000, True)):
        described = {"config": json.dumps(config), "docker": False, "layers": [{**layer, "size": size}]}
        done = world.ssh("push-missing", "blog", "web", stdin=json.dumps(described).encode())
        assert (done.returncode == 0) == fits, done.stderr
        assert fits or "more than the 8,192 that can be pushed" in done.stderr
    header = f"{layer['digest']} 0 {10 << 30}\n".encode()
    done = world.ssh("push-layers", "blog", "web", stdin=header + bytes(1 << 20))
    assert "other bytes are wanted" in done.stderr
    done = world.ssh("push-layers", "blog", "web", stdin=f"{layer['digest']} 0 1000\n".encode() + bytes(1000))
    assert "it is not taken" in done.stderr, "another digest than announced"


# ---- the login taken over: a bug in sshd or in the forced command lets somebody run what he likes as its user

_TAKEN_OVER = """\
#!/usr/bin/python3 -I
import ctypes, json, os, socket, subprocess, sys

if "victim" in os.environ.get("SSH_ORIGINAL_COMMAND", ""):
    os.environ["SSH_ORIGINAL_COMMAND"] = "push-layers shop web"
    os.execv("/var/lib/hostile/real-deploy", ["deploy"])

def asked(text):
    with socket.socket(socket.AF_UNIX) as service:
        service.connect("/run/easyrunner/deploy.sock")
        service.sendall(text.encode() + b"\\0")
        service.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while part := service.recv(65536):
                found += part
        except ConnectionResetError:
            pass  # it has refused this without reading it
        return found.decode()

def left_behind(text):
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        while os.getppid() == os.getpgid(0):
            pass
        os.write(write, asked(text).encode())
        os._exit(0)
    os.wait()
    os.close(write)
    return os.read(read, 65536).decode()

def tried(function, *words):
    try:
        return str(function(*words))
    except OSError as error:
        return error.strerror

def connected(address, port):
    with socket.create_connection((address, port), timeout=3):
        return "connected"

libc = ctypes.CDLL(None, use_errno=True)
address, other, *paths = sys.stdin.read().split()
secret = ("/var/lib/easyrunner/remote.zip", "/etc/shadow", "/etc/easyrunner/stacks/blog/services")
print(json.dumps({
    "own": asked("stack-status blog"),
    "other": asked("stack-status shop"),
    "left behind": left_behind("stack-status blog"),
    "environment": sorted(os.environ),
    "ids": [os.getuid(), os.getgroups()],
    "sudo": subprocess.run(["sudo", "-n", "id"], capture_output=True).returncode,
    "su": subprocess.run(["su", "-c", "id", "er-blog"], stdin=subprocess.DEVNULL, capture_output=True).returncode,
    "manager": subprocess.run(["systemctl", "--user", "status"], capture_output=True).returncode,
    "writes": {p: tried(open, p, "ab") for p in paths},
    "reads": {p: tried(open, p, "rb") for p in secret},
    "out": tried(connected, address, 7777),
    "admin api": tried(connected, "127.0.0.1", 2019),
    "others": [path for path in os.listdir("/proc") if path == other],
    "input of another": tried(open, f"/proc/{other}/fd/0", "rb"),
    "memory of another": tried(open, f"/proc/{other}/mem", "rb"),
    "traced": libc.ptrace(16, int(other), 0, 0),
}))
"""


_REPLACE = """\
mkdir -p /var/lib/hostile
cp -p {shell} /var/lib/hostile/real-deploy
cat >/var/lib/hostile/deploy
chmod 755 /var/lib/hostile/deploy
mount --bind /var/lib/hostile/deploy {shell}
"""


@pytest.fixture
def taken_over(world: World) -> Iterator[dict[str, Any]]:
    """What a program could do in place of the forced command, started by sshd for blog's key, while shop's is at it."""
    machine, shell = world.web.host.machine, facts.DEPLOY_SHELL
    machine.run(_REPLACE.format(shell=shell), stdin=_TAKEN_OVER.encode())
    login = f"deploy@{world.web.host.address(4)}"
    victim = subprocess.Popen(world.ci.argv(["ssh", *world.options("shop"), login, "victim"]), stdin=subprocess.PIPE)
    listener = world.ci.start(["socat", "TCP-LISTEN:7777,reuseaddr,fork", "/dev/null"])
    try:
        until(
            lambda: "push-layers shop web" in machine.run("journalctl -q -t er-deploy -n 5 -o cat").stdout,
            timeout=60,
            what="the victim",
        )
        pid = machine.run("pgrep -f real-deploy").stdout.split()[0]
        paths = [pid, shell, facts.DEPLOY_KEYS, "/etc/easyrunner/x", "/var/lib/easyrunner/x", "/x"]
        argv = ["ssh", *world.options("blog"), "-A", "-o", "SetEnv=LD_PRELOAD=/x PYTHONPATH=/x BASH_ENV=/x", login]
        done = world.ci.run(argv, stdin=" ".join([world.ci.ipv4, *paths]).encode(), check=False)
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)
    finally:
        for process in (victim, listener):
            process.kill()
            process.communicate()
        machine.run(f"umount {shell}")


def test_a_login_that_was_taken_over_has_no_more_than_its_key(world: World, taken_over: dict[str, Any]) -> None:
    """Not another stack, not after the connection, no way out; and it sees into no other connection."""
    found = taken_over
    assert found["own"].startswith('0{"stack": "blog"')
    assert "this key is for the stack blog alone" in found["other"]
    assert "cannot be told to be one of a deploy key" in found["left behind"]
    assert not {"LD_PRELOAD", "PYTHONPATH", "BASH_ENV", "SSH_AUTH_SOCK", "DISPLAY"} & {*found["environment"]}
    assert found["ids"][0] == facts.DEPLOY_UID
    assert len(found["ids"][1]) == 1
    assert found["sudo"] != 0
    assert found["su"] != 0
    assert found["manager"] != 0
    assert set(found["writes"].values()) <= {"Permission denied", "Read-only file system"}
    assert set(found["reads"].values()) == {"Permission denied"}
    assert found["out"] not in {"connected", "timed out"}
    assert found["admin api"] != "connected"
    assert found["others"] == []
    assert found["input of another"] == found["memory of another"] == "No such file or directory"
    assert found["traced"] == -1


def test_a_process_of_its_user_without_a_connection_gets_nothing(world: World) -> None:
    """As it would be of another way to become that user."""
    code = "import socket;s=socket.socket(1);s.connect('/run/easyrunner/deploy.sock')"
    code += ";s.sendall(b'stack-status blog\\0');print(s.recv(999))"
    done = world.web.host.machine.run(["python3", "-c", code], user="deploy")
    assert "cannot be told to be one of a deploy key" in done.stdout
    other = world.web.host.machine.run(["python3", "-c", code], user="er-shop", check=False)
    assert "PermissionError" in other.stderr


# ---- many connections


# At once, of which sshd cuts most, as few may be on their way in from one address; and one after the other, in rows.
_AT_ONCE, _A_ROW = 100, 25
_FLOOD = """
for i in $(seq {at_once}); do {one} & done
for row in 1 2 3 4; do (for i in $(seq {a_row}); do {one} -f; done) & done
wait
"""


@of_a_sweep
def test_many_connections_of_a_key_are_few_on_the_host(world: World) -> None:
    """The admin logs in as before, visitors are answered; what stays open is in the slice that has the limit."""
    machine = world.web.host.machine
    login = f"deploy@{world.web.host.address(4)}"
    one = " ".join(["ssh", *world.options("blog"), login, "-N"])
    script = _FLOOD.format(at_once=_AT_ONCE, a_row=_A_ROW, one=one)
    flood = world.ci.start(["sh", "-c", script])
    try:
        until(lambda: _tasks(world) > 40, timeout=150, what="connections")
        begun = time.monotonic()
        done = world.web.host.ssh("id -un", source=machine.attacker(1))
        assert done.stdout.strip() == "er"
        assert time.monotonic() - begun < 20
        assert world.greeting() == "second"
    finally:
        for pid in subprocess.run(
            ["ip", "netns", "pids", world.ci.name], capture_output=True, check=True
        ).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        flood.kill()
        flood.wait()
    until(lambda: world.ssh("stack-status", "blog").returncode == 0, timeout=120, what="that the key works again")
    assert [jail["banned"] for jail in world.web.json("status")["jails"] if jail["jail"] == "sshd"] == [[]]


def _tasks(world: World) -> int:
    """Processes of deploy keys' connections. The lab's kernel has no controller that would hold the limit."""
    slice_ = f"user-{facts.DEPLOY_UID}.slice"
    machine = world.web.host.machine
    assert machine.run(f"systemctl show -P TasksMax {slice_}").stdout.strip() == "100"
    return len(machine.run(f"cat /sys/fs/cgroup/user.slice/{slice_}/*/cgroup.procs", check=False).stdout.split())


# ---- keys come and go


def test_a_key_that_is_gone_from_the_spec_is_gone(world: World) -> None:
    """And with the last one all of it, in a sweep one after the other; the admin's doctor finds nothing wrong."""
    edited = world.web.edited("    deploy: {ssh_keys: [blog.pub]}\n", "")
    if WHOLE:
        failed = [check["check"] for check in world.web.json("doctor") if not check["ok"]]
        assert failed == []
        done = world.web.er("apply", edited, "--yes")
        assert done.returncode == 0, done.stderr
        assert "Permission denied" in world.ssh("stack-status", "blog").stderr
        assert world.ssh("stack-status", "shop", key="shop").returncode == 0
    edited.write_text(edited.read_text().replace("    deploy: {ssh_keys: [shop.pub]}\n", ""))
    done = world.web.er("apply", edited, "--yes")
    assert done.returncode == 0, done.stderr
    for stack in _STACKS:
        assert "Permission denied" in world.ssh("stack-status", stack, key=stack).stderr
    assert world.web.host.machine.run("ls /run/easyrunner/deploy.sock", check=False).returncode != 0
    assert [check["check"] for check in world.web.json("doctor") if not check["ok"]] == []
