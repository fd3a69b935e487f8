"""`fleet:`: what becomes of it, and what it refuses; every refusal by name is a case in tests/errors/fleet-*."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from builder import facts, host, spec, userdata
from builder.cli.app import app
from builder.lab import trial
from builder.qemu import verify
from builder.spec.model import Fleet

SPEC = """
server: {name: web}
admin: {ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop"]}
fleet: FLEET
stacks:
  - {name: hello, image: docker.io/library/caddy:2.11, domain: hello.your-domain.org, port: 8080, volumes: ["c:/c"],
     local_cache: true}
"""


def loaded(fleet: str) -> spec.Spec:
    return spec.loads(SPEC.replace("FLEET", fleet), Path("spec.yaml"))[0]


@pytest.mark.parametrize(
    ("written", "fleet"),
    [
        ("{min: 2, max: 4, cpu: 50}", Fleet(2, 4, 50)),
        ("{min: 3}", Fleet(3, 3, 60)),
        ("{min: 1, max: 100, cpu: 90}", Fleet(1, 100, 90)),
    ],
)
def test_numbers_and_their_defaults(written: str, fleet: Fleet) -> None:
    assert loaded(written).fleet == fleet


def test_what_a_stack_stores_may_be_called_a_cache() -> None:
    assert loaded("{min: 2}").stacks[0].services[0].local_cache


def test_a_fleet_starts_from_a_baked_image_alone() -> None:
    fleet = loaded("{min: 2}")
    [problem] = userdata.fleet_problems(fleet, "stock")
    assert problem.severity == "error"
    assert problem.where == "fleet"
    assert not userdata.fleet_problems(fleet, "baked")
    assert not userdata.fleet_problems(replace(fleet, fleet=None), "stock")


def _paths(found: spec.Spec) -> set[str]:
    return {file.path for file in host.build(found).files}


def test_the_host_knows_whose_it_is_and_which_secrets_it_needs() -> None:
    text = SPEC.replace("FLEET", "{min: 2}").replace("local_cache: true", "local_cache: true, secrets: [db, db]")
    found = spec.loads(text, Path("spec.yaml"))[0]
    [settings] = [file for file in host.build(found).files if file.path == facts.FLEET]
    assert settings.content == b"NAME=web\nDRAIN=300\nSECRET=hello/db\n"


BALANCED = {f"{facts.ETC}/caddy/{name}.caddy" for name in ("ready", "shut")}
FLEET = {facts.FLEET, f"{facts.LIB}/fleet", "/etc/systemd/system/easyrunner-fleet.service"}


@pytest.mark.parametrize("behind", ["hetzner-lb", "digitalocean-lb", "aws-nlb"])
def test_any_host_behind_a_balancer_says_how_it_is(behind: str) -> None:
    text = SPEC.replace("fleet: FLEET", f"proxy: {{behind: {behind}, networks: [10.0.0.0/24]}}")
    paths = _paths(spec.loads(text, Path("spec.yaml"))[0])
    assert paths >= BALANCED
    assert not paths & FLEET


def test_an_edge_without_a_name_that_speaks_the_proxy_protocol_is_a_balancer() -> None:
    behind = "{networks: [10.0.0.0/24], proxy_protocol: true}"
    paths = _paths(spec.loads(SPEC.replace("fleet: FLEET", f"proxy: {{behind: {behind}}}"), Path("spec.yaml"))[0])
    assert paths >= BALANCED
    header = "{networks: [10.0.0.0/24], header: X-Forwarded-For}"
    paths = _paths(spec.loads(SPEC.replace("fleet: FLEET", f"proxy: {{behind: {header}}}"), Path("spec.yaml"))[0])
    assert not paths & BALANCED


def test_no_other_host_has_any_of_it() -> None:
    fleet = _paths(loaded("{min: 2}"))
    assert fleet >= BALANCED | FLEET
    alone = _paths(spec.loads(SPEC.replace("fleet: FLEET\n", ""), Path("spec.yaml"))[0])
    assert not alone & (BALANCED | FLEET)


def test_what_first_boot_waits_for_is_read_before_it_starts() -> None:
    """A baked image has planned it without what user-data lays down: it comes off the plan."""
    fleet = loaded("{min: 2}")
    off_the_plan = b"systemctl --no-block stop er-first-boot"
    assert off_the_plan in userdata.cloud_config(fleet, host.build(fleet), "baked")
    alone = replace(fleet, fleet=None)
    assert off_the_plan not in userdata.cloud_config(alone, host.build(alone), "baked")


def test_a_trial_and_a_proof_are_of_one_host_alone() -> None:
    """There is no group that would give it secrets, or take its word for how it began."""
    fleet = loaded("{min: 2}")
    assert facts.FLEET.encode() not in trial.plan(fleet, timeout=60).user_data
    assert verify.for_this_machine(fleet, "ssh-ed25519 AAAA").fleet is None


def test_user_data_of_a_fleet_is_for_a_baked_image(tmp_path: Path) -> None:
    """And says where its secrets are set, which is no host."""
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC.replace("FLEET", "{min: 2}").replace("local_cache: true", "local_cache: true, secrets: [db]"))
    refused = CliRunner().invoke(app, ["user-data", str(file), "--for", "aws", "--on", "stock"])
    assert refused.exit_code == 1
    assert "hosts of a fleet start from one baked image" in refused.stderr
    done = CliRunner().invoke(app, ["user-data", str(file), "--for", "aws", "--on", "baked"])
    assert done.exit_code == 0, done.stderr
    assert "before the server is up: er secret set SPEC hello db" in done.stderr
