"""A command logs in once for all that it asks, and leaves nothing running; what must be new is new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import process
from builder.polling import until
from builder.problems import UserError
from builder.server import Remote, connection, ssh
from tests.server.conftest import Client, client

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def web(looked_at: Client, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """With an ssh that shares nothing by itself."""
    return client(looked_at.host, looked_at.spec.parent, sharing=False)


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where er has its files for the time of a run; the path is as short as those of a user."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


@pytest.fixture
def server(web: Client, monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setenv("PATH", web.env["PATH"])
    return Remote("web")


@contextmanager
def _logins(web: Client, count: int) -> Iterator[None]:
    """So many logins happen in the block."""
    look = "journalctl -b -t sshd -t sshd-session -g 'Accepted publickey' -o cat --no-pager | wc -l"
    before = int(web.host.machine.run(look).stdout)
    yield
    until(lambda: int(web.host.machine.run(look).stdout) >= before + count, timeout=60, what="the logins")
    assert int(web.host.machine.run(look).stdout) == before + count


def _processes(directory: Path) -> list[str]:
    """Command lines that name it: what shares a connection has the path of its socket for a title."""
    lines = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return [line.decode(errors="replace") for line in lines if str(directory).encode() in line]


def test_a_command_that_asks_much_logs_in_once(web: Client, private: Path) -> None:
    with _logins(web, 1):
        assert web.er("apply", web.spec, "--yes").returncode == 0
    assert list(private.iterdir()) == []
    until(lambda: not _processes(private), timeout=20, what="the end of the connection")


def test_a_path_that_is_too_long_for_a_socket_shares_none(web: Client, private: Path, server: Remote) -> None:
    deep = private / ("deep" * 20)
    deep.mkdir()
    tempfile.tempdir = str(deep)
    with connection.shared(server) as same, _logins(web, 2):
        assert same is server
        assert [same.ask("apply-state")["phase"] for _ in range(2)] == ["none", "none"]


def test_the_users_own_sharing_is_kept(web: Client, private: Path) -> None:
    """It may have cost a touch of a key: neither is another connection made, nor that one ended."""
    words = ("ControlMaster=auto", f"ControlPath={private / 'own'}", "ControlPersist=60")
    options = [word for option in words for word in ("-o", option)]
    try:
        with _logins(web, 1):
            assert web.er("verify", web.spec, *options).returncode == 0
            assert web.er("verify", web.spec, *options).returncode == 0
        assert [path.name for path in private.iterdir()] == ["own"]
    finally:
        process.run([str(web.directory / "ssh"), "-O", "exit", *options, "web"])


def test_what_has_to_be_new_is_new(web: Client, private: Path, server: Remote) -> None:
    """`fresh` shows that a login still works; a long transfer has compression and limits of its own."""
    with connection.shared(server) as asked:
        with _logins(web, 1):
            asked.ask("apply-state")
        with _logins(web, 1):
            asked.ask("apply-state", fresh=True)
        with _logins(web, 1):
            asked.ask("apply-state", stdin=iter((b"", b"")))
        with _logins(web, 0):
            asked.ask("apply-state")


def test_a_change_is_followed_over_one_connection(web: Client, private: Path, server: Remote) -> None:
    """State by state as they come; a server that says nothing at all is given up."""
    with connection.shared(server) as asked:
        with _logins(web, 1):
            states = asked.follow("apply-wait", phase="done")
            assert next(states)["phase"] == "none"
            states.close()  # type: ignore[attr-defined]
            assert asked.ask("apply-state")["phase"] == "none"
        with pytest.raises(ssh.UnreachableError, match="web has said nothing for"):
            next(ssh._values("web", process.chunks(["sleep", "600"], b"", silence=0.2)))
        with pytest.raises(UserError, match="there is no stack nothing"):
            next(asked.follow("release-wait", "nothing", phase="done"))


def _background(private: Path) -> tuple[Path, int]:
    """The socket of the shared connection, and the process that has it."""
    (socket,) = private.glob("er-*/ssh")
    said = process.run(["ssh", "-O", "check", "-o", f"ControlPath={socket}", "web"]).stderr
    return socket, int(said.partition("pid=")[2].partition(")")[0])


def test_a_connection_that_is_gone_is_made_anew(web: Client, private: Path, server: Remote) -> None:
    """What was under way says so, and may be tried again; a socket that nobody answers is in nobody's way."""
    with connection.shared(server) as asked:
        asked.ask("apply-state")
        socket, pid = _background(private)
        with subprocess.Popen(asked.argv(["sleep", "600"]), stderr=subprocess.PIPE, text=True) as running:
            until(
                lambda: web.host.machine.run("pgrep -f 'sleep 600'", check=False).stdout, timeout=60, what="the command"
            )
            os.kill(pid, signal.SIGKILL)
            _, said = running.communicate(timeout=60)
        error = ssh.explain_failure("web", running.returncode, said)
        assert isinstance(error, ssh.UnreachableError)
        assert "the connection was lost" in error.message
        assert socket.exists()
        with _logins(web, 1):
            assert asked.ask("apply-state") == asked.ask("apply-state")


_KILLED = """\
import os, signal
from builder.server import Remote, connection
connection._PERSISTS = 1
with connection.shared(Remote("web")) as server:
    server.ask("apply-state")
    print(server.shared, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_the_connection_ends_by_itself(web: Client, private: Path) -> None:
    done = process.run([sys.executable, "-c", _KILLED], env=web.env, check=False)
    assert done.returncode == -signal.SIGKILL
    assert "ControlPath=" in done.stdout
    until(lambda: not _processes(private), timeout=60, what="the end of the connection")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("HostName=127.0.0.1", "Port=9"), "nothing listens for SSH there"),
        (("StrictHostKeyChecking=yes", "UserKnownHostsFile=/dev/null"), "the host key is not known"),
    ],
)
def test_what_fails_says_the_same(web: Client, options: tuple[str, ...], says: str) -> None:
    words = [word for option in options for word in ("-o", option)]
    alone, sharing = (web.er(*command, *words) for command in (("status",), ("verify", web.spec)))
    assert says in alone.stderr
    assert (sharing.returncode, sharing.stderr) == (alone.returncode, alone.stderr)
