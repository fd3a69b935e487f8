"""The parts of reading a compose file that golden trees and error texts do not show well."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import compose, quadlet, spec
from builder.compose import keys, messages, networking, service_fields, volumes
from builder.compose.environment import read_variables
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.messages import Text
from builder.problems import Report, SpecError
from builder.quadlet.podman import BASES
from builder.stack.model import Limits, Mount, Stack
from builder.yamlfile import source
from tests.unit_file import sections

if TYPE_CHECKING:
    from builder.compose import StackContents
    from builder.problems import Mark, Problem
    from builder.stack.model import Service

TESTS = Path(__file__).parent.parent

# The keys of a service in the Compose specification of 2026. A new one earns a row.
SERVICE_KEYS = """
    annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name
    cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset
    credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname
    entrypoint env_file environment expose extends external_links extra_hosts gpus group_add healthcheck
    hostname image init ipc isolation label_file labels links logging mac_address mem_limit mem_reservation
    mem_swappiness memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit
    platform ports post_start pre_start pre_stop privileged profiles provider pull_policy pull_refresh_after
    read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal
    storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir
"""
TABLES: dict[str, tuple[Any, str]] = {
    "service": (keys.SERVICE, SERVICE_KEYS),
    "top": (keys.TOP_LEVEL, "configs include models name networks secrets services version volumes"),
    "volume": (keys._VOLUME, "driver driver_opts external labels name"),
    "network": (
        keys._NETWORK,
        "attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name",
    ),
    "secret": (keys._SECRET, "driver driver_opts environment external file labels name template_driver"),
    "config": (keys._CONFIG, "content environment external file labels name template_driver"),
    "deploy": (
        service_fields._DEPLOY,
        "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config",
    ),
    "mount": (volumes._MOUNT, "bind consistency image read_only source target tmpfs type volume"),
    "attachment": (
        networking._ATTACHMENT,
        "aliases driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips mac_address priority",
    ),
    "reference": (volumes._REFERENCE, "gid mode source target uid"),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_key_of_the_specification_has_its_row(name: str) -> None:
    table, keys = TABLES[name]
    assert table.keys() == set(keys.split())


def test_every_text_is_earned_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()
    original = Text.at

    def at(self: Text, where: str, mark: Mark | None, **values: Any) -> Problem:
        used.add(id(self))
        return original(self, where, mark, **values)

    monkeypatch.setattr(Text, "at", at)
    for path in (TESTS / "golden/compose").glob("*/compose.yaml"):
        compose.load(path, stack="app", report=Report())
    for path in (TESTS / "errors").glob("compose-*/spec.yaml"):
        with suppress(SpecError):
            spec.load(path)
    texts = {**vars(messages), **{f"PORT_TAKEN.{key}": text for key, text in messages.PORT_TAKEN.items()}}
    texts |= {f"{name}.{key}": row.text for name, (table, _) in TABLES.items() for key, row in table.items()}
    # Files that cannot be opened are not kept in a repository.
    missing = [name for name, text in texts.items() if isinstance(text, Text) and id(text) not in used]
    assert missing == ["FILE_UNREADABLE", "BIND_SPECIAL"]


def unset(_name: str) -> str | None:
    return None


KNOWN = {"A": "a", "EMPTY": "", "B": "$A"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A ${A} $$A $${A} $", "a a $A ${A} $"),
        ("${A:-x} ${EMPTY:-x} ${EMPTY-x} ${NO:-x} ${NO-x} ${NO:-}", "a x  x x "),
        ("${A:+x} ${EMPTY:+x} ${EMPTY+x} ${NO:+x} ${NO+x}|", "x  x  |"),
        ("${A:?m} ${EMPTY?m} ${NO:-${A}} ${NO:-${NO2:-${A}x}y}", "a  a axy"),
        ("${NO:-a}b} ${NO:-{}}", "ab} {}"),
        ("$B ${NO-$$A} $1 $-x ${A}b", "$A $A $1 $-x ab"),
        ("é$A☃", "éa☃"),
    ],
)
def test_interpolation(text: str, expected: str) -> None:
    assert Expansion(KNOWN.get).expand(text) == expected


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1}", "${A/x/y}", "${A!}", "${A:x}", "${-x}"])
def test_what_is_no_variable(text: str) -> None:
    with pytest.raises(FormatError):
        Expansion(KNOWN.get).expand(text)


@pytest.mark.parametrize("text", ["${NO:?say $A}", "${EMPTY:?say $A}", "${NO?say ${A}}"])
def test_required_variables(text: str) -> None:
    with pytest.raises(RequiredError, match="say a"):
        Expansion(KNOWN.get).expand(text)


def test_unset_variables_are_told() -> None:
    expansion = Expansion(KNOWN.get)
    assert expansion.expand("[$X][${Y}][${Z:-}][${W+}]") == "[][][][]"
    assert expansion.unset == ["X", "Y"]


@given(st.text("${}:-+?Aa1_ \n", max_size=30))
def test_interpolation_ends_well_or_says_why(text: str) -> None:
    with suppress(FormatError, RequiredError):
        assert isinstance(Expansion(KNOWN.get).expand(text), str)


@given(st.text(max_size=30))
def test_doubled_dollars_come_back(text: str) -> None:
    assert Expansion(KNOWN.get).expand(text.replace("$", "$$")) == text


ENV = """\
\ufeff# a comment

