"""Every template: formatted, accepted by Packer 1.6.6 where it has the builder, and made of documented fields only."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import process
from builder.packer import build_container, credentials, program, work_directory
from builder.packer.program import Packer
from builder.packer.targets import BY_NAME, TARGETS, Target
from tests.packer import fake_keystone, hcl
from tests.packer.hcl import TEMPLATES
from tests.sweeps import sample

if TYPE_CHECKING:
    from collections.abc import Mapping

# `make packer PACKER=…` names another, with the plugins that it has.
OTHER = os.environ.get("ER_PACKER")
PACKER = OTHER or "/usr/bin/packer"
HERE = program.find(str(Path(OTHER).parent)) if OTHER else Packer(Path(PACKER), (1, 6, 6))
NAMES = [target.name for target in TARGETS]
WANTED = [(target, wanted) for target in TARGETS for wanted in target.images]
# Stand-ins for what only the user knows; nothing is reached with them.
SETTINGS = {
    "disk_image": "base.qcow2",
    "disk_image_checksum": "sha256:" + "0" * 64,
    "seed": "seed.img",
    "output_directory": "out",
    "flavor": "b3-8",
    "project_id": "project",
    "resource_group": "images",
    "node": "pve",
    "clone_vm": "debian-13",
}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "DIGITALOCEAN_API_TOKEN": "test",
    "HCLOUD_TOKEN": "test",
    "SCW_ACCESS_KEY": "SCWXXXXXXXXXXXXXXXXX",
    "SCW_SECRET_KEY": "00000000-0000-4000-8000-000000000000",
    "SCW_DEFAULT_PROJECT_ID": "00000000-0000-4000-8000-000000000000",
    "OS_USERNAME": "test",
    "OS_PASSWORD": "test",
    "OS_PROJECT_NAME": "test",
    "OS_DOMAIN_NAME": "test",
    "PROXMOX_URL": "https://127.0.0.1:9/api2/json",
    "PROXMOX_USERNAME": "test@pve",
    "PROXMOX_PASSWORD": "test",
    "PKR_VAR_subscription_id": "00000000-0000-4000-8000-000000000000",
    "PKR_VAR_tenant_id": "00000000-0000-4000-8000-000000000000",
    "PKR_VAR_client_id": "00000000-0000-4000-8000-000000000000",
    "PKR_VAR_client_secret": "test",
}


def lay_out(directory: Path, target: Target) -> None:
    """A work directory as a build has it."""
    work_directory.write(directory, work_directory.template(target.name, plugins=HERE.takes_plugins))
    shutil.copytree(TEMPLATES.parent / "steps", directory / "steps", dirs_exist_ok=True)
    # A step that is kept elsewhere counts as there.
    for step in _steps():
        (directory / step).touch()
    (directory / "payload").mkdir()


def _steps() -> list[str]:
    with (TEMPLATES / "build.pkr.hcl").open() as file:
        text = file.read()
    return [part.split('"')[0] for part in text.split("${path.root}/")[1:] if part.startswith("steps/")]


def values(target: Target, wanted: tuple[str, str]) -> dict[str, Any]:
    """All variables that a build passes, for the target's own file and the shared ones."""
    base, arch = wanted
    given = {"source": target.label, "name": "er-test", "base": base, "arch": arch, **target.images[wanted]}
    declared = hcl.variables("sources", target.name)
    return given | {name: value for name, value in SETTINGS.items() if name in declared}


