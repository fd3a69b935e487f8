"""A command in a container, as values: the words of ssh, systemd-run and podman."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.cli.server import session
from builder.problems import UserError
from builder.server import Remote
from builder.server.remote.session import (
    ENV_FILE,
    Request,
    Unit,
    exec_argv,
    expanded,
    kept_options,
    run_argv,
    scope_argv,
    without_addresses,
)

REQUEST = Request("exec", "shop", "api", ["psql", "-c", "select 1"], {}, "", "", tty=False)
# As Podman's generator writes it, for a service with all that only one container can have.
LINE = (
    "/usr/bin/podman run --name api --cidfile=/run/user/43062/shop-api.cid --replace --rm --cgroups=split --pull never "
    "--network shop_inside:ip=10.89.0.9,alias=db,isolate=true --ip 10.89.0.9 --network-alias db --sdnotify=healthy -d "
    "--security-opt=no-new-privileges --cap-drop all --user 1000 -v shop_data:/srv/data --env GREETING=hi --env A=b "
    "--secret token,type=env,target=TOKEN --publish 127.0.0.1:80:80 --label a=b --health-cmd true --health-interval 2s "
    "--pidfile=/run/user/43062/shop-api.pid --entrypoint serve registry.example/api:1 --port 80"
)
UNLIMITED = 2**64 - 1
PROPERTIES = {
    "MemoryMax": 268_435_456,
    "MemorySwapMax": UNLIMITED,
    "TasksMax": 512,
    "CPUQuotaPerSecUSec": 500_000,
}
UNIT = Unit("shop-api.service", LINE.split(), "registry.example/api:1", PROPERTIES)


def test_a_terminal_is_asked_for_when_there_is_one() -> None:
    remote = Remote("web", ("-o", "Port=222"))
    path = "/run/er-session/0123"
    tail = ["-o", "ConnectTimeout=15", "-o", "Port=222", "-o", "LogLevel=ERROR", "--", "web"]
    command = "sudo -n python3 -I /run/er-session/0123"
    assert remote.session_argv(path, tty=True) == ["ssh", "-t", *tail, command]
    assert remote.session_argv(path, tty=False) == ["ssh", "-T", *tail, command]


def test_exec_is_in_the_running_container() -> None:
    assert exec_argv(REQUEST, UNIT.container, REQUEST.command) == [
        "podman", "exec", "--interactive", "--detach-keys=", "api", "psql", "-c", "select 1",
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["--name", "a b"], ["--name=a b"]])
def test_podman_generators_differ_in_how_they_write_a_name(words: list[str]) -> None:
    assert replace(UNIT, argv=["podman", "run", "--rm", *words, "image"]).container == "a b"


def test_no_value_of_a_variable_is_a_word() -> None:
    request = replace(REQUEST, env={"PASSWORD": "S3kr3t"}, user="postgres", workdir="/tmp", tty=True)
    assert exec_argv(request, "api", ["id"]) == [
        "podman", "exec", "--interactive", "--detach-keys=", "--tty", "--user=postgres", "--workdir=/tmp",
        ENV_FILE, "api", "id",
    ]  # fmt: skip


def test_run_is_the_units_own_command_line_without_what_one_container_alone_can_have() -> None:
    request = replace(REQUEST, action="run", env={"GREETING": "ho"}, user="0")
    assert run_argv(request, UNIT, "er-run-api-0123") == [
        "podman", "run", "--cgroups=split", "--pull", "never", "--network", "shop_inside:isolate=true",
        "--security-opt=no-new-privileges", "--cap-drop", "all", "--user", "1000", "-v", "shop_data:/srv/data",
        "--env", "A=b", "--secret", "token,type=env,target=TOKEN", "--label", "a=b", "--entrypoint", "serve",
        "--rm", "--name=er-run-api-0123", "--log-driver=none", "--no-healthcheck",
        "--interactive", "--detach-keys=", "--user=0", ENV_FILE,
        "registry.example/api:1", "psql", "-c", "select 1",
    ]  # fmt: skip


def test_run_without_a_command_takes_the_services_own() -> None:
    assert run_argv(replace(REQUEST, command=[]), UNIT, "x")[-3:] == ["registry.example/api:1", "--port", "80"]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--name=api", "--read-only"], ["--read-only"]),
        (["-p", "80:80", "-e", "A=b"], ["-e", "A=b"]),
        (["--env=A=b=c", "--env", "OURS=x", "--env=OURS"], ["--env", "A=b=c"]),
        (["--network=pasta:--map-guest-addr,169.254.1.2"], ["--network", "pasta:--map-guest-addr,169.254.1.2"]),
        (["--hostname", "api", "--health-retries=5", "--init"], ["--hostname", "api", "--init"]),
    ],
)
def test_options_that_a_second_container_takes(words: list[str], kept: list[str]) -> None:
    assert kept_options(words, {"OURS": ""}) == kept


@pytest.mark.parametrize(
    ("network", "kept"),
    [
        ("inside", "inside"),
        ("inside:ip=10.0.0.2,mac=aa:bb:cc:dd:ee:ff", "inside"),
        ("inside:alias=a,mtu=1400,alias=b", "inside:mtu=1400"),
        ("none", "none"),
        ("container:web", "container:web"),
    ],
)
def test_networks_are_joined_under_another_address(network: str, kept: str) -> None:
    assert without_addresses(network) == kept


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("5$$ 100%", "5$ 100%"),
        ("$$$$", "$$"),
        ("${ER_EMPTY}", ""),
        ("${ER_SEMICOLON}", ";"),
        ("$${HOME}", "${HOME}"),
        ("${UNKNOWN}", ""),
    ],
)
def test_words_are_as_systemd_hands_them_on(word: str, text: str) -> None:
    assert expanded(word, ["ER_EMPTY=", "ER_SEMICOLON=;", "X=a=b"]) == text


def test_a_container_of_its_own_has_the_limits_of_the_service_and_the_log_no_command() -> None:
    common = ["systemd-run", "--user", "--scope", "--quiet", "--collect"]
    assert scope_argv(REQUEST, UNIT, "01") == [
        *common, "--unit=er-exec-01", "--description=er server exec shop api", "--",
    ]  # fmt: skip
    assert scope_argv(replace(REQUEST, action="run"), UNIT, "01") == [
        *common, "--unit=er-run-01", "--description=er server run shop api", "--property=Delegate=yes",
        "--property=MemoryMax=268435456", "--property=TasksMax=512", "--property=CPUQuota=50%", "--",
    ]  # fmt: skip


def test_the_value_of_a_variable_comes_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", " a=b ")
    monkeypatch.setenv("KEY", "a\nb")
    monkeypatch.delenv("NONE", raising=False)
    assert session.value("TOKEN") == " a=b "
    for name, message in {
        "NONE": "it is not set here",
        "KEY": "its value has a line end",
        "TOKEN=x": "-e TOKEN: only the name is given",
        "a b": "this is no name of a variable",
    }.items():
        with pytest.raises(UserError, match=message):
            session.value(name)
