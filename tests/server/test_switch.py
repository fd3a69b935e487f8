"""A change of a service that visitors do not notice: the new container beside the old one, and what cuts it short."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from builder.polling import until
from tests.machine.clients import Load
from tests.server.test_releases import Stack
from tests.sweeps import WHOLE, of_a_sweep, sample

if TYPE_CHECKING:
    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

_SITE = "hello.example.com"
_UNIT = "easyrunner-release-hello.service"


@pytest.fixture(scope="module")
def web(looked_at: Client) -> Client:
    return looked_at


@pytest.fixture(scope="module")
def hello(web: Client) -> Stack:
    stack = Stack(web)
    assert stack.switch(stack.image("first"))[-1]["phase"] == "done"
    return stack


@pytest.fixture(scope="module")
def restart(hello: Stack) -> float:
    """How long the longest request waits while the service restarts, in seconds, in this run."""
    load = Load(hello.web.host, _SITE)
    assert hello.web.er("restart", "hello").returncode == 0
    until(lambda: hello.greets("first"), timeout=60, what="the service")
    return max(seconds for _, seconds in load.end())


def _unnoticed(load: Load, restart: float) -> None:
    """No request failed, and none waited as long as for a restart."""
    found = load.end()
    assert [status for status, _ in found if status != "200"] == []
    assert max(seconds for _, seconds in found) < restart


def _is_clean(hello: Stack) -> bool:
    """Whether the ordinary units serve, and nothing is left beside them."""
    run = hello.web.host.machine.run
    place = run(
        "ls /run/easyrunner/proxy/hello; ls -A /run/systemd/user; ls -d /var/lib/easyrunner/apply*/pending || :"
    )
    return place.stdout.split() == ["web.sock", "web.up"] and hello.run("podman ps -a --format {{.Names}}") == "web\n"


def _settled(hello: Stack) -> None:
    assert hello.web.er("verify", hello.web.spec).returncode == 0
    assert [one for one in hello.web.json("doctor") if not one["ok"]] == []
    assert _is_clean(hello)


def test_the_proxy_can_read_that_an_ingress_has_joined(hello: Stack) -> None:
    """A file that it may not open is none to Caddy: all apps had a minute to answer then, as if they were not there."""
    look = "stat -c '%a %G' /run/easyrunner/proxy/shop/web.up /run/easyrunner/proxy/hello/web.up"
    assert hello.web.host.machine.run(look).stdout.splitlines() == ["640 er-proxy", "640 er-proxy"]


def test_nobody_notices_a_release(hello: Stack, restart: float) -> None:
    load = Load(hello.web.host, _SITE)
    states = hello.switch(hello.image("second"))
    _unnoticed(load, restart)
    phases = [state["phase"] for state in states]
    assert phases[-3:] == ["waiting for the new one", "restarting behind it", "done"], states
    assert hello.greets("second")
    _settled(hello)


_BROKEN = [("bad", ['CMD ["/nonexistent"]']), ("deaf", ['ENTRYPOINT ["sleep"]', 'CMD ["infinity"]'])]


def test_nobody_sees_a_broken_image(hello: Stack, restart: float) -> None:
    """One that listens nowhere; in the sweep one whose program is not there, too. The old container runs on."""
    started = hello.run("podman inspect --format '{{.State.StartedAt}}' web")
    for tag, lines in sample(_BROKEN, (_BROKEN[1],)):
        load = Load(hello.web.host, _SITE)
        states = hello.switch(hello.image(tag, *lines), timeout=10)
        _unnoticed(load, restart)
        assert states[-1]["phase"] == "rolled back", states
        assert "restarting behind it" not in [state["phase"] for state in states]
    assert hello.run("podman inspect --format '{{.State.StartedAt}}' web") == started
    _settled(hello)


@of_a_sweep
def test_nobody_notices_a_changed_environment(hello: Stack, restart: float) -> None:
    """`er server apply`, and what it takes back because the program is not there."""
    web = hello.web
    old = "    port: 3000\n    egress"
    load = Load(web.host, _SITE)
    done = web.er("apply", web.edited(old, "    port: 3000\n    environment: {NOTE: new}\n    egress"), "--yes")
    assert done.returncode == 0, done.stderr
    _unnoticed(load, restart)
    assert "NOTE=new" in hello.run("podman inspect web")
    load = Load(web.host, _SITE)
    broken = web.edited(old, "    port: 3000\n    command: [/nonexistent]\n    egress")
    done = web.er("apply", broken, "--yes", "--timeout", "10")
    assert done.returncode == 1
    assert "the change was taken back" in done.stderr
    _unnoticed(load, restart)
    assert web.er("apply", web.spec, "--yes").returncode == 0
    _settled(hello)


def test_the_last_apply_is_taken_back_as_a_whole(hello: Stack, restart: float) -> None:
    """What it changed of two stacks and of the proxy; once more leads forth again, in the sweep."""
    web = hello.web
    text = web.spec.read_text()
    changed = web.spec.with_name("edited.yaml")
    changed.write_text(
        text.replace("    port: 3000\n    egress", "    port: 3000\n    environment: {NOTE: new}\n    egress")
        .replace("www.hello.example.com]", "www.hello.example.com, neu.example.com]")
        .replace("tls:", "fail2ban: {ignore: [192.0.2.7]}\ntls:")
    )
    neighbour = Load(web.host, "notes.example.com", family=6, interval=0.2)
    assert web.er("apply", changed, "--yes").returncode == 0
    assert {status for status, _ in neighbour.end()} == {"200"}
    dry = web.er("rollback", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "-Environment=NOTE=new" in dry.stderr
    assert web.er("verify", changed).returncode == 0
    assert "there is nobody to ask" in web.er("rollback").stderr
    load = Load(web.host, _SITE)
    end = web.json("rollback", "--yes")
    assert end["phase"] == "done", end
    _unnoticed(load, max(restart, 2))  # the proxy reads its configuration: a second
    _settled(hello)
    if WHOLE:
        assert web.er("rollback", "--yes").returncode == 0
        assert web.er("verify", changed).returncode == 0
        assert web.er("rollback", "--yes").returncode == 0
        _settled(hello)


@of_a_sweep
def test_a_killed_apply_is_taken_back_by_its_unit(hello: Stack, restart: float) -> None:
    web, machine = hello.web, hello.web.host.machine
    edited = web.edited("    port: 3000\n    egress", "    port: 3000\n    environment: {NOTE: new}\n    egress")
    load = Load(web.host, _SITE)
    with subprocess.Popen(web.argv("apply", edited, "--yes"), env=web.env, stderr=subprocess.PIPE, text=True) as client:
        _reach(hello, "the own one restarts")
        machine.run("systemctl kill --kill-whom=main --signal=KILL easyrunner-apply.service")
        _, said = client.communicate(timeout=300)
    assert "the change was taken back, the server is as before: its process was ended" in said
    _unnoticed(load, restart)
    _settled(hello)


_CLIENT = (
    "import sys\n"
    "from builder.server import Remote, releases\n"
    "remote = Remote('web', ('-F', sys.argv[1]))\n"
    "for state in releases.switch(remote, 'hello', {'web': sys.argv[2]}, source='push'):\n"
    "    print(state['phase'], flush=True)\n"
)
_PLACE = "/run/easyrunner/proxy/hello"
# How far a release is, as shell sees it, one after the other.
_STEPS = {
    "the next one starts": "[ -e /run/systemd/user/er-next:hello:web.service ]",
    "the next one has joined": f"[ -e {_PLACE}/next:hello:web.up ]",
    "the next one serves": f"[ -e {_PLACE}/kept:web.sock ]",
    "the own one restarts": "! ls /run/user/*/hello-web.cid",
    "the own one runs again": "ls /run/user/*/hello-web.cid",
    "the own one serves": f"[ ! -e {_PLACE}/kept:web.sock ]",
}
CUTS = sample(
    [(how, step) for step in _STEPS for how in ("kill", "power")],
    (("kill", "the own one restarts"),),
)


def _reach(hello: Stack, step: str) -> None:
    """Returns when a release is there, step by step: some signs are there before it has begun as well."""
    steps = list(_STEPS)
    waits = [f"until {_STEPS[one]}; do sleep 0.02; done" for one in steps[: steps.index(step) + 1]]
    hello.web.host.machine.run(f"{{ {'; '.join(waits)}; }} >/dev/null 2>&1")


@pytest.mark.parametrize(("how", "step"), CUTS)
def test_a_cut_leaves_one_of_both_to_the_ordinary_units(hello: Stack, restart: float, how: str, step: str) -> None:
    """Of the process by kill -9, which visitors do not notice either, and of the power."""
    machine, before = hello.web.host.machine, hello.runs()
    tag = f"cut{list(_STEPS).index(step)}{how}"
    argv = [sys.executable, "-c", _CLIENT, str(hello.web.directory / "config"), hello.image(tag)]
    load = Load(hello.web.host, _SITE) if how == "kill" else None
    with subprocess.Popen(argv, env=hello.web.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        _reach(hello, step)
        if load:
            machine.run(f"systemctl kill --kill-whom=main --signal=KILL {_UNIT}")
            until(lambda: _is_over(hello), timeout=200, what="the end of the release")
            _unnoticed(load, restart)
        else:
            machine.cut()
            hello.web.host.boot()
        client.kill()
    assert hello.greets(hello.runs())
    assert hello.runs() in {before, tag}
    _settled(hello)


def _is_over(hello: Stack) -> bool:
    state = hello.web.host.machine.run(f"systemctl is-active {_UNIT}", check=False).stdout.strip()
    return state in {"inactive", "failed", "unknown"}
