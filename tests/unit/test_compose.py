"""The parts of reading a compose file that golden trees and error texts do not show well."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import compose, quadlet
from builder.compose import keys, messages, networking, service_fields, volumes
from builder.compose.environment import read_variables
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.messages import Text
from builder.problems import Report
from builder.quadlet.podman import BASES
from builder.stack.model import Stack
from tests.unit_file import sections

if TYPE_CHECKING:
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
    cases = [*(TESTS / "errors").glob("compose-*/compose.yaml"), *(TESTS / "golden/compose").glob("*/compose.yaml")]
    for path in cases:
        compose.load(path, stack="app", report=Report(), secret_env={"db": ["POSTGRES_PASSWORD"]})
    texts = {name: value for module in (messages, messages) for name, value in vars(module).items()}
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
        ("stop_grace_period: 1m1.5s", "stop_grace_period", 61.5),
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
    assert service.environment == ()
    assert "left out, as Compose does: SECRET_OF_MINE" in "".join(problem.message for problem in report)


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
