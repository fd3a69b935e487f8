"""The provider's end of the wire: a namespace on the machine's bridge with DHCP, router advertisements and metadata."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import process
from builder.lab import net
from tests.datasource import azure, services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.machine import Machine
    from builder.lab.net import Argv, Namespace, Plan
    from tests.datasource.providers import Row
    from tests.datasource.services import Server

ROOT: Final = Path(__file__).resolve().parents[2]
_HOST: Final = 3


def place(plan: Plan) -> Namespace:
    """The provider's namespace: the machine's router."""
    return net.Namespace(f"{plan.id}-cloud", f"10.213.{plan.slot}.{_HOST}", f"fd13:e5:0:{plan.slot:x}::{_HOST:x}")


def addresses(where: Namespace, wanted: tuple[str, ...]) -> list[Argv]:
    """The metadata addresses, on the router's own interface; the link-local ones with all of their network."""
    add = ["ip", "-n", where.name, "addr", "add"]
    return [[*add, f"{ip}/{_prefix(ip)}", "dev", "lan"] for ip in wanted]


def _prefix(address: str) -> int:
    if ":" in address:
        return 128
    return 16 if address.startswith("169.254.") else 32


def contents(row: Row, server: Server) -> dict[str, bytes]:
    """The files on the disk that the provider attaches."""
    assert row.disk is not None
    if row.disk.label == "config-2":
        files = services.nova_files(server, fixed=row.disk.fixed)
        return {
            f"openstack/{version}/{name}": file for version in ("2018-08-27", "latest") for name, file in files.items()
        }
    if row.disk.label == "cidata":
        return {
            route.path.lstrip("/"): route.body for route in services.nocloud(server) if isinstance(route.body, bytes)
        }
    return {"ovf-env.xml": azure.ovf(server, azure.ADMIN)}


@contextmanager
def attached(row: Row, server: Server, tmp: Path) -> Iterator[dict[str, str]]:
    """The provider's disk as a block device of this machine, by the server's name for it; none for many."""
    if row.disk is None:
        yield {}
        return
    for name, content in contents(row, server).items():
        file = tmp / "disk" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    image = tmp / "disk.img"
    label = row.disk.label[:16]
    process.run(["mke2fs", "-q", "-t", "ext2", "-L", label, "-d", str(tmp / "disk"), str(image), "4M"])
    device = process.run(["losetup", "--find", "--show", str(image)]).stdout.strip()
    try:
        yield {row.disk.device or device: device}
    finally:
        # The server may have ejected it.
        process.run(["losetup", "--detach", device], check=False)


def dnsmasq(where: Namespace, row: Row, server: Server) -> Argv:
    """DHCP for the one server that there is, in the families that it has; names of nothing are answered at once."""
    argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--no-hosts"]
    argv += [
        "--no-resolv",
        "--no-ping",
        "--leasefile-ro",
        "--interface=lan",
        "--bind-interfaces",
        "--dhcp-authoritative",
    ]
    host = [f"--dhcp-host={server.hardware}"]
    if server.ipv4:
        host.append(server.ipv4)
        routes = ",".join(f"{ip}/32,{where.ipv4}" for ip in row.addresses if "." in ip)
        argv += [f"--dhcp-range={server.ipv4.rsplit('.', 1)[0]}.0,static,255.255.255.0,1h"]
        argv += [f"--dhcp-option=option:router,{where.ipv4}", f"--dhcp-option=option:dns-server,{where.ipv4}"]
        if routes:
            argv.append(f"--dhcp-option=option:classless-static-route,0.0.0.0/0,{where.ipv4},{routes}")
        argv += [f"--dhcp-option={option}" for option in row.dhcp]
    if server.ipv6:
        host.append(f"[{server.ipv6}]")
        argv += ["--enable-ra", f"--dhcp-range={server.ipv6.rsplit('::', 1)[0]}::,static,64,1h"]
    return [*argv, ",".join(host)]


class Cloud:
    """A running provider."""

    def __init__(self, where: Namespace, record: Path) -> None:
        self.where = where
        self._record = record

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Every request to the metadata service so far."""
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return [json.loads(line) for line in lines]


@contextmanager
def running(machine: Machine, row: Row, server: Server, tmp: Path) -> Iterator[Cloud]:
    """The provider of `row`, on the bridge of a machine that is off; ended and gone afterwards."""
    plan = machine.plan
    where = place(plan)
    for argv in (*net.join(plan, where), *addresses(where, row.addresses)):
        process.run(argv)
    values, record = tmp / "server.json", tmp / "requests"
    values.write_bytes(services.write(row.service, server))
    command = [sys.executable, "-m", "tests.datasource.server", str(values), str(record)]
    with ExitStack() as stack:
        metadata = process.start(
            where.argv(command), stdout=subprocess.PIPE, stderr=None, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        stack.callback(_end, metadata)
        assert metadata.stdout is not None
        assert metadata.stdout.readline() == b"ready\n"
        log = stack.enter_context((tmp / "dnsmasq").open("wb"))
        dhcp = process.start(where.argv(dnsmasq(where, row, server)), stdout=log.fileno(), stderr=log.fileno())
        stack.callback(_end, dhcp)
        yield Cloud(where, record)


def _end(running: subprocess.Popen[bytes]) -> None:
    running.terminate()
    running.wait()
    if running.stdout is not None:
        running.stdout.close()