A=1
export B = two words # comment
C='single $A # kept'
D="double ${A} \\"quoted\\" \\$A\\ttab \\x"
E="two
lines"
F=
G: yaml style
H=a#b
I="x" # comment
J=$A$NOTHING${K:-def}
L='it''s'
"""


def test_env_files() -> None:
    report = Report()
    found = {v.name: v.value for v in read_variables(ENV.replace("L='it''s'\n", ""), Path(".env"), report, unset)}
    assert not list(report)
    assert found == {
        "A": "1",
        "B": "two words",
        "C": "single $A # kept",
        "D": 'double 1 "quoted" $A\ttab \\x',
        "E": "two\nlines",
        "F": "",
        "G": "yaml style",
        "H": "a#b",
        "I": "x",
        "J": "1def",
    }


def test_env_files_as_they_stand() -> None:
    report = Report()
    raw = read_variables("A='x' # y\n# no\nB=$A\nC\n", Path("x.env"), report, unset, raw=True)
    assert [(v.name, v.value) for v in raw] == [("A", "'x' # y"), ("B", "$A"), ("C", None)]
    assert raw[1].mark.line == 3


@given(st.text("A=b'\"\\ \n#$${}é:\t", max_size=40))
def test_env_files_never_break(text: str) -> None:
    report = Report()
    for variable in read_variables(text, Path(".env"), report, unset):
        assert variable.mark.line <= text.count("\n") + 1


def load(tmp_path: Path, service: str, *, more: str = "") -> tuple[Service | None, Report]:
    path = tmp_path / "compose.yaml"
    lines = "".join(f"    {line}\n" for line in service.splitlines())
    path.write_text(f"services:\n  web:\n    image: docker.io/library/caddy:2.11\n{lines}{more}")
    report = Report()
    parts = compose.load(path, stack="app", report=report)
    return (parts.services[0] if parts else None), report


@pytest.mark.parametrize(("written", "fits"), [("./files", True), ("./files/a", True), (".", False), ("./file", False)])
def test_what_one_service_only_reads_may_be_what_another_writes(tmp_path: Path, written: str, fits: bool) -> None:
    """A web server beside its app: the directory is made on the server. Without a writer it has to come along."""
    other = f"  app:\n    image: example.org/app:1\n    volumes: ['{written}/:/srv', './all:/all']\n"
    service, report = load(tmp_path, "volumes: ['./files:/srv:ro', './all/public:/public:ro']", more=other)
    missing = [problem for problem in report if problem.where == "services.web.volumes[0]"]
    assert [problem.message for problem in missing] == ([] if fits else ["there is no ./files beside the compose file"])
    assert service is None or service.mounts[1] == Mount("bind", "all/public", "/public", read_only=True)


@pytest.mark.parametrize(
    ("yaml", "field", "expected"),
    [
        ("command: a 'b c' \"d\\\"e\" f\\ g", "command", ("a", "b c", 'd"e', "f g")),
        ("command: [a, 1, true, 2.50]", "command", ("a", "1", "true", "2.5")),
        ("entrypoint: ''", "entrypoint", ()),
        ("entrypoint: []", "entrypoint", ()),
        ("command:", "command", None),
        ("user: 1000", "user", "1000"),
        ("init: 'true'", "init", True),
        ("tty: false", "tty", False),
        ("mem_limit: 1.5g", "limits.memory", 1536 * 2**20),
        ("mem_limit: 100000000", "limits.memory", 100_000_000),
        ("mem_limit: 512 MB", "limits.memory", 512 * 2**20),
        ("mem_limit: 0", "limits.memory", None),
        ("cpus: '.5'", "limits.cpus", 0.5),
        ("pids_limit: -1", "limits.pids", None),
        ("cpus: 0", "limits.cpus", None),
        ("deploy: {resources: {limits: {memory: 1g, cpus: '2', pids: 900}}}", "limits",
         Limits(2**30, cpus=2.0, pids=900)),
        ("mem_limit: 512m\nmemswap_limit: 1g", "limits.swap", 512 * 2**20),
        ("memswap_limit: 512m\nmem_limit: 512m", "limits.swap", 0),
        ("memswap_limit: 1g\ndeploy: {resources: {limits: {memory: 768m}}}", "limits.swap", 256 * 2**20),
        ("mem_limit: 512m\nmemswap_limit: -1", "limits.swap", None),
        ("mem_limit: 16m\nmemswap_limit: 32m", "limits.swap", 0),
        ("memswap_limit: 1g", "limits", Limits()),
        ("mem_reservation: 100m", "limits.reserved", 100 * 2**20),
        ("deploy: {resources: {reservations: {memory: 64m}}}", "limits.reserved", 64 * 2**20),
        ("stop_grace_period: 1m1.5s", "stop_grace_period", 61.5),
        ("stop_grace_period: 1w1d1h", "stop_grace_period", 694_800),
        ("restart: no", "restart", "no"),
        ("restart: false", "restart", "no"),
        ("restart: on-failure:3", "restart_attempts", 3),
        ("deploy: {restart_policy: {condition: none}}\nrestart: always", "restart", "no"),
        ("deploy: {restart_policy: {max_attempts: 2}}", "restart", "always"),
        ("hostname: ''", "hostname", None),
        ("cap_add: [net_admin, CAP_CHOWN]", "cap_add", ("NET_ADMIN", "CHOWN")),
        ("extra_hosts: {a: 10.0.0.1, b: ['::1', 10.0.0.2]}", "extra_hosts", (("a", "10.0.0.1"), ("b", "::1"),
                                                                            ("b", "10.0.0.2"))),
        ("extra_hosts: ['a:[::1]']", "extra_hosts", (("a", "::1"),)),
        ("environment: {A: true, B: 1.0, C: 'x=y', D: 12345678901234567890}", "environment",
         (("A", "true"), ("B", "1"), ("C", "x=y"), ("D", "12345678901234567890"))),
        ("environment: [A=b=c, 'D=']", "environment", (("A", "b=c"), ("D", ""))),
        ("pull_policy: if_not_present", "pull", "missing"),
        ("labels: [a, b=c]", "labels", (("a", ""), ("b", "c"))),
        ("sysctls: [net.core.somaxconn=1024]", "sysctls", (("net.core.somaxconn", "1024"),)),
        ("user: ':'", "user", None),
        ("user: '1000:'", "user", "1000"),
        ("user: ':1000'", "user", "0:1000"),
        ("ulimits: {memlock: {soft: -1, hard: -1}, nofile: 1048576}", "ulimits",
         (("memlock", "8388608:8388608"), ("nofile", "524288"))),
        ("deploy: {restart_policy: {condition: always}}", "restart", "always"),
        ("deploy: {restart_policy: {condition: unless-stopped}}", "restart", "unless-stopped"),
        ("deploy: {restart_policy: {condition: 'no'}}", "restart", "no"),
        ("deploy: {replicas: 3}\nscale: 2", "name", "web"),
        ("volumes: ['/etc/localtime:/etc/localtime:ro', '/etc/timezone:/etc/timezone:ro']", "mounts", ()),
        ("extra_hosts: ['host.docker.internal:host-gateway', 'a:10.0.0.1']", "extra_hosts", (("a", "10.0.0.1"),)),
        ("security_opt: ['seccomp:unconfined']", "hardening", "standard"),
        ("privileged: false\nbuild:\ndevices: []\nports: []", "privileged", None),
    ],
)  # fmt: skip
def test_values(yaml: str, field: str, expected: object, tmp_path: Path) -> None:
    service, report = load(tmp_path, yaml)
    assert service is not None, [problem.message for problem in report]
    found: Any = service
    for name in field.split("."):
        found = getattr(found, name, None)
    assert found == expected


def test_the_environment_of_the_builder_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    service, report = load(tmp_path, "command: [a, '${SECRET_OF_MINE:-default}']\nenvironment: [SECRET_OF_MINE]")
    assert service is not None
    assert service.command == ("a", "default")
    assert (service.environment, service.unset_environment) == ((), ("SECRET_OF_MINE",))
    assert [problem.message for problem in report if "SECRET" in problem.message] == [
        "left out: no value is known of SECRET_OF_MINE"
    ]


def test_links_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    root = tmp_path / "stack"
    (root / "conf").mkdir(parents=True)
    (root / "conf/link").symlink_to(secret)
    (root / "link").symlink_to(secret)
    for path in ("./conf", "./link"):
        service, report = load(root, f"volumes: ['{path}:/x:ro']")
        assert service is None
        assert any("outside of the stack's directory" in problem.message for problem in report)


def test_only_files_come_along(tmp_path: Path) -> None:
    import os  # noqa: PLC0415 - for this one

    (tmp_path / "conf").mkdir()
    os.mkfifo(tmp_path / "conf/pipe")
    service, report = load(tmp_path, "volumes: ['./conf:/x:ro']")
    assert service is None
    assert any(problem.message == "conf/pipe is not a file" for problem in report)


def test_an_internal_network_is_kept_for_a_single_service(tmp_path: Path) -> None:
    service, _ = load(tmp_path, "", more="networks: {default: {internal: true}}\n")
    assert service is not None
    assert [attachment.network for attachment in service.networks] == ["default"]


def test_user_values_win_over_injected_ones(tmp_path: Path) -> None:
    service, _ = load(tmp_path, "environment: [EASYRUNNER_STACK=mine]")
    assert service is not None
    [(_, text)] = quadlet.units(Stack("app", 20_100, (service,)), base="debian-13")
    assert "EASYRUNNER_STACK=mine" in text
    assert "EASYRUNNER_STACK=app" not in text


def test_a_name_without_a_value_is_not_in_the_container(tmp_path: Path) -> None:
    (tmp_path / "app.env").write_text("A=1\nB=2\nC\n")
    service, _ = load(tmp_path, "env_file: app.env\nenvironment: [A]")
    assert service is not None
    assert service.environment == (("B", "2"),)
    [(_, text)] = quadlet.units(Stack("app", 20_100, (service,)), base="debian-13")
    assert ("PodmanArgs", "--unsetenv=A") in sections(text)["Container"]


@pytest.mark.parametrize(
    "service",
    [
        "volumes: ['data:/x']\nconfigs: [{source: c, target: /x}]",
        "configs: [{source: c, target: /x}]\ntmpfs: /x/",
        "volumes: ['data:/x']\ntmpfs: /x:size=1m",
        "tmpfs: [/x, /x/]",
    ],
)
def test_one_path_has_one_mount(tmp_path: Path, service: str) -> None:
    found, report = load(tmp_path, service, more="volumes: {data: , other: }\nconfigs: {c: {content: x}}\n")
    assert found is None
    errors = [problem.message for problem in report if problem.severity == "error"]
    assert len(errors) == 1
    assert errors[0].startswith("something is mounted on /x")


@pytest.mark.parametrize("form", ["'{0}/data:/data'", "{{type: bind, source: {0}/data, target: /data}}"])
def test_absolute_paths_inside_of_the_directory_are_relative(tmp_path: Path, form: str) -> None:
    service, report = load(tmp_path, f"volumes: [{form.format(tmp_path)}]")
    assert service is not None, list(report)
    assert [(mount.kind, mount.source, mount.target) for mount in service.mounts] == [("bind", "data", "/data")]


def laid_over(tmp_path: Path, *files: str, public: str = "") -> tuple[StackContents | None, Report]:
    """Files laid over each other, the first with `services` and all, and `public` as a spec has it."""
    paths = []
    for index, text in enumerate(files):
        paths.append(tmp_path / f"{index}.yaml")
        paths[-1].write_text(text)
    report = Report()
    (tmp_path / "spec.yaml").write_text(f"public: {public}\n")
    said = source.read(tmp_path / "spec.yaml", report, dialect="spec")
    assert said is not None
    found = (said, ("public",)) if public else None
    return compose.load(paths[0], over=paths[1:], stack="app", report=report, public=found), report


BASE = """
services:
  web:
    image: docker.io/library/caddy:2.11
    command: [a, b]
    environment: {A: "1", B: "2"}
    cap_add: [CHOWN]
    dns: 9.9.9.9
    extra_hosts: ["a:10.0.0.1"]
    volumes: ["data:/data:ro", "other:/other"]
    tmpfs: [/run/a:size=1m]
    healthcheck: {test: [CMD, a], retries: 5}
    depends_on: [db]
    ports: ["80:80"]
    ulimits: {nofile: {soft: 10, hard: 20}}
    restart: always
  db: {image: "docker.io/library/caddy:2.11"}
