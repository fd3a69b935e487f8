"""User-data on a stock image: accepted by cloud-init's own schema, and closed where no package can be had.

That it is enough to make the host from nothing is shown by packer/test_same_host.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import host, process, userdata
from builder import spec as specs
from builder.lab import base_tree, trial
from builder.lab.machine import Machine
from tests.machine.hosts import ROOT, Host, written

if TYPE_CHECKING:
    from pathlib import Path

    from builder.userdata.cloudconfig import On

pytestmark = pytest.mark.machine

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
# `cloud-init schema -c` of each file, by one process: its start takes a second of a processor.
_JUDGE = """
import glob, sys
from cloudinit.cmd.main import main
for path in sorted(glob.glob("/mnt/*.data")):
    sys.argv = ["cloud-init", "schema", "-c", path]
    if main():
        sys.exit(f"{path}: not accepted")
"""


@pytest.mark.parametrize("on", ["stock", "baked"])
def test_cloud_init_accepts_it(on: On, tmp_path: Path) -> None:
    """The schema of the base's own cloud-init finds nothing to say of any example, deprecations included."""
    for path in EXAMPLES:
        spec, _ = specs.load(path)
        (tmp_path / f"{path.stem}.data").write_bytes(userdata.cloud_config(spec, host.build(spec), on))
    (tmp_path / "judge.py").write_text(_JUDGE)
    script = 'mount --bind "$1" "$2/mnt"; mount -t proc proc "$2/proc"; exec chroot "$2" python3 /mnt/judge.py'
    # A private view of the tree: nothing of it is written.
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
        str(tmp_path),
        str(base_tree.tree()),
    ]
    done = process.run(argv, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Valid schema") == len(EXAMPLES) > 1
    assert "eprecat" not in done.stdout + done.stderr


def test_a_host_without_its_packages_is_closed_and_says_what_is_missing(tmp_path: Path) -> None:
    """No mirror answers: SSH is let in and nothing else, over both families, and cloud-init reports it."""
    spec, key = written("three", tmp_path)
    wanted = trial.plan(spec, timeout=300)
    nobody = {"/etc/apt/sources.list": b"deb http://127.0.0.1:9/debian trixie main\n"}
    tree = base_tree.tree(wanted.packages)
    with Machine(tree, wanted.user_data, name=wanted.name, extra_files=nobody) as machine:
        remove = ["chroot", str(machine.disk.root), "dpkg", "--remove", "--force-depends", "podman"]
        process.run(machine.mounts.argv(remove, group="remove"))
        machine.boot()
        machine.wait(machine.cloud_init_done, timeout=300, what="cloud-init")
        assert "provision: not installed: podman" in machine.console_text()
        assert machine.run("cloud-init status", check=False).stdout.strip() == "status: error"
        for iptables in ("iptables", "ip6tables"):
            assert {"-P INPUT DROP", "-P FORWARD DROP"} <= set(machine.run(f"{iptables} -S").stdout.splitlines())
        assert Host(spec, machine, key).ssh("sudo true").returncode == 0
