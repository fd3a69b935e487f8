"""`er server report` on a running host: a healthy one is green, each planted fault is red and named."""

from __future__ import annotations

import datetime
import json
import re
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from builder import facts
from builder.polling import until
from builder.server.report import outside
from tests.machine import hosts
from tests.machine.conftest import example_images  # noqa: F401 - a fixture
from tests.server.conftest import ER
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.conftest import Client

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def web(looked_at: Client) -> Client:
    return looked_at


def report(web: Client, page: Path, *words: object) -> tuple[dict[str, dict[str, Any]], str]:
    """The rows of a report by section and what they are about, and the page that was written with them."""
    done = web.er("report", *words, "--address", web.host.machine.ipv6, "--json", "-o", page)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    rows = {f"{one['name']}: {row['what']}": row for one in found["sections"] for row in one["rows"]}
    assert done.returncode == (0 if found["ok"] else 1)
    return rows, page.read_text()


def red(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: row["seen"] for name, row in rows.items() if row["state"] == "bad"}


def shown_red(page: str) -> set[str]:
    """What the page itself shows as not as promised, by sign and words."""
    rows = re.findall(r'<tr role="row" id="([\w-]+)-\d+" class="bad-row"><th [^>]*>(.*?)</th>(.*?)</tr>', page)
    assert all("✗</span> not as promised" in cells for _, _, cells in rows)
    return {f"{section}: {what}" for section, what, _ in rows}


def test_a_healthy_host_is_green(web: Client, tmp_path: Path) -> None:
    rows, page = report(web, tmp_path / "page.html", web.spec)
    assert red(rows) == {}
    assert shown_red(page) == set()
    assert "All as promised" in page
    for family, address in (("IPv4", web.host.machine.ipv4), ("IPv6", web.host.machine.ipv6)):
        assert rows[f"ports: {family}, {address}"]["seen"] == "open: 22, 80, 443"
        assert rows[f"ports: Straight at the proxy, {family}"]["state"] == "good"
        assert rows[f"tls: HTTP/3, {family}"]["state"] == "good"
    assert rows["sites: http://shop.example.com/"]["seen"] == "308 to https://shop.example.com/ (IPv4 and IPv6)"
    assert rows["sites: https://shop.example.com/"]["seen"].startswith("200 over TLSv1.3")
    assert {rows[f"tls: TLS 1.{minor}"]["seen"].partition(" ")[0] for minor in (0, 1)} == {"refused"}
    assert {rows[f"tls: TLS 1.{minor}"]["seen"].partition(" ")[0] for minor in (2, 3)} == {"taken"}
    assert rows["headers: shop.example.com"]["state"] == "good"
    assert f"web as {_uid(web, 'hello')}" in rows["users: er-hello"]["seen"]
    assert rows["firewall: Let in to SSH"]["seen"] != "0 packets"
    assert rows["files: Files"]["state"] == "good"
    assert "<svg" in page
    assert "✓ answers" in page


def _uid(web: Client, stack: str) -> str:
    return web.host.machine.run(f"id -u er-{stack}").stdout.strip()


def test_the_page_of_one_stack_names_no_other(web: Client, tmp_path: Path) -> None:
    """Without the spec: what the host itself says of its names and stacks."""
    rows, page = report(web, tmp_path / "page.html", "--stack", "hello")
    assert red(rows) == {}
    assert "https://hello.example.com/" in page
    assert not [word for word in ("shop", "notes", "er-shop", _uid(web, "notes")) if word in page]


