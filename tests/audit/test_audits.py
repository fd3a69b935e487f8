"""Lynis, OpenSCAP, ssh-audit, testssl.sh, nmap and systemd-analyze, on both deliveries and on a plain Debian."""

from __future__ import annotations

import json
import re
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from builder.host import hardening
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from builder.lab.machine import Machine
    from builder.lab.network import Namespace
    from tests.audit.conftest import Side
    from tests.audit.report import Findings
    from tests.machine.hosts import Host

pytestmark = [pytest.mark.machine, of_a_sweep]

T = TypeVar("T")

INDEX = 85
SITE = "hello.example.com"
OPEN = {22, 80, 443}
PROFILE = "xccdf_org.ssgproject.content_profile_anssi_bp28_enhanced"
CONTENT = "/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml"
# Debian's oscap looks for a dictionary that no package has.
CPE = (
    "mkdir -p /usr/share/openscap/cpe; cd /usr/share/openscap/cpe; [ -e openscap-cpe-dict.xml ] || "
    """echo '<cpe-list xmlns="http://cpe.mitre.org/dictionary/2.0"/>' >openscap-cpe-dict.xml"""
)


@dataclass
class Tls:
    """testssl.sh at work, and where it writes to."""

    running: subprocess.Popen[bytes]
    result: Path


@pytest.fixture(scope="module", autouse=True)
def tls(side: Side, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tls]]:
    """testssl.sh takes longest, so it starts first and the others run beside it."""
    tests = {delivery: _tls(host, tmp_path_factory.mktemp("tls")) for delivery, host in side.ours.items()}
    yield tests
    for one in tests.values():
        one.running.kill()
        one.running.wait()


def _tls(host: Host, directory: Path) -> Tls:
    result = directory / "found.json"
    assert host.curl(f"https://{SITE}/").stdout.startswith("HTTP/2 200")
    options = ["--quiet", "--warnings", "off", "--nodns", "none", "--sneaky", "--add-ca", str(host.ca)]
    tests = ["-p", "-s", "-S", "-h", "-U", "--jsonfile", str(result), "--ip", host.machine.ipv4]
    return Tls(host.machine.attacker(3).start(["testssl", *options, *tests, f"{SITE}:443"]), result)


