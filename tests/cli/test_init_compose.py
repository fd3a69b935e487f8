"""`er init --compose` as a user sees it: with a terminal and without, where it writes, and when it writes nothing."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import spec as specs
from tests.cli.test_cli import ER, er

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parents[1] / "golden" / "init"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
FROM_UMAMI = ("init", "--compose", "compose.yaml", "--domain", "stats.example.org")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def umami(tmp_path: Path) -> Path:
    (tmp_path / "umami").mkdir()
    (tmp_path / "umami/compose.yaml").write_bytes((GOLDEN / "umami/files/compose.yaml").read_bytes())
    return tmp_path / "umami"


@pytest.fixture
def unclear(tmp_path: Path) -> Path:
    (tmp_path / "unclear").mkdir()
    (tmp_path / "unclear/compose.yaml").write_bytes((GOLDEN / "unclear/files/compose.yaml").read_bytes())
    return tmp_path / "unclear"


class Terminal:
    """`er` on a terminal of its own."""

    def __init__(self, cwd: Path, *words: str) -> None:
        self.fd, other = pty.openpty()
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [str(ER), *words], cwd=cwd, env=environment, stdin=other, stdout=other, stderr=other, start_new_session=True
        )
        os.close(other)
        self.said = ""

    def wait_for(self, text: str) -> None:
        """Read until the text is there, behind what was read before."""
        end = time.monotonic() + 60
        while text not in self.said:
            assert time.monotonic() < end, self.said
            assert self._read(), self.said
        self.said = self.said.partition(text)[2]

    def answer(self, prompt: str, text: str) -> None:
        self.wait_for(prompt)
        os.write(self.fd, text.encode())

    def end(self) -> tuple[int, str]:
        """The exit code, and the rest of what was said."""
        while self._read():
            pass
        return self.process.wait(60), self.said

    def _read(self) -> bool:
        if not select.select([self.fd], [], [], 60)[0]:
            return False
        try:
            read = os.read(self.fd, 65536)
        except OSError:  # the other end is closed
            return False
        self.said += read.decode().replace("\r\n", "\n")
        return bool(read)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture
def terminal() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


def test_what_is_not_clear_is_asked(unclear: Path, terminal: list[Terminal]) -> None:
    one = Terminal(unclear, "init", "--compose", "compose.yaml")
    terminal.append(one)
    one.answer("Its domain: ", "https://a.example.org/\n")
    one.wait_for("write a.example.org")
    one.answer("Its domain: ", "a.example.org\n")
    one.wait_for("  1  one: publishes 8080")
    one.answer("Which one [1]: ", "7\n")
    one.wait_for("that is not a number from 1 to 3")
    one.answer("Which one [1]: ", "3\n")
    code, said = one.end()
    assert (code, "https://a.example.org to two, port 9090" in said) == (0, True), said
    assert "two: {domains: [a.example.org], port: 9090}" in (unclear / "easyrunner.yaml").read_text()


def test_the_default_is_the_likeliest(unclear: Path, terminal: list[Terminal]) -> None:
    one = Terminal(unclear, "init", "--compose", "compose.yaml", "--domain", "a.example.org")
    terminal.append(one)
    one.answer("Which one [1]: ", "\n")
    assert one.end()[0] == 0
    assert "one: {domains: [a.example.org], port: 8080}" in (unclear / "easyrunner.yaml").read_text()


@pytest.mark.parametrize(("key", "code"), [("\x04", 1), ("\x03", 130)], ids=["end of input", "interrupt"])
def test_without_an_answer_nothing_is_written(unclear: Path, terminal: list[Terminal], key: str, code: int) -> None:
    one = Terminal(unclear, "init", "--compose", "compose.yaml", "--domain", "a.example.org")
    terminal.append(one)
    one.wait_for("Which one [1]: ")
    if key == "\x03":
        one.process.send_signal(2)
    else:
        os.write(one.fd, key.encode())
    assert one.end()[0] == code
    assert [path.name for path in unclear.iterdir()] == ["compose.yaml"]


def test_each_stack_of_a_directory_is_asked_for(tmp_path: Path, terminal: list[Terminal]) -> None:
    for name in ("blog", "wiki"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "compose.yaml").write_text(
            "services: {web: {image: 'acme/x:1', ports: ['80:8080']}}"
        )
    one = Terminal(tmp_path, "init", "--compose", "all", "--domain", "x.example.org", "-o", "out.yaml")
    terminal.append(one)
    one.wait_for("which stack is x.example.org for?")
    one.answer("Which one [1]: ", "wiki\n")
    one.wait_for("it would go to web: publishes 8080")
    one.answer("Its domain, or nothing for none: ", "\n")
    code, said = one.end()
    assert code == 0, said
    spec, _ = specs.load(tmp_path / "out.yaml")
    assert [(stack.name, stack.services[0].domains) for stack in spec.stacks] == [
        ("blog", ()),
        ("wiki", ("x.example.org",)),
    ]


def test_what_is_there_is_not_replaced(umami: Path) -> None:
    (umami / "easyrunner.yaml").write_text("mine")
    done = er(*FROM_UMAMI, cwd=umami)
    assert (done.returncode, done.stdout) == (1, "")
    assert "easyrunner.yaml exists already" in done.stderr
    assert (umami / "easyrunner.yaml").read_text() == "mine"
    assert er(*FROM_UMAMI, "--force", cwd=umami).returncode == 0
    assert "stats.example.org" in (umami / "easyrunner.yaml").read_text()


def test_the_spec_on_stdout_is_the_same(umami: Path) -> None:
    done = er(*FROM_UMAMI, "-o", "-", cwd=umami)
    assert done.returncode == 0
    assert done.stdout == (GOLDEN / "umami/expected/easyrunner.yaml").read_text()
    assert [path.name for path in umami.iterdir()] == ["compose.yaml"]


@pytest.mark.parametrize("place", ["specs/web.yaml", "../elsewhere/web.yaml", "link/web.yaml"])
def test_paths_are_relative_to_the_spec(umami: Path, place: str) -> None:
    (umami / "link").symlink_to(umami.parent / "far/away")
    (umami.parent / "far/away").mkdir(parents=True)
    assert er(*FROM_UMAMI, "-o", place, cwd=umami).returncode == 0
    spec, _ = specs.load(umami / place)
    assert spec.stacks[0].services[0].domains == ("stats.example.org",)
    assert er("check", place, cwd=umami).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        (*FROM_UMAMI, "--json", "-o", "-"),
        (*FROM_UMAMI, "one.yaml", "-o", "two.yaml"),
        ("init", "--json"),
        ("init", "--domain", "a.example.org"),
    ],
)
def test_wrong_usage(umami: Path, words: tuple[str, ...]) -> None:
    done = er(*words, cwd=umami)
    assert (done.returncode, done.stdout) == (2, "")
    assert [path.name for path in umami.iterdir()] == ["compose.yaml"]


def test_files_that_cannot_be_read_are_said_with_their_places(umami: Path) -> None:
    (umami / "compose.yaml").write_text("services:\n  web:\n\timage: x\n")
    (umami / "empty.yaml").write_text("x-nothing: {}")
    done = er("init", "--compose", "compose.yaml", "--compose", "empty.yaml", "--domain", "a.example.org", cwd=umami)
    assert (done.returncode, done.stdout) == (1, "")
    assert "compose.yaml:3:1" in done.stderr
    assert er("init", "--compose", "empty.yaml", cwd=umami).returncode == 1
    assert not (umami / "easyrunner.yaml").exists()


def test_a_place_where_nothing_can_be_written_is_said_before_any_question(unclear: Path) -> None:
    (unclear / "file").touch()
    done = er("init", "--compose", "compose.yaml", "-o", "file/x.yaml", cwd=unclear)
    assert done.returncode == 1
    assert "a file stands where a directory is needed" in done.stderr


def test_the_only_public_key_is_taken(umami: Path, home: Path) -> None:
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id_ed25519.pub").write_text(f"{KEY}\n")
    (home / ".ssh/id_ed25519").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    done = er(*FROM_UMAMI, cwd=umami)
    assert "admin key: ~/.ssh/id_ed25519.pub" in done.stderr
    spec, _ = specs.load(umami / "easyrunner.yaml")
    assert spec.admin.ssh_keys == (KEY,)


@pytest.mark.parametrize("names", [("a", "b"), ("wrong",)])
def test_of_several_keys_or_a_wrong_one_none_is_taken(umami: Path, home: Path, names: tuple[str, ...]) -> None:
    (home / ".ssh").mkdir(parents=True)
    for name in names:
        (home / f".ssh/{name}.pub").write_text("nothing of the kind" if name == "wrong" else f"{KEY}\n")
    assert "put your own into the spec" in er(*FROM_UMAMI, cwd=umami).stderr
    assert KEY not in (umami / "easyrunner.yaml").read_text()


def test_no_value_of_a_secret_is_in_the_spec_or_said(umami: Path) -> None:
    text = (GOLDEN / "wordpress/files/compose.yaml").read_text()
    (umami / "compose.yaml").write_text(text.replace("changeme", "s3cr3tvalue").replace("verysecret", "s3cr3tvalue2"))
    done = er("init", "--compose", ".", "--domain", "a.example.org", "--json", cwd=umami)
    assert json.loads(done.stdout)["ok"] is True
    assert "s3cr3t" not in done.stdout + done.stderr + (umami / "easyrunner.yaml").read_text()
