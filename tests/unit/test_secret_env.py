"""`secret_env` from the spec to the units, the lines of an env file of secrets, and which secrets a host waits for."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.cli.server import secrets as cli
from builder.problems import UserError
from builder.server.remote import common, locks, secrets
from builder.server.remote.common import RemoteError

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
    assert any(text.endswith("no value is known of UNSET") for text in messages)
    assert not [file for file in made.files if file.path == f"{facts.LIB}/secret"], "only where something is made"


SHIPPED = """\
x-env: &env
  SECRET_KEY: ${SECRET_KEY:?must be set}
  OPTIONAL:
x-app: &app
  image: docker.io/acme/app:1.2
  env_file: app.env
  environment: *env
services:
  web:
    <<: *app
    ports: ["8080:8000"]
  worker:
    <<: *app
"""
OVER = """\
services:
  web:
    environment: ["SECRET_KEY=${OTHER_KEY:?must be set}", "DATABASE_URL=${DATABASE_URL:?}", EXTRA]
"""


def test_a_file_as_it_is_shipped_is_public_and_has_secrets(tmp_path: Path) -> None:
    """`public` and `secret_env` at one service of two files, with variables that must be set and some that need not."""
    (tmp_path / "over.yaml").write_text(OVER)
    (tmp_path / "shipped.yaml").write_text(SHIPPED)
    section = (
        f'      web: {{SECRET_KEY: key, DATABASE_URL: "{URL}", TOKEN: token}}\n'
        "      worker: {SECRET_KEY: key, TOKEN: token}\n"
        "    public: {web: {domains: [app.example.org]}}\n"
        "    egress: none\n"
    )
    (tmp_path / "app.env").write_text("TOKEN=old\nAPI_KEY=abc\nCACHE=redis://:pw@cache/0\n")
    text = (HEAD + section).replace("compose: compose.yaml", "compose: [shipped.yaml, over.yaml]")
    (tmp_path / "easyrunner.yaml").write_text(text)
    spec, problems = specs.load(tmp_path / "easyrunner.yaml")
    made = hosts.build(spec)
    web = spec.stacks[0].services[0]
    assert (web.kind, web.domains, web.port) == ("web", ("app.example.org",), 8000)
    assert [line for line in unit(made, "web") if line.startswith(("Secret=", "PodmanArgs=--unsetenv"))] == [
        "Secret=key,type=env,target=SECRET_KEY",
        "Secret=web-DATABASE_URL,type=env,target=DATABASE_URL",
        "Secret=token,type=env,target=TOKEN",
        "PodmanArgs=--unsetenv=OPTIONAL --unsetenv=EXTRA",
    ]
    assert "PodmanArgs=--unsetenv=OPTIONAL" in unit(made, "worker")
    assert not re.findall(r"^Environment=(?:SECRET_KEY|TOKEN|DATABASE_URL)", "\n".join(unit(made, "web")), re.MULTILINE)
    told = [problem.message for problem in problems if problem.mark and problem.mark.file.name != "easyrunner.yaml"]
    assert sorted(told) == [
        "8000 is taken as the port of web, from `ports`",
        "left out: no value is known of OPTIONAL, EXTRA",
        "looks like a secret, and goes into user-data in the clear: API_KEY, CACHE",
        "the value of TOKEN is left out: by `secret_env` of the spec it is a secret of web (also for worker)",
    ]


def test_one_place_with_secrets_is_told_once_with_the_line_to_write(tmp_path: Path) -> None:
    (tmp_path / "shipped.yaml").write_text(SHIPPED)
    (tmp_path / "app.env").write_text("API_KEY=abc\nCACHE=redis://:pw@cache/0\nALSO=Server=x;Password=pw\n")
    section = "      web: {SECRET_KEY: key}\n      worker: {SECRET_KEY: key}\n"
    path = tmp_path / "easyrunner.yaml"
    path.write_text((HEAD + section).replace("compose: compose.yaml", "compose: shipped.yaml"))
    [hint] = [problem.hint or "" for problem in specs.load(path)[1] if "looks like" in problem.message]
    both = '{API_KEY: API_KEY, CACHE: "redis://:{cache_password}@cache/0", ALSO: "Server=x;Password={password}"}'
    assert hint.startswith(f"write secret_env: {{web: {both}, worker: {both}}} in the spec")
    _, _, line = hint.partition("write secret_env: ")
    added = line.partition(" in the spec")[0].replace("API_KEY: API_KEY", "SECRET_KEY: key, API_KEY: API_KEY")
    path.write_text(path.read_text().replace(f"secret_env:\n{section}", f"secret_env: {added}\n"))
    spec, problems = specs.load(path)
    names = ("key", "API_KEY", "cache_password", "password")
    assert [service.secret_names for service in spec.stacks[0].services] == [names, names]
    assert not [problem for problem in problems if "looks like" in problem.message]


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
    known = {"db_password": "p@s ü{db}\n".encode()}
    written: list[str] = []

    def podman(argv: list[str], **options: Any) -> SimpleNamespace:
        if "create" in argv:
            written.append(" ".join(argv))
            known[argv[-2]] = options["input"]
            return SimpleNamespace(returncode=0, stdout=b"id")
        found = known.get(argv[-1])
        return SimpleNamespace(returncode=0 if found else 125, stdout=found + b"\n" if found else b"")

    monkeypatch.setattr(subprocess, "run", podman)
    monkeypatch.setattr(sys, "argv", ["secret", "web-X,db_password", text])
    for _ in range(2):
        exec(program, {})
    assert known["web-X"] == made.encode()
    assert written == ["podman secret create --replace web-X -"], "once: the second time it was so"
    del known["db_password"]
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


class Podman:
    """The secrets of a stack's user, of which `refused` cannot be written."""

    def __init__(self, known: dict[str, bytes], refused: str) -> None:
        self.known, self.refused = known, refused

    def as_user(self, _user: str, argv: list[str], *, stdin: bytes | None = None, **_: Any) -> str:
        if argv[0] == "sh":
            return base64.b64encode(self.known[argv[-1]] + b"\n").decode()
        if argv[:3] == ["podman", "secret", "rm"]:
            self.known.pop(argv[-1], None)
        elif argv[:3] == ["podman", "secret", "create"]:
            if argv[-2] == self.refused:
                raise RemoteError("podman failed: disk full")
            if "--replace" not in argv and argv[-2] in self.known:
                raise RemoteError("podman failed: name in use")
            self.known[argv[-2]] = stdin or b""
        return ""


