"""`secret_env` from the spec to the units, the lines of an env file of secrets, and which secrets a host waits for."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.cli.server import secrets as cli
from builder.problems import UserError
from builder.server.remote import common, secrets

if TYPE_CHECKING:
    from pathlib import Path

    from builder.host import Host

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
HEAD = f"""\
server: {{name: web1}}
admin: {{name: er, ssh_keys: ["{KEY}"]}}
stacks:
  - name: app
    compose: compose.yaml
    secret_env:
"""
COMPOSE = """\
services:
  web:
    image: docker.io/library/caddy:2.11
    labels: {xyz.easyrunner.service.domain: app.example.org, xyz.easyrunner.service.framework: nextjs}
    env_file: app.env
    environment:
      - SECRET_KEY=${SECRET_KEY:?must be set}
      - PLAIN=$NOTHING-${PLAIN:-x}
      - UNSET
  db:
    image: docker.io/library/caddy:2.11
    environment: {POSTGRES_PASSWORD: "${DB_PASSWORD:?}"}
"""
URL = "postgres://app:{db_password}@db/100%25?x={{y}}&p=$p"
BOTH = f'      web: {{X: "{URL}", SECRET_KEY: k}}\n      db: {{POSTGRES_PASSWORD: db_password}}\n'


def host(tmp_path: Path, section: str) -> tuple[Host, list[str]]:
    """The host, and the messages of `er check`."""
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "app.env").write_text("FROM_FILE=1\nTOKEN=\n")
    (tmp_path / "easyrunner.yaml").write_text(HEAD + section)
    spec, problems = specs.load(tmp_path / "easyrunner.yaml")
    return hosts.build(spec), [problem.message for problem in problems]


def unit(made: Host, service: str) -> list[str]:
    file = next(file for file in made.files if file.path.endswith(f"/app-{service}.container"))
    return file.content.decode().splitlines()


def test_a_variable_is_a_secret_and_nothing_of_it_is_in_the_environment(tmp_path: Path) -> None:
    section = "      web: [SECRET_KEY, TOKEN, HOSTNAME]\n      db: {POSTGRES_PASSWORD: db_password}\n"
    made, messages = host(tmp_path, section)
    web = unit(made, "web")
    assert [line for line in web if line.startswith("Secret=")] == [
        "Secret=web-SECRET_KEY,type=env,target=SECRET_KEY",
        "Secret=web-TOKEN,type=env,target=TOKEN",
        "Secret=web-HOSTNAME,type=env,target=HOSTNAME",
    ]
    assert not re.findall(r"^Environment=(?:SECRET_KEY|TOKEN|HOSTNAME|UNSET)", "\n".join(web), re.MULTILINE)
    assert {"Environment=PLAIN=-x", "Environment=FROM_FILE=1"} <= set(web)
    assert "Secret=db_password,type=env,target=POSTGRES_PASSWORD" in unit(made, "db")
    assert not [text for text in messages if "SECRET_KEY" in text or "PASSWORD" in text]
    assert any(text.endswith("as Compose does: UNSET") for text in messages)
    assert not [file for file in made.files if file.path == f"{facts.LIB}/secret"], "only where something is made"


def test_a_text_of_secrets_is_made_when_the_service_starts(tmp_path: Path) -> None:
    made, _ = host(tmp_path, BOTH)
    web = unit(made, "web")
    assert "Secret=web-X,type=env,target=X" in web
    text = URL.replace("%", "%%").replace("$", "$$")
    assert f"ExecStartPre={facts.LIB}/secret web-X,db_password {text}" in web
    program = next(file for file in made.files if file.path == f"{facts.LIB}/secret")
    assert (program.mode, program.owner) == ("0755", "root")


@pytest.mark.parametrize(
    ("text", "made"),
    [(URL, "postgres://app:p%40s%20%C3%BC%7Bdb%7D@db/100%25?x={y}&p=$p"), ("pw={db_password}", "pw=p@s ü{db}")],
)
def test_values_are_escaped_in_urls_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, made: str
) -> None:
    """The program of the host, with a podman that knows one secret."""
    program = next(file for file in host(tmp_path, BOTH)[0].files if file.path == f"{facts.LIB}/secret").content
    calls: list[tuple[str, bytes | None]] = []

    def podman(argv: list[str], *, input: bytes | None, stdout: int) -> SimpleNamespace:  # noqa: A002 - subprocess's own
        assert stdout == subprocess.PIPE
        calls.append((" ".join(argv), input))
        return SimpleNamespace(returncode=len(calls) > 2, stdout="p@s ü{db}\n\n".encode())

    monkeypatch.setattr(subprocess, "run", podman)
    monkeypatch.setattr(sys, "argv", ["secret", "web-X,db_password", text])
    exec(program, {})
    assert calls[1:] == [("podman secret create --replace web-X -", made.encode())]
    with pytest.raises(SystemExit) as error:
        exec(program, {})
    assert error.value.code == 125


def test_a_host_waits_for_what_somebody_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for what it makes itself."""
    for file in host(tmp_path, BOTH)[0].files:
        if file.path.endswith(".container") and "/app-" in file.path:
            target = tmp_path / "units" / "1" / file.path.rpartition("/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
    services = [("web", "web", "app-web.service"), ("unit", "db", "app-db.service")]
    monkeypatch.setattr(facts, "QUADLETS", str(tmp_path / "units"))
    monkeypatch.setattr(common, "services", lambda _: iter(services))
    monkeypatch.setattr(secrets, "_existing", lambda _: {"k": "now", "web-X": "now"})
    assert secrets.missing("app") == {"db_password": ["web", "db"]}
    assert [one["name"] for one in secrets.secret_list("app")] == ["db_password", "k"]


def test_lines_of_an_env_file() -> None:
    text = "\ufeff# comment\n\nA=1\nexport B = 'x y' \nC=\"q\"\nD=a#b $c=d\r\ne-f.g='\n"
    assert cli.parsed(text.encode()) == {
        "A": b"1", "B": b"x y", "C": b"q", "D": b"a#b $c=d", "e-f.g": b"'",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"A=1\nnothing\nB=\nA=2\n", "line 2, 3, 4"),
        (b"# none\n", "no NAME=value came"),
        (b"A=\xff\n", "not UTF-8"),
    ],
)
def test_a_line_that_is_wrong_is_numbered_and_not_shown(text: bytes, where: str) -> None:
    with pytest.raises(UserError) as error:
        cli.parsed(text)
    assert where in error.value.message
    assert "nothing was set" in error.value.message
    assert "=2" not in f"{error.value.message}{error.value.hint}"
