"""Bakes as Packer does, without it: the steps run in order in a booted machine; its disk is copied when it is off."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder import data, host, process, userdata
from builder.host import Part
from builder.imagecheck import bundle
from builder.lab import base_tree, machine_directory, trial
from builder.lab.machine import Machine
from builder.packer import upload_files
from tests.machine import hosts

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.packer.upload_files import Upload
    from builder.spec import Spec

UPLOAD: Final = "/var/tmp/er-bake"
FIRST: Final = "10-wait"
LAST: Final = "80-verify"
# A provider's stock login, as cloud-init makes it.
LOGIN: Final = "debian"
STOCK: Final = f"""#cloud-config
users:
  - name: {LOGIN}
    sudo: ALL=(ALL) NOPASSWD:ALL
    lock_passwd: true
    shell: /bin/bash
    ssh_authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl packer"]
"""
# What the build's template says: see as_root in variables.pkr.hcl.
_SCRIPT: Final = 'cat >/dev/shm/step; sudo env sh /dev/shm/step; code=$?; rm -f /dev/shm/step; exit "$code"'
# The lab's own are no part of an image; a machine that is laid out brings them again.
LAB: Final = (
    "/etc/cloud/cloud.cfg.d/99-lab.cfg",
    "/etc/containers/containers.conf.d/00-lab.conf",
    "/etc/systemd/resolved.conf.d/50-lab.conf",
)


@dataclass
class Baked:
    """What came out: the disk as a tree, and what each step said, the first and the second time."""

    spec: Spec
    key: Path
    tree: Path
    said: dict[str, str] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)


def steps() -> tuple[Path, ...]:
    """The steps of a bake, in order."""
    return tuple(sorted(path for path in (data.tree("images") / "steps").iterdir() if path.is_file()))


def step(name: str) -> Path:
    """One of them."""
    return data.tree("images") / "steps" / name


def run(machine: Machine, script: Path) -> subprocess.CompletedProcess[str]:
    """Run one step as Packer does: from memory, with sudo, by the stock login."""
    return process.run(machine.argv(_SCRIPT, user=LOGIN), stdin=script.read_bytes(), timeout=900, check=False)


def must(machine: Machine, script: Path) -> str:
    """Run one step to its good end. Returns what it said."""
    done = run(machine, script)
    assert done.returncode == 0, f"{script.name}:\n{done.stdout[-3000:]}{done.stderr}"
    return done.stdout


def upload(machine: Machine, wanted: Upload, scratch: Path) -> None:
    """Bring the upload to where the first step made room for it."""
    upload_files.write(wanted, scratch)
    process.run(["cp", "--recursive", f"{scratch}/.", str(machine.path(UPLOAD))])


def wanted(spec: Spec, tmp: Path, *, apt_sources: str = "") -> Upload:
    """The upload for the host of a spec and its stacks, with the real checks."""
    built = host.build(spec)
    check = bundle(tmp / "check.pyz", built.only(Part.BAKED)).read_bytes()
    return upload_files.collect(spec, built, check=check, with_stacks=True, apt_sources=apt_sources)


def bake(name: str, tmp: Path, *, packages: tuple[str, ...] = (), twice: bool = True) -> Baked:
    """Bake the stock image for a spec of tests/machine/specs, every step that may be repeated twice.

    `packages` are on the disk already.
    """
    spec, key = hosts.written(name, tmp)
    baked = Baked(spec, key, tmp / "tree")
    baked.tree.mkdir()
    with Machine(base_tree.tree(packages), STOCK.encode(), name="bake") as machine:
        machine.boot_and_wait()
        baked.said[FIRST] = must(machine, step(FIRST))
        upload(machine, wanted(spec, tmp), tmp / "upload")
        for script in steps():
            if script.name != FIRST:
                baked.said[script.name] = must(machine, script)
            if twice and script.name != LAST:
                baked.again[script.name] = must(machine, script)
        machine.poweroff()
        copy(machine, baked.tree)
    return baked


def copy(machine: Machine, target: Path) -> None:
    """The disk of a machine that is off, as a tree."""
    process.run(["cp", "--archive", f"{machine.files.tree}/.", f"{target}/"])
    for path in machine_directory.REAL_DIRECTORIES:
        there = target / path.lstrip("/")
        there.mkdir(parents=True, exist_ok=True)
        process.run(["cp", "--archive", f"{machine.disk.real_directory(path)}/.", f"{there}/"])
    for path in LAB:
        (target / path.lstrip("/")).unlink(missing_ok=True)


@contextmanager
def laid_out(
    baked: Baked, *, internet: bool = True, extra_files: Mapping[str, bytes] | None = None
) -> Iterator[hosts.Host]:
    """A machine on the baked tree with the small user-data, off."""
    content = userdata.cloud_config(baked.spec, host.build(baked.spec), "baked")
    extra = {**dict(trial.plan(baked.spec, timeout=300).extra_files), **(extra_files or {})}
    name = baked.spec.server.name
    with Machine(baked.tree, content, name=name, extra_files=extra, internet=internet) as machine:
        yield hosts.Host(baked.spec, machine, baked.key)
