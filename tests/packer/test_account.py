"""What builds of er have at a provider: found by its name, shown, removed; and nothing else is touched."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.cli import clean as cleaning
from builder.packer import account
from builder.packer.artifact import Result
from builder.packer.targets import BY_NAME
from builder.problems import UserError
from tests.packer.fake_digitalocean import DigitalOcean
from tests.packer.fake_hetzner import Hetzner
from tests.packer.fake_provider import served

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETS = ("hetzner", "digitalocean")
MACHINES = {"hetzner": "servers", "digitalocean": "droplets"}
IMAGES = {"hetzner": "images", "digitalocean": "snapshots"}
STEM = "er-debian-13-amd64"


@contextmanager
def standing(target: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with two builds' machines, three images of er and some of others."""
    cloud = {"hetzner": Hetzner, "digitalocean": DigitalOcean}[target]("192.0.2.7", "secret-token", lambda _: None)
    for name in (f"{STEM}-20260101-000000-build", "mine-build", "er-build", f"{STEM}-build"):
        cloud.add(MACHINES[target], name=name)
    for name in (
        f"{STEM}-20260103-000000",
        f"{STEM}-20260101-000000",
        f"{STEM}-20260102-000000",
        "mine",
        f"{STEM}-web1-20260101-000000",
    ):
        cloud.add(IMAGES[target], name=name, description=name)
    with served(cloud) as url:
        monkeypatch.setenv("HCLOUD_TOKEN", "secret-token")
        monkeypatch.setenv("HCLOUD_ENDPOINT", f"{url}/v1")
        monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "secret-token")
        monkeypatch.setenv("DIGITALOCEAN_API_URL", f"{url}/")
        yield cloud


@pytest.mark.parametrize("target", TARGETS)
def test_clean_removes_machines_of_builds_alone(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{STEM}-20260101-000000.manifest.json").write_text("{}")
    with standing(target, monkeypatch) as cloud:
        before = cloud.left()
        cleaning.clean(target, tmp_path, yes=True, dry_run=True, as_json=False)
        assert cloud.left() == before
        cleaning.clean(target, tmp_path, yes=True, dry_run=False, as_json=False)
        assert cloud.left()[MACHINES[target]] == ["mine-build", "er-build", f"{STEM}-build"]
        assert cloud.left()[IMAGES[target]] == before[IMAGES[target]]
    said = " ".join(capsys.readouterr().err.split())
    assert f"{STEM}-20260102-000000, no manifest here knows it" in said
    assert f"{STEM}-20260101-000000, no manifest" not in said
    assert "secret-token" not in said


@pytest.mark.parametrize("target", TARGETS)
def test_nobody_to_ask_is_an_error_and_nothing_goes(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with standing(target, monkeypatch) as cloud:
        before = cloud.left()
        with pytest.raises(UserError, match="nobody is here to confirm"):
            cleaning.clean(target, tmp_path, yes=False, dry_run=False, as_json=False)
        assert cloud.left() == before


@pytest.mark.parametrize("target", TARGETS)
def test_keep_removes_older_images_of_the_same_spec(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with standing(target, monkeypatch) as cloud:
        result = Result(target, None, ("1",), Path("x"), None, None, (), None, None, name=f"{STEM}-20260103-000000")
        cleaning.keep(target, 2, result, yes=True)
        names = cloud.left()[IMAGES[target]]
        assert names == [
            f"{STEM}-20260103-000000", f"{STEM}-20260102-000000", "mine", f"{STEM}-web1-20260101-000000",
        ]  # fmt: skip
        assert len(cloud.left()[MACHINES[target]]) == 4


def test_a_refused_token_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with standing("hetzner", monkeypatch) as cloud:
        cloud.token = "another"
        with pytest.raises(UserError, match=r"/servers.*: 401 .*unable to authenticate"):
            cleaning.clean("hetzner", tmp_path, yes=True, dry_run=False, as_json=False)


@pytest.mark.parametrize("target", account.COMMANDS)
def test_who_cannot_be_asked_is_told_with_commands(target: str) -> None:
    with pytest.raises(UserError, match=f"er cannot ask {target} itself; its own commands can:\n  \\w+ "):
        account.Account(target, {})


def test_every_target_can_be_cleaned_or_is_told_how() -> None:
    assert {*account.APIS, *account.COMMANDS} == set(BY_NAME) - {"qemu"}


@pytest.mark.parametrize(
    ("name", "stem"),
    [(f"{STEM}-20260103-000000", STEM), (f"{STEM}-web1-20260103-000000", f"{STEM}-web1"), ("mine", "mine")],
)
def test_what_images_of_one_spec_have_in_common(name: str, stem: str) -> None:
    assert account.stem(name) == stem
