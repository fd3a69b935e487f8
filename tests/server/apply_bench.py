"""A host that is changed under the eyes of its visitors: the changes as rows, and the state it is in."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.server import Remote, apply

if TYPE_CHECKING:
    from builder.host import Host
    from tests.server.apply_page import Page
    from tests.server.conftest import Client

ROOT = Path(__file__).resolve().parents[2]
# Between one and another, each text replaced by the next; the rows follow upon each other.
_IMAGE = "image: {app}\n    domains: [hello"
_EXTRA = "  - name: extra\n    image: {app}\n    domain: extra.example.com\n    port: 3000\n"


@dataclass(frozen=True)
class Step:
    """A change of the spec as text: `old` becomes `new`. It stays, unless it is to be taken back."""

    name: str
    old: str
    new: str
    ends: str = "done"


STEPS = (
    Step("image", _IMAGE, 'image: {caddy}\n    command: [caddy, respond, --listen, ":3000", hi]\n    domains: [hello'),
    Step("environment", "    port: 3000\n    egress", "    port: 3000\n    environment: {GREETING: hi}\n    egress"),
    Step("domain added", "www.hello.example.com]", "www.hello.example.com, neu.example.com]"),
    Step("stack added", "  - name: notes", _EXTRA + "  - name: notes"),
    Step("egress widened, firewall loaded anew", "ports: [7777]", "ports: [7777, 7778]"),
    Step("limits", "    port: 3000\n    environment", "    port: 3000\n    memory: 256m\n    environment"),
    Step("Fail2Ban told of an address", "tls:", "fail2ban: {ignore: [192.0.2.7]}\ntls:"),
    Step("stack removed", _EXTRA, ""),
    Step("broken: the program is not there", "[caddy, respond,", "[/nonexistent, respond,", "rolled back"),
    Step("broken: SSH shut for everybody", "tls:", "ssh: {allow_from: [192.0.2.0/24]}\ntls:", "rolled back"),
)
_CLIENT = (
    "import sys, pathlib\n"
    "from builder.server import Remote, apply\n"
    "plan = pathlib.Path(sys.argv[2]).read_bytes()\n"
    "print([state['phase'] for state in apply.carry_out(Remote('web', ('-F', sys.argv[1])), plan)][-1])\n"
)


@dataclass
class Bench:
    """The host with its present spec as text, and what changes it."""

    web: Client
    page: Page
    text: str

    @property
    def remote(self) -> Remote:
        return Remote("web", ("-F", str(self.web.directory / "config")))

    def spec(self, text: str) -> Path:
        file = self.web.spec.with_name("table.yaml")
        file.write_text(text)
        return file

    def plan(self, text: str, within: float) -> Path:
        """The plan of a spec in a file, with another time to confirm in."""
        read, _ = specs.load(self.spec(text))
        plan = {**json.loads(apply.plan(read, hosts.build(read), timeout=60)), "confirm_within": within}
        file = self.web.directory / "plan.json"
        file.write_text(json.dumps(plan))
        return file

    def built(self, text: str) -> Host:
        return hosts.build(specs.load(self.spec(text))[0])

    def state(self) -> str:
        file = self.web.host.machine.files.path(f"{facts.STATE}/apply/state.json")
        return str(json.loads(file.read_bytes())["phase"]) if file.exists() else ""

    def working(self) -> bool:
        """Whether anything of er runs on the host, be it of a client that is gone. Brackets keep the shell out."""
        return self.web.host.machine.run("pgrep -f [b]uilder.server.remote.main", check=False).returncode == 0

    def client(self, plan: Path) -> subprocess.Popen[bytes]:
        """A client with its ssh, in a process group of its own."""
        argv = [sys.executable, "-c", _CLIENT, str(self.web.directory / "config"), str(plan)]
        return subprocess.Popen(argv, cwd=ROOT, env=self.web.env, start_new_session=True, stdout=subprocess.DEVNULL)

    def running(self, domains: tuple[str, ...]) -> dict[str, str]:
        """What is in force: rules without counters, what the container was given, which sites are served."""
        run = self.web.host.machine.run
        rules = "-save | grep -v '^[#:]'"
        # Its name on its network is new each time.
        inspect = "podman inspect --format '{{range .Config.Env}}{{println .}}{{end}}' web | grep -v ^HOSTNAME= | sort"
        sites = {domain: self.web.host.curl(f"https://{domain}/", timeout=5).stdout[:10] for domain in domains}
        return {
            "ipv4": run(f"iptables{rules}").stdout,
            "ipv6": run(f"ip6tables{rules}").stdout,
            "container": run(inspect, user="er-hello").stdout,
            "failed": run("systemctl --failed --no-legend").stdout,
            **sites,
        }


def paths(text: str, step: Step) -> tuple[str, str]:
    """What a step replaces, with the images of the spec filled in."""
    app = next(line.split()[-1] for line in text.splitlines() if line.strip().startswith("image: oci-archive"))
    app = app if app.endswith("app.tar") else app.replace("caddy.tar", "app.tar")
    fill = {"{app}": app, "{caddy}": app.replace("app.tar", "caddy.tar")}
    old, new = step.old, step.new
    for name, path in fill.items():
        old, new = old.replace(name, path), new.replace(name, path)
    return old, new
