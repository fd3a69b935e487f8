"""Builds on a server: the near side with a server that answers from a list, and the words that Podman is given."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from builder.problems import UserError
from builder.server import image_builds
from builder.server.remote.images import build_run
from builder.server.ssh import UnreachableError
from builder.stack.model import Build

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

DIGEST = "0123456789ab"
STATE = {"build": "n", "phase": "building", "text": "", "offset": 0, "by": "", "since": 0}


@dataclass
class Server:
    """Answers each call with the next of `answers`; one that is an error is raised."""

    answers: list[Any]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    sent: bytes = b""

    def ask(
        self,
        verb: str,
        *words: str,
        stdin: bytes | Iterable[bytes] = b"",
        fresh: bool = False,
        compress: bool = False,
        timeout: float = 120,
    ) -> Any:
        self.asked.append((verb, *words))
        self.sent += stdin if isinstance(stdin, bytes) else b"".join(stdin)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(steps: Generator[image_builds.Progress, None, str]) -> tuple[list[image_builds.Progress], str]:
    found = []
    while True:
        try:
            found.append(next(steps))
        except StopIteration as end:
            return found, end.value


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.server.image_builds.time.sleep", lambda _: None)


def test_it_is_sent_and_followed_to_its_end() -> None:
    said = [{**STATE, "text": "STEP 1\r\n\x1b[32mgreen\x1b[0m \x1b]0;title\x07\n", "offset": 30}]
    server = Server([{"phase": "none"}, {**STATE, "build": "n"}, *said, {**STATE, "phase": "done", "image": "x:y"}])
    steps, image = run(image_builds.build(server, "app", "web", image_builds.Request(DIGEST, target="release"), b"tar"))
    assert image == "x:y"
    assert [step.text for step in steps] == ["STEP 1\ngreen \\x1b]0;title\\x07\n"]
    header, _, context = server.sent.partition(b"\n")
    sent = {"digest": DIGEST, "target": "release", "network": "default", "size": 3}
    assert (json.loads(header), context) == (sent, b"tar")
    assert server.asked[1:3] == [("build-start", "app", "web"), ("build-wait", "app", "0", "20", "n")]
    assert server.asked[3] == ("build-wait", "app", "30", "20", "n")


def test_it_waits_for_its_turn_and_says_for_whom() -> None:
    busy = {**STATE, "by": "a\x1bb@ci"}
    server = Server([busy, busy, {"phase": "none"}, STATE, {**STATE, "phase": "done", "image": "x:y"}])
    steps, _ = run(image_builds.build(server, "app", "web", image_builds.Request(DIGEST), b""))
    assert len(steps) == 1
    assert steps[0].waiting.startswith("app is being built by a\\x1bb@ci since ")


def test_a_cut_is_no_end() -> None:
    lines = {**STATE, "text": "one\n", "offset": 4}
    server = Server(
        [{"phase": "none"}, STATE, lines, UnreachableError("cut"), {**STATE, "phase": "done", "image": "x"}]
    )
    assert run(image_builds.build(server, "app", "web", image_builds.Request(DIGEST), b""))[1] == "x"
    assert server.asked[-2] == server.asked[-1] == ("build-wait", "app", "4", "20", "n")


def test_why_it_has_failed() -> None:
    server = Server([{"phase": "none"}, STATE, {**STATE, "phase": "failed", "why": "it \x07rang", "hint": "try"}])
    with pytest.raises(UserError, match=r"app was not built: it \\x07rang") as caught:
        run(image_builds.build(server, "app", "web", image_builds.Request(DIGEST), b""))
    assert caught.value.hint == "try"


def test_a_request_is_what_the_spec_says(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "web.Containerfile").write_text("FROM scratch\n")
    build = Build(tmp_path / "app", "../web.Containerfile", args=(("A", "1"),), extra_hosts=(("db", "10.0.0.1"),))
    found = image_builds.request(build, DIGEST, 60.5)
    assert (found.containerfile, found.inline) == ("", "FROM scratch\n")
    assert (found.args, found.extra_hosts, found.max_age) == (("A=1",), ("db:10.0.0.1",), 60)
    with pytest.raises(UserError, match="cannot be read"):
        image_builds.request(Build(tmp_path / "app", "../none"), DIGEST, 60)


def test_no_value_is_an_option_of_podmans() -> None:
    words = build_run.words(
        {
            "containerfile": "--volume=/:/host",
            "target": "--privileged",
            "args": ["--isolation=chroot", "A=1"],
            "labels": ["-v"],
            "extra_hosts": ["db:10.0.0.1"],
            "network": "host",
        },
        anew=False,
    )
    assert list(words) == [
        "--layers",
        "--format=docker",
        "--pull=missing",
        "--file=context/--volume=/:/host",
        "--target=--privileged",
        "--network=private",
        "--build-arg=--isolation=chroot",
        "--build-arg=A=1",
        "--label=-v",
        "--add-host=db:10.0.0.1",
    ]
    assert list(build_run.words({"inline": "FROM x", "network": "none"}, anew=True)) == [
        *("--layers", "--format=docker", "--no-cache", "--pull=newer", "--file=.containerfile", "--network=none"),
    ]
