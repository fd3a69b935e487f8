"""One burst of requests by wrk, from another host of the machine's network."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from builder.lab.network import Namespace

_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
# wrk takes the server's name for TLS from the URL; a hosts file of its own, seen by this process alone, leads it there.
_RUN: Final = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'


@dataclass(frozen=True, slots=True)
class Burst:
    """What wrk found: requests per second, and the 99th percentile of the latency in milliseconds."""

    rate: float
    p99: float


def burst(source: Namespace, address: str, url: str, *, seconds: int, connections: int = 32) -> Burst:
    """Ask as fast as answers come, over TLS connections that stay open. Any answer but 2xx is a failure."""
    domain = url.partition("://")[2].partition(":")[0].partition("/")[0]
    with tempfile.NamedTemporaryFile("w", prefix="er-bench-hosts-") as hosts:
        hosts.write(f"127.0.0.1 localhost\n{address} {domain}\n")
        hosts.flush()
        Path(hosts.name).chmod(0o644)
        wrk = [
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(connections),
            "--duration",
            f"{seconds}s",
            "--latency",
            url,
        ]
        done = source.run(["sh", "-c", _RUN, "sh", hosts.name, *wrk], timeout=seconds + 30)
    return parse(done.stdout)


def parse(text: str) -> Burst:
    """Read wrk's report."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p99 = re.search(r"\b99%\s+([\d.]+)(us|ms|s|m)\b", text)
    failed = "Non-2xx" in text or ("Socket errors" in text and not _only_timeouts(text))
    if not rate or not p99 or failed:
        raise UserError(f"wrk did not get answers only:\n{text}")
    return Burst(float(rate[1]), float(p99[1]) * _UNITS[p99[2]])


def _only_timeouts(text: str) -> bool:
    """A request over two seconds counts as a timeout in wrk's words; it is in the percentiles."""
    return bool(re.search(r"connect 0, read 0, write 0, timeout", text))
