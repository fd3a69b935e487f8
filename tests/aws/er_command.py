"""Running `er` against the wire: in this process for speed, or as a process that can be killed."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sysconfig
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from typer.main import get_command
from typer.testing import CliRunner

from builder.aws import api
from builder.cli.app import app
from tests.aws import moto_account

if TYPE_CHECKING:
    import pytest

    from tests.aws.wire import Wire

PROGRAM = Path(sysconfig.get_path("scripts"), "er")
KEY = moto_account.KEY
SPEC = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{KEY}"]}}
dns: route53
stacks:
  - {{name: hello, image: "docker.io/library/caddy:2.11", domain: hello.example.com, port: 8080}}
  - {{name: blog, image: "docker.io/library/caddy:2.11", domain: blog.example.com, port: 8080}}
"""
# Without domains there is nothing to ask over HTTPS: the console alone says when it is ready.
QUIET = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{KEY}"]}}
"""
# With images of a registry of Amazon's, to which the server's role logs in.
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
BY_ROLE = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{KEY}"]}}
registries: {{{ECR}: aws}}
stacks:
  - {{name: hello, image: "{ECR}/team/hello:1", domain: hello.example.com, port: 8080}}
  - {{name: blog, image: "docker.io/library/caddy:2.11", domain: blog.example.com, port: 8080}}
"""
# Waiting is what makes such tests slow; that there is any, tests of the backoff itself see to.
_QUICK = api.Backoff(attempts=3, pause=0.01, longest=0.05)


@dataclass(frozen=True)
class Done:
    """A run: its exit code, and what it said."""

    code: int
    out: str
    err: str


class _Session(boto3.session.Session):  # type: ignore[misc]
    """Makes every client once: reading its model is most of the time of a short run."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._made: dict[object, Any] = {}

    def client(self, service: str, **options: Any) -> Any:
        key = (service, options.get("region_name"), getattr(options.get("config"), "read_timeout", None))
        if key not in self._made:
            self._made[key] = super().client(service, **options)
            _CLIENTS.append(self._made[key])
        return self._made[key]


_CLIENTS: list[Any] = []


session = cache(_Session)
# typer makes the whole command line anew for each run, which takes longer than many of them.
_command = cache(get_command)


class Er:
    """`er` in this process."""

    def __init__(self, wire: Wire, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.wire = wire
        self.directory = directory
        self.spec = directory / "easyrunner.yaml"
        self.spec.write_text(SPEC)
        self.known_hosts = directory / ".ssh" / "known_hosts"
        for key in [key for key in os.environ if key.startswith("AWS_")]:
            patch.delenv(key)
        self.environment = moto_account.environment(wire.url, directory)
        for key, value in self.environment.items():
            patch.setenv(key, value)
        patch.setattr(api, "BACKOFF", _QUICK)
        patch.setattr("boto3.session.Session", session)
        patch.setattr("typer.testing._get_command", _command)

    def __call__(self, *words: str | Path) -> Done:
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    def fork(self, *words: str | Path) -> int:
        """The same in a child of this process, which has all that a process of its own would load; its id."""
        with warnings.catch_warnings():
            # No thread but this one is in a call of AWS's: none holds a lock that the child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                # The connections are the parent's.
                for client in _CLIENTS:
                    client.close()
                done = self(*words)
                os.write(2, done.err.encode() * bool(done.code))
            finally:
                os._exit(0)
        return child

    def launch(self, *words: str | Path) -> Done:
        return self("launch", self.spec, *words)

    def process(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """A process of its own."""
        argv = [str(PROGRAM), *map(str, words)]
        env = moto_account.environment(self.wire.url, self.directory)
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def fingerprint(blob: str) -> str:
    """Of a public key in base64, without its prefix."""
    return base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")


def victim(words: tuple[str, ...], environment: dict[str, str]) -> None:
    """`er` in a process that was made for it, for tests that kill it."""
    os.environ.clear()
    os.environ.update(environment)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    app(list(words))
