"""What Packer says, as events, steps and messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.packer import failures, steps
from builder.packer.steps import Artifact, BuilderFailed, OtherRow, RawLine, StepTracker, UiLine


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("17,,ui,say,==> qemu.host: Starting%!(PACKER_COMMA) now", (UiLine("say", "qemu.host", "Starting, now"),)),
        ("17,,ui,message,    qemu.host: one", (UiLine("message", "qemu.host", "one"),)),
        ("17,,ui,message,    qemu.host:", (UiLine("message", "qemu.host", ""),)),
        ("17,,ui,error,==> amazon-ebs.host: a\\n==> amazon-ebs.host: b", (
            UiLine("error", "amazon-ebs.host", "a"), UiLine("error", "amazon-ebs.host", "b"))),
        ("17,,ui,say,\\n==> Builds finished", (UiLine("say", "", "==> Builds finished"),)),
        ("17,,ui,message,    qemu.host: 10%\\r20%\\r", (UiLine("message", "", "20%"),)),
        ("17,null.host,error,exit status: 3", (BuilderFailed("null.host", "exit status: 3"),)),
        ("17,,error-count,1", (OtherRow("17,,error-count,1"),)),
        ("17,null.host,artifact-count,1", (OtherRow("17,null.host,artifact-count,1"),)),
        ("17,a.host,artifact,0,id,eu-west-1:ami-1", (Artifact("a.host", 0, "id", ("eu-west-1:ami-1",)),)),
        ("17,a.host,artifact,0,file,1,/x/a%!(PACKER_COMMA)b", (Artifact("a.host", 0, "file", ("1", "/x/a,b")),)),
        ("17,a.host,artifact,0,end", (Artifact("a.host", 0, "end", ()),)),
        ("panic: something", (RawLine("panic: something"),)),
        ("", ()),
    ],
)  # fmt: skip
def test_a_row(line: str, expected: tuple[steps.Event, ...]) -> None:
    assert steps.parse(line) == expected


def _say(text: str) -> UiLine:
    return UiLine("say", "qemu.host", text)


def test_a_failed_step_keeps_its_name_and_its_output() -> None:
    phases = StepTracker("mark", ["30-packages"])
    for line in (
        "Waiting for SSH to become available...",
        "Provisioning with shell script: template/steps/30-packages",
    ):
        phases.feed(_say(line))
    phases.feed(UiLine("message", "qemu.host", "Unpacking"))
    phases.feed(UiLine("message", "qemu.host", "mark 100"))
    phases.feed(UiLine("error", "qemu.host", "E: No space left on device"))
    phases.feed(UiLine("error", "qemu.host", "mark 100"))
    phases.feed(_say("Provisioning step had errors: Running the cleanup provisioner, if present..."))
    phases.feed(_say("Deleting output directory..."))
    phases.feed(BuilderFailed("qemu.host", "Script exited with non-zero exit status: 100."))
    error = failures.build_failed(phases, 12.4, 1, Path("/logs/x.log"))
    assert error.step == "30-packages"
    assert error.message == (
        "baking failed in step 30-packages after 12 s: Script exited with non-zero exit status: 100.\n"
        "  its last output:\n  | Unpacking\n  | E: No space left on device"
    )
    assert error.hint == "the disk of the image is full: give it more with --size; the whole log: /logs/x.log"


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "Packer was killed"), (-9, "Packer was killed by signal 9"), (1, "Packer ended with exit code 1")],
)
def test_an_end_without_a_reason_is_told_by_the_exit_code(code: int, words: str) -> None:
    error = failures.build_failed(StepTracker(), 3, code, Path("x.log"))
    assert error.message == f"baking failed in step start after 3 s: {words}"
    assert error.hint == "the whole log: x.log"