def on_each(side: Side, look: Callable[[Machine], T]) -> dict[str, T]:
    """What is seen of each host, all looked at at once: most of it is waiting."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(side.machines, pool.map(look, side.machines.values()), strict=True))


def lynis(machine: Machine) -> str:
    machine.run(["lynis", "audit", "system", "--quick", "--no-colors", "--quiet"], check=False, timeout=900)
    return machine.path("/var/log/lynis-report.dat").read_text(errors="replace")


def index(text: str) -> int:
    found = re.search(r"^hardening_index=(\d+)$", text, re.MULTILINE)
    assert found
    return int(found[1])


def test_lynis(side: Side, findings: Findings) -> None:
    """No test is skipped: what a container cannot set counts against it."""
    for host in side.ours.values():
        # The first look at the system's files, which comes a quarter of an hour after a boot.
        host.machine.run("systemctl start er-integrity.service", timeout=180)
    said = on_each(side, lynis)
    findings.scores["Lynis, hardening index of 100"] = {name: index(text) for name, text in said.items()}
    left = r"^(?:suggestion|warning)\[\]=([\w-]+)\|"
    findings.check("lynis", {name: set(re.findall(left, said[name], re.MULTILINE)) for name in side.ours})
    for name in side.ours:
        assert index(said[name]) >= INDEX
        assert index(said[name]) > index(said["plain"])


def oscap(machine: Machine) -> tuple[float, set[str], set[str]]:
    """Score of 100, the rules passed, and those failed. No package has Debian 13's content: 12's, told to apply."""
    script = (
        r"""sed 's/<[^ <>]*platform idref="cpe:.o:debian:debian_linux:12".>//' """ + CONTENT + " >/root/ds.xml; "
        f"{CPE}; cd /root; oscap xccdf eval --profile {PROFILE} --results result.xml ds.xml"
    )
    said = machine.run(script, check=False, timeout=400)
    assert said.returncode in {0, 2}, said.stderr
    results = re.findall(r"^Rule\s+\S+content_rule_(\S+).*?^Result\s+(\w+)$", said.stdout, re.MULTILINE | re.DOTALL)
    score = re.search(r"<score[^>]*>([\d.]+)", machine.path("/root/result.xml").read_text())
    assert score
    kinds = {kind: {rule for rule, result in results if result == kind} for kind in ("pass", "fail")}
    return round(float(score[1]), 1), kinds["pass"], kinds["fail"]


def test_openscap(side: Side, findings: Findings) -> None:
    said = on_each(side, oscap)
    findings.scores["OpenSCAP, ANSSI BP-028 enhanced for Debian 12, score of 100"] = {n: said[n][0] for n in said}
    findings.scores["— rules passed"] = {name: len(passed) for name, (_, passed, _) in said.items()}
    findings.check("ssg", {name: said[name][2] for name in side.ours})
    for name in side.ours:
        assert said[name][0] >= 75
        assert said[name][0] > said["plain"][0]


def ssh_audit(source: Namespace, address: str) -> list[str]:
    program = Path(sysconfig.get_path("scripts"), "ssh-audit")
    said = source.run([str(program), "--json", "--skip-rate-test", address], check=False).stdout
    found: dict[str, Any] = json.loads(said)
    kinds = ("kex", "key", "enc", "mac")
    entries = [(kind, entry) for kind in kinds for entry in found[kind]]
    assert len(entries) > len(kinds)
    return [
        f"{level}: {kind} {entry['algorithm']}: {note}"
        for kind, entry in entries
        for level in ("fail", "warn")
        for note in entry["notes"].get(level, ())
    ] + [f"fail: {cve['name']}" for cve in found["cves"]]


def test_ssh_audit(side: Side, findings: Findings) -> None:
    said = {name: ssh_audit(machine.attacker(1), machine.ipv4) for name, machine in side.machines.items()}
    findings.scores["ssh-audit, failures and warnings"] = {name: len(found) for name, found in said.items()}
    assert {name: said[name] for name in side.ours} == {name: [] for name in side.ours}
    assert said["plain"]


def ports(source: Namespace, address: str) -> set[int]:
    """Open TCP ports, all 65,535 tried."""
    argv = ["nmap", "-n", "-Pn", "-sS", "-p-", "-T5", "--min-rate", "6000", "--max-retries", "2", "-oG", "-"]
    said = source.run([*argv, *(["-6"] if ":" in address else []), address], timeout=300).stdout
    assert "Status: Up" in said
    return {int(port) for port in re.findall(r"\b(\d+)/open/tcp", said)}


@pytest.mark.parametrize("family", [4, 6])
def test_nmap(side: Side, findings: Findings, family: int) -> None:
    said = on_each(side, lambda machine: ports(machine.attacker(2), machine.ipv4 if family == 4 else machine.ipv6))
    findings.scores[f"nmap, open TCP ports over IPv{family}"] = {name: _listed(found) for name, found in said.items()}
    assert {name: said[name] for name in side.ours} == dict.fromkeys(side.ours, OPEN)


def _listed(found: set[int]) -> str:
    return ", ".join(map(str, sorted(found))) or "none"


# What a unit's job leaves it needing, and the most it may be exposed; 3.0 for those that are not named.
ALLOWED = {
    "mount-hardening.service": (4.0, "It mounts for the whole host, so it has no mounts of its own."),
}
SYSTEM_UNITS = (
    "er-firewall",
    "er-first-boot",
    "er-integrity",
    "er-room",
    "er-watch@ssh",
    "er-watch@web",
    "mount-hardening",
    "fail2ban",
)
USER_UNITS = {
    "er-ingress-web.service": (
        7.5,
        "It enters a container's network by Podman's user namespace, which one of its own would keep it from.",
    ),
}


def exposure(machine: Machine, unit: str, user: str = "root") -> float:
    argv = ["systemd-analyze", *(["--user"] if user != "root" else []), "security", "--no-pager", unit]
    found = re.search(r"exposure level for \S+: ([\d.]+)", machine.run(argv, user=user).stdout)
    assert found
    return float(found[1])


@pytest.mark.parametrize("unit", [f"{unit}.service" for unit in SYSTEM_UNITS])
def test_units_are_confined(side: Side, findings: Findings, unit: str) -> None:
    allowed, why = ALLOWED.get(unit, (3.0, ""))
    for host in side.ours.values():
        score = exposure(host.machine, unit)
        findings.exposed(unit, score, why)
        assert score <= allowed


@pytest.mark.parametrize("unit", sorted(USER_UNITS))
def test_user_units_are_confined_as_far_as_they_can(side: Side, findings: Findings, unit: str) -> None:
    allowed, why = USER_UNITS[unit]
    for host in side.ours.values():
        score = exposure(host.machine, unit, "er-hello")
        findings.exposed(unit, score, why)
        findings.exposed(
            "er-proxy.service and the apps",
            exposure(host.machine, "er-proxy.service", "er-proxy"),
            "Podman makes the sandbox: a user and a user namespace, few capabilities, Caddy's root read-only.",
        )
        assert score <= allowed


def test_testssl(side: Side, findings: Findings, tls: dict[str, Tls]) -> None:
    """Nothing above low but what is answered; what it could not test itself is a warning about testssl.sh."""
    severe, told = {}, {"plain": "no HTTPS"}
    for name in side.ours:
        assert tls[name].running.wait(300) < 200, "testssl.sh did not end well"
        found = json.loads(tls[name].result.read_text())
        assert {"TLS1_2", "TLS1_3", "cert_chain_of_trust", "heartbleed"} <= {entry["id"] for entry in found}
        severe[name] = {entry["id"] for entry in found if entry["severity"] in {"MEDIUM", "HIGH", "CRITICAL"}}
        low = sum(entry["severity"] == "LOW" for entry in found)
        told[name] = f"{len(severe[name] - findings.answers['tls'].keys())}; {low}"
    findings.scores["testssl.sh, findings above low; low"] = told
    findings.check("tls", severe)


def test_ids_of_the_settings_are_the_tools_own(stock: Host) -> None:
    """Each Lynis and SSG id that `er explain` shows is one of these tools'."""
    lynis_ids = stock.machine.path("/usr/share/lynis/db/tests.db").read_text()
    rules = stock.machine.path(CONTENT).read_text()
    known = {"LYNIS": lambda id_: f"{id_}:" in lynis_ids, "SSG": lambda id_: f'content_rule_{id_}"' in rules}
    answers = {answer for row in hardening.settings() for answer in row.answers if not answer.startswith("CIS ")}
    assert [answer for answer in sorted(answers) if not known[answer.split()[0]](answer.split()[1])] == []
