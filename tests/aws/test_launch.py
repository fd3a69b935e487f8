"""`er launch`, `er servers`, `er destroy` against moto's server: what the account has afterwards, and what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.aws.cloud import Account
    from tests.aws.run import Er


def test_all_of_a_server_is_made_and_taken_away(er: Er, account: Account) -> None:
    done = er.launch("--no-wait", "--eip")
    assert done.code == 0, done.err
    print(done.err, er.wire.operations)
    (server,) = account.instances()
    print(server)
    print(er("servers").out)
    done = er("destroy", "web1", "--yes")
    assert done.code == 0, done.err
    print(done.err, account.groups(), account.keys(), account.addresses(), account.records())
    assert not account.instances()
