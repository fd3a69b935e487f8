"""A bake without an operating system to bake, as a program: it ends as `er` does.

    rehearsal.py DIRECTORY ssh ADDRESS KEY [name=value…]   Packer's null builder, on a machine that stands already
    rehearsal.py DIRECTORY qemu DISK                       the local target's own source, on a disk that boots nothing
    rehearsal.py DIRECTORY cloud TARGET [step=script…]     a provider's own source, with steps that do nothing but these

Everything else is the real thing: Packer, the template, the steps, the wrapper.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder import data
from builder import host as hosts
from builder import spec as specs
from builder.cli import build_image
from builder.cli.app import exit_code
from builder.cli.progress import Steps
from builder.packer import build, credentials, program, upload_files, work_directory
from builder.packer.request import Request, unique_name
from builder.packer.run import Job
from builder.packer.targets import BY_NAME, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "examples" / "hello.yaml"
NULL = Target("null", "null", "", "", "1.6.6", "nothing", "", {("debian-13", "amd64"): {}})
SOURCE = b"""
variable "ssh_host" { type = string }
variable "ssh_private_key_file" { type = string }
source "null" "host" {
  ssh_host             = var.ssh_host
  ssh_username         = "root"
  ssh_private_key_file = var.ssh_private_key_file
  ssh_timeout          = "10s"
}
"""


def order(directory: Path, environment: Mapping[str, str] | None = None) -> Request:
    """The order of a rehearsal."""
    spec, _ = specs.load(SPEC)
    return Request(spec, NULL, directory, environment=environment or dict(os.environ))


def on_machine(wanted: Request, address: str, key: Path, more: Mapping[str, str]) -> Job:
    """Packer's null builder. `more` replaces files of the upload by their path, and `apt` the mirror."""
    host = hosts.build(wanted.spec)
    apt = more.get("apt", work_directory.local_sources("debian-13"))
    upload = upload_files.collect(wanted.spec, host, check=b"print('clean')", apt_sources=apt)
    contents = {**upload.files, **{name: text.encode() for name, text in more.items() if name in upload.files}}
    variables = {
        "source": NULL.label,
        "name": wanted.name,
        "base": "debian-13",
        "arch": "amd64",
        "ssh_host": address,
        "ssh_private_key_file": str(key),
    }
    files = (*work_directory.shared_files(), work_directory.TemplateFile("source.pkr.hcl", SOURCE))
    return Job(program.find(), files, upload_files.Upload(contents, upload.archives), variables, (), wanted.environment)


def on_disk(wanted: Request, disk: Path) -> Job:
    """The template of a local image, on any disk."""
    packer = program.find()
    with disk.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    variables = {
        "source": "qemu.host",
        "name": wanted.name,
        "base": "debian-13",
        "arch": "amd64",
        "memory": 128,
        "disk_image": str(disk),
        "disk_image_checksum": f"sha256:{checksum}",
        "accelerator": "tcg",
        "seed": str(disk),
        "ssh_private_key_file": str(disk.with_name("id")),
        "output_directory": work_directory.OUTPUT,
        "serial": f"file:{work_directory.CONSOLE}",
    }
    files = work_directory.template("qemu", plugins=packer.takes_plugins)
    return Job(packer, files, upload_files.Upload({}, {}), variables, (), wanted.environment)


def in_cloud(wanted: Request, scripts: Mapping[str, str]) -> Job:
    """The template of a provider, with small steps: what they do is tested elsewhere.

    `scripts` are by the names of steps; any other name is a variable's.
    """
    packer = program.find()
    target = wanted.target
    template = work_directory.template(target.name, plugins=packer.takes_plugins)
    files = [file for file in template if not file.path.startswith("steps/")]
    names = sorted(path.name for path in (data.tree("images") / "steps").glob("[0-9]*"))
    # The first makes the place of the upload, as in a bake: scp would make a file of that name.
    small = (
        {name: f"echo this is {name}" for name in names} | {"10-wait": "install -d /var/tmp/er-bake"} | dict(scripts)
    )
    steps = [
        work_directory.TemplateFile(f"steps/{name}", f"#!/bin/sh\n{small[name]}\n".encode(), 0o755) for name in names
    ]
    variables = {
        "source": target.label,
        "name": unique_name(wanted),
        "base": "debian-13",
        "arch": "amd64",
        **target.images["debian-13", "amd64"],
        **{name: value for name, value in scripts.items() if name not in names},
    }
    upload = upload_files.Upload({"rootfs.tar": b"nothing"}, {})
    environment = credentials.complete(target.name, wanted.environment)
    return Job(packer, (*files, *steps), upload, variables, (), environment, target)


def main(words: list[str]) -> int:
    """Rehearse as the words say."""
    directory, kind, *rest = words
    wanted = order(Path(directory))
    if kind == "cloud":
        wanted = replace(wanted, target=BY_NAME[rest[0]], keep_log=True)
        planned = in_cloud(wanted, dict(word.split("=", 1) for word in rest[1:]))
    elif kind == "qemu":
        planned = on_disk(wanted, Path(rest[0]))
    else:
        planned = on_machine(wanted, rest[0], Path(rest[1]), dict(word.split("=", 1) for word in rest[2:]))
    with Steps() as steps:
        result = build_image.follow(build.bake(wanted, planned, steps.line), steps)
    return build_image.show(result, SPEC, as_json=kind == "cloud")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
