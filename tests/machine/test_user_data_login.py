"""A provider whose own login is root: the admin is in and root is out, and nobody is locked out at any moment."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from builder import process
from builder.lab import base_tree, trial
from tests.machine import hosts
from tests.sweeps import WHOLE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine

# As on the images of such providers: root is the user of the image, and its key opens a shell.
_PROVIDER = {
    "/etc/cloud/cloud.cfg.d/90-provider.cfg": b"disable_root: false\nsystem_info: {default_user: {name: root}}\n",
}


def test_cloud_init_makes_the_admin_before_sshd_starts() -> None:
    """By the order of the base's own modules and units: user and keys stand before anybody can knock."""
    tree = base_tree.tree()
    modules = yaml.safe_load((tree / "etc/cloud/cloud.cfg").read_text())["cloud_init_modules"]
    names = [(one if isinstance(one, str) else one[0]).replace("-", "_") for one in modules]
    assert names.index("bootcmd") < names.index("write_files") < names.index("users_groups") < names.index("ssh")
    unit = (tree / "usr/lib/systemd/system/cloud-init-network.service").read_text()
    assert "Before=sshd.service" in unit, "an alias of ssh.service"
    assert "Before=sysinit.target" in unit, "and with it before a socket that would start sshd"


def test_nobody_is_locked_out_at_any_moment(example_images: None, tmp_path: Path) -> None:
    """From sshd's first answer to the ready line, in the sweep after a boot too: the admin gets in, root does not."""
    key = tmp_path / "root"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root", "-f", str(key)])
    files = {**_PROVIDER, "/root/.ssh/authorized_keys": key.with_suffix(".pub").read_bytes()}
    with hosts.booted("three", tmp_path, start=False, extra_files=files) as host:
        root = replace(host, key=key)
        host.machine.boot()
        knocks: list[str] = []
        deadline = time.monotonic() + 120
        while trial.READY not in host.machine.console_text():
            assert time.monotonic() < deadline, knocks
            knocks.append(_knock(host))
            if knocks.count("in") == 1:
                _root_is_out(root)
        assert set(knocks[knocks.index("in") :]) == {"in"}, knocks
        _root_is_out(root)
        if WHOLE:
            host.reboot()
            assert _knock(host) == "in"
            _root_is_out(root)


def _knock(host: hosts.Host) -> str:
    """`in` when the admin got in, `down` while nothing listens."""
    done = host.ssh("true")
    if done.returncode == 255 and "Connection refused" in done.stderr:
        return "down"
    assert done.returncode == 0, done.stderr
    return "in"


def _root_is_out(root: hosts.Host) -> None:
    """Asked seldom, and from elsewhere: it is a failed attempt, and the fifth would be the last."""
    done = root.ssh("true", user="root", source=root.machine.attacker(1))
    assert done.returncode == 255
    assert "Permission denied" in done.stderr
