"""A booted host, and `er server` as its admin runs it."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.polling import until
from tests import forked_er
from tests.machine import hosts
from tests.machine.conftest import _able, example_images, toolbox_image  # noqa: F401 - fixtures

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.machine.hosts import Host

ER = Path(sysconfig.get_path("scripts"), "er")
_SSH = """\
Host web
  HostName {address}
  User {user}
  IdentityFile {key}
  IdentitiesOnly yes
  UserKnownHostsFile {known}
  StrictHostKeyChecking accept-new
  LogLevel ERROR
"""
# As many a user's: commands share a login. One takes a third of a second of a processor, most of it the exchange of
# keys and a service manager for the session.
_SHARING = """\
Match originalhost web user {user}
  ControlMaster auto
  ControlPath {login}
  ControlPersist 300
  ServerAliveInterval 5
  ServerAliveCountMax 3
"""


@dataclass
class Client:
    """The admin's laptop: an ssh config that names the host, and the spec."""

    host: Host
    directory: Path

    @property
    def spec(self) -> Path:
        """The spec the host was made from; tests write others beside it."""
        return self.host.key.parent / "easyrunner.yaml"

    def edited(self, old: str, new: str) -> Path:
        """A copy of the spec with one change, beside it."""
        text = self.spec.read_text()
        assert old in text
        file = self.spec.with_name("edited.yaml")
        file.write_text(text.replace(old, new))
        return file

    def argv(self, command: str, *words: object) -> list[str]:
        """The command line; the ssh config is the user's own, found by ssh itself."""
        return [str(ER), "server", *command.split(), "web", *map(str, words)]

    @property
    def env(self) -> dict[str, str]:
        """ssh of this directory stands first: ssh reads its config from the account's home, whatever HOME says."""
        return {**os.environ, "PATH": f"{self.directory}:{os.environ['PATH']}", "COLUMNS": "160", "NO_COLOR": "1"}

    def er(self, command: str, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return forked_er.run(self.argv(command, *words)[1:], env=self.env, stdin=stdin)

    def json(self, command: str, *words: object) -> Any:
        """What it prints as JSON, whatever its exit code."""
        done = self.er(command, *words, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


def generate_secrets(admin: Client, *stacks: str) -> None:
    """While a first boot waits for them; it is not asked before the stack's user is there, as each `er` costs."""
    machine = admin.host.machine
    for stack in stacks:
        linger = f"/var/lib/systemd/linger/er-{stack}"
        machine.wait(lambda path=linger: machine.path(path).exists(), timeout=90, what=f"the user of {stack}")  # type: ignore[misc]
        until(lambda name=stack: admin.er("secret generate", name).returncode == 0, timeout=90, what="a secret")  # type: ignore[misc]


def client(host: Host, directory: Path, *, sharing: bool = True) -> Client:
    """Lay down the config, and an ssh that reads it; `sharing` is whether commands share a login."""
    config = directory / "config"
    user = host.spec.admin.name
    text = _SSH.format(address=host.machine.ipv4, user=user, key=host.key, known=directory / "known_hosts")
    if sharing:
        text += _SHARING.format(user=user, login=host.new_login() / "%h-%p")
    config.write_text(text)
    ssh = directory / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    ssh.chmod(0o755)
    return Client(host, directory)


@pytest.fixture(scope="session")
def looked_at(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:  # noqa: F811
    """The host of the spec `three`, for files whose tests look, or put back what they change; the last need not."""
    tmp = tmp_path_factory.mktemp("server")
    with hosts.booted("three", tmp) as host:
        yield client(host, tmp)


@pytest.fixture(scope="module")
def web(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:  # noqa: F811
    """The host of the spec `three`, changed by tests that put it back."""
    tmp = tmp_path_factory.mktemp("server")
    with hosts.booted("three", tmp) as host:
        yield client(host, tmp)


@pytest.fixture(scope="module")
def alone(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:  # noqa: F811
    """The same, but no command shares another one's login: connections are cut, and `er` does with them as for most."""
    tmp = tmp_path_factory.mktemp("server")
    with hosts.booted("three", tmp) as host:
        yield client(host, tmp, sharing=False)
