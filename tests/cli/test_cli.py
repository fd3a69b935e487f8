"""Whole runs of `er`, as a user sees them: exit code, stdout, stderr, and what is on disk afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.problems import SpecError
from tests import forked_er, hostile_values
from tests.sweeps import sample

ROOT = Path(__file__).resolve().parents[2]
ER = Path(sysconfig.get_path("scripts"), "er")
WEB = ROOT / "examples" / "web.yaml"
COMMANDS = (
    "init", "check", "diagram", "render", "tree", "user-data", "providers", "try", "build-image", "check-image",
    "launch", "deploy", "servers", "destroy", "schema", "explain", "server", "secret",
)  # fmt: skip


def er(*words: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", **(env or {})}
    if "PYTHONHASHSEED" not in environment:
        return forked_er.run([*map(str, words)], env=environment, cwd=cwd)
    return subprocess.run(
        [str(ER), *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = er(command, "--help")
    assert done.returncode == 0
    assert "Usage: er" in done.stdout


def test_help_names_every_command_and_no_other() -> None:
    listed = re.search(r"Commands:\n(.*)", er("--help").stdout, re.DOTALL)
    assert listed
    assert tuple(re.findall(r"^  ([a-z-]+) ", listed[1], re.MULTILINE)) == COMMANDS


def test_no_command_waits_for_what_another_needs() -> None:
    """What reads specs, makes hosts and calls AWS takes longer to load than most commands take to run."""
    heavy = "{'builder.spec', 'builder.host', 'builder.manifest', 'jinja2', 'cyclonedx', 'yaml', 'boto3'}"
    program = f"import sys, builder.cli.app; print(*sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    "words", [["nonsense"], ["check"], ["user-data", "x.yaml", "--on", "moon"], ["tree", "a", "b"]]
)
def test_wrong_usage_is_2_and_says_so_on_stderr(words: list[str]) -> None:
    done = er(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error:" in done.stderr


def test_check_of_a_good_spec() -> None:
    done = er("check", WEB)
    assert (done.returncode, done.stdout) == (0, "")
    assert "https://blog.example.org" in done.stderr


def test_check_shows_all_problems_with_their_places(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(WEB.read_text().replace("port: 8080", "port: 80").replace("debian-13", "debian-31"))
    shutil.copytree(WEB.parent / "blog", tmp_path / "blog")
    done = er("check", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{bad}:3:" in done.stderr
    assert "stacks[1].port" in done.stderr
    found = json.loads(er("check", bad, "--json").stdout)
    assert found["ok"] is False
    assert {problem["where"] for problem in found["problems"]} == {"server.base", "stacks[1].port"}


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    for words in (["check"], ["tree"], ["user-data", "--on", "stock"]):
        done = er(words[0], tmp_path / "none.yaml", *words[1:])
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr


def test_user_data_is_the_same_bytes_anywhere_and_any_time(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "elsewhere")
    here = er("user-data", WEB, "--on", "stock").stdout
    odd = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LANG": "C", "LC_ALL": "C", "HOME": "/nonexistent", "USER": "x"}
    there = er("user-data", "web.yaml", "--on", "stock", cwd=tmp_path / "elsewhere", env=odd).stdout
    assert here == there
    assert here.startswith("#cloud-config\n")


def test_user_data_goes_to_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "user-data"
    assert er("user-data", WEB, "--on", "baked", "-o", target).returncode == 0
    assert target.read_text() == er("user-data", WEB, "--on", "baked").stdout
    broken = tmp_path / "broken.yaml"
    broken.write_text("server: {}\n")
    assert er("user-data", broken, "--on", "stock", "-o", target).returncode == 1
    assert target.read_text().startswith("#cloud-config\n")
    assert sorted(tmp_path.iterdir()) == [broken, target]


def test_an_archive_cannot_travel_in_user_data(tmp_path: Path) -> None:
    (tmp_path / "app.tar").write_bytes(b"not looked into here")
    spec = tmp_path / "easyrunner.yaml"
    spec.write_text(WEB.read_text().replace("docker.io/library/caddy:2.11", "oci-archive:app.tar"))
    shutil.copytree(WEB.parent / "blog", tmp_path / "blog")
    done = er("user-data", spec, "--on", "stock")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot travel in user-data" in done.stderr
    assert "hint:" in done.stderr


def test_render_and_tree_tell_the_same(tmp_path: Path) -> None:
    out = tmp_path / "host"
    assert er("render", WEB, "-o", out).returncode == 0
    listed = {entry["path"]: entry["mode"] for entry in json.loads(er("tree", WEB, "--json").stdout)}
    on_disk = {
        f"/{path.relative_to(out)}": f"0{path.stat().st_mode & 0o777:o}" for path in out.rglob("*") if path.is_file()
    }
    assert on_disk == listed
    assert len(er("tree", WEB).stdout.splitlines()) == len(listed)


def test_diagram_is_the_same_on_any_day(tmp_path: Path) -> None:
    out = tmp_path / "host.svg"
    done = er("diagram", WEB, "-o", out, env={"PYTHONHASHSEED": "1"})
    assert (done.returncode, done.stdout) == (0, "")
    assert f"wrote {out.stat().st_size:,} bytes to {out}" in done.stderr
    again = er("diagram", WEB, env={"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "Asia/Tokyo"})
    assert again.stdout.encode() == out.read_bytes() == (ROOT / "docs/host.svg").read_bytes()


def test_diagram_of_a_wrong_spec_writes_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(WEB.read_text().replace("port: 8080", "port: 80").replace("debian-13", "debian-31"))
    done = er("diagram", bad, "-o", tmp_path / "host.svg")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: server.base" in done.stderr
    assert "error: stacks[0].compose" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_render_does_not_write_into_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    done = er("render", WEB, "-o", tmp_path)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_init_makes_a_spec_that_passes_and_keeps_what_is_there(tmp_path: Path) -> None:
    assert er("init", cwd=tmp_path).returncode == 0
    assert er("check", "easyrunner.yaml", cwd=tmp_path).returncode == 0
    (tmp_path / "easyrunner.yaml").write_text("mine")
    assert er("init", cwd=tmp_path).returncode == 1
    assert (tmp_path / "easyrunner.yaml").read_text() == "mine"


def test_the_schema_accepts_the_examples_and_refuses_a_slip() -> None:
    import jsonschema  # noqa: PLC0415  a second, which each worker would spend

    schema = json.loads(er("schema").stdout)
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    slip = yaml.safe_load(WEB.read_text())
    slip["stacks"][0]["nam"] = slip["stacks"][0].pop("name")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(slip, schema)


def test_a_bake_can_be_looked_at_before_it_is_run(tmp_path: Path) -> None:
    told = er(
        "build-image", WEB, "--target", "hetzner", "--dry-run", "-o", tmp_path / "x", env={"HCLOUD_TOKEN": "t" * 64}
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1].endswith("/packer build -machine-readable -on-error=cleanup template")
    assert f"# in {tmp_path}/x/.er-bake-*:" in told.stdout
    assert "t" * 64 not in told.stdout + told.stderr
    assert list(tmp_path.iterdir()) == []
    dry = ("build-image", WEB, "--target", "qemu", "--accelerator", "tcg", "--dry-run", "--json")
    machine = json.loads(er(*dry, "--builder", "machine").stdout)
    assert machine["variables"]["accelerator"] == "tcg"
    container = json.loads(er(*dry, "--builder", "container").stdout)
    assert container["variables"]["source"] == "null.host"
    assert container["unknown"] == []
    assert "template/payload/rootfs.tar" in machine["files"]
    assert not any(path.startswith("template/payload/stacks") for path in machine["files"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "moon"], "'moon' is not one of qemu, aws, "),
        (["--target", "qemu", "--format", "iso"], "'iso' is not one of qcow2, raw, "),
        (["--target", "aws", "--size", "9G"], "only for --target qemu: --size"),
        ([], "SPEC and --target are needed"),
    ],
)
def test_a_bake_of_something_unknown_is_wrong_usage(words: list[str], told: str) -> None:
    done = er("build-image", WEB, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "hetzner"], "HCLOUD_TOKEN"),
        (["--target", "exoscale"], "PKR_VAR_api_key with PKR_VAR_api_secret"),
        (["--target", "qemu", "--size", "big"], "--size big"),
        (["--target", "qemu", "--base-image", "x.qcow2"], "--checksum"),
        (["--target", "qemu", "--checksum", "sha256:0"], "--base-image"),
    ],
)
def test_what_a_bake_lacks_is_told_before_anything_begins(words: list[str], told: str, tmp_path: Path) -> None:
    bare = dict.fromkeys(("HCLOUD_TOKEN", "PKR_VAR_api_key", "PKR_VAR_api_secret"), "")
    done = er("build-image", WEB, *words, "-o", tmp_path / "x", env=bare)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "hint: " in done.stderr or "and there is none" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_packer_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    other = tmp_path / "packer"
    other.write_text("#!/bin/sh\necho 0 0\n")
    other.chmod(0o755)
    env = {"PATH": str(tmp_path), "HCLOUD_TOKEN": "t" * 64}
    done = er("build-image", WEB, "--target", "hetzner", "-o", tmp_path / "x", env=env)
    assert done.returncode == 1
    assert f"no usable packer: {other} is another program of that name" in done.stderr
    assert "hint: apt-get install packer" in done.stderr


def test_try_says_what_it_needs_where_it_cannot_run() -> None:
    """Without root: one error, no trace, nothing begun. A user namespace of its own makes anyone a stranger."""
    argv = ["unshare", "--user", str(ER), "try", str(WEB)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "root" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_reader_of_a_pipe_may_leave() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{ER} tree {WEB} | head -1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_the_wheel_carries_its_data(tmp_path: Path) -> None:
    """Installed from a wheel, away from the checkout, `er` gives the same bytes."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", tmp_path, str(ROOT)], check=True, capture_output=True, timeout=300
    )
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "installed"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", place, wheel], check=True, capture_output=True, timeout=300
    )
    argv = [
        sys.executable,
        "-P",
        "-c",
        "import builder, builder.cli; assert 'installed' in builder.__file__; builder.cli.main()",
    ]
    done = subprocess.run(
        [*argv, "user-data", str(WEB), "--on", "stock"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout == er("user-data", WEB, "--on", "stock").stdout


_CHECKS = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "builder"], ["mypy"])


