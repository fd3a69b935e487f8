"""A guest with a kernel of its own, three stacks on it: one attacks from its container, the others are watched."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from builder import facts, process, userdata
from builder import host as hosts
from builder import spec as specs
from builder.lab import trial
from builder.polling import until
from builder.qemu import Settings, Vm, seed
from builder.qemu.verify import for_this_machine, keygen_argv
from tests.packer import attacker_image
from tests.packer.bake_program import ROOT
from tests.packer.shared_bake import ER

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from builder.stack.model import Stack

SPEC: Final = Path(__file__).parent / "specs" / "attacked"
OTHERS: Final = ("hello.example.com", "notes.example.com")
SITE: Final = "evil.example.com"
# Emulated, on a machine that does other things as well.
PATIENCE: Final = 1800
# Between two visits, and between two logins, in seconds: visitors, not an attack of their own on an emulated processor.
_VISITS, _LOGINS = 1.0, 10.0
_SSH: Final = """\
Host guest
  HostName 127.0.0.1
  Port {port}
  User er
  IdentityFile {key}
  IdentitiesOnly yes
  UserKnownHostsFile {known}
  StrictHostKeyChecking accept-new
  ConnectTimeout 120
  ControlPath {master}
  LogLevel ERROR
"""


@dataclass
class Watch:
    """Somebody else's visitors, one request after the other, and an admin who logs in; from another thread each."""

    stage: Stage
    answers: list[tuple[str, int, float]] = field(default_factory=list)
    logins: list[float] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=work) for work in (self._visit, self._login)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _visit(self) -> None:
        while not self._end.is_set() or not self.answers:
            for site in OTHERS:
                since = time.monotonic()
                self.answers.append((site, self.stage.status_of(site), time.monotonic() - since))
            self._end.wait(_VISITS)

    def _login(self) -> None:
        """A new connection each time: another key exchange, another session."""
        while not self._end.is_set() or not self.logins:
            since = time.monotonic()
            done = process.run(self.stage.ssh_argv("true", fresh=True), check=False)
            self.logins.append(time.monotonic() - since if done.returncode == 0 else -1.0)
            self._end.wait(_LOGINS)

    @property
    def failures(self) -> list[object]:
        """What was not answered with 200, and logins that failed."""
        return [*(answer for answer in self.answers if answer[1] != 200), *(one for one in self.logins if one < 0)]

    @property
    def slowest(self) -> float:
        return max(seconds for _, _, seconds in self.answers)


