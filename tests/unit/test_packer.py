"""How programs are called around a bake, and what is laid for them: values."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from builder import spec as specs
from builder.packer import build_container, build_local, build_log, convert, program, request, work_directory
from builder.packer import request as orders
from builder.packer.convert import FORMATS
from builder.packer.program import Packer
from builder.packer.request import Request
from builder.packer.run import Job
from builder.packer.targets import BY_NAME
from builder.packer.upload_files import Upload
from builder.packer.work_directory import TemplateFile, WorkDirectory
from builder.problems import UserError
from builder.qemu import acceleration

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("Packer v1.6.6\n", (1, 6, 6)),
        ("Packer v1.14.2\n\nYour version of Packer is out of date!", (1, 14, 2)),
        ("Packer v1.16.0-dev (abc)\n", (1, 16, 0)),
        ("0 0\n", None),
        ("", None),
    ],
)
def test_the_version_of_packer_and_of_no_other_program(output: str, version: program.Version | None) -> None:
    assert program.parse_version(output) == version


def test_programs_named_packer_in_the_order_of_the_path(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "packer").write_text("")
    for name in ("a", "c"):
        (tmp_path / name / "packer").chmod(0o755)
    path = f"{tmp_path}/a:{tmp_path}/none:{tmp_path}/b:{tmp_path}/c"
    assert list(program.candidates(path)) == [tmp_path / "a/packer", tmp_path / "c/packer"]


def test_a_bake_takes_its_packages_from_the_mirror_of_this_machine() -> None:
    uris = ("http://mirror.test/debian", "http://mirror.test/security")
    assert work_directory.sources_list("debian-13", *uris) == (
        "deb http://mirror.test/debian trixie main\n"
        "deb http://mirror.test/debian trixie-updates main\n"
        "deb http://mirror.test/security trixie-security main\n"
    )
    assert work_directory.sources_list("debian-13", None, None) == ""
    assert work_directory.sources_list("ubuntu-24.04", *uris) == ""


def test_a_disk_for_azure_has_whole_mebibytes() -> None:
    assert convert.commands(Path("a.qcow2"), Path("b"), FORMATS["vhd"], 3 * 2**20 + 512) == [
        ["qemu-img", "resize", "-f", "qcow2", "a.qcow2", str(4 * 2**20)],
        ["qemu-img", "convert", "-f", "qcow2", "-O", "vpc", "-o", "subformat=fixed,force_size=on", "a.qcow2", "b"],
    ]


def test_a_compressed_disk_is_made_aside() -> None:
    assert convert.commands(Path("a.qcow2"), Path("b"), FORMATS["raw.gz"], 2**20) == [
        ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "b"],
        ["gzip", "--no-name", "--force", "b"],
    ]


def test_secrets_are_hidden_by_the_names_that_give_them_away() -> None:
    environment = {"HCLOUD_TOKEN": "tok-12345678", "PATH": "/usr/bin", "SSH_KEY_PASSWORD": "x", "MY_SECRET": "/etc/key"}
    variables = '{"api_key": "abcdefgh\\"i", "region": "eu-west-1"}\nclient_secret = "s3cr3t-s3cr3t"\n'
    hidden = build_log.environment_secrets(environment) | build_log.variable_secrets(variables)
    assert hidden == {"tok-12345678", 'abcdefgh\\"i', "s3cr3t-s3cr3t"}
    assert build_log.hide("curl -H tok-12345678 s3cr3t-s3cr3t.", hidden) == "curl -H *** ***."


def test_a_secret_inside_another_leaves_no_rest() -> None:
    assert build_log.hide("abcdefghij", frozenset({"abcdefgh", "abcdefghij"})) == "***"


DEBIANS, TODAYS = Packer(Path("/usr/bin/packer"), (1, 6, 6)), Packer(Path("/opt/packer"), (1, 14, 2))


def test_the_calls_of_packer() -> None:
    mine = (Path("/home/me/my vars.hcl"),)
    assert program.init_argv(DEBIANS) is None
    assert program.init_argv(TODAYS) == ["/opt/packer", "init", "template"]
    assert program.validate_argv(TODAYS) == ["/opt/packer", "validate", "template"]
    assert program.build_argv(DEBIANS, mine) == [
        *("/usr/bin/packer", "build", "-machine-readable", "-on-error=cleanup"),
        *("-var-file=/home/me/my vars.hcl", "template"),
    ]
    assert (
        program.shell_line(program.validate_argv(DEBIANS, mine))
        == "/usr/bin/packer validate '-var-file=/home/me/my vars.hcl' template"
    )


def test_packer_keeps_its_files_in_the_work_directory_and_asks_nobody() -> None:
    places = WorkDirectory(Path("/out/.er-bake-x"), Path("/tmp/er-y"))
    assert program.environment({"HOME": "/root", "TMPDIR": "/var/tmp"}, places) == {
        "HOME": "/root",
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
        "PACKER_CACHE_DIR": "/out/.er-bake-x/cache",
        "TMPDIR": "/tmp/er-y",
    }


def test_a_template_has_the_source_of_its_target_alone() -> None:
    templates = (work_directory.template("hetzner", plugins=it.takes_plugins) for it in (DEBIANS, TODAYS))
    old, new = ({file.path: file.content for file in files} for files in templates)
    assert set(new) - set(old) == {"plugins.pkr.hcl"}
    assert str(new["source.pkr.hcl"]).endswith("images/packer/sources/hetzner.pkr.hcl")
    assert {"build.pkr.hcl", "variables.pkr.hcl", "source.pkr.hcl", "steps/10-wait", "steps/80-verify"} <= set(old)
    assert not any(name.startswith(("sources/", "plugins/", "steps/lib")) for name in new)


KVM = acceleration.Accelerator("kvm", "kvm", "host")
TCG = acceleration.emulation("amd64")


def _lacking() -> None:
    raise UserError("booting a host here needs root")


@pytest.mark.parametrize(
    ("builder", "base_image", "found", "check", "machine", "chosen"),
    [
        ("auto", "", KVM, None, "x86_64", "machine"),
        ("auto", "", TCG, None, "x86_64", "container"),
        ("auto", "", TCG, _lacking, "x86_64", "machine"),
        ("auto", "", TCG, None, "aarch64", "machine"),
        ("auto", "debian.qcow2", TCG, None, "x86_64", "container"),
        ("machine", "", TCG, None, "x86_64", "machine"),
        ("container", "", KVM, None, "x86_64", "container"),
    ],
)
def test_a_container_is_taken_where_a_machine_would_be_emulated(
    monkeypatch: pytest.MonkeyPatch,
    builder: Literal["auto", "machine", "container"],
    base_image: str,
    found: acceleration.Accelerator,
    check: Callable[[], None] | None,
    machine: str,
    chosen: str,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(build_container, "check", check or (lambda: None))
    order = replace(_order("qemu", {}), builder=builder, base_image=base_image)
    assert build_local.choose_builder(order, found) == chosen


def test_a_container_gets_the_same_template_with_another_source() -> None:
    values = {"source": "qemu.host", "name": "er", "base": "debian-13", "arch": "amd64", "cpu": "host", "seed": "s"}
    job = Job(DEBIANS, work_directory.template("qemu", plugins=DEBIANS.takes_plugins), Upload({}, {}), values)
    placed = build_local.for_builder(job, "container")
    assert placed.variables == {
        "source": "null.host", "name": "er", "base": "debian-13", "arch": "amd64", "ssh_private_key_file": "key",
    }  # fmt: skip
    assert build_local.for_builder(placed, "container") == placed
    assert build_local.for_builder(job, "machine") == job
    changed = {file.path for file in {*job.files} ^ {*placed.files}}
    assert changed == {"source.pkr.hcl"}


@pytest.mark.parametrize("target", BY_NAME)
def test_each_generation_gets_its_own_lines_of_a_source(target: str, tmp_path: Path) -> None:
    for packer, other in ((DEBIANS, "# since 1.7"), (TODAYS, "# until 1.6")):
        work_directory.write(tmp_path, work_directory.template(target, plugins=packer.takes_plugins))
        assert other not in (tmp_path / "source.pkr.hcl").read_text()


def test_arm64_at_azure_needs_a_gallery_and_a_plugin() -> None:
    """Its managed images are amd64 only: a bake would fail at its end."""
    order = _order(
        "azure", {f"ARM_{name}": "x" for name in ("SUBSCRIPTION_ID", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")}
    )
    arm = dataclasses.replace(order.spec, server=dataclasses.replace(order.spec.server, arch="arm64"))
    for spec, lacking in ((order.spec, ["resource_group"]), (arm, ["resource_group", "gallery", "gallery_image"])):
        assert orders.unset_settings(dataclasses.replace(order, spec=spec)) == lacking
    with pytest.raises(UserError, match=r"azure for arm64 needs Packer 1\.7\.0"):
        orders.check_packer(dataclasses.replace(order, spec=arm), DEBIANS)


def test_values_are_laid_as_json_with_nothing_of_the_shell_in_them(tmp_path: Path) -> None:
    laid = work_directory.values_file({"name": 'a"b $(id)', "size": 3})
    work_directory.write(tmp_path, [laid, TemplateFile("steps/x", b"#!", 0o755)])
    assert (tmp_path / "values.auto.pkrvars.json").read_text() == '{\n  "name": "a\\"b $(id)",\n  "size": 3\n}\n'
    assert (tmp_path / "steps/x").stat().st_mode & 0o777 == 0o755


def test_a_work_directory_goes_with_its_block_and_a_dead_one_with_the_next(tmp_path: Path) -> None:
    dead = tmp_path / ".er-bake-dead"
    dead.mkdir()
    sockets = Path(tempfile.mkdtemp(prefix="er-bake-"))
    (dead / "lock").write_text(str(sockets))
    with work_directory.make(tmp_path) as places:
        assert not dead.exists()
        assert not sockets.exists()
        with work_directory.make(tmp_path) as other:
            assert places.root.is_dir()
        assert not other.root.exists()
        assert len(str(places.temporary)) < 60
    assert list(tmp_path.iterdir()) == []
    assert not places.temporary.exists()


def _order(target: str, environment: dict[str, str], **more: object) -> Request:
    spec, _ = specs.load(Path(__file__).parents[2] / "examples" / "web.yaml")
    return Request(spec, BY_NAME[target], Path("out"), environment=environment, **more)  # type: ignore[arg-type]


def test_settings_that_are_lacking_are_named() -> None:
    environment = {"PROXMOX_URL": "u", "PROXMOX_USERNAME": "x", "PROXMOX_PASSWORD": "y"}
    with pytest.raises(UserError, match="node and clone_vm"):
        orders.check(_order("proxmox", environment))
    orders.check(_order("gcp", {"GOOGLE_APPLICATION_CREDENTIALS": "x", "PKR_VAR_project_id": "p"}))


def test_settings_may_come_from_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pkrvars.hcl"
    mine.write_text('flavor   = "m1.small"\n')
    orders.check(_order("openstack", {"OS_CLOUD": "x"}, var_files=(mine,)))


HCL = """
flavor = "m1.small" # size = 3
networks = [
  "a", # no = "variable"
]
tags = { no = "one", nor = { this = "here" } }
/* hidden = 1 */
image = <<EOT
  also = "text"
