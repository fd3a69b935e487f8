"""The provider's end of the wire: a namespace on the machine's bridge with DHCP, router advertisements and metadata."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import process
from builder.lab import network
from tests.datasource import azure, headers, instance, nova

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.machine import Machine
    from builder.lab.network import Argv, Namespace, Network
    from tests.datasource.instance import Server
    from tests.datasource.row import Row

ROOT: Final = Path(__file__).resolve().parents[2]
_HOST: Final = 3


def place(lab: Network) -> Namespace:
    """The provider's namespace: the machine's router."""
    return network.Namespace(f"{lab.id}-cloud", f"10.213.{lab.number}.{_HOST}", f"fd13:e5:0:{lab.number:x}::{_HOST:x}")


def addresses(where: Namespace, row: Row) -> list[Argv]:
    """The router's own address and the metadata's, on its interface; the link-local ones with all of their network."""
    wanted = (*row.addresses, *([row.router] if row.router else []))
    add = ["ip", "-n", where.name, "addr", "add"]
    route = ["ip", "netns", "exec", where.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]
    return [*([*add, f"{ip}/{_prefix(ip)}", "dev", "lan"] for ip in wanted), route]


def _prefix(address: str) -> int:
    if ":" in address:
        return 128
    return 16 if address.startswith("169.254.") else 32


def contents(row: Row, server: Server) -> dict[str, bytes]:
    """The files on the disk that the provider attaches."""
    assert row.disk is not None
    if row.disk.label == "config-2":
        files = nova.nova_files(server, fixed=row.disk.fixed)
        return {
            f"openstack/{version}/{name}": file for version in ("2018-08-27", "latest") for name, file in files.items()
        }
    if row.disk.label == "cidata":
        return {
            route.path.lstrip("/"): route.body for route in headers.nocloud(server) if isinstance(route.body, bytes)
        }
    return {"ovf-env.xml": azure.ovf(server, azure.ADMIN)}


# What a machine needs to mount the disk where this kernel cannot: its packages, and a helper that mount(8) calls.
_FUSE_PACKAGES: Final = ("fuseiso",)
_FUSE_FILES: Final = {"/usr/sbin/mount.iso9660": b'#!/bin/sh\nexec fuseiso "$1" "$2" -o ro,allow_other\n'}


def _reads_iso() -> bool:
    modules = Path("/lib/modules", platform.release())
    return "iso9660" in Path("/proc/filesystems").read_text().split() or modules.is_dir()


def disk_packages(row: Row) -> tuple[str, ...]:
    """Packages for the sake of the provider's disk."""
    return _FUSE_PACKAGES if row.disk and not _reads_iso() else ()


def disk_files(row: Row) -> dict[str, bytes]:
    """Files for the sake of the provider's disk."""
    return _FUSE_FILES if row.disk and not _reads_iso() else {}


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
    image = tmp / "disk.iso"
    process.run(["genisoimage", "-quiet", "-r", "-J", "-V", row.disk.label, "-o", str(image), str(tmp / "disk")])
    device = process.run(["losetup", "--find", "--show", "--read-only", str(image)]).stdout.strip()
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
        argv += [f"--dhcp-range={server.ipv4.rsplit('.', 1)[0]}.0,static,255.255.255.0,1h"]
        argv += [f"--dhcp-option={option}" for option in _options(where, row)]
    if server.ipv6:
        host.append(f"[{server.ipv6}]")
        argv += ["--enable-ra", f"--dhcp-range={server.ipv6.rsplit('::', 1)[0]}::,static,64,1h"]
    return [*argv, ",".join(host)]


def _options(where: Namespace, row: Row) -> Iterator[str]:
    """Routes, as a provider gives them: with a router of its own, the server's network is its one address."""
    router = row.router or where.ipv4
    routes = [f"{ip}/32,{router}" for ip in row.addresses if "." in ip]
    if row.router:
        yield "option:netmask,255.255.255.255"
        routes.insert(0, f"{router}/32,0.0.0.0")
    yield f"option:router,{router}"
    yield f"option:dns-server,{where.ipv4}"
    if routes:
        yield ",".join(["option:classless-static-route", *routes, f"0.0.0.0/0,{router}"])


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
    lab = machine.network
    where = place(lab)
    for argv in (*network.join(lab, where), *addresses(where, row)):
        process.run(argv)
    values, record = tmp / "server.json", tmp / "requests"
    values.write_bytes(instance.write(row.service, server))
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
