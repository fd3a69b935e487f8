"""The policy in the documentation allows what er calls, all of it and no more.

`UPDATE=1 pytest tests/aws/test_policy.py` writes it into docs/aws.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.aws.calls import OPERATIONS
from builder.aws.policy import policy
from tests.aws import run
from tests.aws.test_launch import READY

if TYPE_CHECKING:
    from tests.aws.cloud import Account
    from tests.aws.run import Er

PAGE = Path(__file__).resolve().parents[2] / "docs" / "aws.md"


def test_every_declared_call_is_made_and_every_call_is_declared(er: Er, account: Account) -> None:
    """All commands, in all their ways: what was seen on the wire is the table that the policy comes from."""
    assert er.launch("--dry-run").code == 0
    assert er.launch("--no-wait", "--eip").code == 0
    group = account.groups()[0]["GroupId"]
    account.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=25, ToPort=25, CidrIp="0.0.0.0/0"
    )
    assert er.launch("--no-wait", "--eip").code == 0
    assert er("servers").code == 0
    assert er("destroy", "web1", "--yes", "--unprotect").code == 0
    er.spec.write_text(run.QUIET)
    er.wire.console = lambda: READY
    assert er.launch().code == 0
    assert {call.operation for call in er.wire.calls} == set(OPERATIONS)
    assert {(call.service, call.operation) for call in er.wire.calls} == {
        (operation.service, operation.name) for operation in OPERATIONS.values()
    }


def test_the_page_has_the_policy() -> None:
    text = f"```json\n{json.dumps(policy(), indent=2)}\n```"
    begin, end = "<!-- policy -->\n", "\n<!-- end of policy -->"
    before, _, rest = PAGE.read_text().partition(begin)
    there, _, after = rest.partition(end)
    if os.environ.get("UPDATE"):
        PAGE.write_text(f"{before}{begin}{text}{end}{after}")
    else:
        assert there == text
