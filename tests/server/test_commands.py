"""`er server …` on a running host: what it shows is so, what it does is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder.polling import until
from builder.server import ssh
from builder.server.remote import common
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from tests.server.conftest import Client

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def web(looked_at: Client) -> Client:
    return looked_at


_SERVICES = {"proxy", "hello/web", "notes/site", "shop/web", "shop/api", "shop/worker"}


def _states(web: Client) -> dict[str, str]:
    found = web.json("status")
    return {f"{s['stack']}/{one['service']}": one["state"] for s in found["stacks"] for one in s["services"]} | {
        "proxy": found["proxy"]["state"]
    }


def test_status_shows_a_host_that_is_well(web: Client) -> None:
    done = web.er("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in _SERVICES)
    found = web.json("status")
    assert _states(web) == dict.fromkeys(_SERVICES, "active")
    assert {(port["port"], port["protocol"]) for port in found["ports"]} == {
        (22, "tcp"), (8080, "tcp"), (8443, "tcp"), (8443, "udp"),
    }  # fmt: skip
    assert found["firewall"] is True
    assert "shop.example.com" in {one["domain"] for one in found["certificates"]}
    assert found["wrong"] == []


def test_status_says_what_is_wrong(web: Client) -> None:
    web.host.machine.run("systemctl stop fail2ban")
    try:
        done = web.er("status")
        assert done.returncode == 1
        assert "fail2ban is inactive" in done.stderr
    finally:
        web.host.machine.run("systemctl start fail2ban")


def test_what_runs_there_is_kept_whole_and_compiled_once(web: Client) -> None:
    """Root's alone, by its digest. What was sent lies beside it, for what runs there later."""
    machine, (digest, _) = web.host.machine, ssh.package()
    place = f"{facts.REMOTE}/{digest}"
    machine.run(f"rm -rf {facts.REMOTE}; mkdir -m 700 {facts.REMOTE}")
    for number in range(4):
        machine.run(f"mkdir {facts.REMOTE}/{number}; touch -d '-{number + 1} days' {facts.REMOTE}/{number}")
    assert web.er("status").returncode == 0
    assert machine.run(f"stat -c '%U %a' {facts.REMOTE} {place}").stdout.split() == ["root", "700", "root", "700"]
    assert machine.run(f"sha256sum {place}/{common.ARCHIVE}").stdout.split()[0] == digest
    assert set(machine.run(f"ls -A {facts.REMOTE}").stdout.split()) == {digest, "0", "1"}, (
        "of other versions the newest"
    )
    assert web.er("status").returncode == 0
    compiled = f"{place}/builder/server/remote/__pycache__"
    first = machine.run(f"stat -c '%n %Y' {compiled}/*").stdout
    assert "/status." in first
    assert web.er("status").returncode == 0
    assert machine.run(f"stat -c '%n %Y' {compiled}/*").stdout == first


_BREAKS = {
    "firewall in force": "echo nonsense >/etc/easyrunner/firewall.d/99-x.filter; systemctl restart er-firewall",
    "firewall complete": "for do in 'D PREROUTING -j' F X; do iptables -t nat -$do ER-REDIRECT; done",
    "fail2ban": "systemctl stop fail2ban",
    "stacks run": "su -s /bin/sh er-hello -c 'XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user stop hello-web'",
    "system services": "systemctl kill --signal=KILL systemd-resolved; systemd-run -q --unit=broken false; sleep 0.2",
    "security updates": "systemctl disable apt-daily-upgrade.timer",
    "no unknown listener": "systemd-run -q --unit=listener socat TCP-LISTEN:9999 - || systemd-run -q --unit=listener"
    " python3 -m http.server 9999",
    "no passwords": "usermod -p '$y$j9T$er' er",
    "ssh by key only": "sed -i '1iPasswordAuthentication yes' /etc/ssh/sshd_config",
}
_UNBREAKS = (
    "rm -f /etc/easyrunner/firewall.d/99-x.filter; sed -i '/^PasswordAuthentication yes$/d' /etc/ssh/sshd_config;"
    " systemctl restart er-firewall;"
    " systemctl stop listener; passwd --lock er; usermod -p '!' er; systemctl reset-failed; systemctl start fail2ban;"
    " systemctl enable apt-daily-upgrade.timer"
)
_MENDS = {"firewall complete", "fail2ban", "stacks run", "security updates"}
# The firewall's stop each other; all others are broken at once, as every look is one at everything.
_FIREWALL = ("firewall in force", "firewall complete")
_AT_ONCE = (*((check,) for check in _FIREWALL), tuple(check for check in _BREAKS if check not in _FIREWALL))


def test_doctor_passes_a_host_that_is_well(web: Client) -> None:
    assert [check["check"] for check in web.json("doctor") if not check["ok"]] == []
    assert web.er("doctor").returncode == 0


def _broken(web: Client, checks: tuple[str, ...]) -> list[dict[str, Any]]:
    """These checks, once doctor finds something wrong with each."""
    found = [one for one in web.json("doctor") if one["check"] in checks and not one["ok"]]
    return found if len(found) == len(checks) else []


@pytest.mark.parametrize("checks", _AT_ONCE, ids=", ".join)
def test_doctor_finds_what_is_broken_and_says_what_to_do(web: Client, checks: tuple[str, ...]) -> None:
    for check in checks:
        web.host.machine.run(_BREAKS[check], check=False)
    try:
        found = until(lambda: _broken(web, checks), timeout=30, what=f"something wrong with {', '.join(checks)}")
        assert all(one["remedy"] for one in found)
        if mended := _MENDS & {*checks}:
            assert mended <= {one["check"] for one in web.json("doctor", "--fix") if one["fixed"]}
            assert mended <= {one["check"] for one in web.json("doctor") if one["ok"]}
    finally:
        web.host.machine.run(_UNBREAKS, check=False)


