"""A fleet at the local endpoint: made, rolled, rolled back by a bad image, scaled, destroyed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.aws import moto_account
from tests.aws.test_launch import READY

if TYPE_CHECKING:
    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

SPEC = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{moto_account.KEY}"]}}
fleet: {{min: 2, max: 4, cpu: 60}}
dns: route53
stacks:
  - {{name: hello, image: "docker.io/library/caddy:2.11", domain: hello.example.com, port: 8080}}
"""
# Without domains there is nothing to ask over HTTPS.
QUIET = f"""
server: {{name: web1}}
admin: {{ssh_keys: ["{moto_account.KEY}"]}}
fleet: {{min: 2, max: 4, cpu: 60}}
"""


@pytest.fixture
def fleet(er: Er, account: Account) -> Er:
    """`er`, with a spec of a fleet and an image for it."""
    er.spec.write_text(QUIET)
    account.bake()
    return er


def test_a_fleet_is_made_and_taken_away(fleet: Er, account: Account) -> None:
    done = fleet.launch("--json")
    assert done.code == 0, done.err
    print(done.err, done.out)
    for operation in fleet.wire.operations: print(operation)
    shown = fleet("servers")
    print(shown.out)
    gone = fleet("destroy", "web1", "--yes")
    print(gone.err)
    assert gone.code == 0
    assert account.everything() == []
