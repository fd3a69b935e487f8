"""What the path is compared with: a plain host on the same base tree, with Caddy and the app run as people do.

The same Caddy binary, the same app, the same site configuration; only how the pieces are joined differs.
"""

from __future__ import annotations

import re
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench import hosts, https
from builder import facts
from builder.host import Part
from builder.lab import preload
from builder.lab.machine import Machine
from builder.stack import user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.hosts import Prepared
    from builder.host import Host

DOMAIN: Final = "hello.example.com"
# The app's ports on this host: run on it, published by Podman, in a container on the host's network.
APP, _PUBLISHED, _HOSTNET = 3000, 3001, 3002
# Where Caddy answers: on the host, in front of each of the three; and in a container whose port is published.
NATIVE, NATIVE_PUBLISHED, NATIVE_HOSTNET, HOP, PUBLISHED = 443, 444, 445, 446, 8443
# Where something may stand between Caddy and the app on the host.
HOP_SOCKET: Final = "/run/bench-hop.sock"
_APPS: Final = {NATIVE: APP, NATIVE_PUBLISHED: _PUBLISHED, NATIVE_HOSTNET: _HOSTNET}
_CADDYFILE: Final = f"{facts.ETC}/caddy/Caddyfile"
_RUN: Final = "caddy run --config /srv/bench/published --adapter caddyfile"
_USER: Final = "people"
_UID: Final = 25_000
_CADDY, _IMAGE = "localhost/bench/caddy:1", "localhost/bench/app:1"


@contextmanager
def rival(prepared: Prepared, more: Callable[[Machine], None] = lambda _: None) -> Iterator[Machine]:
    """The plain host, on, with all of it running, and what `more` starts."""
    owner = preload.Owner(_UID, user.subids(_UID).first, f"/home/{_USER}")
    images = [preload.Image(hosts.IMAGES / "caddy.tar", _CADDY), preload.Image(hosts.IMAGES / "app.tar", _IMAGE)]
    stored = preload.prepare(prepared.tree, owner, images)
    files = {f"/srv/bench/{name}": text.encode() for name, text in _caddyfiles(prepared).items()}
    with Machine(prepared.tree, name="rival", preloads=[stored], extra_files=files) as machine:
        machine.boot_and_wait()
        _user(machine, owner)
        _containers(machine)
        _natives(machine)
        more(machine)
        _answering(machine)
        yield machine


def _answering(machine: Machine) -> None:
    """Certificates are made after the listeners: wait until every rival has one."""
    data = "caddy/pki/authorities/local/root.crt"
    native = machine.path(f"/root/.local/share/{data}")
    for port in (NATIVE, NATIVE_PUBLISHED, NATIVE_HOSTNET):
        https.first_200(machine.ipv4, DOMAIN, lambda: native, timeout=60, port=port)
    machine.wait(lambda: _copied(machine, f"/data/{data}"), what="the container's authority")
    https.first_200(machine.ipv4, DOMAIN, lambda: machine.path("/tmp/root.crt"), timeout=60, port=PUBLISHED)


def _copied(machine: Machine, path: str) -> bool:
    return machine.run(["podman", "cp", f"caddy:{path}", "/tmp/root.crt"], user=_USER, check=False).returncode == 0


def _user(machine: Machine, owner: preload.Owner) -> None:
    machine.run(f"useradd --uid {owner.uid} --home-dir {owner.home} --no-create-home --shell /bin/sh {_USER}")
    machine.run(f"for file in /etc/subuid /etc/subgid; do echo {_USER}:{owner.subid}:65536 > $file; done")
    machine.run(["loginctl", "enable-linger", _USER])
    machine.wait(lambda: machine.path(f"/run/user/{owner.uid}/bus").exists(), what="the user's session")


def _containers(machine: Machine) -> None:
    """As a tutorial says it: each container publishes its port, Caddy asks the app through the host."""
    run = "podman run --detach --quiet"
    for line in (
        f"{run} --name app --publish {_PUBLISHED}:3000 {_IMAGE}",
        f"{run} --name app-hostnet --network host --env PORT={_HOSTNET} {_IMAGE}",
        f"{run} --name caddy --publish {PUBLISHED}:443 --volume /srv/bench:/srv/bench:ro {_CADDY} {_RUN}",
        "podman cp app:/usr/bin/caddy /tmp/caddy && podman cp app:/etc/caddy/Caddyfile /tmp/app.caddy",
    ):
        machine.run(line, user=_USER, timeout=120)


def _natives(machine: Machine) -> None:
    """The same binary as services of the host."""
    app = f"PORT={APP} exec /tmp/caddy run --config /tmp/app.caddy --adapter caddyfile"
    caddy = "exec /tmp/caddy run --config /srv/bench/native --adapter caddyfile"
    machine.run("mkdir -p /var/log/caddy")
    for name, line in (("app", app), ("caddy", caddy)):
        machine.run(f"systemd-run --quiet --unit=native-{name} --setenv=HOME=/root sh -c {shlex.quote(line)}")


def _caddyfiles(prepared: Prepared) -> dict[str, str]:
    """The host's own Caddyfile with other listeners and other upstreams."""
    text = of_every_host(prepared.host)
    apps = {port: f"127.0.0.1:{app}" for port, app in _APPS.items()} | {HOP: f"unix/{HOP_SOCKET}"}
    sites = "".join(_site(f"{DOMAIN}:{port}", app) for port, app in apps.items())
    return {
        "native": plain(text) + sites,
        "published": plain(text) + _site(DOMAIN, f"host.containers.internal:{_PUBLISHED}"),
    }


def _site(address: str, upstream: str) -> str:
    return f"{address} {{\n\timport er_app {upstream}\n}}\n"


def of_every_host(host: Host) -> str:
    """The Caddyfile with what it imports of the files that every host has."""
    files = {file.path: file.content.decode() for file in host.only(Part.BAKED)}

    def imported(line: re.Match[str]) -> str:
        return files.get(f"{facts.ETC}/caddy/{line[1]}.caddy", "")

    return re.sub(r"^\t*import /etc/caddy/(\w+)\*\.caddy\n", imported, files[_CADDYFILE], flags=re.MULTILINE)


def plain(caddyfile: str) -> str:
    """The Caddyfile without what belongs to passed sockets and to the host's folders."""
    text = re.sub(r"\tdefault_bind .*?\n\t\}\n", "", caddyfile, flags=re.DOTALL)
    text = re.sub(r"^http:// \{.*?^\}\n", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\{args\[2\]\}/\S*?\{args\[0\]\}\S*", "{args[0]}", text)
    text = re.sub(r"^\t*import /etc/caddy/.*\n", "", text, flags=re.MULTILINE)
    return text.replace("admin fd/6", "admin off\n\tlocal_certs")
