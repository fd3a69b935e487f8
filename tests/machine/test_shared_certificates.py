"""Certificates that hosts share, on one host: what it does before they are there, while they are away, and afterwards.

The storage is a file system of the machine's own, mounted and taken away by the test. NFS for real is in
packer/test_shared_certificates.py. Caddy's own authority, which the spec refuses there, is enough for one host.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from builder import facts, host, userdata
from builder.spec import with_storage
from tests.machine import hosts
from tests.server.conftest import Client, client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec import Spec
    from tests.machine.hosts import Host

pytestmark = [pytest.mark.machine, of_a_sweep]

_SITE: Final = "https://hello.example.com/"
_SHARED: Final = "/mnt/certificates"
# What is there while nothing is mounted: the same directory, looked at beside the mount.
_BELOW: Final = "/mnt/below/caddy"
_CADDYFILE: Final = f"{facts.ETC}/caddy/Caddyfile"


def _user_data(spec: Spec) -> bytes:
    spec = with_storage(spec, None, _SHARED)
    return userdata.cloud_config(spec, host.build(spec), "stock")


@pytest.fixture(scope="module")
def shared(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A host whose storage is not there when it boots."""
    tmp = tmp_path_factory.mktemp("shared")
    files = {
        "/etc/systemd/system/er-first-boot.service.d/50-lab.conf": b"[Service]\nEnvironment=READY_TIMEOUT=15\n",
    }
    with hosts.booted("shared", tmp, start=False, form=_user_data, extra_files=files) as machine:
        machine.ca = Path("/etc/ssl/certs/ca-certificates.crt")  # its own comes with the storage
        machine.machine.boot()
        yield client(machine, tmp)


@pytest.fixture(scope="module")
def served(shared: Client) -> Client:
    """The same, once its storage has come."""
    _asked(shared.host, f"mkdir /mnt/below; mount --bind {facts.DATA} /mnt/below; mount --make-private /mnt/below")
    _asked(shared.host, f"mkdir {_SHARED}; mount -t tmpfs -o mode=0755 er-storage {_SHARED}")
    _until_served(shared.host)
    return shared


def _asked(one: Host, line: str, *, check: bool = True) -> str:
    return one.machine.run(["sh", "-c", line], check=check).stdout


def _status(one: Host) -> int:
    return int(one.curl(_SITE, "-o", "/dev/null", "-w", "%{http_code}", "--insecure", timeout=3).stdout[-3:] or 0)


def _until_served(one: Host) -> None:
    one.machine.wait(lambda: _status(one) == 200, timeout=120, what="the site")


def test_a_host_without_the_storage_boots_says_so_and_serves_nothing(shared: Client) -> None:
    one = shared.host
    one.machine.wait_console(f"easyrunner: storage: nothing is mounted at {_SHARED}", timeout=120)
    one.machine.wait_console("easyrunner: not ready: name=web1 missing: proxy/er-proxy.service", timeout=180)
    assert one.ssh("true").returncode == 0
    # Nobody listens: a balancer that connects goes elsewhere at once.
    assert one.curl(_SITE, "--insecure").returncode == 7
    assert _asked(one, f"ls -A {facts.CADDY_DATA}") == ""
    assert f"shared, not mounted: {_SHARED}" in shared.er("status").stdout
    found = shared.json("doctor")
    wrong = {row["check"]: row["wrong"] for row in found if not row["ok"]}
    assert "and the proxy does not run: nothing is mounted at" in wrong["shared certificates"]


def test_it_goes_on_by_itself_once_the_storage_is_there(served: Client) -> None:
    """First boot, which has given up by then, reports that it is ready."""
    one = served.host
    one.machine.wait_console("easyrunner: ready name=web1", timeout=120)
    assert _asked(one, f"ls -A {_BELOW}") == ""
    assert "hello.example.com.key" in _asked(one, f"find {_SHARED}")
    assert _asked(one, f"stat -c '%a %u' {_SHARED}") == f"700 {facts.PROXY_UID}\n"
    flags = _asked(one, f"findmnt -no OPTIONS {facts.CADDY_DATA}").strip().split(",")
    assert {"nosuid", "nodev", "noexec"} <= set(flags)
    found = served.json("status")
    assert found["shared_certificates"] == {"source": _SHARED, "mounted": True, "said": ""}
    assert [one["domain"] for one in found["certificates"]] == ["hello.example.com"]


def test_visitors_notice_nothing_while_it_is_away(served: Client) -> None:
    """Every look at it fails, as with a server that does not answer; also while Caddy takes over a configuration."""
    one = served.host
    _asked(one, f"chmod 000 {_SHARED}")
    try:
        load = f"curl -sf -H 'Content-Type: text/caddyfile' --data-binary @{_CADDYFILE} http://127.0.0.1:2019/load"
        reload = one.machine.start(["sh", "-c", f"cd {facts.ETC}/caddy; {load}"])
        answers: list[int] = []
        while reload.poll() is None or len(answers) < 50:
            answers.append(_status(one))
        assert reload.wait() == 0
        assert set(answers) == {200}
        found = served.json("doctor")
        wrong = {row["check"]: row["wrong"] for row in found if not row["ok"]}
        assert "it does not answer, sites are served from memory" in wrong["shared certificates"]
    finally:
        _asked(one, f"chmod 700 {_SHARED}")


def test_caddy_waits_where_somebody_has_unmounted_it(served: Client) -> None:
    """It writes nothing below the mount, and finds its certificates when that is back."""
    one = served.host
    before = _asked(one, f"find {_SHARED} -name '*.crt' | sort | xargs sha256sum")
    _asked(one, f"umount -l {facts.CADDY_DATA}")
    one.machine.run("systemctl --user restart er-proxy.service --no-block", user="er-proxy")
    one.machine.wait(lambda: _status(one) != 200, timeout=30, what="Caddy to be away")
    assert _asked(one, f"ls -A {facts.CADDY_DATA}") == ""
    one.machine.run("systemctl restart easyrunner-storage")
    _until_served(one)
    assert _asked(one, f"find {_SHARED} -name '*.crt' | sort | xargs sha256sum") == before
    assert _asked(one, f"ls -A {_BELOW}") == ""


def test_what_is_somebody_elses_is_not_taken(served: Client) -> None:
    one = served.host
    _asked(
        one,
        f"mount -t tmpfs other {_SHARED}; echo a >{_SHARED}/b; systemctl --no-block restart easyrunner-storage",
    )
    one.machine.wait_console("easyrunner: storage: the directory is of user 0", timeout=60)
    assert _asked(one, f"stat -c '%u' {_SHARED}") == "0\n"
    _asked(one, f"umount {_SHARED}")
    _until_served(one)


def test_a_shutdown_waits_for_nothing(served: Client) -> None:
    one = served.host
    since = time.monotonic()
    one.machine.poweroff()
    assert time.monotonic() - since < 60
