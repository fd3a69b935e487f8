"""Builds at stand-ins for Hetzner and DigitalOcean, by the Packer that is here, with SSH to a machine booted here.

What is left at the provider is what is told: after a good build, each failure, and an interrupt at every phase.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from builder.packer import program
from builder.packer.targets import BY_NAME
from builder.polling import until
from tests.packer import bake_program, fake_digitalocean, fake_hetzner, transcript
from tests.packer.fake_digitalocean import DigitalOcean
from tests.packer.fake_hetzner import Hetzner
from tests.packer.fake_provider import served
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.packer.conftest import Oven
    from tests.packer.fake_provider import Answer

pytestmark = pytest.mark.machine
TOKEN = "tell-nobody-of-this"
TARGETS = ("hetzner", "digitalocean")
# DigitalOcean's plugin would ask again for half a minute.
API = {
    "hetzner": {"HCLOUD_TOKEN": TOKEN},
    "digitalocean": {"DIGITALOCEAN_ACCESS_TOKEN": TOKEN, "DIGITALOCEAN_HTTP_RETRY_MAX": "0"},
}
WORDS = {
    "servers": "server", "droplets": "droplet", "images": "snapshot", "snapshots": "snapshot",
    "ssh_keys": "SSH key", "keys": "SSH key",
}  # fmt: skip
HOLD = "echo holding; exec sleep 600"


@dataclass
class Build:
    """One build at a stand-in, in a process of its own."""

    target: str
    cloud: Any
    url: str
    place: Path
    scripts: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> None:
        self.place.mkdir()
        urls = {"HCLOUD_ENDPOINT": f"{self.url}/v1", "DIGITALOCEAN_API_URL": f"{self.url}/"}
        environment = {**os.environ, **API[self.target], **urls, "NO_COLOR": "1", "COLUMNS": "100"}
        words = [f"{name}={text}" for name, text in self.scripts.items()]
        argv = [
            sys.executable,
            "-m",
            "tests.packer.bake_program",
            str(self.place / "made"),
            "cloud",
            self.target,
            *words,
        ]
        with (self.place / "out").open("wb") as out, (self.place / "talk").open("wb") as talk:
            self.process = subprocess.Popen(
                argv, cwd=bake_program.ROOT, stdout=out, stderr=talk, env=environment, start_new_session=True
            )

    @property
    def talk(self) -> str:
        return (self.place / "talk").read_text()

    @property
    def log(self) -> str:
        logs = list((self.place / "made").glob("*.log"))
        return logs[0].read_text() if logs else ""

    @property
    def result(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.place / "out").read_text())
        return loaded

    def end(self) -> int:
        code = self.process.wait(180)
        assert "Traceback" not in self.talk, self.talk
        assert TOKEN not in self.talk + self.log
        return code

    def steps(self) -> list[str]:
        """As they were shown, in their order."""
        return [line.split()[0] for line in self.talk.splitlines() if line.startswith("  ") and line.endswith(" s")]

    def reach(self, *texts: str) -> None:
        """Wait until the log says one of these."""

        def there() -> bool:
            assert self.process.poll() is None, self.talk
            return any(text in self.log for text in texts)

        until(there, timeout=120, what=" or ".join(texts))

    def told(self) -> set[str]:
        """The kinds of what may have stayed, as the screen says it."""
        lines = [line.partition("may have stayed: ")[2] for line in self.talk.splitlines()]
        return {noun for line in lines for noun in WORDS.values() if line.startswith(noun)}

    def there(self) -> set[str]:
        """The kinds of what is there."""
        return {WORDS[kind.removeprefix("/")] for kind in self.cloud.left()}


@contextmanager
def built(target: str, oven: Oven, place: Path, **scripts: str) -> Iterator[Build]:
    """A stand-in, and a build at it that has not begun."""
    if lacking := program.missing_plugin(BY_NAME[target], program.find(), os.environ):
        pytest.skip(lacking[0])

    def authorize(key: str) -> None:
        file = oven.machine.path("/root/.ssh/authorized_keys")
        file.write_text(f"{file.read_text().rstrip()}\n{key.strip()}\n")

    kind = {"hetzner": Hetzner, "digitalocean": DigitalOcean}[target]
    cloud = kind(oven.machine.ipv4, TOKEN, authorize)
    with served(cloud) as url:
        steps = {name.replace("_", "-") if name[0].isdigit() else name: it for name, it in scripts.items()}
        build = Build(target, cloud, url, place / "build", steps)
        yield build
        if hasattr(build, "process") and build.process.poll() is None:
            build.process.kill()


@pytest.mark.parametrize("target", TARGETS)
def test_a_good_build(target: str, oven: Oven, tmp_path: Path) -> None:
    """The exact steps, whatever they print; the image alone is left, and what to do with it is told."""
    tricks = "; ".join(f"echo '{line}'" for line in transcript.TRICKS)
    with built(target, oven, tmp_path, **{"30_packages": tricks}) as build:
        build.scripts = {"30-packages": tricks, "80-verify": tricks}
        build.start()
        assert build.end() == 0, build.talk
        wait, *rest = transcript.SCRIPTS
        first = [step for step in ("init", "validate") if step in build.steps()]
        assert build.steps() == [*first, "start", "boot", wait, "upload", *rest, "export", "manifest"]
        assert build.there() == {"snapshot"}
        assert build.told() == set()
        result = build.result
        (kept,) = build.cloud.left().values()
        assert kept == [result["name"]]
        assert result["left"] == []
        assert "size" not in result
        manifest = json.loads((build.place / "made").glob("*.manifest.json").__next__().read_text())
        assert manifest["image"] == {"file": result["ids"][0]}
        assert [step["name"] for step in manifest["steps"]] == build.steps()[:-1]


def _fault(method: str, part: str, answer: Answer) -> Callable[[Any], None]:
    return lambda cloud: cloud.faults.update({(method, part): answer})


def _lacks(what: str) -> Callable[[Any], None]:
    return lambda cloud: setattr(cloud, what, {})


def _revoked(cloud: Any) -> None:
    cloud.token = "another"


CASES: Mapping[str, tuple[str, Callable[[Any], None], str]] = {
    "hetzner-refused": ("hetzner", _revoked, "the provider refused the login"),
    "hetzner-read-only": ("hetzner", _fault("POST", "ssh_keys", fake_hetzner.READ_ONLY), "the login is known"),
    "hetzner-capacity": ("hetzner", _fault("POST", "servers", fake_hetzner.NO_CAPACITY), "no room there just now"),
    "hetzner-quota": ("hetzner", _fault("POST", "servers", fake_hetzner.QUOTA), "the account's limit is reached"),
    "hetzner-type": ("hetzner", _lacks("types"), "not known there"),
    "hetzner-image": ("hetzner", _lacks("images"), "not known there"),
    "do-refused": ("digitalocean", _revoked, "the provider refused the login"),
    "do-read-only": ("digitalocean", _fault("POST", "keys", fake_digitalocean.READ_ONLY), "the login is known"),
    "do-capacity": (
        "digitalocean",
        _fault("POST", "droplets", fake_digitalocean.NO_CAPACITY),
        "no room there just now",
    ),
    "do-quota": ("digitalocean", _fault("POST", "droplets", fake_digitalocean.QUOTA), "the account's limit is reached"),
    "do-image": ("digitalocean", _fault("POST", "droplets", fake_digitalocean.UNKNOWN_IMAGE), "not known there"),
}


# Of each provider those that it answers in its own words; the other's are alike.
_SOME = ("hetzner-refused", "do-image")


@pytest.mark.parametrize("case", sample(CASES, _SOME))
def test_a_refusal(case: str, oven: Oven, tmp_path: Path) -> None:
    """Told once, with its way out; nothing is left, and nothing is said to be."""
    target, prepare, hint = CASES[case]
    with built(target, oven, tmp_path) as build:
        prepare(build.cloud)
        build.start()
        assert build.end() == 1
        assert "error: baking failed in step start after " in build.talk, build.talk
        assert f"hint: {hint}" in build.talk, build.talk
        assert build.there() == set()
        assert build.told() == set(), build.talk


@of_a_sweep
@pytest.mark.parametrize("target", TARGETS)
def test_a_script_that_fails(target: str, oven: Oven, tmp_path: Path) -> None:
    with built(target, oven, tmp_path) as build:
        build.scripts = {"30-packages": "echo trying; echo 'er-bake: 30-packages: no packages' >&2; exit 3"}
        build.start()
        assert build.end() == 1
        assert "error: baking failed in step 30-packages after " in build.talk, build.talk
        assert ": no packages\n" in build.talk
        assert build.there() == build.told() == set(), build.talk


_STAYS = [
    ("hetzner", "servers/", "server"), ("digitalocean", "droplets/", "droplet"),
    ("hetzner", "ssh_keys/", "SSH key"), ("digitalocean", "keys/", "SSH key")]  # fmt: skip


@pytest.mark.parametrize(("target", "part", "noun"), sample(_STAYS, (_STAYS[0],)))
def test_what_cannot_be_taken_away(target: str, part: str, noun: str, oven: Oven, tmp_path: Path) -> None:
    """The image is good; what stays is named, and its exit code is 1 where it costs.

    Today's plugin of Hetzner calls the whole build failed then: the image is there as well, and told.
    """
    with built(target, oven, tmp_path) as build:
        build.cloud.faults["DELETE", part] = fake_hetzner.LOCKED if target == "hetzner" else fake_digitalocean.READ_ONLY
        build.start()
        code = build.end()
        assert build.there() == {noun, "snapshot"}
        assert f"--clean {target}" in build.talk
        if "error: " in build.talk:
            assert (target, code) == ("hetzner", 1), build.talk
            assert build.told() == build.there(), build.talk
        else:
            assert code == (noun != "SSH key"), build.talk
            assert build.told() == {noun}, build.talk
            assert [one["noun"] for one in build.result["left"]] == [noun]


@pytest.mark.parametrize("target", sample(TARGETS, ("digitalocean",)))
def test_a_snapshot_that_fails(target: str, oven: Oven, tmp_path: Path) -> None:
    """It is there, half made, and named. DigitalOcean's builder does not see a failure: it waits, here for a second."""
    more = {"snapshot_timeout": "1s"} if target == "digitalocean" else {}
    with built(target, oven, tmp_path, **more) as build:
        build.cloud.snapshots_fail = True
        build.start()
        assert build.end() == 1
        assert "baking failed in step export" in build.talk, build.talk
        assert build.told() == build.there() == {"snapshot"}, build.talk


