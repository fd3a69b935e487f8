"""Services with a socket of their own: what may be said, what units and programs come of it, and what a change does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder import host, quadlet, spec
from builder.diagram import content
from builder.quadlet.podman import BASES
from builder.server.remote import next_units
from builder.server.remote.reload import affected
from builder.stack import public
from builder.stack.model import Mount, Service, Stack, Tmpfs
from tests.unit_file import sections

_MADE = Service("web", "docker.io/library/caddy:2.11", kind="web", domains=("a.example.org",), listen="/run/er/a.sock")
_PASSED = Service("api", "docker.io/library/caddy:2.11", kind="web", domains=("b.example.org",), listen="fd")
_PORT = Service("old", "docker.io/library/caddy:2.11", kind="web", domains=("c.example.org",))


@pytest.mark.parametrize("value", ["fd", "/run/er/http.sock", "/srv/a.b/c-d/e_f", "/tmp/app/x"])
def test_where_an_app_listens(value: str) -> None:
    assert public.listen_fault(value) is None


_NOWHERE = (
    *("", "FD", "3", "run/er/a.sock", "/a.sock", "/run/a.sock", "/etc/app/a.sock", "/proc/1/a.sock", "/var/run/er/a"),
    *("/run/er/../a.sock", "/run/./er/a.sock", "/run/er/", "/run/er/.a", "/run//er/a", "/run/er/a b", "/run/e:r/a"),
    f"/run/er/{'a' * 100}",
)


@pytest.mark.parametrize("value", _NOWHERE)
def test_where_no_app_listens(value: str) -> None:
    assert public.listen_fault(value) is not None


def test_its_directory_is_for_the_socket_alone() -> None:
    mounted = replace(_MADE, mounts=(Mount("volume", "data", "/run/er/"),))
    assert public.listen_conflict(mounted) is not None
    assert public.listen_conflict(replace(_MADE, tmpfs=(Tmpfs("/run/er"),))) is not None
    assert public.listen_conflict(replace(_MADE, tmpfs=(Tmpfs("/run"),), init=True)) is None
    assert public.listen_conflict(replace(_PASSED, init=True)) is not None


def _lines(service: Service, base: str) -> dict[str, list[tuple[str, str]]]:
    units = dict(quadlet.units(Stack("app", 20_100, (service,)), base=base))
    return sections(units[f"app-{service.name}.container"])


@pytest.mark.parametrize("base", BASES)
def test_a_socket_that_the_app_makes(base: str) -> None:
    found = _lines(_MADE, base)
    assert ("Wants", "er-listen-web.path") in found["Unit"]
    mount = "/var/lib/easyrunner/listen/app/own/web:/run/er:rw,noexec,nosuid,nodev"
    assert ("Volume", mount) in found["Container"]
    assert ("ExecStartPre", "/usr/lib/easyrunner/listen new web") in found["Service"]
    assert ("ExecStopPost", "-/usr/lib/easyrunner/listen gone web") in found["Service"]
    assert "Sockets" not in dict(found["Service"])


@pytest.mark.parametrize("base", BASES)
def test_a_socket_that_is_passed(base: str) -> None:
    found = _lines(_PASSED, base)
    assert ("Sockets", "er-ingress-api.socket") in found["Service"]
    before = [value for key, value in found["Service"] if key.startswith("ExecSta")]
    assert before == ["/usr/lib/easyrunner/listen up api"]
    assert "Volume" not in dict(found["Container"])
    assert [value for key, value in found["Unit"] if key in {"Wants", "After"}] == ["er-namespace.service"] * 2


_HEAD = "server: {name: web1}\nadmin: {ssh_keys: ['ssh-ed25519 %s me']}\ntls: {ca: internal}\nstacks:\n"
_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
_STACK = "  - {name: %s, image: 'docker.io/library/caddy:2.11', domain: %s.example.org%s}\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of a host with one of each, by the end of their paths."""
    path = tmp_path_factory.mktemp("listen") / "easyrunner.yaml"
    said = {
        "made": ", listen: /run/er/a.sock",
        "passed": ", listen: fd",
        "port": "",
        "slow": ", listen: fd, sleep: 15m",
    }
    path.write_text(_HEAD % _KEY + "".join(_STACK % (name, name, rest) for name, rest in said.items()))
    loaded = spec.load(path)[0]
    uids = {str(stack.uid): stack.name for stack in loaded.stacks}
    found = {}
    for file in host.build(loaded).files:
        parts = file.path.split("/")
        name = next((uids[part] for part in parts if part in uids), "")
        found[f"{name}:{'/'.join(parts[-2:])}" if name else file.path] = file.content.decode(errors="replace")
    return found


def test_units_of_sockets(files: dict[str, str]) -> None:
    units = {name.split("/")[-1] for name in files if name.startswith("made:")}
    assert {"er-listen-web.path", "er-listen-web.service"} <= units
    assert not {unit for unit in units if unit.startswith("er-ingress")}
    passed = next(text for name, text in files.items() if name.startswith("passed:") and name.endswith("web.socket"))
    assert passed == ("[Socket]\nListenStream=/run/easyrunner/proxy/passed/web.sock\nService=passed-web.service\n")
    assert not [name for name in files if name.startswith("passed:") and name.endswith("er-ingress-web.service")]


def test_what_sleeps_has_its_ingress_and_a_socket_behind_it(files: dict[str, str]) -> None:
    units = {name.split("/")[-1]: text for name, text in files.items() if name.startswith("slow:")}
    assert "Service=" not in units["er-ingress-web.socket"]
    assert "wake %t/slow-web.pid %t/er-passed-web.sock er-ingress-web" in units["er-ingress-web.service"].replace(
        "%p", "er-ingress-web"
    )
    assert "BindsTo=er-ingress-web.service" in units["er-passed-web.socket"]
    assert "Sockets=er-passed-web.socket" in units["slow-web.container"]
    assert "er-passed" not in units["10-easyrunner.conf"]


def test_the_program_is_there_where_it_is_wanted(files: dict[str, str]) -> None:
    assert files["/usr/lib/easyrunner/listen"].startswith("#!/bin/sh\n")
    place = "d /var/lib/easyrunner/listen/made"
    directories = f"{place} 0710 er-made er-proxy\n{place}/own 0700 er-made er-made\n"
    assert directories in files["/etc/tmpfiles.d/er-made.conf"]
    assert "listen" not in files["/etc/tmpfiles.d/er-passed.conf"]


def test_a_service_with_its_own_socket_never_runs_twice() -> None:
    own = "[Service]\nX-EasyRunner-Listen=fd\nType=notify\n"
    assert next_units.reason_against(own) == "it has a socket of its own"
    assert next_units.listens(own)
    assert not next_units.listens("[Service]\nType=notify\n")


def test_a_change_of_what_shows_a_socket_is_one_of_its_service() -> None:
    for name in ("er-listen-web.path", "er-listen-web.service", "er-ingress-web.socket"):
        found = affected([f"/etc/easyrunner/units/20100/{name}"], {20_100: "blog"})
        assert found.stacks == {"blog": {"web"}}, name
    assert affected(["/etc/tmpfiles.d/er-blog.conf"], {20_100: "blog"}).system == {"directories"}


def test_the_picture_says_where_it_listens() -> None:
    assert [content._listens(one) for one in (_MADE, _PASSED, _PORT)] == ["a.sock", "passed socket", "port 3000"]
