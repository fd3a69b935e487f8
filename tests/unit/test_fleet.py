"""`fleet:`: what becomes of it, and what it refuses; every refusal by name is a case in tests/errors/fleet-*."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builder import spec, userdata
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
