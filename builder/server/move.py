"""`er server move OLD NEW`: all that outlives a machine goes from one host to another, by way of this machine.

A pass sends what differs while the old host serves, and is repeated while that is worth it. Then the old host stops and
is held, the rest is sent, the new one runs on trial, and is kept when every domain answers there. Whatever fails makes
both what they were; see builder/server/remote/move/move.py for what either does when nobody is heard of any more.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import process
from builder.oci import engines
from builder.problems import UserError
from builder.server import push, site_answers
from builder.server.move_look import compare, difference
from builder.server.site_answers import Answer
from builder.server.ssh import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.server.move_look import Compared, Difference, Look
    from builder.server.ssh import Remote

# Seconds after er's last word: the old host starts again by itself, the new one's trial ends. The latter has to be over
# for sure before the former begins.
OLD_LEASE: Final = 120.0
NEW_LEASE: Final = 60.0
_PING: Final = 5.0
# Another er whose last word is so old is dead.
_SILENT: Final = 25.0
# A pass while the old host serves is repeated while the last one took longer than this, so many times.
_LONG_PASS: Final = 10.0
_PASSES: Final = 3
# Seconds that a list, or a transfer's end, may take.
_LONG: Final = 7200.0
_LARGE: Final = 1 << 20
# An answer from here on is the proxy's, whose app does not answer.
_BROKEN: Final = 500


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who is told: of each step, of bytes sent of how many, and of what else there is to say."""

    step: Callable[[str], object]
    progress: Callable[[int, int], object]
    note: Callable[[str], object]