volumes: {data: , other: }
"""


@pytest.mark.parametrize(
    ("over", "field", "expected"),
    [
        ("command: [c]", "command", ("c",)),
        ("command:", "command", ("a", "b")),
        ("command: !reset", "command", None),
        ("command: !override [c, d]", "command", ("c", "d")),
        ("environment: [B=3, C=4]", "environment", (("A", "1"), ("B", "3"), ("C", "4"))),
        ("environment: !override {C: 4}", "environment", (("C", "4"),)),
        ("environment: {A: !reset }", "environment", (("B", "2"),)),
        ("cap_add: [CHOWN, SETUID]", "cap_add", ("CHOWN", "SETUID")),
        ("cap_add: !reset []", "cap_add", ()),
        ("dns: [9.9.9.9, 1.1.1.1]", "dns", ("9.9.9.9", "1.1.1.1")),
        ("extra_hosts: {b: 10.0.0.2}", "extra_hosts", (("a", "10.0.0.1"), ("b", "10.0.0.2"))),
        ("healthcheck: {test: [CMD, b]}", "healthcheck.test", ("b",)),
        ("healthcheck: {test: [CMD, b]}", "healthcheck.retries", 5),
        ("restart: 'no'", "restart", "no"),
        ("ulimits: {nofile: {hard: 30}}", "ulimits", (("nofile", "10:30"),)),
    ],
)
def test_what_is_laid_over(tmp_path: Path, over: str, field: str, expected: object) -> None:
    parts, report = laid_over(tmp_path, BASE, f"services:\n  web:\n    {over}\n")
    assert parts is not None, [problem.message for problem in report]
    found: Any = parts.services[0]
    for name in field.split("."):
        found = getattr(found, name)
    assert found == expected


def test_mounts_and_dependencies_are_laid_over_by_target_and_name(tmp_path: Path) -> None:
    over = (
        "services: {web: {volumes: ['other:/data/'], tmpfs: '/run/a', depends_on: {db: {condition: service_healthy}}}}"
    )
    parts, _ = laid_over(tmp_path, BASE, over)
    assert parts is not None
    web = parts.services[0]
    assert [(mount.source, mount.target) for mount in web.mounts] == [("other", "/other"), ("other", "/data/")]
    assert [(tmpfs.target, tmpfs.options) for tmpfs in web.tmpfs] == [("/run/a", ())]
    assert [(one.service, one.condition) for one in web.depends_on] == [("db", "service_healthy")]


def test_a_service_is_added_and_taken_away(tmp_path: Path) -> None:
    added = "labels: {image: 'docker.io/library/caddy:2.11', command: x}"
    over = f"services: {{db: !reset , {added}, web: {{depends_on: !reset }}}}"
    parts, report = laid_over(tmp_path, BASE, over, "services: {labels: {command: y}}")
    assert parts is not None, [problem.message for problem in report]
    assert [(service.name, service.command) for service in parts.services] == [("web", ("a", "b")), ("labels", ("y",))]


def test_paths_start_from_the_first_file(tmp_path: Path) -> None:
    (tmp_path / "prod").mkdir()
    (tmp_path / "app.env").write_text("A=env\n")
    base, over = tmp_path / "compose.yaml", tmp_path / "prod/compose.yaml"
    base.write_text("services: {web: {image: 'docker.io/library/caddy:2.11'}}")
    over.write_text("services: {web: {volumes: ['./data:/data'], env_file: app.env}}")
    report = Report()
    parts = compose.load(base, over=[over], stack="app", report=report)
    assert parts is not None, list(report)
    assert parts.services[0].mounts[0].source == "data"
    assert parts.services[0].environment == (("A", "env"),)


def test_an_include_of_several_files_lays_them_over_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("services: {web: {image: 'docker.io/library/caddy:2.11', command: a}}")
    (tmp_path / "b.yaml").write_text("services: {web: {command: b}}")
    parts, report = laid_over(tmp_path, "include: [{path: [a.yaml, b.yaml]}]")
    assert parts is not None, list(report)
    assert parts.services[0].command == ("b",)


def test_the_spec_says_what_labels_would(tmp_path: Path) -> None:
    public = "{web: {domains: [a.example.org, b.example.org], hardening: strict, max_body: 1g, response_timeout: 5m}}"
    over = "services: {web: {environment: {URL: '$EASYRUNNER_APP_URL:$EASYRUNNER_PORT'}}}"
    parts, report = laid_over(tmp_path, BASE, over, public=public)
    assert parts is not None, list(report)
    web = parts.services[0]
    assert (web.kind, web.domains, web.port) == ("web", ("a.example.org", "b.example.org"), 80)
    assert (web.hardening, web.max_body, web.response_timeout) == ("strict", 2**30, 300)
    assert dict(web.environment)["URL"] == "https://a.example.org:80"
    assert web.labels == ()
    assert parts.services[1].kind == "internal"


@pytest.mark.parametrize(
    ("service", "port"),
    [
        ("ports: ['8081:8080', '443:443', '2222:22', '53:53/udp']", 8080),
        ("ports: ['443:8443']", 8443),
        ("ports: [{target: 9000, published: '80'}]\nexpose: [1]", 9000),
        ("ports: ['127.0.0.1:3306:3306']\nexpose: ['7000/tcp']", 7000),
        ("image: docker.io/grafana/grafana:11.0.0\nports: ['3001:3001', '3000:3000']", 3000),
        ("image: mirror.example.org/library/wordpress:6.6-apache", 80),
        ("image: docker.io/library/wordpress:6.6-fpm", 3000),
        ("image: docker.io/x/y:1", 3000),
    ],
)
def test_the_port_that_nobody_names(tmp_path: Path, service: str, port: int) -> None:
    lines = service if "image" in service else f"image: docker.io/x/y:1\n{service}"
    text = "services:\n  web:\n" + "".join(f"    {line}\n" for line in lines.splitlines())
    parts, report = laid_over(tmp_path, text, public="{web: {domains: [a.example.org]}}")
    assert parts is not None, list(report)
    assert parts.services[0].port == port
    told = [problem for problem in report if "is taken as the port" in problem.message]
    assert len(told) == ("ports" in service)  # where a known image listens needs no word


def test_labels_and_spec_may_share_the_work(tmp_path: Path) -> None:
    over = "services: {web: {labels: {xyz.easyrunner.service.domain: a.example.org}}}"
    parts, report = laid_over(tmp_path, BASE, over, public="{web: {port: 80}}")
    assert parts is not None, list(report)
    assert (parts.services[0].domains, parts.services[0].port) == (("a.example.org",), 80)


SAFE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\x80"), max_size=25)


@given(values=st.lists(SAFE, min_size=4, max_size=4), base=st.sampled_from(sorted(BASES)))
def test_no_value_of_a_compose_file_becomes_a_line_of_a_unit(
    values: list[str], base: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a value holds, the sections of the unit stay its own."""
    import json  # noqa: PLC0415 - for this one

    quoted = [json.dumps(value.replace("$", "$$")).replace("\x7f", "\\x7f") for value in values]
    service, _ = load(
        tmp_path_factory.mktemp("stack"),
        f"command: [x, {quoted[0]}]\nenvironment: {{A: {quoted[1]}}}\nlabels: {{b: {quoted[2]}}}\n"
        f"working_dir: {quoted[3]}\nhealthcheck: {{test: {quoted[0]}}}",
    )
    if service is None:
        return
    [(_, text)] = quadlet.units(Stack("app", 20_100, (service,)), base=base)
    assert list(sections(text)) in (
        ["Unit", "Quadlet", "Container", "Service", "Install"],
        ["Unit", "Container", "Service", "Install"],
    )
    assert all(key in BASES[base].container for key, _ in sections(text)["Container"])


