"""`er server exec`, `shell` and `run`: as if the command ran here, and as the service's own container runs it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from builder.lab import trial
from builder.polling import until
from tests.machine import hosts
from tests.server.conftest import client
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

_SECRET = "S3kr3t-of-the-shop"
_CONTAINERS = ["podman", "ps", "--all", "--format", "{{.Names}}"]


@pytest.fixture(scope="module")
def web(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The host of the spec `sessions`, whose secret is set."""
    tmp = tmp_path_factory.mktemp("sessions")
    with hosts.booted("sessions", tmp, start=False) as host:
        # What ends with a connection is looked at: each command has its own.
        found = client(host, tmp, sharing=False)
        host.machine.boot()
        # First boot waits for the secret. Each question is a login: none before there is anybody to ask for.
        bus = host.machine.path(f"/run/user/{host.spec.stacks[0].uid}/bus")
        host.machine.wait(bus.exists, timeout=90, what="the stack's manager")
        missing = "shop/api needs the secret token, which is not set"
        run = ("run", "shop", "api", "--", "true")
        until(lambda: missing in found.er(*run).stderr, timeout=90, what="the stack", longest=2)
        assert found.er("secret set", "shop", "token", stdin=_SECRET).returncode == 0
        host.machine.wait(lambda: trial.READY in host.machine.console_text(), timeout=90, what="the ready line")
        yield found