@dataclass
class Move:
    """One run of the command. `gap` is in seconds: how long nothing was served, once it is over."""

    old: Remote
    new: Remote
    found: Look
    report: Reporter
    timeout: float = 300
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    sent: int = 0
    gap: float | None = None
    notes: list[str] = field(default_factory=list)
    _committing: bool = False

    def carry_out(self) -> dict[str, Any]:
        """Go on from where the hosts are, to the end; what it came to. Raises UserError, both being what they were."""
        self._wait_for_another()
        before, phase = self.found.phases
        began = time.monotonic()
        if phase in {"quieting", "quiet", "switching", "starting", "ready", "undoing"}:
            self.report.step("taking back an unfinished trial")
            self.new.ask("move-undo", timeout=700)
        state = self.new.ask("move-begin", stdin=self._words())
        kept = self.found.old["state"] if before in {"stopped", "moved"} else {}
        baseline = {domain: Answer(*answer) for domain, answer in kept.get("answers", {}).items()}
        ill: list[str] = kept["ill"] if "ill" in kept else self.found.old["ill"]
        lease = _Lease(self)
        try:
            if before not in {"stopped", "moved"}:
                self._send_images()
                state = self._while_it_serves(state)
                baseline = self._answers()
                began = time.monotonic()
                self.report.step("stopping the old server")
            lease.tries = True
            with ThreadPoolExecutor(1) as pool:
                quiet = pool.submit(self._quiet)
                self._stop(baseline, ill)
                lease.begin()
                lease.clock = quiet.result()
            self._last_pass(state)
            return self._switch(lease, baseline, ill, began)
        except BaseException:
            with process.shielded():
                self._take_back(lease)
            raise
        finally:
            lease.end()

    def _quiet(self) -> tuple[float, float]:
        """The new host makes way: its clock, and a time when it said that, which may be before the old one has."""
        return self.new.ask("move-quiet", timeout=1600)["clock"], time.monotonic()

    def _stop(self, answers: dict[str, Answer], ill: list[str]) -> None:
        words = self._words(run=self.run, lease=OLD_LEASE, answers=answers, ill=ill)
        for service in self.old.ask("move-stop", stdin=words, timeout=1600).get("killed", ()):
            self.notes.append(f"{service} did not stop in its time and was killed: look at its data")

    def _words(self, **more: Any) -> bytes:
        return json.dumps({"pair": self.found.pair, **more}).encode()

    def _wait_for_another(self) -> None:
        """Raises UserError where another er is at it."""
        deadline = time.monotonic() + _SILENT + 10
        while self.found.phases[0] == "stopped" and (self.found.old["word"] or _SILENT) < _SILENT:
            if time.monotonic() > deadline:
                raise UserError("another er server move is at these servers", "wait for its end")
            self.report.step("waiting whether another er is at it")
            time.sleep(2)
            self.found = self.found._replace(old=self.old.ask("move-facts", timeout=600))

    # The passes.

    def _send_images(self) -> None:
        """Images that no registry has, under the names by which releases run them."""
        wanted = [
            [stack, service, name]
            for stack, names in self.found.old["releases"].items()
            for service, name in names.items()
        ]
        if not wanted:
            return
        missing = self.new.ask("move-images-missing", stdin=json.dumps(wanted).encode(), timeout=600)
        for stack, service, name in missing:
            self.report.step(f"sending the image of {stack}/{service}")
            with tempfile.TemporaryDirectory(prefix="er-move-") as scratch:
                file = Path(scratch, "image.tar")
                with file.open("wb") as out:
                    for chunk in self.old.read("move-image", stack, name):
                        out.write(chunk)
                target = push.target(self.new, stack, service)
                image = engines.find(f"oci-archive:{file}", target.architecture, Path(scratch))
                push.push(self.new, stack, service, image, name.rpartition(":")[2])

    def _while_it_serves(self, state: dict[str, Any]) -> dict[str, Any]:
        """Send what differs until little is left; returns the new host's state."""
        for number in range(_PASSES):
            started = time.monotonic()
            step = "copying while the old server serves" + (f", again ({number + 1})" if number else "")
            compared = self._pass(step, state)
            state = self.new.ask("move-passed", str(compared.here["since"]))
            if time.monotonic() - started < _LONG_PASS:
                break
        return state

    def _answers(self) -> dict[str, Answer]:
        """What each domain answers at the old host."""
        address = site_answers.address(self.old)
        found = {domain: site_answers.ask(domain, address) for domain in self.found.old["domains"] if "*" not in domain}
        return {domain: answer for domain, answer in found.items() if answer}

    def _pass(self, step: str, state: dict[str, Any]) -> Compared:
        self.report.step(step)
        compared = compare(self.old, self.new, state)
        different, since = compared.different, compared.here["since"]
        if different.bytes > (free := compared.there["free"]):
            raise UserError(
                f"{self.new.host} has room for {max(free, 0):,} bytes, and {different.bytes:,} are to come",
                f"give it a larger disk; what has come is removed by: {self._back}",
            )
        if different.remove or not state.get("since"):
            words = json.dumps({"remove": different.remove, "since": since}).encode()
            self.new.ask("move-pass", stdin=words, timeout=_LONG)
        self._transfer(different)
        return compared

    @property
    def _back(self) -> str:
        return f"er server move {self.old.host} {self.new.host} --back"

    def _last_pass(self, state: dict[str, Any]) -> None:
        """Nothing changes any more: what is there in the end is compared once more."""
        compared = self._pass("copying the rest", state)
        self.notes += [f"not moved, as it is a device: {path}" for path in compared.different.odd]
        there = self.new.ask("move-list", "incoming", timeout=_LONG)
        different = difference(compared.here, there, {})
        if different.remove or different.send:
            path = next((item.path for item in different.send), "") or different.remove[0]
            raise UserError(f"what came is not what was sent: {path}", "try again")

    def _transfer(self, different: Difference) -> None:
        if not different.send:
            return
        large = [item.path for item in different.send if item.size > _LARGE]
        blocks = self.new.ask("move-blocks", stdin=json.dumps(large).encode(), timeout=_LONG) if large else {}
        wanted = [[item.path, item.first, blocks.get(item.path)] for item in different.send]
        source = self.old.read("move-send", stdin=json.dumps(wanted).encode())
        failed: list[UserError] = []
        try:
            self.new.ask("move-receive", stdin=self._counted(source, different.bytes, failed), timeout=_LONG)
        except UserError as error:
            raise failed[0] if failed else _resumable(error) from None
        if failed:
            raise failed[0]

    def _counted(self, source: Iterator[bytes], every: int, failed: list[UserError]) -> Iterator[bytes]:
        done = 0
        try:
            for chunk in source:
                yield chunk
                done += len(chunk)
                self.sent += len(chunk)
                self.report.progress(done, max(every, done))
        except UserError as error:
            failed.append(_resumable(error))  # who receives sees that the end is missing

    # The switch.

    def _switch(self, lease: _Lease, baseline: dict[str, Answer], ill: list[str], began: float) -> dict[str, Any]:
        """Start on the new host, and keep it when all answers there. Raises UserError."""
        self.report.step("starting on the new server")
        words = {"releases": self.found.old["releases"], "ill": ill, "timeout": self.timeout}
        lease.check()
        self.new.ask("move-trial", stdin=self._words(**words, until=lease.until()))
        answers: dict[str, Answer] = {}
        pending = dict(baseline)
        deadline = time.monotonic() + self.timeout + 60
        phase = "switching"
        while pending or phase != "ready":
            lease.check()
            state = self.new.ask("move-state", phase, "2" if phase != "ready" else "0", fresh=True)
            if (phase := state.get("phase", "")) not in {"switching", "starting", "ready"}:
                said = "\n  ".join(["its containers said:", *state["said"]]) if state.get("said") else None
                raise UserError(f"{self.new.host} did not come up: {state.get('failed', phase)}", said)
            if phase != "switching":
                answers |= self._ask(pending)
            if not pending and self.gap is None:
                self.gap = time.monotonic() - began
            if time.monotonic() > deadline:
                raise UserError(f"no answer at {self.new.host} from {', '.join(pending)}")
        self.old.ask("move-handover", stdin=self._words(to=self.new.host))
        self._committing = True
        end = self.new.ask("move-commit")
        return {
            **end,
            "certificates": {
                domain: "kept" if answer.certificate == baseline[domain].certificate else "new"
                for domain, answer in answers.items()
            },
        }

    def _ask(self, pending: dict[str, Answer]) -> dict[str, Answer]:
        """What the new host answers of these domains; who answers is no longer pending."""
        address, answers = site_answers.address(self.new), dict[str, Answer]()
        for domain, before in tuple(pending.items()):
            answer = site_answers.ask(domain, address)
            if answer and (answer.status < _BROKEN or answer.status == before.status):
                answers[domain] = answer
                del pending[domain]
        return answers

    def _take_back(self, lease: _Lease) -> None:
        """Both become what they were. What does not answer does that by itself, once er is heard of no more."""
        lease.end()
        if not lease.tries:
            return  # the old host has served all the time
        if self._committing:
            self.report.note(f"{self.new.host} may be serving: the same command says, and goes on")
            return
        self.report.step("taking it back")
        try:
            self.new.ask("move-undo", timeout=700)
        except UserError:
            # Its trial is over then for sure.
            time.sleep(max(lease.last + NEW_LEASE + 5 - time.monotonic(), 0))
        try:
            self.old.ask("move-resume", timeout=700)
        except UserError as error:
            self.report.note(f"{error.message}: it starts again by itself, {OLD_LEASE:.0f} s after its boot at most")


