"""Certificates from a real ACME server, pebble, that stands in another namespace and looks at the host from there."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder import process
from tests.machine import hosts
from tests.machine.clients import get
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from builder.lab.network import Namespace
    from tests.machine.hosts import Host

# In a run of the tests `machine/test_data.py` orders certificates here, and `machine/test_edge.py` through an edge.
pytestmark = [pytest.mark.machine, of_a_sweep]

NAME = "acme.test"
PORT = 14000
_MANAGEMENT = 15000
_DNS = 8053


def authority(place: Path) -> None:
    """A root of our own, and the certificate of pebble's HTTPS signed by it."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    root = [*new, "-subj", "/CN=test root", "-keyout", f"{place}/root.key", "-out", f"{place}/root.pem"]
    process.run(root)
    leaf = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-addext", "basicConstraints=CA:FALSE"]
    signed = ["-CA", f"{place}/root.pem", "-CAkey", f"{place}/root.key"]
    process.run([*new, *leaf, *signed, "-keyout", f"{place}/leaf.key", "-out", f"{place}/leaf.pem"])


def _settings(place: Path) -> Path:
    file = place / "pebble.json"
    server = {
        "listenAddress": f"0.0.0.0:{PORT}",
        "managementListenAddress": f"0.0.0.0:{_MANAGEMENT}",
        "certificate": f"{place}/leaf.pem",
        "privateKey": f"{place}/leaf.key",
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    file.write_text(json.dumps({"pebble": server}))
    return file


@dataclass
class Pebble:
    """A certificate authority on the network, and what it said. All names lead to the host, or to an edge before it."""

    host: Host
    place: Namespace
    directory: Path
    edge: str = ""

    def start(self, stdout: int | None = None) -> list[subprocess.Popen[bytes]]:
        """The authority, and the DNS server it asks: every name is the host, or its edge."""
        names = [
            "pebble-challtestsrv",
            "-defaultIPv4",
            self.edge or self.host.machine.ipv4,
            "-defaultIPv6",
            "",
            "-dns01",
            f":{_DNS}",
        ]
        names += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ":8055"]
        environment = ["env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"]
        server = [*environment, "pebble", "-config", str(_settings(self.directory)), "-dnsserver", f"127.0.0.1:{_DNS}"]
        return [self.place.start(names), self.place.start(server, stdout=stdout)]

    def root(self) -> Path | None:
        """The root of the certificates it gives, once it is up."""
        words = ["curl", "-s", "--cacert", f"{self.directory}/root.pem", "--max-time", "5"]
        words += ["--connect-to", f"{NAME}:{_MANAGEMENT}:127.0.0.1:{_MANAGEMENT}"]
        done = self.place.run([*words, f"https://{NAME}:{_MANAGEMENT}/roots/0"], check=False)
        file = self.directory / "issued-root.pem"
        file.write_text(done.stdout)
        return file if "BEGIN CERTIFICATE" in done.stdout else None


@pytest.fixture(scope="module")
def certified(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host of the spec `three`, with pebble as its authority."""
    for program in ("pebble", "pebble-challtestsrv"):
        assert shutil.which(program), "apt-get install pebble"
    tmp = tmp_path_factory.mktemp("acme")
    authority(tmp)

    def edit(text: str) -> str:
        shutil.copy(tmp / "root.pem", tmp / "three" / "root.pem")
        return text.replace(
            "{ca: internal}", f'{{ca: "https://{NAME}:{PORT}/dir", ca_root: root.pem, email: a@b.test}}'
        )

    with hosts.booted("three", tmp, edit=edit, start=False) as host:
        pebble = Pebble(host, host.machine.attacker(40), tmp)
        known = host.machine.files.path("/etc/hosts").read_text()
        host.machine.files.write("/etc/hosts", f"{known}\n{pebble.place.ipv4} {NAME}\n".encode())
        running = pebble.start()
        try:
            host.boot()
            root = host.machine.wait(pebble.root, what="pebble")
            assert root is not None
            host.ca = root
            yield host
        finally:
            for each in running:
                each.kill()
                each.wait()


def _domains(host: Host) -> list[str]:
    return [name for stack in host.spec.stacks for service in stack.public for name in service.domains]


def _serial(host: Host, domain: str, family: int = 4) -> str:
    """The serial number of the certificate a client sees, its issuer and name checked."""
    address = host.address(family)
    target = f"[{address}]:443" if family == 6 else f"{address}:443"
    words = ["openssl", "s_client", "-connect", target, "-servername", domain, "-verify_hostname", domain]
    shown = host.machine.attacker(0).run([*words, "-CAfile", str(host.ca), "-verify_return_error"], stdin=b"")
    text = process.run(["openssl", "x509", "-noout", "-serial"], stdin=shown.stdout.encode()).stdout
    found = re.match(r"serial=([0-9A-F]+)", text)
    assert found is not None
    return found[1]


def _all_issued(host: Host) -> dict[str, str]:
    def issued() -> bool:
        asked = [host.curl(f"https://{domain}/") for domain in _domains(host)]
        return all(answer.returncode == 0 for answer in asked)

    host.machine.wait(issued, timeout=60, what="a certificate for every domain")
    return {domain: _serial(host, domain) for domain in _domains(host)}


def test_every_domain_gets_a_certificate(certified: Host) -> None:
    """From the authority that the spec names, two domains of one service included; seen over both families."""
    serials = _all_issued(certified)
    assert len(set(serials.values())) == len(serials) == 4
    for domain in _domains(certified):
        for family in (4, 6):
            assert get(certified, f"https://{domain}/", family=family).status == 200


def test_certificates_are_kept_over_a_restart_of_the_proxy(certified: Host) -> None:
    """The same serial numbers, so nothing was asked for again."""
    before = _all_issued(certified)
    certified.machine.run("systemctl --user restart er-proxy.service", user="er-proxy")
    assert _all_issued(certified) == before


def test_certificates_are_kept_over_a_reboot(certified: Host) -> None:
    """They lie on the disk."""
    before = _all_issued(certified)
    certified.reboot()
    assert _all_issued(certified) == before
