"""Certificates that hosts share: what the spec may say, which files a host has for it, and what leaves them alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from builder import facts, host
from builder import spec as specs
from builder.problems import SpecError
from builder.server.remote import shared_certificates
from builder.server.remote.common import RemoteError
from builder.spec import Storage, with_storage

if TYPE_CHECKING:
    from builder.spec import Spec

_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"


def _spec(tls: str) -> Spec:
    text = f'server: {{name: web1}}\nadmin: {{ssh_keys: ["{_KEY}"]}}\ntls: {tls}\n'
    return specs.loads(text, Path("easyrunner.yaml"))[0]


@pytest.mark.parametrize(
    ("text", "server", "path", "source"),
    [
        ("nfs://10.0.0.5:/srv/certificates", "10.0.0.5", "/srv/certificates", "10.0.0.5:/srv/certificates"),
        ("nfs://fs-0a.efs.eu-central-1.amazonaws.com:/", "fs-0a.efs.eu-central-1.amazonaws.com", "/", None),
        ("nfs://[fd00::5]:/srv/certificates/", "fd00::5", "/srv/certificates", "[fd00::5]:/srv/certificates"),
        ("/mnt/certificates", None, "/mnt/certificates", "/mnt/certificates"),
    ],
)
def test_what_is_written_is_what_is_mounted(text: str, server: str | None, path: str, source: str | None) -> None:
    spec = _spec(f'{{storage: "{text}"}}')
    assert spec.tls.storage == Storage(server, path)
    wanted = source or f"{server}:{path}"
    files = {file.path: file.content for file in host.build(spec).files}
    assert files[facts.STORAGE].decode() == f"{wanted}\n"


@pytest.mark.parametrize(
    "text",
    [
        "nfs://files.example.com/srv",
        "nfs://:/srv",
        "nfs://10.0.0.5:srv",
        "nfs://10.0.0.5:/srv/../etc",
        "nfs://10.0.0.5:/srv,exec",
        "nfs://[2606:4700::1]:/srv",
        "nfs://1.1.1.1:/srv",
        "smb://10.0.0.5:/srv",
        "mnt/certificates",
        "/",
        "/etc/certificates",
        "/run/certificates",
        "/var/lib/easyrunner",
        "/mnt/my certificates",
    ],
)
def test_what_is_no_place_for_them(text: str) -> None:
    with pytest.raises(SpecError):
        _spec(f'{{storage: "{text}"}}')


def test_a_host_without_them_has_none_of_their_files() -> None:
    plain, shared = (host.build(spec).files for spec in (_spec("{}"), with_storage(_spec("{}"), "10.0.0.5", "/srv")))
    assert {file.path for file in shared} - {file.path for file in plain} == {
        facts.STORAGE,
        f"{facts.LIB}/storage",
        "/etc/systemd/system/easyrunner-storage.service",
        "/etc/systemd/system/user@20008.service.d/40-storage.conf",
        "/etc/easyrunner/units/20008/er-proxy.service.d/20-storage.conf",
    }
    assert {file.path: file.content for file in plain}.items() <= {file.path: file.content for file in shared}.items()


def test_no_backup_and_no_move_takes_them_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "STORAGE", str(tmp_path / "storage"))
    assert facts.CADDY_DATA in shared_certificates.host_data()
    (tmp_path / "storage").write_text("10.0.0.5:/srv\n")
    assert shared_certificates.host_data() == [facts.BANS, facts.RELEASES]


def test_apply_refuses_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "STORAGE", str(tmp_path / "storage"))
    path = facts.STORAGE
    shared_certificates.check_same({})
    with pytest.raises(RemoteError, match="this host's certificates are its own"):
        shared_certificates.check_same({path: b"10.0.0.5:/srv\n"})
    (tmp_path / "storage").write_text("10.0.0.5:/srv\n")
    shared_certificates.check_same({path: b"10.0.0.5:/srv\n"})
    for new in ({}, {path: b"10.0.0.6:/srv\n"}):
        with pytest.raises(RemoteError, match=r"made with certificates at 10\.0\.0\.5:/srv"):
            shared_certificates.check_same(new)
