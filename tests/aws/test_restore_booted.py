"""`er launch --restore` with hosts that are really booted: the server is gone, spec and repository are there.

See booted_account for what the API does. The repository is at an S3 endpoint on this machine.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from builder import process
from builder import spec as specs
from builder.host.packages import PACKAGES
from builder.lab import base_tree, preload, trial
from builder.polling import until
from tests.aws import er_command
from tests.aws.booted_account import BootedAccount, Image, public
from tests.aws.test_replace_booted import DOMAIN, SPEC, Site
from tests.server.test_restore import bucket
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.booted_account import Host
    from tests.aws.moto_account import Account
    from tests.aws.wire import Wire
    from tests.server.test_restore import Bucket

__all__ = ["bucket"]

pytestmark = [pytest.mark.machine, of_a_sweep]

SECRETS: Final = {"restic-password": "p4ssword", "s3-access-key": "lab-access", "s3-secret-key": "lab-secret"}


@pytest.fixture
def site(the_account: Account, the_wire: Wire, ami_disk: Path, bucket: Bucket, tmp_path: Path) -> Iterator[Site]:
    """An account without a server."""
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(tmp_path / "id")])
    to = f'backup: {{to: "s3:http://objects:{bucket.port}/backups/web1"}}\n'
    (tmp_path / "easyrunner.yaml").write_text(SPEC.replace("data: {disk: auto}\n", to))
    spec, _ = specs.load(tmp_path / "easyrunner.yaml")
    the_wire.reset()
    the_account.reset()
    volume = tmp_path / "unused.raw"
    volume.write_bytes(bytes(1 << 20))
    base = base_tree.tree(PACKAGES["debian-13"])
    preloads = tuple(preload.prepare(base, owner, found) for owner, found in trial.images_by_owner(spec))
    ami = the_account.bake()
    with BootedAccount(
        the_account,
        the_wire,
        {ami: Image(ami_disk)},
        preloads,
        volume,
        er_command.KEY,
        tmp_path,
        name_of_this_machine="objects",
    ) as cloud:
        yield Site(the_account, the_wire, cloud, {"good": ami}, tmp_path)


def server(site: Site) -> tuple[Host, str]:
    """The one that there is, and the login that reaches it."""
    (found,) = site.account.instances()
    (address,) = site.account.addresses()
    return site.cloud.hosts[found["InstanceId"]], f"er@{public(address['PublicIp'])}"


def on_server(site: Site, *words: str, stdin: str = "") -> None:
    """`er server …`; its ssh takes no host key that is not known."""
    options = {"UserKnownHostsFile": str(site.tmp / "known_hosts"), "IdentityFile": str(site.tmp / "id")}
    options |= {"StrictHostKeyChecking": "yes", "BatchMode": "yes"}
    given = [word for key, value in options.items() for word in ("--ssh-option", f"{key}={value}")]
    with site.start("server", *words, *given, stdin=subprocess.PIPE) as running:
        out, err = running.communicate(stdin, timeout=600)
    assert running.returncode == 0, out + err


def set_secrets(site: Site, login: str) -> None:
    for name, value in SECRETS.items():
        on_server(site, "secret", "set", login, "--host", name, stdin=f"{value}\n")


def in_app(host: Host, line: str) -> str:
    return host.machine.run(["podman", "exec", "web", "sh", "-c", line], user="er-shop").stdout


def certificate(host: Host) -> bytes:
    place = host.machine.path("/var/lib/easyrunner/data/caddy/caddy/certificates/local")
    return (place / DOMAIN / f"{DOMAIN}.crt").read_bytes()


def test_a_new_server_of_spec_and_repository_alone(site: Site) -> None:
    code, _, err = site.launch("--image", site.images["good"])
    site.cloud.settle()
    assert code == 0, err
    old, login = server(site)
    in_app(old, "echo sold >/srv/data/orders")
    before = certificate(old)
    set_secrets(site, login)
    on_server(site, "backup", login, "now")
    known = str(site.tmp / "known_hosts")
    code, _, err = site.er("destroy", "web1", "--yes", "--known-hosts", known)
    assert code == 0, err
    assert site.account.everything() == []

    told, words = site.tmp / "told", site.launch_words("--restore", "--image", site.images["good"])
    with told.open("w") as stderr, site.start(*words, stderr=stderr.fileno()) as running:
        try:
            until(
                lambda: running.poll() is not None or all(f"--host {name}" in told.read_text() for name in SECRETS),
                timeout=240,
                what="the secrets that it waits for",
            )
            assert running.poll() is None, told.read_text()
            new, login = server(site)
            assert new.id != old.id
            assert f"er server secret set {login} --host restic-password" in told.read_text()
            # No stack has started, and its host key is known by now.
            assert "web" not in new.machine.run("podman ps --all", user="er-shop", check=False).stdout
            set_secrets(site, login)
            running.communicate(timeout=400)
        finally:
            running.kill()
    site.cloud.settle()
    assert running.returncode == 0, told.read_text() + new.console()[-3000:]
    assert in_app(new, "cat /srv/data/orders") == "sold\n"
    assert certificate(new) == before
    code, _, err = site.launch("--image", site.images["good"])
    assert code == 0, err
    assert "another spec" not in err
