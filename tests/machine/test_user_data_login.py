"""A provider whose own login is root: the admin is in and root is out, and nobody is locked out at any moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import yaml

from builder.lab import base, trial
from tests.machine import hosts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine

# As on the images of such providers: root is the user of the image, and its key opens a shell.
_PROVIDER = {
    "/etc/cloud/cloud.cfg.d/90-provider.cfg": b"disable_root: false\nsystem_info: {default_user: {name: root}}\n",
}
_NOT_UP = ("Connection refused", "timed out", "No route", "reset", "Connection closed")


def test_cloud_init_makes_the_admin_before_sshd_starts() -> None:
    """By the order of the base's own modules and units: user and keys stand before anybody can knock."""
    tree = base.tree()
    modules = yaml.safe_load((tree / "etc/cloud/cloud.cfg").read_text())["cloud_init_modules"]
    names = [(one if isinstance(one, str) else one[0]).replace("-", "_") for one in modules]
    assert names.index("bootcmd") < names.index("write_files") < names.index("users_groups") < names.index("ssh")
    unit = (tree / "usr/lib/systemd/system/cloud-init-network.service").read_text()
    assert "Before=sshd.service" in unit, "an alias of ssh.service"
    assert "Before=sysinit.target" in unit, "and with it before a socket that would start sshd"


def test_nobody_is_locked_out_at_any_moment(example_images: None, tmp_path: Path) -> None:
    """From sshd's first answer to the ready line, every knock of the admin's opens, and none of root's."""
    with hosts.booted("three", tmp_path, start=False, extra_files=_PROVIDER) as host:
        key = host.key.with_suffix(".pub").read_bytes()
        keys = host.machine.path("/root/.ssh/authorized_keys")
        keys.parent.mkdir(mode=0o700, exist_ok=True)
        keys.write_bytes(key)
        keys.chmod(0o600)
        host.machine.boot()
        knocks = 0
        deadline = time.monotonic() + 120
        while trial.READY not in host.machine.console_text():
            assert time.monotonic() < deadline
            knocks += _knock(host)
        assert knocks, "sshd was up before the host was ready"
        assert _knock(host) == 1
        host.reboot()
        assert _knock(host) == 1


def _knock(host: hosts.Host) -> int:
    """1 when sshd answered as it should, 0 when it is not up yet."""
    admin = host.ssh("true")
    if admin.returncode == 255 and any(word in admin.stderr for word in _NOT_UP):
        return 0
    assert admin.returncode == 0, admin.stderr
    root = host.ssh("true", user="root")
    assert root.returncode == 255
    assert "Permission denied" in root.stderr
    return 1