def on_a_host(monkeypatch: pytest.MonkeyPatch, podman: Podman, needed: dict[str, list[str]]) -> None:
    monkeypatch.setattr(locks, "stack", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(common, "as_user", podman.as_user)
    monkeypatch.setattr(common, "look_again", lambda: None)
    monkeypatch.setattr(common, "stack_user", lambda stack: f"er-{stack}")
    monkeypatch.setattr(common, "services", lambda _: iter([("web", "web", "app-web.service")]))
    monkeypatch.setattr(secrets, "_existing", lambda _: dict.fromkeys(podman.known, "now"))
    monkeypatch.setattr(secrets, "_needed", lambda _: needed)
    monkeypatch.setattr(secrets, "_made", lambda _: iter([("web-X", ["k"])]))


def stdin_of(values: dict[str, bytes]) -> SimpleNamespace:
    text = json.dumps({name: base64.b64encode(value).decode() for name, value in values.items()})
    return SimpleNamespace(buffer=io.BytesIO(text.encode()))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"old": b"2", "new": b"3", "full": b"4"}, "disk full; the secrets are as before"),
        ({"old": b"2", "new": b""}, "without a value: new; nothing was set"),
        ({"old": b"2", "new": b"x" * 600_000}, "too large for Podman"),
        ({"old": b"2", "web-X": b"3"}, "web-X is made of other secrets; nothing was set"),
    ],
)
def test_all_are_set_or_none(monkeypatch: pytest.MonkeyPatch, values: dict[str, bytes], why: str) -> None:
    podman = Podman({"old": b"\xff1\n"}, refused="full")
    on_a_host(monkeypatch, podman, {"old": ["web"]})
    monkeypatch.setattr(sys, "stdin", stdin_of(values))
    with pytest.raises(RemoteError, match=why):
        secrets.secret_set("app")
    assert podman.known == {"old": b"\xff1\n"}
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"old": "Mg=')))
    with pytest.raises(RemoteError, match="cut short, nothing was set"):
        secrets.secret_set("app")
    monkeypatch.setattr(sys, "stdin", stdin_of({"old": b"2", "new": b"3"}))
    done = secrets.secret_set("app")
    assert done["set"] == [{"name": "old", "replaced": True}, {"name": "new", "replaced": False}]
    assert done["restarted"] == ["web"]


def test_random_values_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    podman = Podman({"old": b"1"}, refused="")
    on_a_host(monkeypatch, podman, {"old": ["web"], "a": ["web"], "b": ["web"]})
    with pytest.raises(RemoteError, match="no service of app names nope"):
        secrets.secret_generate("app", "a", "nope")
    assert secrets.secret_generate("app", "a")["generated"] == ["a"]
    first = dict(podman.known)
    assert secrets.secret_generate("app") == {
        "generated": ["b"],
        "kept": ["a", "old"],
        "restarted": ["web"],
        "asleep": [],
    }
    assert first.items() <= podman.known.items()
    assert re.fullmatch(rb"[0-9a-f]{64}", podman.known["a"])
    assert podman.known["a"] != podman.known["b"]
