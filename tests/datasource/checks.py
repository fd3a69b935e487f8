"""What has to be true of a host that has booted at a provider."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from tests.datasource.boots import Login

if TYPE_CHECKING:
    from tests.datasource.boots import Boot

_DOMAIN: Final = "hello.example.com"


def complaints(boot: Boot) -> dict[str, set[str]]:
    """What cloud-init complained of, without what its datasource always says at this provider."""
    status = json.loads(boot.machine.run("cloud-init status --format json", check=False).stdout)
    assert status["status"] == "done"
    assert status["errors"] == []
    found = {}
    for level, said in status["recoverable_errors"].items():
        own = boot.row.own.get(level, ())
        if rest := {line for line in said if not line.startswith(tuple(own))}:
            found[level] = rest
        assert all(any(line.startswith(start) for line in said) for start in own), said
    assert set(boot.row.own) <= set(status["recoverable_errors"])
    return found


def found_datasource(boot: Boot) -> None:
    """ds-identify chose it among all, and cloud-init took it."""
    chosen = boot.machine.run("cat /run/cloud-init/cloud.cfg").stdout
    assert boot.row.datasource in chosen.split("[")[1].replace(",", " ").split(), chosen
    assert boot.machine.run("cloud-id").stdout.strip() == boot.row.cloud_id
    data = json.loads(boot.machine.run("cat /run/cloud-init/instance-data.json").stdout)
    assert data["v1"]["cloud_id"] == boot.row.cloud_id
    assert boot.machine.run("cat /var/lib/cloud/instance/datasource").stdout.startswith(
        f"DataSource{boot.row.datasource}"
    )


def took_our_bytes(boot: Boot) -> None:
    """Byte for byte what the provider was given."""
    text = boot.machine.run("base64 /var/lib/cloud/instance/user-data.txt").stdout
    assert base64.b64decode(text) == boot.row.before + boot.delivery.content
    assert boot.machine.path("/run/provider-was-first").exists() == bool(boot.row.before)


def kept_the_protocol(boot: Boot) -> None:
    """What had to be asked was asked, and nothing was refused."""
    values = {"hardware": boot.row.hardware}
    for method, path in boot.row.asked:
        wanted = path.format_map(values)
        assert boot.requests(method=method, path=wanted, status=200), wanted
    assert [request for request in boot.cloud.requests if request["rule"]] == []


def answers(boot: Boot) -> None:
    """HTTPS and SSH over each family that the host has; root nowhere."""
    for family in boot.families:
        answer = boot.host.curl(f"https://{_DOMAIN}/", family=family).stdout
        assert answer.startswith("HTTP/2 200"), (family, answer)
        assert boot.host.ssh("sudo", "id", "-un", family=family).stdout == "root\n"
    assert boot.machine.run("systemctl --failed --no-legend").stdout == ""


def nobody_was_locked_out(boot: Boot) -> None:
    """From the first moment that sshd lets anyone in, somebody who should can log in; root never could."""
    story = [(look.admin.name, look.root.name, look.stock.name) for look in boot.looks]
    assert Login.IN not in {look.root for look in boot.looks}, story
    able = [Login.IN in {look.admin, look.stock} for look in boot.looks]
    first = able.index(True)
    assert {look.admin for look in boot.looks[:first]} <= {Login.AWAY, Login.BOOTING}, story
    assert all(able[first:]), story
    assert boot.looks[-1].admin is Login.IN, story


def check(boot: Boot) -> None:
    """All of it."""
    assert complaints(boot) == {}
    found_datasource(boot)
    took_our_bytes(boot)
    kept_the_protocol(boot)
    nobody_was_locked_out(boot)
    answers(boot)