@contextmanager
def _started(web: Client, command: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`er server` with pipes, once its command has said `ready`; ended at the end, which the command must notice."""
    argv = web.argv(command, "shop", *words)
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=web.env, start_new_session=True, stdin=pipe, stdout=pipe) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == b"ready\n"
            yield running
        finally:
            running.kill()


def _sleeping(web: Client, seconds: int) -> bool:
    return str(seconds) in web.host.machine.run(["pgrep", "-a", "sleep"], check=False).stdout


# Podman's own among them, and ssh's; one command takes what the other has not.
_CODES = [(command, code) for command in ("exec", "run") for code in (0, 3, 126, 127, 130, 255)]
_CHOSEN = [("exec", 255), ("run", 126), ("run", 255)]


@pytest.mark.parametrize(("command", "code"), sample(_CODES, _CHOSEN))
def test_the_exit_code_is_that_of_the_command(web: Client, command: str, code: int) -> None:
    done = web.er(command, "shop", "api", "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")


@pytest.mark.parametrize("command", sample(("exec", "run"), ("run",)))
def test_a_program_that_is_not_there_is_127_and_one_that_a_signal_ended_128_and_more(web: Client, command: str) -> None:
    done = web.er(command, "shop", "api", "--", "no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr
    assert web.er(command, "shop", "api", "--", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?").returncode == 143


@pytest.mark.parametrize("command", sample(("exec", "run"), ("exec",)))
def test_bytes_pass_unchanged_in_both_directions(web: Client, command: str) -> None:
    dump = os.urandom(1 << 20) + bytes(range(256)) + b"\r\n~.\x03\x04"
    done = subprocess.run(
        web.argv(command, "shop", "worker", "--", "cat"), env=web.env, input=dump, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == dump


def test_words_reach_the_command_as_they_are(web: Client) -> None:
    words = ["a b", "", "$HOME", "'", '"', "*", "--", "-e", "ä\n", "\\"]
    done = web.er("exec", "shop", "worker", "--", "sh", "-c", 'for x; do echo "[$x]"; done', "sh", *words)
    assert done.stdout == "".join(f"[{word}]\n" for word in words)


@of_a_sweep
def test_user_directory_and_variables(web: Client) -> None:
    line = 'id -u; pwd; echo "[$ODD][$GREETING]"'
    env = {**web.env, "ODD": " 'x' \"y\" #z $HOME  ", "GREETING": ""}
    for command, options in (("exec", ["-e", "ODD"]), ("run", ["-e", "ODD", "-e", "GREETING"])):
        words = [*options, "-u", "1000:1000", "-w", "/tmp", "--", "sh", "-c", line]
        done = subprocess.run(
            web.argv(command, "shop", "api", *words), env=env, capture_output=True, text=True, check=False
        )
        greeting = "a  b 5$ 100% 'x' ;" if command == "exec" else ""
        assert done.stdout == f"1000\n/tmp\n[{env['ODD']}][{greeting}]\n"


class _Terminal:
    """`er server` on a terminal of 33 lines and 77 columns."""

    def __init__(self, web: Client, *words: str) -> None:
        self.fd, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        argv = ["setsid", "--ctty", *web.argv(*words)]
        self.process = subprocess.Popen(argv, env=web.env, stdin=other, stdout=other, stderr=other)
        os.close(other)
        self.output = b""

    def read(self, until_text: bytes = b"") -> bytes:
        """All output until this text, or to the end."""
        while not until_text or until_text not in self.output:
            try:
                self.output += os.read(self.fd, 4096)
            except OSError:
                break
        return self.output


def test_a_terminal_is_one_in_the_container_too(web: Client) -> None:
    # Podman sets the size once the program runs; until then stty says nothing on stdout, and exits with 0.
    size = 'until size=$(busybox stty size 2>/dev/null) && test "$size"; do sleep 0.1; done; echo "$size"; exit 5'
    for command in ("exec", "run"):
        line = f"test -t 0 && test -t 1 && {size}"
        terminal = _Terminal(web, command, "shop", "worker", "--", "sh", "-c", line)
        output, code = terminal.read(), terminal.process.wait(60)
        assert (output, code) == (b"33 77\r\n", 5)
    assert web.er("exec", "shop", "worker", "--", "sh", "-c", "test -t 0 || test -t 1").returncode == 1


def test_ctrl_c_reaches_the_command(web: Client) -> None:
    line = "trap 'echo caught; exit 42' INT; echo ready; while :; do sleep 0.1; done"
    for command in ("exec", "run"):
        terminal = _Terminal(web, command, "shop", "worker", "--", "sh", "-c", line)
        terminal.read(b"ready")
        os.write(terminal.fd, b"\x03")
        assert terminal.read().endswith(b"caught\r\n")
        assert terminal.process.wait(60) == 42


_LOST = [(command, number) for command in ("exec", "run") for number in (signal.SIGINT, signal.SIGKILL)]


@pytest.mark.parametrize(("command", "number"), sample(_LOST, (_LOST[1], _LOST[2])))
def test_a_lost_connection_ends_the_command(web: Client, command: str, number: signal.Signals) -> None:
    """Without a terminal Ctrl-C ends the connection as well. The container's first process takes no signal but KILL."""
    line = f"echo ready; sleep {77000 + number}; true"
    with _started(web, command, "worker", "--", "sh", "-c", line) as running:
        until(lambda: _sleeping(web, 77000 + number), timeout=60, what="the command after `ready`")
        running.send_signal(number)
    until(lambda: not _sleeping(web, 77000 + number), timeout=60, what="the end of the command")
    until(lambda: _containers(web) == {"api", "worker"}, timeout=60, what="the container's removal")


def test_a_lost_terminal_ends_the_command(web: Client) -> None:
    """Also one that does not hear the first signal."""
    terminal = _Terminal(web, "exec", "shop", "worker", "--", "sh", "-c", "trap '' HUP; echo ready; exec sleep 78000")
    terminal.read(b"ready")
    os.close(terminal.fd)
    terminal.process.wait(60)
    until(lambda: not _sleeping(web, 78000), timeout=60, what="the end of the command")


def _containers(web: Client) -> set[str]:
    return set(web.host.machine.run(_CONTAINERS, user="er-shop").stdout.split())


def _commands(web: Client) -> dict[str, str]:
    """The first word of each container's command."""
    done = web.host.machine.run(["podman", "ps", "--format", "{{.Names}} {{.Command}}"], user="er-shop")
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    return {re.sub("-[0-9a-f]{16}$", "", name): command.strip("[]") for name, command in rows}


def test_nothing_of_the_command_is_logged(web: Client) -> None:
    for command in ("exec", "run"):
        done = subprocess.run(
            web.argv(command, "shop", "worker", "-e", "MARK", "--", "sh", "-c", 'echo "$MARK"; : Mark-of-argv'),
            env={**web.env, "MARK": "Mark-of-env"},
            capture_output=True,
            check=True,
        )
        assert done.stdout == b"Mark-of-env\n"
    journals = web.host.machine.run("journalctl --namespace='*' --no-pager -o json --all").stdout
    assert "er server exec shop worker" in journals
    sudo = web.host.machine.run("cat /var/log/sudo.log; ls -A /run/er-session").stdout
    assert "/run/er-session/" in sudo
    assert "Mark-of" not in journals + sudo
    assert web.host.machine.run("ls -A /run/er-session").stdout == ""


@of_a_sweep
def test_what_is_run_counts_to_the_stack(web: Client) -> None:
    """The command is in the control group of its service, or of a unit with the service's limits; and ends as first."""
    uid = web.host.machine.run(["id", "-u", "er-shop"]).stdout.strip()
    for command, place in (("exec", "app.slice/shop-api.service"), ("run", r"app.slice/er-run-\w+.scope")):
        with _started(web, command, "api", "--", "sh", "-c", "echo ready; exec sleep 79000"):
            pid = web.host.machine.run(["pgrep", "-f", "^sleep 79000"]).stdout.strip()
            read = f"grep ^0:: /proc/{pid}/cgroup; cat /proc/{pid}/oom_score_adj"
            group, oom = web.host.machine.run(read).stdout.split()
            show = f"systemctl --user show 'er-{command}-*' -p CPUQuotaPerSecUSec"
            quota = web.host.machine.run(show, user="er-shop").stdout.strip()
        assert re.match(rf"0::/stacks.slice/user@{uid}.service/{place}/libpod-payload-", group)
        assert oom == "100"
        assert quota.endswith("=500ms" if command == "run" else "=infinity")
        until(lambda: not _sleeping(web, 79000), timeout=60, what="its end")


def test_run_has_what_the_service_has(web: Client) -> None:
    line = (
        "env | grep -v HOSTNAME | sort; cut -d' ' -f2- /proc/mounts | grep -v '^/ ' | sort; cat /run/secrets/token; "
        "cat /srv/files/note; nslookup worker | grep -c Address; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; "
        "touch /srv/files/x"
    )
    seen = [web.er(command, "shop", "api", "--", "sh", "-c", line) for command in ("exec", "run")]
    assert seen[0].stdout == seen[1].stdout
    assert f"{_SECRET}a file of the stack\n" in seen[0].stdout
    assert "Read-only" in seen[1].stderr
    assert _containers(web) == {"api", "worker"}


def test_run_takes_the_services_own_command_and_works_while_it_is_stopped(web: Client) -> None:
    web.er("stop", "shop", "worker")
    try:
        done = web.er("exec", "shop", "worker", "--", "true")
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search("shop/worker is not running, it is (inactive|failed)", done.stderr)
        assert "er server restart HOST shop worker" in done.stderr
        with subprocess.Popen(web.argv("run", "shop", "worker"), env=web.env, stdin=subprocess.PIPE) as running:
            until(
                lambda: _commands(web) == {"api": "sleep", "er-run-worker": "sleep"}, timeout=60, what="the container"
            )
            running.kill()
        until(lambda: _containers(web) == {"api"}, timeout=30, what="its removal")
    finally:
        web.er("start", "shop", "worker")


@of_a_sweep
def test_a_shell_is_the_first_that_is_there(web: Client) -> None:
    done = web.er("shell", "shop", "worker", stdin="echo $ROLE; cat /proc/$$/comm; exit 4\n")
    assert (done.returncode, done.stdout) == (4, "\nsh\n")
    web.er("exec", "shop", "worker", "--", "busybox", "rm", "/bin/sh")
    try:
        done = web.er("shell", "shop", "worker")
        assert (done.returncode, done.stdout) == (1, "")
        assert "the image of shop/worker has no shell: none of bash, sh, ash" in done.stderr
    finally:
        web.er("restart", "shop", "worker")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("exec", "nope", "api", "--", "id"), "there is no stack nope\nhint: there are: shop"),
        (("shell", "shop", "nope"), "the stack shop has no service nope\nhint: it has: api, worker"),
        (("run", "shop", "nope"), "the stack shop has no service nope"),
        (("exec", "shop", "api", "-e", "NO_SUCH", "--", "id"), "-e NO_SUCH: it is not set here"),
        (("exec", "shop", "api", "-e", "A=b", "--", "id"), "-e A: only the name is given"),
    ],
)
def test_what_is_not_there_is_one_clear_error(web: Client, words: tuple[str, ...], error: str) -> None:
    done = web.er(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_whose_first_boot_has_not_ended_says_so(web: Client) -> None:
    web.host.machine.run("mv /var/lib/easyrunner/complete /root/")
    try:
        assert "its first boot has not ended" in web.er("exec", "shop", "api", "--", "true").stderr
    finally:
        web.host.machine.run("mv /root/complete /var/lib/easyrunner/")
