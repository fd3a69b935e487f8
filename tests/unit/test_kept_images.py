"""Images that travel with a stack's data: what is noted of them, and what another machine makes of that."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from builder import facts, host
from builder import spec as specs
from builder.server.remote import common, release_record
from builder.server.remote.common import RemoteError
from builder.server.remote.images import kept_images

if TYPE_CHECKING:
    from types import ModuleType

_SPEC: Final = """
server: {name: web1, base: BASE}
admin: {name: er, ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me"]}
MORE
stacks:
  - {name: app, image: docker.io/example/app:1, domain: app.example.com, port: 3000}
"""
_BASES: Final = {"debian-13": True, "ubuntu-24.04": False}


def _files(tmp_path: Path, base: str, more: str) -> dict[str, str]:
    file = tmp_path / "easyrunner.yaml"
    file.write_text(_SPEC.replace("BASE", base).replace("MORE", more))
    return {one.path: one.content.decode() for one in host.build(specs.load(file)[0]).files}


def _program(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path.write_text(text)
    monkeypatch.setattr(sys, "argv", [str(path), "app"])
    found = spec_from_file_location("kept", path, loader=SourceFileLoader("kept", str(path)))
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("base", _BASES)
def test_a_release_is_made_there_as_a_push_makes_it(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file with the same content, for the Podman of either base."""
    files = _files(tmp_path, base, "data: {disk: auto}")
    program = _program(tmp_path / "kept", files[f"{facts.LIB}/kept-images"], monkeypatch)
    monkeypatch.setattr(release_record, "_reads_drop_ins", lambda: _BASES[base])
    monkeypatch.setattr(release_record, "_uid", lambda _: "20100")
    unit = next(text for path, text in files.items() if path.endswith("/app-web.container"))
    assert program.released(unit, "localhost/app/web:1").encode() == release_record.override(
        unit, "localhost/app/web:1"
    )
    assert program.TAKE == kept_images._TAKE
    assert program.override(release_record.unit_path("app", "web")) == release_record.override_path("app", "web")


def test_only_a_host_with_a_disk_for_data_has_any_of_it(tmp_path: Path) -> None:
    """What brings a backup takes them from there."""
    for more, expected in (("", []), ("backup: {to: /mnt/backup}", []), ("data: {disk: auto}", _NAMES)):
        files = _files(tmp_path, "debian-13", more)
        assert [Path(path).name for path, text in files.items() if "kept-images" in path + text] == expected


_NAMES: Final = ["20-easyrunner.conf", "kept-images"]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """That of a stack with two services, which run `1` and `2` by a release."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(kept_images, "travels", lambda: True)
    monkeypatch.setattr(common, "uids", lambda stacks: dict.fromkeys(stacks, 20100))
    monkeypatch.setattr(release_record, "read", lambda _: found)
    monkeypatch.setattr(
        release_record, "deployed", lambda _: {"web": "localhost/app/web:1", "job": "localhost/app/job:2"}
    )
    monkeypatch.setattr(release_record, "services", lambda _: ["web", "job"])
    monkeypatch.setattr(release_record, "of_spec", lambda _, service: f"docker.io/example/{service}:1")
    monkeypatch.setattr(release_record, "waits", lambda *_: False)
    return found


def _copy(name: str, of_spec: str = "docker.io/example/web:1") -> dict[str, str]:
    return {"name": name, "id": "0" * 64, "of_spec": of_spec}


def test_what_would_not_come_along_is_known(record: dict[str, Any]) -> None:
    """An older image is none of them; without room for the new one nothing is."""
    assert kept_images.missing("app") == (["web", "job"], "")
    record["copies"] = {"web": _copy("localhost/app/web:1"), "job": _copy("localhost/app/job:1")}
    assert kept_images.missing("app") == (["job"], "")
    record["copies"]["job"]["name"] = "localhost/app/job:2"
    assert kept_images.missing("app") is None
    record["uncopied"] = "they need 9 MiB"
    assert kept_images.missing("app") == (["web", "job"], "they need 9 MiB")


def test_a_release_that_has_not_come_is_known_unless_the_spec_is_another_since(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    record["copies"] = {"web": _copy("localhost/app/web:1"), "gone": _copy("localhost/app/gone:1")}
    assert kept_images.lost("app") == []
    monkeypatch.setattr(release_record, "deployed", lambda _: {})
    assert kept_images.lost("app") == ["web"]
    monkeypatch.setattr(release_record, "waits", lambda *_: True)
    assert kept_images.lost("app") == []
    assert kept_images.lost("app", built=True) == ["web"]
    record["copies"]["web"]["of_spec"] = "docker.io/example/web:0"
    assert kept_images.lost("app") == []


def test_what_has_not_come_stays_noted_until_it_is_decided_what_runs(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a release: a backup at night, or `doctor --fix`, is no decision."""
    monkeypatch.setattr(release_record, "write", lambda _, content: record.update(content))
    monkeypatch.setattr(release_record, "deployed", lambda _: {})
    monkeypatch.setattr(kept_images, "_keep", lambda *_, **__: None)
    record["copies"] = {"web": _copy("localhost/app/web:1")}
    kept_images.keep("app")
    assert kept_images.lost("app") == ["web"]
    kept_images.keep("app", decided=True)
    assert kept_images.lost("app") == []


def test_a_copy_that_cannot_be_made_fails_nothing_and_is_told(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RemoteError("they need 9 MiB")

    monkeypatch.setattr(release_record, "write", lambda _, content: record.update(content))
    monkeypatch.setattr(kept_images, "_current", lambda _: {"web": _copy("localhost/app/web:1")})
    monkeypatch.setattr(kept_images, "_keep", full)
    kept_images.keep("app", decided=True)
    assert record["copies"] == {"web": _copy("localhost/app/web:1")}
    assert kept_images.missing("app") == (["web", "job"], "they need 9 MiB")
