"""`er server exec`, with an ssh that only tells what it was called with."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

ER = Path(sysconfig.get_path("scripts"), "er")
# The first call sends the remote part and the request; it ends with one JSON object.
SSH = """\
#!/bin/sh
for word; do last=$word; done
case "$last" in
*" session") cat >"$0.sent"; echo '{"path": "/run/er-session/01", "woken": []}' ;;
*) for word; do echo "[$word]"; done; cat; echo failed >&2; exit 7 ;;
esac
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of programs whose ssh is the one above."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    return tmp_path


def er(directory: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "TOKEN": "S3kr3t"}
    argv = [str(ER), "server", *words]
    return subprocess.run(argv, input=stdin, env=env, capture_output=True, timeout=60, check=False)


def test_er_becomes_an_ssh_whose_command_line_says_nothing(directory: Path) -> None:
    words = ["web", "shop", "db", "-e", "TOKEN", "-u", "app", "-o", "Port=222"]
    command = ["psql", "-c", "select 1", "--", "-x"]
    done = er(directory, "exec", *words, "--", *command, stdin=b"\x00\xffdump")
    options = ["-T", "-o", "ConnectTimeout=15", "-o", "Port=222", "-o", "LogLevel=ERROR", "--", "web"]
    call = "".join(f"[{word}]\n" for word in [*options, "sudo -n python3 -I /run/er-session/01"])
    assert (done.returncode, done.stdout, done.stderr) == (7, call.encode() + b"\x00\xffdump", b"failed\n")
    sent = (directory / "ssh.sent").read_bytes()
    assert json.loads(sent[sent.rindex(b'{"action"') :]) == {
        "action": "exec",
        "stack": "shop",
        "service": "db",
        "command": command,
        "env": {"TOKEN": "S3kr3t"},
        "user": "app",
        "workdir": "",
        "tty": False,
    }


@pytest.mark.parametrize("words", [["exec", "web", "shop", "db"], ["shell", "web", "shop", "db", "--", "ls"]])
def test_a_command_where_there_must_be_one_and_none_where_there_is_none(directory: Path, words: list[str]) -> None:
    assert er(directory, *words).returncode == 2


def test_commands_stand_in_the_order_of_use(directory: Path) -> None:
    listed = er(directory, "--help").stdout.decode().partition("Commands:\n")[2]
    names = [line.split()[0] for line in listed.splitlines() if line[:2] == "  " and line[2:3].strip()]
    assert names == [
        "status", "doctor", "verify", "report", "apply", "push", "move", "releases", "rollback", "backup", "restore",
        "notify", "logs", "exec", "shell", "run", "restart", "stop", "start",
        "fail2ban-status", "ban", "unban", "reapply-firewall", "secret", "registry",
    ]  # fmt: skip
