"""What `packer build -machine-readable` prints, made of tests/packer/transcripts, as Packer 1.6.6 and 1.16 write it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from builder.packer.work_directory import PAYLOAD, STEPS

FOLDER: Final = Path(__file__).parent / "transcripts"
NAME: Final = "er-debian-13-amd64-20261129-101500"
MARK: Final = "er-step-0123456789abcdef"
SCRIPTS: Final = (
    "10-wait", "20-files", "30-packages", "40-proxy-image", "50-app-images", "60-harden", "70-clean", "80-verify",
)  # fmt: skip
Generation = Literal["1.6.6", "1.16"]
GENERATIONS: Final[tuple[Generation, ...]] = ("1.6.6", "1.16")
# What a step may print: each was taken for Packer's own word once, or could be.
TRICKS: Final = (
    "Reading package lists...",
    "Uploading symbols",
    'Step "configure" failed',
    "Creating snapshot...",
    "Destroying server...",
    "Provisioning with shell script: /tmp/70-clean",
    f"Provisioning with shell script: {STEPS}/70-clean",
    f"Uploading {PAYLOAD}/ => /var/tmp/er-bake",
    "Waiting for SSH to become available...",
    "Deleting output directory...",
    "Provisioning step had errors: Running the cleanup provisioner, if present...",
    "please delete it manually",
)
TARGETS: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load(target: str) -> dict[str, Any]:
    """A target's own words, with the image's name in them."""
    text = (FOLDER / f"{target}.yaml").read_text().replace("{name}", NAME)
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@dataclass
class Transcript:
    """Rows as they come."""

    target: str
    generation: Generation
    rows: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.words = load(self.target)
        self._builder = f"{self.words['builder']}.host"

    @property
    def fails(self) -> bool:
        """Whether something that cannot be taken away makes the whole build a failure, with this plugin."""
        return self.words["stuck"].get("fails") in (True, self.generation)

    def row(self, kind: str, *data: str, of: str = "") -> None:
        escaped = [part.replace(",", "%!(PACKER_COMMA)").replace("\n", "\\n") for part in data]
        self.rows.append(",".join(["1795933612", of, kind, *escaped]))

    def say(self, text: str) -> None:
        """A headline, or with `! ` before it an error, of the builder or of Packer about it."""
        error = text.startswith("! ")
        self.row("ui", "error" if error else "say", f"==> {self._builder}: {text.removeprefix('! ')}")

    def output(self, text: str, *, stderr: bool = False) -> None:
        """A line of a step: its tone is where the generations differ."""
        if stderr:
            self.row("ui", "error", f"==> {self._builder}: {text}")
        elif self.generation == "1.6.6":
            self.row("ui", "message", f"    {self._builder}: {text}")
        else:
            self.row("ui", "say", f"==> {self._builder}: {text}")

    def headlines(self, part: str, upto: str | None = None) -> None:
        """All of a part, or those up to the one that begins so, with it."""
        old = self.words.get("old", {}) if self.generation == "1.6.6" else {}
        for line in self.words.get(part) or []:
            if said := old.get(line, line):
                self.say(said)
            if upto is not None and line.startswith(upto):
                return

    def step(self, name: str, code: int = 0, last: str = "") -> None:
        """A whole step, its marks last; what it says on stderr may come after the mark of the other stream."""
        self.say(f"Provisioning with shell script: {STEPS}/{name}")
        for line in TRICKS:
            self.output(line)
        self.output("a warning", stderr=True)
        self.output(f"{MARK} {code}")
        if last:
            self.output(last, stderr=True)
        self.output(f"{MARK} {code}", stderr=True)

    def steps(self, upto: str = "") -> None:
        """All steps, or those before the one named."""
        for name in SCRIPTS:
            if name == upto:
                return
            self.step(name)
            if name == "10-wait":
                self.say(f"Uploading {PAYLOAD}/ => /var/tmp/er-bake")

    def good(self) -> None:
        """The end of a build that made something."""
        whole = "==> Builds finished. The artifacts of successful builds are:"
        self.row("ui", "say", f"Build '{self._builder}' finished after 2 minutes.")
        self.row("ui", "say", "\n==> Wait completed after 2 minutes")
        self.row("ui", "say", f"\n{whole}")
        self.row("artifact-count", "1", of=self._builder)
        self.row("artifact", "0", "builder-id", "some.builder", of=self._builder)
        self.row("artifact", "0", "id", self.words["artifact"], of=self._builder)
        self.row("artifact", "0", "string", f"An image: {self.words['artifact']}", of=self._builder)
        self.row("artifact", "0", "files-count", "0", of=self._builder)
        self.row("artifact", "0", "end", of=self._builder)
        self.row("ui", "say", f"--> {self._builder}: An image: {self.words['artifact']}")

    def bad(self, reason: str) -> None:
        """The end of one that did not: the reason is said three times over."""
        self.row("ui", "error", f"Build '{self._builder}' errored after 6 milliseconds: {reason}")
        self.row("ui", "say", "\n==> Wait completed after 6 milliseconds")
        self.row("error-count", "1")
        self.row("ui", "error", "\n==> Some builds didn't complete successfully and had errors:")
        self.row("error", reason, of=self._builder)
        self.row("ui", "error", f"--> {self._builder}: {reason}")
        self.row("ui", "say", "\n==> Builds finished but no artifacts were created.")

    def cleanup(self) -> None:
        """What is taken away when a build fails."""
        self.headlines("failed_cleanup" if "failed_cleanup" in self.words else "cleanup")


def whole(target: str, generation: Generation) -> Transcript:
    """A good build."""
    made = Transcript(target, generation)
    made.headlines("opening")
    made.steps()
    made.headlines("closing")
    made.headlines("cleanup")
    made.good()
    return made


def refused(target: str, generation: Generation, what: str = "refused") -> Transcript:
    """An error before there is a machine: a refused login, no capacity."""
    made = Transcript(target, generation)
    case = made.words[what]
    if case["after"]:
        made.headlines("opening", case["after"])
    made.say(f"! {case['error']}")
    if case.get("crash"):
        made.rows += ["panic: interface conversion: interface {} is nil, not bool", "", "goroutine 51 [running]:"]
        made.rows += ["!!!!!!!!!!!!!!!!!!!!!!!!!!! PACKER CRASH !!!!!!!!!!!!!!!!!!!!!!!!!!!!", "", "Packer crashed!"]
    made.bad(case.get("final", case["error"]))
    return made


def script_fails(target: str, generation: Generation) -> Transcript:
    """A package that cannot be had."""
    made = Transcript(target, generation)
    made.headlines("opening")
    made.steps("30-packages")
    made.step("30-packages", 100, "er-bake: 30-packages: the packages could not be installed")
    made.say("Provisioning step had errors: Running the cleanup provisioner, if present...")
    made.cleanup()
    made.bad("Script exited with non-zero exit status: 100. Allowed exit codes are: [0]")
    return made


def vanished(target: str, generation: Generation) -> Transcript:
    """The machine goes away in a step, which so never ends."""
    made = Transcript(target, generation)
    made.headlines("opening")
    made.steps("30-packages")
    made.say(f"Provisioning with shell script: {STEPS}/30-packages")
    for line in (*TRICKS, "Setting up podman"):
        made.output(line)
    made.say("Provisioning step had errors: Running the cleanup provisioner, if present...")
    made.cleanup()
    made.bad("Script disconnected unexpectedly. If you expected your script to disconnect, see expect_disconnect")
    return made


def stuck(target: str, generation: Generation) -> Transcript:
    """Something cannot be taken away, in a build that is good but for that."""
    made = Transcript(target, generation)
    case = made.words["stuck"]
    made.headlines("opening")
    made.steps()
    made.headlines("closing")
    if "final" in case:
        made.say(f"! {case['final']}")
    if case["after"]:
        part = "failed_cleanup" if "failed_cleanup" in made.words else "cleanup"
        made.headlines(part, case["after"])
    made.say(f"! {case['error']}")
    if made.fails:
        made.bad(case.get("final", case["error"]))
    else:
        made.good()
    return made
