"""An edge before a host: haproxy in a network namespace, with addresses in networks that the host's spec trusts."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from builder import process
from builder.polling import until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from builder.lab.machine import Machine
    from builder.lab.network import Namespace

Speech = Literal["proxy", "cloudflare", "forwarded"]
# By family, what the spec `behind` trusts, and where in it this edge and an address of the host's own are.
NETWORKS: Final = {4: "198.18.5.0/24", 6: "2001:db8:ed9e::/48"}
ADDRESS: Final = {4: "198.18.5.1", 6: "2001:db8:ed9e::1"}
OWN: Final = {4: "198.18.5.77", 6: "2001:db8:ed9e::77"}
# By the family in which the edge calls the host, where it listens for HTTP and HTTPS.
PORTS: Final = {4: (80, 443), 6: (1080, 1443)}
_DEFAULTS: Final = """
defaults
  timeout connect 10s
  timeout client 60s
  timeout server 60s
"""
# What is said of the visitor in HTTP: a header that the edge alone writes, or one that it writes behind what is there.
_HEADERS: Final = {
    "cloudflare": "http-request set-header CF-Connecting-IP %[src]",
    "forwarded": "option forwardfor",
}


@dataclass
class Edge:
    """The edge; `start` it with the speech that the host expects."""

    machine: Machine
    directory: Path
    _running: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> Namespace:
        """Its namespace, where visitors reach it."""
        return self.machine.attacker(60)

    def address(self, family: int) -> str:
        """Where visitors reach it."""
        return self.place.ipv4 if family == 4 else self.place.ipv6

    def lay_addresses(self) -> None:
        """The addresses from which it calls the host."""
        for family, address in ADDRESS.items():
            prefix = 32 if family == 4 else 128
            self.place.run(["ip", "addr", "add", f"{address}/{prefix}", "dev", "lan"])

    def lay_routes(self) -> None:
        """On the machine, once it is on: the way back, and an address of its own among those that are trusted."""
        for family, network in NETWORKS.items():
            route = ["ip", f"-{family}", "-n", self.machine.namespace.name]
            process.run([*route, "route", "replace", network, "via", self.address(family)])
            prefix = 32 if family == 4 else 128
            process.run([*route, "addr", "add", f"{OWN[family]}/{prefix}", "dev", "lan"], check=False)

    def start(self, speech: Speech) -> None:
        """Listen, and say who the visitor is by the PROXY protocol or by a header."""
        self.stop()
        config = self.directory / "haproxy.cfg"
        config.write_text(_DEFAULTS + "".join(self._listener(speech, hop, at) for hop in (4, 6) for at in (0, 1)))
        self._running = self.place.start(["haproxy", "-db", "-f", str(config)])
        until(self._listens, timeout=30, what="haproxy")

    def _listens(self) -> bool:
        assert self._running is not None
        assert self._running.poll() is None, "haproxy has ended"
        return self.place.run(["ss", "-Hltn", "sport = :1443"]).stdout.count("\n") == 2

    def _listener(self, speech: Speech, hop: int, at: int) -> str:
        """One port: `at` is 0 for HTTP, 1 for HTTPS; `hop` is the family in which the host is called."""
        port, target = PORTS[hop][at], (80, 443)[at]
        host = self.machine.ipv4 if hop == 4 else f"[{self.machine.ipv6}]"
        ends_tls = speech != "proxy" and at == 1
        ssl = f" ssl crt {self._certificate()} alpn h2,http/1.1" if ends_tls else ""
        lines = [
            f"listen {speech}-{hop}-{at}",
            f"  mode {'tcp' if speech == 'proxy' else 'http'}",
            f"  bind {self.place.ipv4}:{port}{ssl}",
            f"  bind [{self.place.ipv6}]:{port}{ssl}",
            f"  source {ADDRESS[hop]}" if hop == 4 else f"  source [{ADDRESS[hop]}]",
        ]
        if speech == "proxy":
            lines.append(f"  server host {host}:{target} send-proxy-v2")
        else:
            lines += [f"  {_HEADERS[speech]}", "  http-reuse never"]
            lines.append(f"  server host {host}:{target}" + " ssl verify none sni str(blog.example.com)" * ends_tls)
        return "\n".join(lines) + "\n"

    def _certificate(self) -> Path:
        file = self.directory / "edge.pem"
        if not file.exists():
            new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            key, leaf = self.directory / "edge.key", self.directory / "edge.crt"
            process.run([*new, "-days", "2", "-subj", "/CN=edge", "-keyout", str(key), "-out", str(leaf)])
            file.write_text(leaf.read_text() + key.read_text())
        return file

    def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.terminate()
            with contextlib.suppress(Exception):
                self._running.wait(10)
            self._running = None
