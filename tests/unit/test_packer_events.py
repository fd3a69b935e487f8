"""What Packer says, as events, steps and messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.packer import failures, steps
from builder.packer.steps import Artifact, Failed, Other, Phases, Raw, Said


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("17,,ui,say,==> qemu.host: Starting%!(PACKER_COMMA) now", (Said("say", "qemu.host", "Starting, now"),)),
        ("17,,ui,message,    qemu.host: one", (Said("message", "qemu.host", "one"),)),
        ("17,,ui,message,    qemu.host:", (Said("message", "qemu.host", ""),)),
        ("17,,ui,error,==> amazon-ebs.host: a\\n==> amazon-ebs.host: b", (
            Said("error", "amazon-ebs.host", "a"), Said("error", "amazon-ebs.host", "b"))),
        ("17,,ui,say,\\n==> Builds finished", (Said("say", "", "==> Builds finished"),)),
        ("17,,ui,message,    qemu.host: 10%\\r20%\\r", (Said("message", "", "20%"),)),
        ("17,null.host,error,exit status: 3", (Failed("null.host", "exit status: 3"),)),
        ("17,,error-count,1", (Other("17,,error-count,1"),)),
        ("17,null.host,artifact-count,1", (Other("17,null.host,artifact-count,1"),)),
        ("17,a.host,artifact,0,id,eu-west-1:ami-1", (Artifact("a.host", 0, "id", ("eu-west-1:ami-1",)),)),
        ("17,a.host,artifact,0,file,1,/x/a%!(PACKER_COMMA)b", (Artifact("a.host", 0, "file", ("1", "/x/a,b")),)),
        ("17,a.host,artifact,0,end", (Artifact("a.host", 0, "end", ()),)),
        ("panic: something", (Raw("panic: something"),)),
        ("", ()),
    ],
)  # fmt: skip
def test_a_row(line: str, expected: tuple[steps.Event, ...]) -> None:
    assert steps.parse(line) == expected


def _say(text: str) -> Said:
    return Said("say", "qemu.host", text)


def test_a_failed_step_keeps_its_name_and_its_output() -> None:
    phases = Phases("mark", ["30-packages"])
    for line in (
        "Waiting for SSH to become available...",
        "Provisioning with shell script: template/steps/30-packages",
    ):
        phases.feed(_say(line))
    phases.feed(Said("message", "qemu.host", "Unpacking"))
    phases.feed(Said("message", "qemu.host", "mark 100"))
    phases.feed(Said("error", "qemu.host", "E: No space left on device"))
    phases.feed(Said("error", "qemu.host", "mark 100"))
    phases.feed(_say("Provisioning step had errors: Running the cleanup provisioner, if present..."))
    phases.feed(_say("Deleting output directory..."))
    phases.feed(Failed("qemu.host", "Script exited with non-zero exit status: 100."))
    error = failures.failed(phases, 12.4, 1, Path("/logs/x.log"))
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
    error = failures.failed(Phases(), 3, code, Path("x.log"))
    assert error.message == f"baking failed in step start after 3 s: {words}"
    assert error.hint == "the whole log: x.log"