def validate(directory: Path, target: Target, variables: Mapping[str, Any]) -> None:
    (directory / "values.pkrvars.json").write_text(json.dumps(variables))
    argv = [PACKER, "validate", "-var-file=values.pkrvars.json", "."]
    home = {"HOME": str(directory), "PATH": "/usr/bin:/bin", "CHECKPOINT_DISABLE": "1"}
    home |= {name: os.environ[name] for name in ("PACKER_PLUGIN_PATH",) if name in os.environ}
    known = {name: value for name, value in ENVIRONMENT.items() if _belongs(name, target)}
    with fake_keystone.served() as url:
        environment = {**home, **known, "OS_AUTH_URL": url}
        done = process.run(argv, cwd=directory, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _belongs(name: str, target: Target) -> bool:
    """A variable that the template does not declare is an error, also in the environment."""
    return not name.startswith("PKR_VAR_") or name.removeprefix("PKR_VAR_") in hcl.variables("sources", target.name)


@pytest.mark.parametrize("folder", [".", "sources", "plugins"])
def test_formatted(folder: str) -> None:
    process.run([PACKER, "fmt", "-check", str(TEMPLATES / folder)])


def test_shellcheck_finds_nothing_in_the_steps() -> None:
    scripts = [str(path) for path in (TEMPLATES.parent / "steps").rglob("*") if path.is_file()]
    assert len(scripts) >= 8
    process.run(["shellcheck", "--shell=sh", *scripts])


def test_every_step_names_itself_and_what_failed() -> None:
    """One clear line, from a trap: er-bake, the step, and what it was at."""
    for step in (TEMPLATES.parent / "steps").iterdir():
        if step.is_file():
            text = step.read_text()
            assert f"step={step.name} doing=" in text, step.name
            assert 'echo "er-bake: $step: $doing" >&2' in text, step.name


_ACCEPTED = [pair for pair in WANTED if HERE.takes_plugins or pair[0].least(pair[1][1]) == "1.6.6"]
# Of each builder one, with each base and architecture by turns.
_TURNS = [pair for number, pair in enumerate(_ACCEPTED) if pair[0] is not _ACCEPTED[number - 1][0]]


@pytest.mark.parametrize(
    ("target", "wanted"),
    _ACCEPTED if OTHER else sample(_ACCEPTED, _TURNS),
    ids=lambda value: value.name if isinstance(value, Target) else "-".join(value),
)
def test_packer_accepts_it(target: Target, wanted: tuple[str, str], tmp_path: Path) -> None:
    """Packer itself, with no network but loopback: every base and architecture of every builder that it has."""
    if lacking := program.missing_plugin(target, HERE, os.environ):
        pytest.skip(lacking[0])
    lay_out(tmp_path, target)
    variables = values(target, wanted)
    if "ssh_private_key_file" in hcl.variables("sources", target.name):
        key = tmp_path / "key"
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
        variables["ssh_private_key_file"] = str(key)
    validate(tmp_path, target, variables)


def test_packer_accepts_the_source_for_a_container(key: Path, tmp_path: Path) -> None:
    target = BY_NAME["qemu"]
    lay_out(tmp_path, target)
    work_directory.write(tmp_path, work_directory.template(build_container.SOURCE, plugins=HERE.takes_plugins))
    machine = values(target, ("debian-13", "amd64"))
    declared = hcl.variables("sources", build_container.SOURCE).keys() | hcl.variables(".", "variables").keys()
    variables = {**build_container.variables(machine), "ssh_private_key_file": str(key), "ssh_host": "192.0.2.1"}
    assert variables.keys() <= declared
    validate(tmp_path, target, variables)


def test_packer_refuses_what_is_wrong(tmp_path: Path) -> None:
    """The check above can fail: a field that the builder does not know, a setting that is missing."""
    target = BY_NAME["hetzner"]
    wanted = ("debian-13", "amd64")
    lay_out(tmp_path, target)
    file = tmp_path / "source.pkr.hcl"
    file.write_text(file.read_text().replace("snapshot_labels", "snapshot_stickers"))
    with pytest.raises(AssertionError, match="snapshot_stickers"):
        validate(tmp_path, target, values(target, wanted))
    again = tmp_path / "again"
    again.mkdir()
    lay_out(again, target)
    with pytest.raises(AssertionError, match="server type is required"):
        validate(again, target, values(target, wanted) | {"server_type": ""})


@pytest.mark.parametrize("name", NAMES)
def test_the_pinned_plugin_documents_every_field(name: str) -> None:
    builder, body = hcl.source(name)
    known = hcl.documented(name)
    assert builder == BY_NAME[name].builder
    nested = hcl.blocks(body)
    assert hcl.names(body) - set(nested) <= known.fields | set(known.blocks), "not a field"
    for block, bodies in nested.items():
        for inner in bodies:
            assert hcl.names(inner) <= known.blocks[block], block
    for group in known.required:
        assert group & hcl.names(body), f"required: {' or '.join(sorted(group))}"


@pytest.mark.parametrize("name", NAMES)
def test_one_version_everywhere(name: str) -> None:
    """Row, plugin file and the list of fields agree on the plugin and its version."""
    target, known = BY_NAME[name], hcl.documented(name)
    assert f"github.com/{known.plugin}".lower() == target.plugin.lower()
    assert known.version == target.version
    (plugins,) = hcl.load("plugins", name)["packer"]
    (required,) = plugins["required_plugins"]
    entries = {key: value for key, value in required.items() if key != "__is_block__"}
    assert entries == {
        target.plugin.rpartition("/")[2]: {"source": target.plugin, "version": f"= {target.version}"},
    }


@pytest.mark.parametrize("folder", ["sources", "plugins"])
def test_a_file_for_every_row_and_a_row_for_every_file(folder: str) -> None:
    files = {file.name.removesuffix(".pkr.hcl") for file in (TEMPLATES / folder).iterdir()}
    # A local image may be baked in a container, which is no target of its own.
    assert files == set(NAMES) | ({build_container.SOURCE} if folder == "sources" else set())
    assert {file.stem for file in hcl.FIELDS.iterdir()} == set(NAMES)


@pytest.mark.parametrize(
    ("target", "wanted"),
    WANTED,
    ids=lambda value: value.name if isinstance(value, Target) else "-".join(value),
)
def test_every_variable_has_a_value(target: Target, wanted: tuple[str, str]) -> None:
    """A row gives only what its file declares; what has no default comes from the row, the user or the environment."""
    declared = hcl.variables("sources", target.name)
    assert set(target.images[wanted]) | set(target.settings) <= set(declared)
    needed = {name for name, body in declared.items() if "default" not in body}
    secret = {"api_key", "api_secret", "subscription_id"}
    local = {"disk_image", "disk_image_checksum", "seed", "ssh_private_key_file", "output_directory"}
    given = set(target.images[wanted]) | set(target.settings) | secret | (local if target.name == "qemu" else set())
    assert needed <= given


@pytest.mark.parametrize("name", NAMES)
def test_rules_of_every_source(name: str) -> None:
    """The key of the bake is removed; a secret is marked as one; nothing is public; nobody else's image is taken."""
    _, body = hcl.source(name)
    assert body["ssh_clear_authorized_keys"] is True
    assert not {"ssh_password", "password", "secret_key", "token", "api_token", "linode_token"} & hcl.names(body)
    for variable, declared in hcl.variables("sources", name).items():
        telling = any(word in variable for word in ("secret", "token", "password", "api_key"))
        assert not telling or declared.get("sensitive") is True, variable
    assert not {"ami_groups", "ami_users", "image_members"} & hcl.names(body)


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_both_bases_wherever_there_is_one(target: Target) -> None:
    archs = {arch for _, arch in target.images}
    assert set(target.images) == {(base, arch) for base in ("debian-13", "ubuntu-24.04") for arch in archs}
    assert "amd64" in archs


def test_the_aws_disk_is_encrypted_gp3_and_its_image_has_a_publisher() -> None:
    _, body = hcl.source("aws")
    (disk,) = body["launch_block_device_mappings"]
    assert (disk["volume_type"], disk["encrypted"], disk["delete_on_termination"]) == ("gp3", "${var.encrypted}", True)
    (image,) = body["source_ami_filter"]
    assert image["owners"] == ["${var.image_owner}"]
    assert hcl.variables("sources", "aws")["encrypted"]["default"] is True


def test_ssh_of_the_local_build_is_for_this_machine_only() -> None:
    _, body = hcl.source("qemu")
    assert "hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22" in body["qemuargs"]
    assert '["-vnc", "none"]' in body["qemuargs"]


def _table() -> str:
    rows = [
        "| target | builder, plugin | Packer | bases and architectures | result | logins, one will do | settings |",
        "|---" * 7 + "|",
    ]
    for target in TARGETS:
        archs = ", ".join(sorted({arch for _, arch in target.images}))
        cells = (
            target.name,
            f"[{target.builder}]({target.source}), {target.version}",
            f"{target.packer} and later",
            f"both, {archs}",
            target.artifact,
            "; ".join(f"`{login.text}`: {login.what}" for login in credentials.BY_TARGET.get(target.name, ()))
            or "none",
            _settings(target),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _settings(target: Target) -> str:
    told = [f"`{name}`: {what}" for name, what in target.settings.items()]
    told += [f"for {arch} `{name}`: {what}" for arch, more in target.more.items() for name, what in more.items()]
    return "; ".join(told) or "none"


def test_the_page_shows_the_rows() -> None:
    page = TEMPLATES.parents[1] / "docs" / "image-targets.md"
    start, _, rest = page.read_text().partition("test_templates.py -->\n")
    _, _, end = rest.partition("<!-- end of table -->")
    made = f"{start}test_templates.py -->\n{_table()}\n<!-- end of table -->{end}"
    if os.environ.get("UPDATE"):
        page.write_text(made)
    assert page.read_text() == made
