"""Every call of a launch, and of a destroy, fails in turn: what the account has then, and after a re-run.

In a twentieth of the ways, which change from call to call; `make sweeps` tries all and writes docs/aws-faults.md anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

from builder.aws.permissions import OPERATIONS
from tests.aws.wire import Answer, Call, refusal
from tests.sweeps import WHOLE

if TYPE_CHECKING:
    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

PAGE = Path(__file__).resolve().parents[2] / "docs" / "aws-faults.md"
Do = Callable[[], Answer]
CLOSED = Answer(0, b"")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.aws.er_command"])
KILL = "done, then kill -9"
_SHARE = 1 if WHOLE else 20
LAUNCH = ("--no-wait", "--eip")


@dataclass(frozen=True)
class Kind:
    """A way to fail. `once`: the call alone, or also all calls of this operation that follow, or all calls at all."""

    name: str
    answer: Callable[[Call, Do], Answer]
    lasts: str = "once"
    writes_only: bool = False


def after(done: Do, answer: Answer) -> Answer:
    done()
    return answer


def _error(call: Call) -> Answer:
    return refusal(call, 500, "InternalError", "An internal error has occurred")


KINDS = (
    Kind("throttled once", lambda call, _: refusal(call, 503, "Throttling", "Rate exceeded")),
    Kind("throttled on and on", lambda call, _: refusal(call, 503, "Throttling", "Rate exceeded"), "operation", True),
    Kind("server error", lambda call, _: _error(call)),
    Kind("done, then server error", lambda call, do: after(do, _error(call)), writes_only=True),
    Kind("done, answer lost", lambda _, do: after(do, CLOSED), writes_only=True),
    Kind("denied", lambda call, _: refusal(call, 403, "UnauthorizedOperation", "You are not authorized"), "operation"),
    Kind("network gone", lambda *_: CLOSED, "all"),
    Kind("done, then network gone", lambda _, do: after(do, CLOSED), "all", writes_only=True),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def ways(call: Call, share: int = _SHARE) -> list[str]:
    """The names of the ways in which this call fails in this run: one of `share` of them."""
    writes = OPERATIONS[call.operation].writes
    names = [kind.name for kind in KINDS if writes or not kind.writes_only]
    return [name for number, name in enumerate([*names, KILL]) if (number + call.number) % share == 0]


def state(account: Account) -> str:
    """The account in words."""
    servers, addresses, records = account.instances(), account.addresses(), account.records()
    assert len(servers) <= 1, "doubled"
    assert len(addresses) <= 1, "doubled"
    if not servers:
        assert not addresses, "an address that costs and serves nobody"
        assert not records, "a record that leads nowhere"
        return "free parts" if account.groups() or account.key_pairs() else "nothing"
    tied = [address for address in addresses if address.get("InstanceId")]
    missing = [what for what, present in (("address", tied), ("records", len(records) == 2)) if not present]
    spare = ["a spare address"] if len(addresses) > len(tied) else []
    return ", ".join(["whole" if not missing else f"server without {' and '.join(missing)}", *spare])


def sequence(er: Er, *words: str) -> list[Call]:
    """The calls of an undisturbed run."""
    done = er(*words)
    assert done.code == 0, done.err
    return list(er.wire.calls)


def arm(er: Er, kind: Kind, at: Call) -> None:
    """From now on the call with this number fails."""

    def fault(call: Call, do: Do) -> Answer | None:
        if call.number > at.number and kind.lasts == "all":
            return CLOSED
        again = call.number > at.number and kind.lasts == "operation" and call.operation == at.operation
        return kind.answer(call, do) if again or call.number == at.number else None

    er.wire.calls.clear()
    er.wire.fault = fault


def disarm(er: Er) -> None:
    er.wire.fault = None


def action(call: Call) -> str:
    """What IAM is asked first."""
    return next(iter(OPERATIONS[call.operation].needs), call.operation)


def _failed(er: Er, account: Account, kind: Kind, call: Call, words: tuple[str, ...]) -> str:
    """Fail one call of a run; what the account has then. What is there is told, with the command that removes it."""
    arm(er, kind, call)
    done = er(*words)
    disarm(er)
    after = state(account)
    where = f"{call.number} {call.operation}, {kind.name}: {after}\n{done.err}"
    if done.code:
        assert done.err.count("error: ") == 1, where
        assert "hint: " in done.err, where
        assert kind.name != "denied" or f"may not do {action(call)}" in done.err, where
        assert after == "nothing" or "er destroy web1 --region eu-central-1" in done.err, where
    else:
        assert after == "whole", where
    return after


def kill(er: Er, call: Call, words: tuple[str, ...]) -> None:
    """`er` in a process of its own gets kill -9 once AWS has done this call."""
    victim: Queue[int] = Queue()

    def fault(seen: Call, do: Do) -> Answer | None:
        if seen.number == call.number:
            do()
            os.kill(victim.get(), signal.SIGKILL)
            return CLOSED
        return None

    er.wire.calls.clear()
    er.wire.fault = fault
    child = er.fork(*words)
    victim.put(child)
    _, status = os.waitpid(child, 0)
    disarm(er)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_launch_leaves_a_whole_server_or_nothing_that_costs_and_converges(er: Er, account: Account) -> None:
    """One test, as the calls are only known once a run has been seen."""
    words = ("launch", str(er.spec), *LAUNCH)
    rows: dict[str, dict[str, str]] = {}
    for call in sequence(er, *words):
        cells = rows[f"{call.number} {call.operation}"] = {}
        for way in ways(call):
            account.reset()
            if way == KILL:
                kill(er, call, words)
                cells[way] = state(account)
            else:
                cells[way] = _failed(er, account, BY_NAME[way], call, words)
            if way == KILL or cells[way] != "whole":
                _converges(er, account, words, f"{call.operation}, {way}")
    compare("launch", rows)


def _converges(er: Er, account: Account, words: tuple[str, ...], where: str) -> None:
    again = er(*words)
    assert (again.code, state(account)) == (0, "whole"), (where, again.err)


def test_destroy_converges_to_nothing(er: Er, account: Account) -> None:
    launch, words = ("launch", str(er.spec), *LAUNCH), ("destroy", "web1", "--yes")
    assert er(*launch).code == 0
    er.wire.calls.clear()
    rows: dict[str, dict[str, str]] = {}
    for call in sequence(er, *words):
        cells = rows[f"{call.number} {call.operation}"] = {}
        for way in ways(call):
            if way == KILL:
                continue
            account.reset()
            assert er(*launch).code == 0
            arm(er, BY_NAME[way], call)
            done = er(*words)
            disarm(er)
            cells[way] = what_is_left(account)
            where = f"{call.number} {call.operation}, {way}: {done.err}"
            assert cells[way] == "nothing" or done.code == 1, where
            if done.code:
                again = er(*words)
                assert (again.code, what_is_left(account)) == (0, "nothing"), where + again.err
    compare("destroy", rows)


def what_is_left(account: Account) -> str:
    """After a destroy."""
    left = {
        "server": account.instances(),
        "address": account.addresses(),
        "records": account.records(),
        "free parts": account.groups() or account.key_pairs(),
    }
    return ", ".join(name for name, found in left.items() if found) or "nothing"


def compare(name: str, rows: dict[str, dict[str, str]], columns: Sequence[str] = (*BY_NAME, KILL)) -> None:
    """What has just happened is what the table of the page says."""
    assert any(rows.values()), "no call has failed"
    page = PAGE.read_text()
    before, begin, there, end, after = _parts(page, name)
    written = _read(there)
    if os.environ.get("UPDATE"):
        kept = written if list(written) == list(rows) else {call: {} for call in rows}
        known = {call: {**kept[call], **cells} for call, cells in rows.items()}
        # Whole or not at all: a sweep may be ended at any time.
        new = PAGE.with_suffix(f".{os.getpid()}")
        new.write_text(f"{before}{begin}{_table(known, columns)}{end}{after}")
        new.replace(PAGE)
        return
    assert list(written) == list(rows)
    assert {call: {**written[call], **cells} for call, cells in rows.items()} == written


def _parts(page: str, name: str) -> tuple[str, str, str, str, str]:
    """The page in pieces: the third is the table of this name."""
    before, begin, rest = page.partition(f"<!-- {name} -->\n")
    there, end, after = rest.partition(f"\n<!-- end of {name} -->")
    assert end, name
    return before, begin, there, end, after


def read_table(page: str, name: str) -> dict[str, dict[str, str]]:
    """The cells of a table of the page by call and way."""
    return _read(_parts(page, name)[2])


def _read(table: str) -> dict[str, dict[str, str]]:
    """The cells of a table by call and way."""
    if not table.strip():
        return {}
    header, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}


def _table(rows: dict[str, dict[str, str]], columns: Sequence[str]) -> str:
    kinds = [kind for kind in columns if any(kind in cells for cells in rows.values())]
    lines = [f"| call | {' | '.join(kinds)} |", "|" + "---|" * (len(kinds) + 1)]
    lines += [f"| {call} | {' | '.join(cells.get(kind, '') for kind in kinds)} |" for call, cells in rows.items()]
    return "\n".join(lines)
