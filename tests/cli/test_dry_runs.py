"""Every --dry-run, as nobody, without network and credentials: it shows what it can and names what is missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from builder.cli.app import app
from builder.packer.targets import BY_NAME, TARGETS
from tests.cli.test_cli import WEB
from tests.cli.test_outputs import runs
from tests.sweeps import sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.machine

BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "COLUMNS": "200"}
# No login at any provider, and no program of a bake.
EMPTY = {**BARE, "PATH": "/nonexistent"}
COMMANDS = {
    "build-image": ["build-image", str(WEB), "--target", "qemu"],
    # User-data for a stock image takes seconds to make small enough for AWS.
    "launch": ["launch", str(WEB), "--image", "baked"],
    "deploy": ["deploy", "web1.example.com", "blog", "--image", "app.tar"],
    "destroy": ["destroy", "web1"],
    "server apply": ["server", "apply", "er@web1.example.com", str(WEB)],
    "server restore": ["server", "restore", "er@web1.example.com", "blog"],
    "server rollback": ["server", "rollback", "er@web1.example.com"],
    "server move": ["server", "move", "er@web1.example.com", "er@web2.example.com"],
    "server push": ["server", "push", "er@web1.example.com", "blog", "app.tar"],
}


# What a launch has loaded before it finds that it lacks credentials.
AWS = ("boto3.session", "builder.aws.api")


def _dry(
    cwd: Path, *cases: list[str], env: dict[str, str] | None = None, loaded: tuple[str, ...] = ()
) -> Iterator[tuple[Any, str]]:
    """Each dry run's JSON, and what it said."""
    words = [[*case, "--dry-run", "--json"] for case in cases]
    found = runs(cwd, *words, user=True, before=("unshare", "--net"), env=env or BARE, loaded=loaded)
    for case, done in zip(cases, found, strict=True):
        assert (done.code, b"Traceback" in done.err, b"error: " in done.err) == (0, False, False), (case, done)
        yield json.loads(done.out), done.err.decode()


def _with_dry_run(group: Any, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _with_dry_run(command, f"{before}{name} ")
        if any("--dry-run" in option.opts for option in command.params):
            yield f"{before}{name}"


def test_no_command_with_a_dry_run_is_missing_here() -> None:
    assert set(_with_dry_run(typer.main.get_command(app))) == set(COMMANDS)


def test_every_dry_run_shows_and_lists_what_is_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for found, said in _dry(tmp_path, *COMMANDS.values(), loaded=AWS):
        assert found["missing"]
        for one in found["missing"]:
            assert f"missing: {one['what']}\n" in said
            assert f"hint: {one['hint']}\n" in said
    assert list(tmp_path.iterdir()) == []


def test_a_bake_is_shown_for_every_target(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    rows = sample(TARGETS, [BY_NAME[name] for name in ("qemu", "aws", "hetzner", "proxmox")])
    cases = [["build-image", str(WEB), "--target", target.name] for target in rows]
    cases.append(["build-image", str(WEB), "--target", "qemu", "--accelerator", "tcg"])
    rows.append(BY_NAME["qemu"])
    for target, (found, _) in zip(rows, _dry(tmp_path, *cases, env=EMPTY), strict=True):
        assert found["commands"][-1][:2] == [found["commands"][-1][0], "build"]
        assert found["variables"]["source"] == target.label
        assert "template/source.pkr.hcl" in found["files"]
        assert "template/payload/rootfs.tar" in found["files"]
        whats = " ".join(one["what"] for one in found["missing"])
        assert ("baking here needs root" in whats) == (target.name == "qemu")
        assert ("needs a login" in whats) == (target.name != "qemu"), whats
        assert "the program packer is not installed" in whats
        assert set(found["variables"]).isdisjoint(found["unknown"])


def test_a_launch_is_shown_as_far_as_it_is_known(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    plain = ["launch", str(WEB), "--region", "eu-central-1"]
    cases = (COMMANDS["launch"], [*plain, "--disk", "30"], [*plain, "--image", "baked"])
    bare, named, baked = _dry(tmp_path, *cases, loaded=AWS)
    assert [one["what"] for one in bare[0]["missing"]] == ["no AWS region", "no AWS credentials"]
    found, said = named
    assert [one["what"] for one in found["missing"]] == ["no AWS credentials"]
    assert [(part["part"], part["missing"]) for part in found["parts"]] == [
        ("security group", 1),
        ("key pair", 1),
        ("server", 1),
        ("address", 1),
    ]
    assert {part["there"] for part in found["parts"]} == {None}
    assert (found["region"], found["account"], found["usd_per_hour"]) == ("eu-central-1", None, None)
    assert set(found["user_data"]) == {"stock", "baked"}
    assert "what is there already" in found["unknown"]
    assert found["asks"][0] == "GetCallerIdentity"
    assert "would make server: t3.small in the default VPC" in said
    assert "30 GiB gp3, encrypted" in said
    assert set(baked[0]["user_data"]) == {"baked"}


def test_with_credentials_and_no_network_it_is_the_way_that_is_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    login = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "eu-central-1"}
    for found, _ in _dry(tmp_path, COMMANDS["launch"], COMMANDS["destroy"], env={**BARE, **login}, loaded=AWS):
        (missing,) = found["missing"]
        assert missing["what"].startswith("AWS cannot be reached")


def test_an_apply_shows_what_the_server_would_be_brought_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ((found, said),) = _dry(tmp_path, COMMANDS["server apply"])
    assert (found["phase"], found["changes"]) == ("dry run", None)
    paths = [file["path"] for file in found["files"]]
    assert "/etc/easyrunner/caddy/sites/blog.caddy" in paths
    assert all(f" {path}\n" in said for path in paths)
    ((none, _),) = _dry(tmp_path, COMMANDS["server apply"], env=EMPTY)
    assert none["missing"] == [{"what": "the program ssh is not installed", "hint": "apt-get install openssh-client"}]