def _resumable(error: UserError) -> UserError:
    if not isinstance(error, UnreachableError):
        return error
    return UserError(error.message, "what has come stays there: the same command goes on where it stopped")


class _Lease(threading.Thread):
    """er's word to both hosts, now and then. The new one hears only of a time for which the old one stays stopped."""

    def __init__(self, move: Move) -> None:
        super().__init__(daemon=True)
        self._move = move
        self._over = threading.Event()
        self._lost = ""
        self.tries = False  # once the new host may have begun to make way
        # When the old host heard er last, or later; and the new host's clock, and a time when it said that, or later.
        self.last = time.monotonic()
        self.clock = (0.0, 0.0)

    def begin(self) -> None:
        """Speak at once, then now and then. Raises UserError."""
        self._say()
        self.check()
        self.start()

    def run(self) -> None:
        """Until the end, or until the old host runs again."""
        while not self._over.wait(_PING) and not self._lost:
            with contextlib.suppress(UserError):
                self._say()

    def _say(self) -> None:
        move, now = self._move, time.monotonic()
        words = json.dumps({"run": move.run}).encode()
        state = move.old.ask("move-word", stdin=words, timeout=20, fresh=True)
        if state.get("phase") not in {"stopped", "moved"} or state.get("run") != move.run:
            self._lost = f"{move.old.host} has started again meanwhile"
            return
        self.last = now
        if self.clock[0]:
            move.new.ask("move-extend", str(self.until()), timeout=20, fresh=True)

    def until(self) -> float:
        """By the new host's clock, until when it may run on trial: no later than it says."""
        there, said = self.clock
        return there + self.last - said + NEW_LEASE

    def check(self) -> None:
        """Raises UserError where the old host runs again."""
        if self._lost:
            raise UserError(self._lost, "the same command begins anew")

    def end(self) -> None:
        """No more words."""
        self._over.set()
        if self.is_alive():
            self.join(60)


def back(old: Remote, new: Remote, found: Look, report: Reporter, *, gone: bool = False) -> bool:
    """The old host serves again, with its own data as it was; whether there was anything to undo. Raises UserError.

    The new one is held then, or what it was before. With `gone` nobody asks it.
    """
    phase, there = found.phases
    if not phase and not there:
        return False
    if there == "done" and not gone:
        report.step("stopping the new server")
        words = {"pair": f"{found.new['id']}-{found.old['id']}", "run": secrets.token_hex(8), "lease": OLD_LEASE}
        new.ask("move-stop", stdin=json.dumps(words).encode(), timeout=1600)
        new.ask("move-handover", stdin=json.dumps({**words, "to": old.host}).encode())
    elif not gone:
        report.step("taking back what came to the new server")
        new.ask("move-undo", "forget", timeout=700)
    report.step("starting the old server")
    old.ask("move-resume", timeout=700)
    return True
