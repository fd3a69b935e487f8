"""`er server apply`: the new state or the old one, whatever happens on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.polling import until
from builder.problems import UserError
from builder.server import Remote, apply
from tests.machine.clients import Load, Steady
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

_STATE = "/var/lib/easyrunner/apply/state.json"
_SITES = ("shop.example.com", "hello.example.com")
_DOMAIN = ("www.hello.example.com", "neu.example.com")


@pytest.fixture(scope="module")
def web(alone: Client) -> Client:
    return alone


@pytest.fixture(autouse=True)
def _as_it_was(web: Client) -> Any:
    """Each test leaves the host as its spec has it; one that began no change has, and one that was taken back."""
    before = _state(web)
    yield
    if _state(web) != before and _phase(web) != "rolled back":
        done = web.er("apply", web.spec, "--yes")
        assert done.returncode == 0, done.stderr


def _state(web: Client) -> tuple[int, bytes] | None:
    """What the last change says of itself, and when it did."""
    file = web.host.machine.files.path(_STATE)
    return (file.stat().st_mtime_ns, file.read_bytes()) if file.exists() else None


def _phase(web: Client) -> str:
    state = _state(web)
    return str(json.loads(state[1])["phase"]) if state else ""


def _same(web: Client, spec: Path) -> bool:
    return web.er("apply", spec, "--dry-run").stderr.startswith("nothing differs")


def _answers(web: Client, domain: str) -> bool:
    return web.host.curl(f"https://{domain}/").stdout.startswith("HTTP/2 200")


def test_a_dry_run_and_an_apply_that_nobody_confirms_change_nothing(web: Client) -> None:
    """They show the difference; after them nothing differs from the host's own spec, and then nothing is done."""
    dry = web.er("apply", web.edited(*_DOMAIN), "--dry-run")
    assert dry.returncode == 0
    assert "-hello.example.com, www.hello.example.com {" in dry.stderr
    assert "+hello.example.com, neu.example.com {" in dry.stderr
    unasked = web.er("apply", web.edited(*_DOMAIN))
    assert unasked.returncode == 1
    assert "--yes" in unasked.stderr
    done = web.er("apply", web.spec, "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing differs" in done.stderr


# test_apply_table.py counts requests too, as does the test after this one.
@of_a_sweep
def test_a_change_of_one_stack_loses_no_request_of_another(web: Client) -> None:
    """Its own neither, where only its domains change."""
    loads = [Load(web.host, name, family=family, interval=0.05) for name in _SITES for family in (4, 6)]
    assert web.er("apply", web.edited(*_DOMAIN), "--yes").returncode == 0
    for load in loads:
        assert [status for status, _ in load.end() if status != "200"] == []
    until(lambda: _answers(web, "neu.example.com"), timeout=20, what="the new domain")


_VAULT = """\
services:
  web:
    image: {app}
    secrets: [key]
    labels:
      xyz.easyrunner.service.type: web
      xyz.easyrunner.service.domain: vault.example.com
      xyz.easyrunner.service.port: "3000"
secrets:
  key: {{external: true}}
"""


def _with_vault(web: Client) -> Path:
    """The spec with a stack that needs a secret."""
    app = next(line.split()[-1] for line in web.spec.read_text().splitlines() if "app.tar" in line)
    compose = web.spec.parent / "vault" / "compose.yaml"
    compose.parent.mkdir(exist_ok=True)
    compose.write_text(_VAULT.format(app=app))
    return web.edited("  - name: notes", "  - name: vault\n    compose: vault/compose.yaml\n  - name: notes")


def test_a_stack_comes_and_waits_for_a_secret_and_goes_and_its_data_stays(web: Client) -> None:
    """The others' ceilings follow, and their managers go on.

    Its user must be there before its secret can be: the change stands, and says what is to be set.
    """
    run = web.host.machine.run
    of_shop = "systemctl show -PMemoryMax -PMainPID --value user@$(id -u er-shop)"
    before = run(of_shop).stdout.split()
    added = _with_vault(web)
    steady = Steady(web.host, "shop.example.com", clients=2)
    done = web.er("apply", added, "--yes", "--timeout", "120")
    assert done.returncode == 0, done.stderr
    assert "sending app.tar" in done.stderr
    assert "er server secret set web vault key" in done.stderr
    assert _same(web, added)
    assert web.er("secret set", "vault", "key", stdin="S3kr3t").returncode == 0
    until(lambda: _answers(web, "vault.example.com"), timeout=40, what="the stack with its secret")
    uid = run("id -u er-vault").stdout
    ceilings = [value for value, other in zip(before, run(of_shop).stdout.split(), strict=True) if value != other]
    assert len(ceilings) == 1, "the ceiling, not the manager's process"
    assert web.er("apply", web.spec, "--yes").returncode == 0
    assert run(of_shop).stdout.split() == before
    assert run("id er-vault", check=False).returncode == 1
    assert "er-vault" not in run("cat /etc/subuid; ls /var/lib/systemd/linger").stdout
    assert run("test -d /var/lib/easyrunner/home/vault", check=False).returncode == 0
    assert set(steady.results()) == {"200"}
    assert run("systemctl --failed --no-legend").stdout == ""
    # Come again, it has the same user, by its name alone: what is left is its own.
    again = next(stack for stack in specs.load(added)[0].stacks if stack.name == "vault")
    assert again.uid == int(uid)
    assert run(f"find /var/lib/easyrunner/home/vault -uid {again.uid} -print -quit").stdout


def test_a_change_that_does_not_come_up_is_taken_back(web: Client) -> None:
    broken = web.edited("    port: 3000\n    egress", "    port: 3000\n    command: [/nonexistent]\n    egress")
    done = web.er("apply", broken, "--yes", "--timeout", "10")
    assert done.returncode == 1
    assert "taken back" in done.stderr
    assert "hello/web" in done.stderr
    assert "/nonexistent" in done.stderr.rpartition("hint:")[2]
    assert _same(web, web.spec)
    assert _answers(web, "hello.example.com")


# As of a release: test_releases.py.
@of_a_sweep
def test_an_app_that_starts_and_falls_over_is_taken_back(web: Client) -> None:
    """A worker has no socket to ask: it is watched for a while."""
    compose = web.spec.parent / "shop" / "compose.yaml"
    good = compose.read_text()
    compose.write_text(good.replace("[sleep, infinity]", '[sh, -c, "sleep 0.5; exit 1"]'))
    try:
        done = web.er("apply", web.spec, "--yes", "--timeout", "10")
    finally:
        compose.write_text(good)
    assert done.returncode == 1, done.stderr
    assert "shop/worker" in done.stderr
    assert _same(web, web.spec)


def _remote(web: Client) -> Remote:
    """In this process, by the same ssh config."""
    return Remote("web", ("-F", str(web.directory / "config")))


def _plan(spec: Path, within: float) -> bytes:
    """The plan of a spec, with another time to confirm in."""
    read, _ = specs.load(spec)
    plan = json.loads(apply.plan(read, hosts.build(read), timeout=60))
    return json.dumps({**plan, "confirm_within": within}).encode()


def test_a_change_that_locks_the_admin_out_is_taken_back(web: Client) -> None:
    """SSH is refused to everybody; nobody confirms; the host opens again by itself. Meanwhile others are refused."""
    locked = web.edited("tls:", "ssh: {allow_from: [192.0.2.0/24]}\ntls:")
    states = apply.carry_out(_remote(web), _plan(locked, 3))
    phases = [next(states)["phase"]]
    with pytest.raises(UserError, match="another change"):
        next(apply.carry_out(_remote(web), _plan(web.spec, 5)))
    phases += [state["phase"] for state in states]
    assert phases[-1] == "rolled back"
    assert _same(web, web.spec)


# As is the change before it.
@of_a_sweep
def test_the_wrong_key_is_taken_back(web: Client) -> None:
    """The keys of the spec are the admin's only ones: with none of this laptop's, the new connection fails."""
    other = web.directory / "other"
    if not other.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", other], check=True)
    spec = web.edited("[id.pub]", f"[{other}.pub]")
    phases = [state["phase"] for state in apply.carry_out(_remote(web), _plan(spec, 3))]
    assert "no answer" in phases
    assert phases[-1] == "rolled back"
    assert web.er("status").returncode == 0


# A client that has gone at the end is that of a change which the next one confirms.
@of_a_sweep
@pytest.mark.parametrize("phase", ["started", "waiting for you"])
def test_a_cut_connection_leaves_the_old_or_the_new_state(web: Client, phase: str) -> None:
    """The client dies in each phase; what is there in the end is whole."""
    spec = web.edited(*_DOMAIN)
    remote = _remote(web)
    for state in apply.carry_out(remote, _plan(spec, 3)):
        if state["phase"] == phase:
            break
    until(lambda: _phase(web) in facts.APPLY_ENDS, timeout=60, what="the end of the change")
    assert _phase(web) in {"done", "rolled back"}
    assert _same(web, web.spec) != _same(web, spec)
    assert _answers(web, "hello.example.com")


# er, whose changes are confirmed within three seconds instead of ninety.
_IMPATIENT = "from builder.server import apply; apply.CONFIRM_WITHIN = 3; from builder.cli import main; main()"


@of_a_sweep
def test_er_itself_killed_half_way(web: Client) -> None:
    """kill -9 of the client: the host goes on by itself, and an unconfirmed change does not stand."""
    argv = [sys.executable, "-c", _IMPATIENT, *web.argv("apply", web.edited(*_DOMAIN), "--yes")[1:]]
    killed = subprocess.Popen(argv, env=web.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _phase(web) not in {"", *facts.APPLY_ENDS}, timeout=90, what="the start of the change")
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
    until(lambda: _phase(web) in facts.APPLY_ENDS, timeout=150, what="the end of the change")
    assert _phase(web) in {"done", "rolled back"}


def test_a_change_whose_client_has_gone_is_confirmed_by_the_next(web: Client) -> None:
    """Its files are there, and would be taken back: nothing differs, and yet something is to be done."""
    spec = web.edited(*_DOMAIN)
    for state in apply.carry_out(_remote(web), _plan(spec, 60)):
        if state["phase"] == "waiting for you":
            break
    done = web.er("apply", spec, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["phase"] == "done"
    assert _phase(web) == "done"
    assert _same(web, spec)


def test_power_cut_during_a_change(web: Client) -> None:
    """The boot that finds a change half-way puts the old files back before the firewall is loaded."""
    spec = web.edited(*_DOMAIN)
    machine = web.host.machine
    states = apply.carry_out(_remote(web), _plan(spec, 30))
    while next(states)["phase"] != "waiting for you":
        pass
    machine.cut()
    web.host.boot()
    assert not machine.files.path("/var/lib/easyrunner/apply/pending").exists()
    assert _same(web, web.spec)
    assert _answers(web, "www.hello.example.com")


def test_another_server_is_refused(web: Client) -> None:
    done = web.er("apply", web.edited("name: web1", "name: web2"), "--yes")
    assert (done.returncode, "is the server web1" in done.stderr) == (1, True)
