"""Hosts under test: a spec of tests/machine/specs, booted from its user-data, seen from its network."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from builder import facts, process
from builder import spec as specs
from builder.host.packages import PACKAGES
from builder.lab import base_tree, preload, trial
from builder.lab.machine import Machine
from builder.stack import user
from tests.machine.derived_tree import with_packages

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping

    from builder.lab.network import Namespace
    from builder.spec import Spec

ROOT = Path(__file__).resolve().parents[2]
SPECS = Path(__file__).parent / "specs"
IMAGES = ROOT / ".cache" / "images"


@dataclass
class Host:
    """A running host, its spec, and the key of its admin."""

    spec: Spec
    machine: Machine
    key: Path
    logins: list[Path] = field(default_factory=list)

    @cached_property
    def ca(self) -> Path:
        """A copy of the host's own certificate authority, for clients outside."""
        copy = self.key.parent / "ca.crt"
        copy.write_bytes(self.machine.path(trial.CA).read_bytes())
        return copy

    def new_login(self) -> Path:
        """A directory for a connection that commands share; its path is short, as that of a socket has to be."""
        self.logins.append(Path(tempfile.mkdtemp(prefix="login-")))
        return self.logins[-1]

    def log_out(self) -> None:
        """End these connections: those to a machine that is off would be waited for."""
        for socket in [socket for directory in self.logins for socket in directory.iterdir()]:
            process.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "web"], check=False)
            socket.unlink(missing_ok=True)

    def end(self) -> None:
        """Nothing of it stays on this machine."""
        self.log_out()
        for directory in self.logins:
            directory.rmdir()

    def address(self, family: int) -> str:
        """The host's address, 4 or 6."""
        return self.machine.ipv4 if family == 4 else self.machine.ipv6

    def curl(
        self, url: str, *words: str, family: int = 4, source: Namespace | None = None, timeout: int = 20
    ) -> subprocess.CompletedProcess[str]:
        """Ask from another namespace, as a client with this host's CA and DNS; the output is headers and body."""
        scheme, _, rest = url.partition("://")
        name = rest.split("/")[0]
        port = 443 if scheme == "https" else 80
        address = self.address(family)
        target = f"[{address}]" if family == 6 else address
        argv = ["curl", "--silent", "--show-error", "--include", "--max-time", str(timeout), "--cacert", str(self.ca)]
        argv += ["--resolve", f"{name}:{port}:{target}", *words, url]
        return (source or self.machine.attacker(0)).run(argv, check=False)

    @cached_property
    def _ssh(self) -> str:
        """A program that is the ssh of the host's own base, where this machine can run that.

        OpenSSH before 9.9 has one exchange of keys in common with a host, which takes a client a tenth of a second.
        """
        tree, program = self.machine.tree, self.key.parent / "ssh-of-the-base"
        loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
        if not loader.exists():
            return "ssh"
        libraries = tree / "usr/lib/x86_64-linux-gnu"
        program.write_text(f'#!/bin/sh\nexec {loader} --library-path {libraries} {tree}/usr/bin/ssh "$@"\n')
        program.chmod(0o755)
        return str(program)

    def ssh_argv(self, *words: str, family: int = 4, user: str | None = None) -> list[str]:
        """How a client runs a command over SSH with the admin's key."""
        argv = [self._ssh, "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return [*argv, "-o", "ConnectTimeout=5", f"{user or self.spec.admin.name}@{self.address(family)}", *words]

    def ssh(
        self, *words: str, source: Namespace | None = None, family: int = 4, user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over SSH with the admin's key."""
        argv = self.ssh_argv(*words, family=family, user=user)
        return (source or self.machine.attacker(0)).run(argv, check=False)

    def boot(self, timeout: float = 90) -> None:
        """Power on, and wait for the ready line of this boot."""
        before = self.machine.console_text().count(trial.READY)
        self.log_out()
        self.machine.boot()
        try:
            self.machine.wait(
                lambda: self.machine.console_text().count(trial.READY) > before, timeout=timeout, what="the ready line"
            )
            self.machine.wait(self.machine.started, timeout=timeout, what="the end of start-up")
        except Exception as error:
            error.add_note(self.machine.console_text()[-3000:])
            if self.machine.running:
                error.add_note(self.machine.run("journalctl -b --no-pager | tail -60", check=False).stdout)
            raise

    def reboot(self) -> None:
        """Power off in order and on again: a real second boot on the same disk."""
        self.machine.poweroff()
        self.boot()


def written(name: str, tmp: Path, edit: Callable[[str], str] = str, keys: tuple[str, ...] = ()) -> tuple[Spec, Path]:
    """The spec `name` of tests/machine/specs in a fresh directory, with a key for its admin, and further `keys`."""
    folder = tmp / name
    shutil.copytree(SPECS / name, folder)
    key = folder / "id"
    for one in (key.name, *keys):
        comment = "test" if one == key.name else f"ci of {one}"
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(folder / one)])
    file = folder / "easyrunner.yaml"
    # Specs name their images relative to the checkout; the copy stands elsewhere.
    for path in folder.rglob("*.yaml"):
        text = path.read_text()
        for depth in ("../../../../../", "../../../../"):
            text = text.replace(f"oci-archive:{depth}.cache/images", f"oci-archive:{IMAGES}")
        path.write_text(edit(text) if path == file else text)
    return specs.load(file)[0], key


@contextmanager
def booted(
    name: str,
    tmp: Path,
    *,
    edit: Callable[[str], str] = str,
    extra_files: Mapping[str, bytes] | None = None,
    more: tuple[str, ...] = (),
    timeout: float = 90,
    start: bool = True,
    form: Callable[[Spec], bytes] | None = None,
    images: Mapping[str, Path] | None = None,
    keys: tuple[str, ...] = (),
    second: Path | None = None,
    tree: Path | None = None,
    shared: Mapping[str, Path] | None = None,
) -> Iterator[Host]:
    """Boot the spec `name` of tests/machine/specs; `edit` may change its text first; `tmp` is a fresh directory.

    `form` makes another form of the user-data than the readable one.
    The packages of every host are on the disk before the first boot, and these `more`; what one spec wants is not.
    `second` is a raw file, the machine's second disk; `tree` another one than that of a stock image; `shared` are
    directories of this machine, by where they are mounted on that one.
    `images` are archives by the name that a spec without any archive has for them: they are on the disk as if pulled.
    """
    spec, key = written(name, tmp, edit, keys)
    wanted = trial.plan(spec, timeout=300)
    base = base_tree.tree(PACKAGES[spec.server.base])
    owners = (*wanted.images, *_pulled(spec, images or {}))
    preloads = tuple(preload.prepare(base, owner, found) for owner, found in owners)
    files = {**dict(wanted.extra_files), **(extra_files or {})}
    user_data = form(spec) if form else wanted.user_data
    disk = tree or with_packages(base, more)
    made = Machine(
        disk, user_data, name=wanted.name, extra_files=files, preloads=preloads, second=second, shared=shared
    )
    with made as machine:
        host = Host(spec, machine, key)
        try:
            if start:
                host.boot(timeout)
            yield host
        finally:
            host.end()


def _pulled(spec: Spec, archives: Mapping[str, Path]) -> Iterator[tuple[preload.Owner, tuple[preload.Image, ...]]]:
    """By each stack's user the images that it would pull."""
    for stack in spec.stacks:
        names = dict.fromkeys(service.image for service in stack.services if service.image in archives)
        if names:
            owner = preload.Owner(stack.uid, user.subids(stack.uid).first, f"{facts.HOMES}/{stack.name}")
            yield owner, tuple(preload.Image(archives[name], name) for name in names)
