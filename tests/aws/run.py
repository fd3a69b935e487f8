"""Running `er` against the wire: in this process for speed, or as a process that can be killed."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.config
from typer.testing import CliRunner

from builder.aws import door, pace
from tests.aws import cloud

if TYPE_CHECKING:
    import pytest

    from tests.aws.wire import Wire

PROGRAM = Path(sysconfig.get_path("scripts"), "er")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop"
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
# Waiting is what makes such tests slow; that there is any, tests of the pace itself see to.
_QUICK = pace.Pace(attempts=3, pause=0.01, longest=0.05)


@dataclass(frozen=True)
class Done:
    """A run: its exit code, and what it said."""

    code: int
    out: str
    err: str


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
        for key, value in cloud.environment(wire.url, directory).items():
            patch.setenv(key, value)
        patch.setattr(pace, "PACE", _QUICK)
        quick = {"retries": {"mode": "standard", "total_max_attempts": 2}, "read_timeout": 0.4}
        patch.setattr(door, "READ", door.READ.merge(botocore.config.Config(**quick)))
        patch.setattr(door, "WRITE", door.WRITE.merge(botocore.config.Config(read_timeout=0.4)))
        patch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)

    def __call__(self, *words: str | Path) -> Done:
        from builder.cli.app import app

        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    def launch(self, *words: str | Path) -> Done:
        return self("launch", self.spec, *words)

    def process(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """A process of its own."""
        argv = [str(PROGRAM), *map(str, words)]
        env = cloud.environment(self.wire.url, self.directory)
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