@pytest.mark.parametrize(
    ("dotenv", "started"),
    [
        ("", ["web"]),
        ("COMPOSE_PROFILES=\n", ["web"]),
        ("COMPOSE_PROFILES=other\n", ["web"]),
        ("STORE=files\nCOMPOSE_PROFILES=other, ${STORE:-none}\n", ["web", "store"]),
        ("COMPOSE_PROFILES=*\n", ["web", "store"]),
    ],
)
def test_profiles_are_started_by_dotenv(tmp_path: Path, dotenv: str, started: list[str]) -> None:
    """As docker compose reads it; profiles named on a command line nobody knows here."""
    store = "  store:\n    image: example.org/store:1\n    profiles: [files, all]\n"
    (tmp_path / ".env").write_text(dotenv)
    (tmp_path / "compose.yaml").write_text(f"services:\n  web:\n    image: example.org/web:1\n{store}")
    report = Report()
    found = compose.load(tmp_path / "compose.yaml", stack="app", report=report)
    assert found is not None
    assert [service.name for service in found.services] == started
    told = [problem.hint for problem in report if "belongs to a profile" in problem.message]
    assert told == (
        []
        if "store" in started
        else ["if it should run, name its profile in the file .env, as in COMPOSE_PROFILES=files"]
    )


@pytest.mark.parametrize("source", ["$PWD/site.conf", "${PWD}/site.conf", "${PWD:?}/site.conf", "./site.conf"])
def test_the_directory_that_compose_runs_in_is_the_files_own(tmp_path: Path, source: str) -> None:
    """Where a shell would fill in the path of this machine, which a server does not have."""
    (tmp_path / "site.conf").write_text("")
    service, report = load(tmp_path, f"volumes: ['{source}:/etc/site.conf:ro']")
    assert service is not None
    assert [mount.source for mount in service.mounts] == ["site.conf"]
    assert not any("PWD is not set" in problem.message for problem in report)


def test_a_path_that_lacks_its_variable_is_one_problem(tmp_path: Path) -> None:
    """That it lacks it; where it would be is none that anybody meant."""
    _, report = load(tmp_path, 'volumes: ["${DATA}/x:/data"]')
    said = [problem.message for problem in report if "volumes" in problem.where]
    assert said == ["the variable DATA is not set and counts as empty"]
