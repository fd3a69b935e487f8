"""Secrets that apps read from a variable, and a stack without a way out, on a booted host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.polling import until
from tests.machine.probes import Agent, inside, outside, serving, tcp, udp
from tests.sweeps import WHOLE, of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

_VAULT = """\
services:
  web:
    image: {app}
    environment:
      SECRET_KEY: ${{SECRET_KEY:?set it}}
      DATABASE_URL: postgres://app:changeme@db/app
    labels:
      xyz.easyrunner.service.type: web
      xyz.easyrunner.service.domain: vault.example.com
      xyz.easyrunner.service.port: "3000"
  worker:
    image: {app}
    command: [sleep, infinity]
    environment: {{SECRET_KEY: , SMTP_PASSWORD: }}
"""
_STACK = """\
  - name: vault
    compose: vault/compose.yaml
    secret_env:
      web:
        SECRET_KEY: ""
        DATABASE_URL: "postgres://app:{db_password}@db/100%25?x={{y}}&p=$p"
        DSN: "pw={db_password}"
      worker: {SECRET_KEY: "", DB_PASSWORD: db_password}
  - name: notes"""
_PASSWORD = "p@ss:/ #%$ü{x}'"


@pytest.fixture(scope="module")
def web(looked_at: Client) -> Iterator[Client]:
    """A host that the next file looks at as well: it gets it as it was."""
    yield looked_at
    assert looked_at.er("apply", looked_at.spec, "--yes").returncode == 0


def _spec(web: Client) -> Path:
    app = next(line.split()[-1] for line in web.spec.read_text().splitlines() if "app.tar" in line)
    compose = web.spec.parent / "vault" / "compose.yaml"
    compose.parent.mkdir(exist_ok=True)
    compose.write_text(_VAULT.format(app=app))
    return web.edited("  - name: notes", _STACK)


def _environment(web: Client, service: str) -> dict[str, str]:
    """What the first process of a container was given."""
    argv = ["podman", "exec", service, "cat", "/proc/1/environ"]
    text = web.host.machine.run(argv, user="er-vault", check=False).stdout
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _url(password: str) -> str:
    return f"postgres://app:{password}@db/100%25?x={{y}}&p=$p"


def _is(web: Client, service: str, **wanted: str) -> bool:
    found = _environment(web, service)
    return all(found.get(name) == value for name, value in wanted.items())


def test_variables_are_secrets_of_their_own_shared_and_made_of_others(web: Client) -> None:
    done = web.er("apply", _spec(web), "--yes", "--timeout", "120")
    assert done.returncode == 0, done.stderr
    waits = done.stderr.partition("vault waits for")[2]
    assert all(
        f"secret set web vault {name}" in waits for name in ("db_password", "web-SECRET_KEY", "worker-SECRET_KEY")
    )
    assert "DATABASE_URL" not in waits, "it is made of db_password"

    bad = web.er("secret set", "vault", "--from-stdin", stdin=f"db_password={_PASSWORD}\nbad name=x\n")
    assert bad.returncode == 1
    assert "line 2" in bad.stderr
    assert not any(one["set"] for one in web.json("secret list", "vault"))
    large = web.er("secret set", "vault", "--from-stdin", stdin=f"db_password={_PASSWORD}\nother={'x' * 600_000}\n")
    assert "nothing was set" in large.stderr
    made = web.er("secret set", "vault", "web-DATABASE_URL", stdin="x")
    assert "made of other secrets" in made.stderr
    assert not any(one["set"] for one in web.json("secret list", "vault"))

    done = web.er("secret set", "vault", "--from-stdin", stdin=f"# of the old host\ndb_password={_PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert web.json("secret generate", "vault")["generated"] == ["web-SECRET_KEY", "worker-SECRET_KEY"]
    again = web.json("secret generate", "vault")
    assert (again["generated"], len(again["kept"])) == ([], 3)
    until(lambda: _is(web, "worker", DB_PASSWORD=_PASSWORD), timeout=60, what="the worker")
    url = _url("p%40ss%3A%2F%20%23%25%24%C3%BC%7Bx%7D%27")
    until(lambda: _is(web, "web", DATABASE_URL=url, DSN=f"pw={_PASSWORD}"), timeout=60, what="the app")
    keys = {_environment(web, service)["SECRET_KEY"] for service in ("web", "worker")}
    assert len(keys) == 2
    assert all(len(key) == 64 for key in keys)
    assert "SMTP_PASSWORD" not in _environment(web, "worker")
    _seen_nowhere(web)


def _seen_nowhere(web: Client) -> None:
    """Neither in a unit, nor in user-data, nor in what podman shows of a container, nor in a log."""
    run = web.host.machine.run
    key = _environment(web, "web")["SECRET_KEY"]
    for value in (key, "p%40ss"):
        assert run(["grep", "-rlF", value, "/etc", "/var/lib/cloud"], check=False).stdout == ""
        assert value not in run("podman inspect web worker", user="er-vault").stdout
        assert value not in run("journalctl --no-pager -o verbose; journalctl --namespace=stacks --no-pager").stdout


def test_they_follow_a_new_value_and_outlive_a_boot(web: Client) -> None:
    """A secret that was set outlives even the machine: machine/test_data.py. So the boot is of the sweep."""
    key = _environment(web, "web")["SECRET_KEY"]
    assert "web, worker" in web.er("secret set", "vault", "db_password", stdin="second").stderr
    until(lambda: _is(web, "web", DATABASE_URL=_url("second")), timeout=60, what="the new password")
    until(lambda: _is(web, "worker", DB_PASSWORD="second"), timeout=60, what="the new password")
    if WHOLE:
        web.host.reboot()
    until(lambda: _is(web, "web", DATABASE_URL=_url("second"), SECRET_KEY=key), timeout=60, what="the same values")


@of_a_sweep
@pytest.mark.parametrize("family", [4, 6])
def test_without_a_way_out_a_stack_still_serves(web: Client, family: int) -> None:
    """Neither DNS nor the web; its site answers through the proxy, and another stack gets out."""
    done = web.er("apply", web.edited("egress: [{to: 10.213.0.0/16, ports: [7777]}]", "egress: none"), "--yes")
    assert done.returncode == 0, done.stderr
    neighbour = web.host.machine.attacker(1)
    there = neighbour.ipv4 if family == 4 else neighbour.ipv6
    questions = [tcp(there, port) for port in (53, 80, 443, 7777)]
    bound = [f"tcp:{there}:{port}" for port in (53, 80, 443, 7777)]
    machine = web.host.machine
    with serving(outside(neighbour), *bound):
        with Agent(inside(machine, "er-hello")) as agent:
            assert agent.ask(*questions) == ["refused"] * 4
            assert agent.ask(udp("127.0.0.53", 53)) != ["open"]
        with Agent(inside(machine, "er-shop")) as agent:
            assert agent.ask(*questions[:3]) == ["open"] * 3
    assert web.host.curl("https://hello.example.com/", family=family).stdout.startswith("HTTP/2 200")
    assert web.er("apply", web.spec, "--yes").returncode == 0
    with serving(outside(neighbour), *bound), Agent(inside(machine, "er-hello")) as agent:
        assert agent.ask(*questions[:3]) == ["open"] * 3