@dataclass
class Stage:
    """The guest, and the admin's side of it."""

    vm: Vm
    ssh: Path
    ca: Path
    spec: specs.Spec

    def status_of(self, site: str) -> int:
        """What a visitor gets; 0 for nothing."""
        argv = trial.curl(site, "127.0.0.1", self.vm.port(443), self.ca, seconds=60)
        return int(process.run(argv, check=False).stdout or 0)

    def ssh_argv(self, *words: str, fresh: bool = False) -> list[str]:
        """ssh as the admin configured it; `fresh` makes a connection of its own instead of sharing one."""
        options = [word for word in words if word.startswith("-")]
        rest = [word for word in words if not word.startswith("-")]
        return [str(self.ssh), *(["-S", "none"] if fresh else []), *options, "guest", *rest]

    def root(self, command: str, *, check: bool = True, timeout: float = PATIENCE) -> str:
        """What a command of root's says."""
        argv = self.ssh_argv("sudo", "sh")
        return process.run(argv, stdin=command.encode(), timeout=timeout, check=check).stdout.strip()

    def er(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`er server`, as the admin runs it: over the system's ssh."""
        command, *rest = words
        argv = ["env", f"PATH={self.ssh.parent}:/usr/bin:/bin", ER, "server", command, "guest", *rest]
        return process.run(argv, timeout=PATIENCE, check=False)

    def status(self) -> dict[str, Any]:
        """What `er server status` shows."""
        said = self.er("status", "--json")
        assert said.stdout, said.stderr
        found: dict[str, Any] = json.loads(said.stdout)
        return found

    def attack(self, *words: str, seconds: int = 60, service: str = "web") -> dict[str, Any] | None:
        """Attack from a container; what the attacker says, None when it was ended before it could."""
        inside = f"exec {service} {' '.join(attacker_image.ATTACK)} {' '.join(words)}"
        said = self.podman("evil", inside, before=f"timeout -s KILL {seconds}")
        return json.loads(said) if said.startswith("{") else None

    def podman(self, stack: str, command: str, *, before: str = "") -> str:
        """The last line that Podman says to a stack's user."""
        user, home = f"{facts.STACK_USER_PREFIX}{stack}", f"{facts.HOMES}/{stack}"
        uid = f"$(id -u {user})"
        env = f"env XDG_RUNTIME_DIR=/run/user/{uid} XDG_CONFIG_HOME={facts.CONFIG}/{uid} HOME={home}"
        line = f"cd / && setpriv --reuid {user} --regid {user} --init-groups {env} {before} podman {command}"
        return self.root(f"{line} 2>&1 | tail -n 1", check=False)

    @property
    def evil(self) -> Stack:
        """The stack that attacks."""
        return next(stack for stack in self.spec.stacks if stack.name == "evil")

    @property
    def uid(self) -> int:
        return self.evil.uid

    def recover(self) -> None:
        """Restart the stack as the admin would, and wait until it answers."""
        done = self.er("restart", "evil")
        assert done.returncode == 0, done.stderr
        self.until_answered()

    def until_answered(self) -> None:
        until(lambda: self.status_of(SITE) == 200, timeout=PATIENCE, what="the stack to answer again")


@contextmanager
def stage(image: Path, directory: Path) -> Iterator[Stage]:
    """Boot the image with the three stacks; `directory` is a fresh one."""
    spec, key = _spec(directory)
    drive = seed.archives_disk(spec, directory)
    assert drive is not None
    settings = Settings(
        user_data=userdata.cloud_config(spec, hosts.build(spec), "baked"),
        vendor_data=seed.VENDOR_DATA,
        name=spec.server.name,
        drives=(drive,),
        key=key,
    )
    with Vm(image, settings) as vm:
        vm.boot()
        vm.wait_console(trial.READY, timeout=PATIENCE)
        made = Stage(vm, _ssh(vm, key, directory), directory / "ca.crt", spec)
        # One connection that stays and is shared, as a login is slow while it brings up its user's manager.
        staying = process.start(made.ssh_argv("-M", "-N", fresh=False))
        try:
            until((directory / "master").is_socket, timeout=PATIENCE, what="SSH to answer")
            made.ca.write_text(made.root(f"cat {trial.CA}"))
            yield made
        finally:
            staying.kill()
            staying.wait()


def _ssh(vm: Vm, key: Path, directory: Path) -> Path:
    """An ssh that reads a config of its own: the real one reads the account's, whatever HOME says."""
    config, ssh = directory / "config", directory / "bin" / "ssh"
    config.write_text(
        _SSH.format(port=vm.port(22), key=key, known=directory / "known_hosts", master=directory / "master")
    )
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    ssh.chmod(0o755)
    return ssh


def _spec(directory: Path) -> tuple[specs.Spec, Path]:
    folder = directory / "spec"
    shutil.copytree(SPEC, folder)
    images = ROOT / ".cache" / "images"
    attacker_image.make(images / "app.tar", folder / "attacker.tar")
    file = folder / "easyrunner.yaml"
    file.write_text(file.read_text().replace("oci-archive:../../../../.cache/images", f"oci-archive:{images}"))
    key = folder / "id"
    process.run(keygen_argv(key))
    spec, _ = specs.load(file)
    return for_this_machine(spec, key.with_suffix(".pub").read_text().strip()), key