_SIX = ("2001:db8::9", "2001:db8::/64", 6)


@pytest.mark.parametrize(
    ("address", "counted", "family"),
    sample([("203.0.113.9", "203.0.113.9", 4), _SIX], [_SIX]),
)
def test_a_ban_is_in_force_until_it_is_taken_away(web: Client, address: str, counted: str, family: int) -> None:
    def bans() -> str:
        return web.host.machine.run(["ipset", "list", f"sshd-{family}"]).stdout

    assert counted in web.er("ban", address).stderr
    until(lambda: counted in bans(), timeout=10, what="the ban")
    assert counted in web.er("fail2ban-status").stdout
    assert web.er("reapply-firewall").returncode == 0
    assert counted in bans()
    assert "sshd" in web.er("unban", address).stderr
    until(lambda: counted not in bans(), timeout=10, what="the end of the ban")
    assert "was not banned" in web.er("unban", address).stderr


def test_fail2ban_status_shows_the_policy(web: Client) -> None:
    policy = {
        jail["jail"]: (jail["maxretry"], jail["findtime"], jail["bantime"]) for jail in web.json("fail2ban-status")
    }
    assert policy["sshd"] == (5, 600, 3600)
    assert policy["recidive"] == (3, 86400, 604800)
    assert "5 in 10 min: 1 h" in web.er("fail2ban-status").stdout


def test_a_stack_is_stopped_and_stays_so_until_it_is_started(web: Client) -> None:
    assert web.er("stop", "hello").returncode == 0
    assert _states(web)["hello/web"] == "inactive"
    # Its next request does not start it behind the admin's back.
    assert not web.host.curl("https://hello.example.com/", timeout=5).stdout.startswith("HTTP/2 200")
    assert _states(web)["hello/web"] == "inactive"
    assert web.er("start", "hello").returncode == 0
    assert web.host.curl("https://hello.example.com/").stdout.startswith("HTTP/2 200")
    assert _states(web)["shop/api"] == "active"
    assert web.er("restart", "shop", "api").returncode == 0


def test_logs_are_of_the_stack_that_was_asked_for(web: Client) -> None:
    web.host.machine.run(["logger", "-t", "other", "not of the stack"])
    done = web.er("logs", "hello", "web", "--lines", "5")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "not of the stack" not in done.stdout
    assert len(done.stdout.splitlines()) <= 5
    assert web.er("logs").stdout.strip()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("restart", "nope"), "there is no stack nope"),
        (("restart", "shop", "nope"), "the stack shop has no service nope"),
        (("ban", "nonsense"), "is no IP address"),
        (("ban", "203.0.113.9", "--jail", "nope"), "there is no jail nope"),
        (("logs", "nope"), "there is no stack nope"),
        (("logs", "shop", "nope"), "the stack shop has no service nope"),
        (("secret rm", "shop", "nope"), "has no secret nope"),
    ],
)
def test_what_is_not_there_is_one_clear_error(web: Client, words: tuple[str, ...], error: str) -> None:
    done = web.er(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert error in done.stderr
    assert "Traceback" not in done.stderr


@of_a_sweep
def test_secrets_can_be_set_where_nothing_of_the_stack_runs(web: Client) -> None:
    """Podman has no user namespace to join then, and makes one."""
    uid = web.host.machine.user("er-shop").uid
    assert web.er("stop", "shop").returncode == 0
    pause = f"/run/user/{uid}/libpod/tmp/pause.pid"
    web.host.machine.run(f"if [ -e {pause} ]; then kill $(cat {pause}); rm {pause}; fi")
    try:
        done = web.er("secret set", "shop", "early", stdin="value")
        assert done.returncode == 0, done.stderr
        assert web.er("secret rm", "shop", "early").returncode == 0
    finally:
        assert web.er("start", "shop").returncode == 0


def test_a_secret_is_set_used_and_seen_nowhere(web: Client) -> None:
    value = "S3kr3t-of-the-shop"
    done = web.er("secret set", "shop", "token", stdin=f"{value}\n")
    assert done.returncode == 0, done.stderr
    assert [(one["name"], one["set"]) for one in web.json("secret list", "shop")] == [("token", True)]
    image = web.host.machine.run("podman images -q | head -1", user="er-shop").stdout.strip()
    options = ["--rm", "--secret=token", "--network=none", "--log-driver=none", "--entrypoint=cat"]
    inside = ["podman", "run", *options, image, "/run/secrets/token"]
    assert web.host.machine.run(inside, user="er-shop").stdout == value
    assert value not in web.host.machine.run("journalctl --no-pager -o verbose").stdout
    assert value not in done.stdout + done.stderr
    assert "replaced" in web.er("secret set", "shop", "token", stdin="other").stderr
    assert web.er("secret set", "shop", "empty", stdin="").returncode == 1
    assert web.er("secret rm", "shop", "token").returncode == 0
    assert web.json("secret list", "shop") == []


def test_a_host_that_cannot_be_reached_is_one_clear_error(web: Client) -> None:
    done = web.er("status", "-o", "HostName=127.0.0.1", "-o", "Port=9")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing listens for SSH there" in done.stderr
    done = web.er("status", "-o", "User=root")
    assert "accepts none of your keys" in done.stderr


def test_verify_compares_every_file(web: Client) -> None:
    done = web.er("verify", web.spec)
    assert done.returncode == 0, done.stderr
    changed = web.edited("www.hello.example.com", "neu.example.com")
    done = web.er("verify", changed)
    assert done.returncode == 1
    assert "/etc/easyrunner/caddy/sites/hello.caddy differs" in done.stderr
