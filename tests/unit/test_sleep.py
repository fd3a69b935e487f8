"""Stacks that sleep: who sleeps along, and what is rendered of it for units, proxy and first boot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builder import data, facts, host, quadlet, spec
from builder.host import Part, rootfs, scanners
from builder.problems import SpecError
from builder.server.remote import changed_files
from builder.stack import sleeping
from builder.stack.model import Dependency, Service

_HEAD = (
    "server: {name: web1}\nadmin:\n  ssh_keys:\n"
    "    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop\n"
)
_QUIET = "  - {name: quiet, image: 'docker.io/library/caddy:2.11', domain: quiet.example.org, port: 8080, sleep: 15m}\n"
_COMPOSE = """services:
  web:
    image: docker.io/library/caddy:2.11
    depends_on: [db]
    restart: on-failure:3
    labels:
      xyz.easyrunner.service.domain: app.example.org
      xyz.easyrunner.service.sleep: 90m
      xyz.easyrunner.service.wake: /,/app/*,POST
      xyz.easyrunner.service.wake-timeout: 2m
  db: {image: "docker.io/library/caddy:2.11", restart: always}
  mails:
    image: docker.io/library/caddy:2.11
    depends_on: [db, web]
    labels: {xyz.easyrunner.service.type: worker, xyz.easyrunner.service.sleep: "true"}
"""


def _service(name: str, needs: str = "", sleep: int | None = None, kind: str = "web") -> Service:
    dependencies = tuple(Dependency(other) for other in needs.split())
    return Service(name, "x", kind=kind, depends_on=dependencies, sleep=sleep)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ([_service("web")], ""),
        ([_service("web", sleep=60)], "web"),
        ([_service("web", "db", 60), _service("db", kind="internal")], "web db"),
        # Someone who is awake needs it as well, if only by another one.
        ([_service("web", "db", 60), _service("api", "mid"), _service("mid", "db", kind="internal"),
          _service("db", kind="internal")], "web"),
        ([_service("web", "db", 60), _service("mails", "db", kind="worker"), _service("db", kind="internal")], "web"),
        ([_service("web", "db", 60), _service("mails", "db web", 0, "worker"), _service("db", kind="internal")],
         "web db mails"),
        # Nobody would wake it.
        ([_service("web"), _service("mails", "", 0, "worker")], ""),
    ],
)  # fmt: skip
def test_who_sleeps(services: list[Service], expected: str) -> None:
    assert sleeping.sleeping(services) == set(expected.split())


def _app(tmp_path: Path, compose: str = _COMPOSE, more: str = "") -> spec.Spec:
    (tmp_path / "compose.yaml").write_text(compose)
    text = f"{_HEAD}stacks:\n{_QUIET}  - {{name: app, compose: compose.yaml{more}}}\n"
    return spec.loads(text, tmp_path / "easyrunner.yaml")[0]


def _files(found: spec.Spec) -> dict[str, str]:
    return {file.path: file.content.decode() for file in host.build(found).files}


@pytest.mark.parametrize("base", ["debian-13", "ubuntu-24.04"])
def test_units_of_what_sleeps(tmp_path: Path, base: str) -> None:
    stack = _app(tmp_path).stacks[1]
    units = {name: text for name, text in quadlet.units(stack, base=base) if name.endswith(".container")}
    for text in units.values():
        assert "[Install]" not in text
        assert "\nStopWhenUnneeded=yes\n" in text
        # Each wake is a start.
        assert "\nStartLimitIntervalSec=0\n" in text
        assert "\nAfter=er-namespace.service\n" in text
    web, mails = units["app-web.container"], units["app-mails.container"]
    assert "\nRequires=app-db.service\n" in web
    assert "\nWants=app-mails.service\n" in web
    assert "\nRestart=no\n" in web
    assert "\nExecStop=-/usr/bin/rm -f %t/app-web.pid\n" in web
    assert "stop er-ingress" not in web
    # Neither holds the other, or both would run for ever.
    assert "\nAfter=app-web.service\n" in mails
    assert not re.search(r"(Requires|Wants)=app-web.service", mails)
    assert "\nRequires=app-db.service\n" in mails
    assert "\nRestart=always\n" in units["app-db.container"]


def test_files_of_what_sleeps(tmp_path: Path) -> None:
    found = _app(tmp_path)
    files = _files(found)
    uid = found.stacks[1].uid
    unit = files[f"{facts.ETC}/units/{uid}/er-ingress-web.service"]
    assert "BindsTo=app-web.service\n" in unit
    assert "After=" not in unit
    assert f"ExecStart={facts.LIB}/wake %t/app-web.pid 3000 %p app-web.service 5400 120\n" in unit
    marker = f"{facts.PROXY_SOCKETS}/app/web.asleep"
    assert f"ExecStopPost=touch {marker}\n" in unit
    assert f"ExecStartPost=-touch {marker}\n" in files[f"{facts.ETC}/units/{uid}/er-ingress-web.socket"]
    assert files[f"{facts.STACKS}/app/services"] == "sleep web\nsleep db\nsleep mails\n"
    assert "podman pull -q docker.io/library/caddy:2.11" in files[f"{facts.ETC}/units/{uid}/er-pull.service"]
    assert f"--connections-max={facts.INGRESS_CONNECTIONS}'" in files[f"{facts.LIB}/wake"]
    assert "unshare true" in files[f"{facts.ETC}/units/{uid}/er-namespace.service"]
    # The clock may be set while somebody waits.
    assert "/proc/uptime" in files[f"{facts.LIB}/wake"]
    assert not re.search(r"\btime\b *[(;]", re.sub("#.*", "", files[f"{facts.LIB}/wake"]))


def test_what_the_proxy_is_told(tmp_path: Path) -> None:
    files = _files(_app(tmp_path))
    size, most = facts.MAX_BODY, facts.RESPONSE_TIMEOUT
    assert files[f"{facts.ETC}/caddy/sites/app.caddy"] == (
        "app.example.org {\n"
        "\timport er_site\n"
        "\thandle_errors 502 504 {\n"
        "\t\timport /etc/caddy/not-woken.caddy\n"
        "\t}\n"
        "\thandle {\n"
        '\t\timport /etc/caddy/sleeper.caddy app/web "^$"\n'
        "\t\t@er_left {\n"
        "\t\t\tfile {\n"
        f"\t\t\t\troot {facts.PROXY_SOCKETS}\n"
        "\t\t\t\ttry_files app/web.asleep\n"
        "\t\t\t}\n"
        '\t\t\tnot path / /app "/app/*"\n'
        "\t\t\tnot method POST\n"
        "\t\t}\n"
        "\t\terror @er_left 404\n"
        f"\t\timport er_route app/web unix {size} {most}s {most + 120}s 8KiB 10s\n"
        "\t}\n"
        "}\n"
    )
    assert "er_left" not in files[f"{facts.ETC}/caddy/sites/quiet.caddy"]


def test_a_host_where_nothing_sleeps_has_nothing_of_it() -> None:
    files = _files(spec.loads(f"{_HEAD}stacks:\n{_QUIET.replace(', sleep: 15m', '')}", Path("easyrunner.yaml"))[0])
    names = ("wake", "asleep", "sleeper.caddy", "not-woken.caddy", "er-pull.service", "er-namespace.service")
    assert not [path for path in files if path.endswith(tuple(f"/{name}" for name in names))]
    assert "[Install]" in next(text for path, text in files.items() if path.endswith("quiet-web.container"))


def test_scanners_are_those_of_fail2ban() -> None:
    """Every pattern of the filter, and no path of an app."""
    text = (data.tree("images") / "rootfs/etc/fail2ban/filter.d/er-web-scan.conf").read_text()
    lines = re.findall(r"%\(path\)s(.*)", text)
    assert all(line in scanners.scans() for line in lines)
    assert len(lines) == text.count("%(path)s")
    asked = "/.env /a/.git/config /wp-login.php //x/xmlrpc.php /phpinfo.php /actuator/health /cgi-bin/../bin/sh"
    assert [path for path in asked.split() if not re.match(scanners.scans(), path)] == []
    asked = "/ /environment /a.env.html /wp /app/login /owa /php /.well-known/acme-challenge/x"
    assert [path for path in asked.split() if re.match(scanners.scans(), path)] == []


@pytest.mark.parametrize("more", ["fail2ban: {allow: {quiet.example.org: [/wp-content/]}}\n", ""])
def test_pages_of_its_own_wake(more: str) -> None:
    found = spec.loads(f"{_HEAD}{more}stacks:\n{_QUIET}", Path("easyrunner.yaml"))[0]
    own = scanners.own_paths(found, found.stacks[0])
    assert bool(re.match(own, "/wp-content/a.css")) == bool(more)
    assert not re.match(own, "/wp-login.php")


def test_the_stack_may_say_it_for_all_its_public_services(tmp_path: Path) -> None:
    compose = _COMPOSE.replace("      xyz.easyrunner.service.sleep: 90m\n", "")
    web = _app(tmp_path, compose, ", sleep: 2m").stacks[1].public[0]
    assert (web.sleep, web.wake, web.wake_timeout) == (120, ("/", "/app/*", "POST"), 120)
    with pytest.raises(SpecError):
        _app(tmp_path, compose)


def test_all_that_is_laid_for_it_is_known_as_ours(tmp_path: Path) -> None:
    """Or a stack that goes, or ceases to sleep, would leave a socket of root's that stands in for nothing."""
    found = _app(tmp_path, more=", sleep: 15m")
    paths = {file.path for file in host.build(found).files if file.part is Part.FIRST_BOOT}
    assert any(path.endswith(".socket") for path in paths)
    rootfs.write_files(tmp_path / "root", host.build(found).files)
    assert {path for path in paths if "easyrunner" in path or "/er-" in path} <= {
        *changed_files.own_files_below(tmp_path / "root")
    }