EOT
region == 3
"""


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.json", '{"node":"pve","clone_vm":"t"}', {"node": 1, "clone_vm": 1}),
        ("a.json", '{\n  "node": "pve",\n  "tags": {"inner": 1}\n}\n', {"node": 2, "tags": 3}),
        ("a.pkrvars.hcl", HCL, {"flavor": 2, "networks": 3, "tags": 6, "image": 8}),
        ("a.hcl", "", {}),
    ],
)
def test_the_names_that_a_file_of_values_gives(name: str, text: str, names: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert request.variables_in(tmp_path / name) == names


@pytest.mark.parametrize("text", ['{"node": ', "[1]"])
def test_a_json_file_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json: "):
        request.variables_in(tmp_path / "a.json")


def test_a_misspelt_variable_is_refused_with_its_place(tmp_path: Path) -> None:
    """Packer would pass over it, and bake somewhere else."""
    mine = tmp_path / "mine.json"
    mine.write_text('{"server_type": "cx33",\n "locaton": "fsn1"}')
    known = request.declared_variables(work_directory.template("hetzner", plugins=DEBIANS.takes_plugins))
    with pytest.raises(UserError, match=r"mine\.json:2: locaton$") as caught:
        request.check_var_files([mine], known)
    assert (caught.value.hint or "").startswith("did you mean location? there are arch, base, image, location, ")


def test_every_declared_variable_may_be_given(tmp_path: Path) -> None:
    for target in BY_NAME:
        known = request.declared_variables(work_directory.template(target, plugins=TODAYS.takes_plugins))
        assert {"name", "base", "mark"} <= known
        (tmp_path / "all.json").write_text(json.dumps(dict.fromkeys(known, "x")))
        request.check_var_files([tmp_path / "all.json"], known)


def test_a_packer_without_the_builder_is_told_of() -> None:
    with pytest.raises(UserError, match=r"linode needs Packer 1\.7\.0, and /usr/bin/packer is 1\.6\.6"):
        orders.check_packer(_order("linode", {}), DEBIANS)
    orders.check_packer(_order("linode", {}), TODAYS)


def test_aws_takes_region_and_endpoint_as_its_own_tools_do() -> None:
    found = request.provider_variables(
        _order("aws", {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://x"}, tags={"er:arch": "amd64"})
    )
    assert found.pop("tags") == {"er:arch": "amd64"}
    assert found == {"region": "eu-west-1", "custom_endpoint_ec2": "http://x"}
    assert request.provider_variables(_order("hetzner", {"AWS_REGION": "eu-west-1"})) == {}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ((), "and there is none"),
        (("v1.7.1", "v1.7.1_SHA256SUM"), "and there is 1.7.1"),
        (("v1.7.2",), "has no SHA256SUM file beside it"),
        (("v1.7.2", "v1.7.2_SHA256SUM"), ""),
    ],
)
def test_a_plugin_that_is_lacking_is_told_with_what_there_is(files: tuple[str, ...], told: str, tmp_path: Path) -> None:
    folder = tmp_path / "github.com/hetznercloud/hcloud"
    folder.mkdir(parents=True)
    for file in files:
        version, _, rest = file.partition("_")
        name = f"packer-plugin-hcloud_{version}_x5.0_linux_amd64"
        (folder / (f"{name}_{rest}" if rest else name)).write_text("")
    environment = {"PACKER_PLUGIN_PATH": str(tmp_path)}
    found = program.missing_plugin(BY_NAME["hetzner"], TODAYS, environment)
    assert program.missing_plugin(BY_NAME["hetzner"], DEBIANS, environment) is None
    assert (found is None) == (not told)
    if found:
        what, way = found
        assert what.startswith("hetzner needs the plugin github.com/hetznercloud/hcloud 1.7.2, ")
        assert told in what
        assert way == (
            "packer plugins install github.com/hetznercloud/hcloud 1.7.2; from a file: packer plugins install "
            "--path FILE github.com/hetznercloud/hcloud; Debian's own packer 1.6.6 needs no plugin"
        )