# The types of tests are `make check`'s as well.
@pytest.mark.parametrize("argv", sample(_CHECKS, _CHECKS[:3]), ids=" ".join)
def test_the_code_is_clean(argv: list[str]) -> None:
    program = Path(sysconfig.get_path("scripts"), argv[0])
    done = subprocess.run([str(program), *argv[1:]], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def named() -> specs.Spec:
    """A spec with a name in its egress."""
    text = WEB.read_text().replace("name: hello\n", "name: hello\n    egress: [{to: db.example.com, ports: [5432]}]\n")
    assert "db.example.com" in text
    return specs.loads(text, WEB)[0]


def test_check_says_what_a_stack_may_reach_and_when_names_are_resolved(tmp_path: Path) -> None:
    file = tmp_path / "easyrunner.yaml"
    egress = "egress: [{to: DB.example.com, ports: [5432]}, {to: 203.0.113.7, protocol: udp}]"
    file.write_text(HELLO.format(egress=egress))
    done = er("check", file)
    assert done.returncode == 0, done.stderr
    assert (
        "may reach db.example.com tcp 5432"
        "  (resolved by the server at its boots, by er server apply and er server reapply-firewall)\n"
    ) in done.stderr
    assert "may reach 203.0.113.7/32 udp all ports\n" in done.stderr
    wishes = json.loads(er("check", file, "--json").stdout)["stacks"][0]["egress"]
    assert [wish["resolved"] is None for wish in wishes] == [False, True]


def test_check_says_where_the_proxy_reaches_a_public_service(tmp_path: Path) -> None:
    """A port that was taken from elsewhere, or left out, is seen before the server is made."""
    file = tmp_path / "easyrunner.yaml"
    file.write_text(HELLO.format(egress="path: /x"))
    assert "web: https://hello.example.org/x  (port 8080)\n" in er("check", file).stderr
    [service] = json.loads(er("check", file, "--json").stdout)["stacks"][0]["services"]
    assert service["port"] == 8080


HELLO = """
server: {{name: web1}}
admin: {{ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"]}}
stacks:
  - {{name: hello, image: "docker.io/library/caddy:2.11", domain: hello.example.org, port: 8080, {egress}}}
"""


def test_the_scripts_of_the_host_are_clean(tmp_path: Path) -> None:
    scripts = sorted(path for path in (ROOT / "images").rglob("*") if path.is_file() and path.read_bytes()[:2] == b"#!")
    names = next(file for file in hosts.build(named()).files if file.path == facts.NAMES)
    scripts.append(tmp_path / "names")
    scripts[-1].write_bytes(names.content)
    for source in ("address", "data"):
        scripts.append(tmp_path / source)
        lines = (ROOT / "cloudinit" / "rootfs" / facts.LIB[1:] / f"{source}.j2").read_text().splitlines()
        scripts[-1].write_text("\n".join(line for line in lines if not line.startswith("{%")))
    argv = ["shellcheck", "--exclude=SC2016", *map(str, scripts)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


# Of a Compose file in the documentation.
_A_STACK = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{hostile_values.KEY}"]}}
stacks:
  - {{name: app, compose: compose.yaml, public: {{web: {{domains: [app.your-domain.org]}}}}}}
"""


def test_every_yaml_of_the_documentation_is_a_spec(tmp_path: Path) -> None:
    blocks = [
        (page.name, block)
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    assert blocks
    for name, block in blocks:
        if "runs-on:" in block or "resource_group:" in block:
            continue  # of CI: unit/test_deploy.py
        text, place = block, ROOT / "examples"
        if block.startswith("services:"):
            (tmp_path / "compose.yaml").write_text(block)
            text, place = _A_STACK, tmp_path
        try:
            specs.loads(text, place / "block.yaml")
        except SpecError as error:
            pytest.fail(f"{name}: {error}\n{block}")


def test_explain_says_why_a_line_is_there() -> None:
    done = er("explain", "ssh-root")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "/etc/ssh/sshd_config\n"
        "  ssh-root: PermitRootLogin no\n"
        "      Everybody acts under a name of their own, by sudo."
        "  (CIS 5.1.21, SSG sshd_disable_root_login, LYNIS SSH-7408)\n"
    )
    (row,) = json.loads(er("explain", "ssh-root", "--json").stdout)
    assert (row["id"], row["line"]) == ("ssh-root", "PermitRootLogin no")
    assert len(json.loads(er("explain", "--json").stdout)) > 150


def test_explain_of_what_is_not_there_is_one_clear_error() -> None:
    done = er("explain", "nonsense")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: no setting, file or audit's id is called nonsense\nhint: er explain lists all of them\n"
    )


def test_check_adds_up_what_heavy_images_want(tmp_path: Path) -> None:
    file = tmp_path / "easyrunner.yaml"
    head = WEB.read_text().partition("stacks:")[0]
    images = {"sso": "quay.io/keycloak/keycloak:26.0", "find": "elasticsearch:8.15.0", "plain": "docker.io/me/app:1"}
    stacks = [f"  - {{name: {name}, image: {image}, domain: {name}.example.org}}" for name, image in images.items()]
    file.write_text(f"{head}stacks:\n" + "\n".join(stacks).replace("sso,", "sso, hardening: strict,"))
    said = er("check", file).stderr
    assert "er-sso wants 1.2 GiB of memory at least: web 1.2 GiB" in said
    assert "memory: 3.2 GiB for heavy images, and the other services: take a server with 8 GB or more" in said
    assert "er-plain wants" not in said
    assert "(security-hardening strict: no capabilities, and a root that cannot be written)" in said
    memory = json.loads(er("check", file, "--json").stdout)["memory"]
    assert (memory["wanted"], memory["server"]) == (3328 * 2**20, 8)
    assert [stack["services"] for stack in memory["stacks"]] == [{"web": 1280 * 2**20}, {"web": 2**31}]
    assert json.loads(er("check", WEB, "--json").stdout)["memory"] is None


def test_what_stands_before_a_host_is_said(tmp_path: Path) -> None:
    """By `check`, and by `tree` which files that makes."""
    file = tmp_path / "easyrunner.yaml"
    file.write_text(WEB.read_text().replace("compose: blog/", f"compose: {WEB.parent}/blog/"))
    assert "behind" not in er("check", file).stderr
    assert json.loads(er("check", file, "--json").stdout)["edge"] is None
    file.write_text(f"{file.read_text()}proxy: {{behind: cloudflare, only: true}}\n")
    said = er("check", file).stderr
    assert "behind cloudflare: 22 networks say by CF-Connecting-IP who a visitor is\n  80 and 443 answer to" in said
    edge = json.loads(er("check", file, "--json").stdout)["edge"]
    assert (edge["name"], len(edge["networks"]), edge["only"], edge["proxy_protocol"]) == (
        "cloudflare",
        22,
        True,
        False,
    )
    tree = er("tree", file).stdout
    assert "/etc/easyrunner/edge.json" in tree
    assert "/etc/easyrunner/firewall.d/23-edge.filter" in tree