# The builder's own work, by phase: the words of Packer's log at its beginning. In the others a script holds.
WORK = {
    "start": ("Creating server", "Creating droplet"),
    "boot": ("Waiting for SSH",),
    "export": ("Creating snapshot",),
}
SCRIPTS = ("10-wait", "20-files", "80-verify")
# `make packer` interrupts at all of them.
PHASES = ("start", "boot", *SCRIPTS, "export") if os.environ.get("ER_PACKER") else ("20-files", "export")


_INTERRUPTS = [(target, phase, twice) for target in TARGETS for phase in PHASES for twice in (False, True)]
_CHOSEN = [("hetzner", "20-files", False), ("digitalocean", "export", True)]


@pytest.mark.parametrize(
    ("target", "phase", "twice"), _INTERRUPTS if os.environ.get("ER_PACKER") else sample(_INTERRUPTS, _CHOSEN)
)
def test_an_interrupt(target: str, phase: str, twice: bool, oven: Oven, tmp_path: Path) -> None:
    """What is left is what is told: nothing after one in a step, the image after one in the closing, all after two."""
    with built(target, oven, tmp_path) as build:
        if phase == "start":
            build.cloud.starting.set()
        elif phase == "boot":
            build.cloud.authorize = lambda _: None
        elif phase == "export":
            build.cloud.slow.set()
        else:
            build.scripts = {phase: HOLD}
        build.start()
        build.reach(*WORK.get(phase, ("holding",)))
        build.process.send_signal(signal.SIGINT)
        until(lambda: "Ctrl-C ends it at once" in build.talk, timeout=60, what="the word of an interrupt")
        if twice:
            build.process.send_signal(signal.SIGINT)
        elif phase in ("start", "export"):
            build.reach("Cancelling build")
            build.cloud.starting.clear()
            build.cloud.slow.clear()
        assert build.end() == 130
        assert "interrupted" in build.talk
        there = build.there()
        assert there <= build.told(), build.talk
        if not twice:
            assert build.told() == there == ({"snapshot"} if phase == "export" else set()), build.talk