@of_a_sweep
def test_a_rehearsal_has_the_same_page(tmp_path: Path, example_images: None) -> None:  # noqa: F811
    hosts.written("three", tmp_path)
    page = tmp_path / "page.html"
    argv = [str(ER), "try", str(tmp_path / "three/easyrunner.yaml"), "--report", str(page)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    content = page.read_text()
    assert shown_red(content) == set(), done.stderr
    assert "in a rehearsal, booted on one machine" in content
    assert content.count("open: 22, 80, 443") == 2, "both families"
    assert "✓ answers" in content


def certificate(domain: str, *, days: int) -> tuple[bytes, bytes]:
    """One that ends so many days from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A test authority")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    )


_SITE = f"{facts.ETC}/caddy/sites/notes.caddy"
_LOAD = (
    f"curl -sS --fail -H 'Content-Type: text/caddyfile' --data-binary @{facts.ETC}/caddy/Caddyfile"
    f" http://127.0.0.1:{facts.PROXY_ADMIN}/load"
)
_KEPT = f"{facts.CADDY_DATA}/caddy/certificates/a-test/shop.example.com"
_PLANT = (
    f"set -e; chown -R {facts.PROXY_USER} {facts.CADDY_DATA}/stale.* {facts.CADDY_DATA}/caddy/certificates;"
    f"cp {_SITE} /tmp/notes.caddy;"
    f"sed -i 's|^notes.example.com {{|&\\n\\ttls /data/stale.crt /data/stale.key|' {_SITE}; {_LOAD};"
    "systemd-run -q --unit=listener socat TCP6-LISTEN:9999,fork,reuseaddr - ||"
    " systemd-run -q --unit=listener python3 -m http.server --bind :: 9999;"
    "for tool in iptables ip6tables; do $tool -I INPUT -p tcp --dport 9999 -j ACCEPT; done;"
    "fail2ban-client stop sshd"
)
_TAKE_BACK = (
    f"cat /tmp/notes.caddy >{_SITE}; {_LOAD}; rm -rf {facts.CADDY_DATA}/stale.* {_KEPT}; systemctl stop listener;"
    "for tool in iptables ip6tables; do $tool -D INPUT -p tcp --dport 9999 -j ACCEPT; done;"
    "systemctl restart fail2ban; fail2ban-client ping"
)


def plant(web: Client) -> None:
    """A port that is open, a certificate that has ended, one that was not renewed, a jail that has stopped."""
    machine = web.host.machine
    ended, key = certificate("notes.example.com", days=-3)
    late, _ = certificate("shop.example.com", days=5)
    for path, content in ((f"{facts.CADDY_DATA}/stale.crt", ended), (f"{facts.CADDY_DATA}/stale.key", key),
                          (f"{_KEPT}/shop.example.com.crt", late)):  # fmt: skip
        machine.run(f"mkdir -p {path.rpartition('/')[0]}; cat >{path}", stdin=content)
    machine.run(_PLANT)
    until(lambda: "9999" in machine.run("ss -Htln").stdout, timeout=60, what="the listener")


def test_each_planted_fault_is_red(web: Client, tmp_path: Path) -> None:
    try:
        plant(web)
        rows, page = report(web, tmp_path / "page.html", web.spec)
    finally:
        web.host.machine.run(_TAKE_BACK, check=False)
    wrong = red(rows)
    for family, address in (("IPv4", web.host.machine.ipv4), ("IPv6", web.host.machine.ipv6)):
        assert "not promised: 9999" in wrong[f"ports: {family}, {address}"]
    assert "ended" in wrong["certificates-outside: notes.example.com"]
    assert "4 d" in wrong["certificates: shop.example.com"]
    assert wrong["bans: sshd"] == "it does not run"
    assert "sshd are missing" in wrong["checks: fail2ban"]
    assert "9999" in wrong["checks: no unknown listener"]
    assert "shop.example.com" in wrong["checks: certificates"]
    assert wrong["files: Files"] == f"these differ: {_SITE}"
    assert shown_red(page) == {*wrong}
    assert len(wrong) == 9, wrong
    told = " ".join(re.findall(r"<text [^>]*>(?:<title>.*?</title>)?(.*?)</text>", page))
    for mark in ("✗ 9999 open", "✗ sshd does not run", "✗ certificate: ended", "✗ certificate of shop"):
        assert mark in told, mark


@of_a_sweep
def test_a_lockdown_is_red(web: Client, tmp_path: Path) -> None:
    broken = f"{facts.FIREWALL}/99-x.filter"
    machine = web.host.machine
    try:
        machine.run(f"echo nonsense >{broken}; systemctl restart er-firewall", check=False)
        rows, page = report(web, tmp_path / "page.html")
    finally:
        machine.run(["rm", broken])
        assert web.er("reapply-firewall").returncode == 0
    assert machine.run("systemctl --failed --quiet").stdout == ""
    wrong = red(rows)
    assert "LOCKDOWN" in wrong["firewall: Rules"]
    assert "only SSH is open" in wrong["checks: firewall in force"]
    assert "no answer at: 80, 443" in wrong[f"ports: IPv4, {machine.ipv4}"]
    assert "https://shop.example.com/" in {name.partition(" ")[2] for name in wrong if name.startswith("sites: ")}
    assert shown_red(page) == {*wrong}


# ---- what a healthy host never shows, on a server of this machine


@pytest.fixture
def old_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server on the loopback that takes TLS 1.1 alone, with a certificate of its own, where 443 would be."""
    made, key = certificate("notes.example.com", days=30)
    (tmp_path / "crt").write_bytes(made)
    (tmp_path / "key").write_bytes(key)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(facts, "HTTPS", port)
    argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-cert", str(tmp_path / "crt")]
    argv += ["-key", str(tmp_path / "key"), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            until(lambda: outside.port("127.0.0.1", port) == "open", timeout=60, what="the server")
            yield
        finally:
            running.terminate()


@pytest.mark.usefixtures("old_server")
def test_an_old_version_of_tls_is_found_where_it_is_taken() -> None:
    taken = {name: outside.version("127.0.0.1", "notes.example.com", name) for name in outside._VERSIONS}
    assert taken == {"TLS 1.0": "refused", "TLS 1.1": "taken", "TLS 1.2": "refused", "TLS 1.3": "refused"}


def test_a_port_is_open_closed_or_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        assert outside.port("127.0.0.1", number) == "open"
    assert outside.port("127.0.0.1", number) == "closed"
