"""Stacks: one user each, units it cannot change, services that can do little, apps that come and go unnoticed."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.oci import known_images
from tests.machine.clients import Steady, get
from tests.sweeps import sample

if TYPE_CHECKING:
    from builder.stack.model import Stack
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

_SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")


def _show(host: Host, stack: str, unit: str, *names: str) -> dict[str, str]:
    words = ["systemctl", "--user", "show", *(f"--property={name}" for name in names), unit]
    shown = host.machine.run(words, user=f"er-{stack}").stdout
    return dict(line.partition("=")[::2] for line in shown.splitlines())


def _inside(host: Host, stack: str, service: str, line: str) -> str:
    """The output of a shell line in a service's container; it may fail."""
    done = host.machine.run(["podman", "exec", service, "sh", "-c", line], user=f"er-{stack}", check=False)
    return done.stdout + done.stderr


def _pid(host: Host, stack: Stack | str, service: str) -> str:
    """The first process of a service's container, as the machine counts."""
    name = stack if isinstance(stack, str) else stack.name
    return host.machine.run(["podman", "inspect", "--format={{.State.Pid}}", service], user=f"er-{name}").stdout.strip()


def _status(host: Host, stack: str, service: str) -> dict[str, str]:
    text = host.machine.path(f"/proc/{_pid(host, stack, service)}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _mounts(host: Host, stack: str, service: str) -> dict[str, set[str]]:
    lines = host.machine.path(f"/proc/{_pid(host, stack, service)}/mountinfo").read_text().splitlines()
    return {line.split()[4]: set(line.split()[5].split(",")) for line in lines}


# Users.


def test_each_stack_is_a_user_that_nobody_logs_in_as(three: Host) -> None:
    """Its uid is the spec's, it has no login shell, no password, and lives on without a session."""
    for stack in three.spec.stacks:
        user = f"er-{stack.name}"
        fields = three.machine.run(["getent", "passwd", user]).stdout.strip().split(":")
        assert fields[2] == str(stack.uid)
        assert fields[5] == f"{facts.HOMES}/{stack.name}"
        assert fields[6] == "/usr/sbin/nologin"
        assert three.machine.run(["getent", "shadow", user]).stdout.split(":")[1].startswith("!")
        assert three.machine.run(["loginctl", "show-user", user, "-PLinger"]).stdout == "yes\n"


def test_a_manager_that_ends_does_not_wait_for_podmans_own_process(three: Host) -> None:
    """For long: it does not always see that nothing is left in its scope."""
    show = "systemctl --user show -P TimeoutStopUSec 'podman-pause-*.scope'"
    users = [f"er-{stack.name}" for stack in three.spec.stacks]
    assert {line for user in users for line in three.machine.run(show, user=user).stdout.split()} == {"5s"}


@pytest.mark.parametrize("file", ["/etc/subuid", "/etc/subgid"])
def test_subordinate_ranges_do_not_overlap(three: Host, file: str) -> None:
    """Every user that runs containers has one whole range, none of it anybody else's."""
    lines = [line.split(":") for line in three.machine.path(file).read_text().split()]
    users = [name for name, _, _ in lines]
    wanted = {facts.PROXY_USER, *(f"er-{stack.name}" for stack in three.spec.stacks)}
    assert wanted <= set(users)
    assert len(users) == len(set(users))
    ranges = sorted((int(first), int(size)) for _, first, size in lines)
    for (first, size), (following, _) in itertools.pairwise(ranges):
        assert first + size <= following
    assert {int(size) for name, _, size in lines if name in wanted} == {facts.SUBID_SIZE}


def test_the_check_command_tells_the_uids_of_the_host(three: Host) -> None:
    """What the spec gives is what the host has: asked of the running user managers."""
    for stack in three.spec.stacks:
        assert three.machine.path(f"/run/user/{stack.uid}/systemd/private").exists()


# Units.


def test_units_are_roots(three: Host) -> None:
    """Everything the user managers read is root's and nobody else may write it."""
    places = "/etc/containers /etc/easyrunner /etc/systemd /usr/lib/easyrunner"
    found = three.machine.run(f"find {places} ! -type l \\( ! -user root -o -perm /022 \\)").stdout
    assert found == ""


# Where a user may write, and systemd or Podman might look.
_SHADOWS = (
    "$HOME/.config/systemd/user/{unit}.service",
    "$HOME/.config/systemd/user.control/{unit}.service",
    "$HOME/.local/share/systemd/user/{unit}.service",
    "$XDG_RUNTIME_DIR/systemd/user/{unit}.service",
    "$XDG_RUNTIME_DIR/systemd/user.control/{unit}.service",
    "$XDG_RUNTIME_DIR/systemd/transient/{unit}.service",
    "$XDG_RUNTIME_DIR/systemd/generator.early/{unit}.service",
)
_QUADLETS = (
    "$HOME/.config/containers/systemd/{unit}.container",
    "$XDG_RUNTIME_DIR/containers/systemd/{unit}.container",
)
_EVIL = "[Service]\\nType=exec\\nExecStart=/bin/sleep 4242\\n[Install]\\nWantedBy=default.target\\n"
_EVIL_QUADLET = "[Container]\\nContainerName=evil\\nImage=localhost/evil\\nExec=sleep 4242\\n"


def write_shadows(host: Host, stack: str, unit: str) -> None:
    """As the stack's user, put another unit of this name wherever it might count."""
    lines = ["set -u"]
    for paths, text in ((_SHADOWS, _EVIL), (_QUADLETS, _EVIL_QUADLET)):
        named = [path.format(unit=unit) for path in paths]
        lines += [f'mkdir -p "$(dirname "{path}")" && printf "{text}" >"{path}"' for path in named]
    evil = "$HOME/.config/evil"
    lines.append(f'mkdir -p "{evil}" "$HOME/.config/environment.d"')
    lines.append(f'printf "{_EVIL}" >"{evil}/{unit}.service"; printf "{_EVIL_QUADLET}" >"{evil}/{unit}.container"')
    for place in ("$HOME/.config/systemd/user", "$XDG_RUNTIME_DIR/systemd/user", "$XDG_RUNTIME_DIR/systemd/transient"):
        drop_in = f"{place}/{unit}.service.d"
        lines.append(f'mkdir -p "{drop_in}" && printf "[Service]\\nEnvironment=EVIL=4242\\n" >"{drop_in}/evil.conf"')
    variables = f"QUADLET_UNIT_DIRS={evil}\\nSYSTEMD_UNIT_PATH={evil}\\n"
    lines.append(f'printf "{variables}" >"$HOME/.config/environment.d/evil.conf"')
    lines.append(f'systemctl --user set-environment QUADLET_UNIT_DIRS="{evil}" SYSTEMD_UNIT_PATH="{evil}"')
    host.machine.run("\n".join(lines), user=f"er-{stack}", check=False)


def remove_shadows(host: Host, stack: str) -> None:
    """And take them away again."""
    host.machine.run(
        'rm -rf "$HOME/.config/systemd" "$HOME/.config/containers/systemd" "$HOME/.local/share/systemd"'
        ' "$HOME/.config/evil"'
        ' "$HOME/.config/environment.d" "$XDG_RUNTIME_DIR/systemd/user" "$XDG_RUNTIME_DIR/systemd/user.control"'
        ' "$XDG_RUNTIME_DIR"/systemd/transient/hello* "$XDG_RUNTIME_DIR/containers/systemd"',
        user=f"er-{stack}",
        check=False,
    )
    unset = "systemctl --user unset-environment QUADLET_UNIT_DIRS SYSTEMD_UNIT_PATH"
    host.machine.run(unset, user=f"er-{stack}")


def assert_original(host: Host, stack: str, unit: str, service: str) -> None:
    """The unit that runs is the root-owned one."""
    shown = _show(host, stack, f"{unit}.service", "SourcePath", "ActiveState", "ExecStart", "Environment")
    uid = next(each.uid for each in host.spec.stacks if each.name == stack)
    assert shown["ActiveState"] == "active"
    assert shown["SourcePath"] == f"{facts.QUADLETS}/{uid}/{unit}.container"
    assert "4242" not in shown["ExecStart"] + shown["Environment"]
    assert "4242" not in host.machine.run(["ps", "-u", f"er-{stack}", "-o", "args"]).stdout
    assert _pid(host, stack, service).isdigit()


def test_a_user_cannot_shadow_its_units(three: Host) -> None:
    """Whatever it writes where systemd and Podman usually look: after a reload and a restart its own is not run."""
    try:
        write_shadows(three, "hello", "hello-web")
        three.machine.run("systemctl --user daemon-reload", user="er-hello")
        three.machine.run("systemctl --user restart hello-web.service", user="er-hello")
        assert_original(three, "hello", "hello-web", "web")
        assert get(three, "https://hello.example.com/").status == 200
    finally:
        remove_shadows(three, "hello")
        three.machine.run("systemctl --user daemon-reload", user="er-hello")
        three.machine.run("systemctl --user restart hello-web.service", user="er-hello")


# Services.


_SETS = ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")
# capabilities(7), as linux/capability.h numbers them.
_BITS = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "NET_BIND_SERVICE": 10, "SYS_NICE": 23,
}  # fmt: skip
_STANDARD = set(known_images.STANDARD)


def _capabilities(host: Host, stack: str, service: str) -> dict[str, set[str]]:
    """Names of each set; a number stands for what is not among those above."""
    status, names = _status(host, stack, service), {bit: name for name, bit in _BITS.items()}
    return {key: {names.get(bit, str(bit)) for bit in range(64) if int(status[key], 16) >> bit & 1} for key in _SETS}


@pytest.mark.parametrize(
    ("service", "left"),
    [
        ("plain", _STANDARD),
        ("limited", _STANDARD),
        ("strict", set()),
        ("capable", {"NET_BIND_SERVICE"}),
        ("fewer", _STANDARD - {"CHOWN", "KILL"} | {"SYS_NICE"}),
    ],
)
def test_what_root_in_a_container_keeps(edge: Host, service: str, left: set[str]) -> None:
    """By its level, less `cap_drop`, and with `cap_add`; nothing of it is handed on to another user's program."""
    found = _capabilities(edge, "kit", service)
    assert found == {"CapBnd": left, "CapPrm": left, "CapEff": left, "CapInh": set(), "CapAmb": set()}
    assert _status(edge, "kit", service)["NoNewPrivs"] == "1"


def test_another_user_keeps_nothing(edge: Host) -> None:
    """`user: "1000"`: what is left to root is only the most that it could have, and it gains nothing."""
    found = _capabilities(edge, "kit", "person")
    assert found == {"CapBnd": _STANDARD, "CapPrm": set(), "CapEff": set(), "CapInh": set(), "CapAmb": set()}
    assert _status(edge, "kit", "person")["NoNewPrivs"] == "1"
    assert int(_status(edge, "kit", "person")["Uid"].split()[0]) > 1000


def test_the_user_of_an_image_keeps_nothing(edge: Host) -> None:
    """As `plain` is run, from an image that names a user: what Podman is told of capabilities is in its unit."""
    run = edge.machine.run
    uid = next(stack.uid for stack in edge.spec.stacks if stack.name == "kit")
    unit = edge.machine.path(f"{facts.QUADLETS}/{uid}/kit-plain.container").read_text()
    [dropped] = re.findall("^DropCapability=(.*)$", unit, re.MULTILINE)
    assert "AddCapability" not in unit
    run(["podman", "commit", "-q", "--change=USER 1000", "plain", "localhost/of-a-user"], user="er-kit", timeout=120)
    words = ["podman", "run", "--rm", "--network=none", "--security-opt=no-new-privileges"]
    words += [f"--cap-drop={name}" for name in dropped.split()]
    said = run([*words, "localhost/of-a-user", "cat", "/proc/self/status"], user="er-kit", timeout=120).stdout
    found = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert found["Uid"].split()[0] == "1000"
    assert {int(found[name], 16) for name in _SETS if name != "CapBnd"} == {0}
    assert int(found["CapBnd"], 16) == sum(1 << _BITS[name] for name in _STANDARD)


def test_another_user_has_what_is_added_for_it(edge: Host) -> None:
    """As Podman does it. So nothing may be added that the user did not ask for."""
    found = _capabilities(edge, "kit", "helper")
    assert found == {"CapBnd": _STANDARD, **{key: {"KILL"} for key in ("CapPrm", "CapEff", "CapInh", "CapAmb")}}


def test_every_service_of_a_usual_host_has_what_standard_leaves(three: Host) -> None:
    """All services of all stacks."""
    for stack in three.spec.stacks:
        for service in stack.services:
            assert _status(three, stack.name, service.name)["NoNewPrivs"] == "1", (stack.name, service.name)
            assert _capabilities(three, stack.name, service.name)["CapBnd"] <= _STANDARD, (stack.name, service.name)


@pytest.mark.parametrize("service", ["plain", "strict"])
@pytest.mark.parametrize("place", _SCRATCH)
def test_nothing_runs_from_scratch_directories(edge: Host, service: str, place: str) -> None:
    """They can be written, and what is written there cannot be executed, nor be a device or change the user."""
    file = f"{place}/try"
    line = f'printf "#!/bin/sh\\necho ran" >{file} && busybox chmod 755 {file} && cat {file} && {file}'
    said = _inside(edge, "kit", service, line)
    assert "echo ran" in said
    assert "Permission denied" in said
    assert {"noexec", "nosuid", "nodev", "rw"} <= _mounts(edge, "kit", service)[place]


def test_strict_has_a_read_only_root(edge: Host) -> None:
    """Standard has not."""
    assert "Read-only file system" in _inside(edge, "kit", "strict", "touch /etc/try")
    assert _inside(edge, "kit", "plain", "touch /etc/try") == ""


def test_off_is_off(edge: Host) -> None:
    """The only way to run something from /tmp and to keep all of Podman's usual capabilities."""
    assert _status(edge, "kit", "off")["NoNewPrivs"] == "0"
    assert _capabilities(edge, "kit", "off")["CapBnd"] > _STANDARD
    said = _inside(edge, "kit", "off", 'printf "#!/bin/sh\\necho ran" >/tmp/try; busybox chmod 755 /tmp/try; /tmp/try')
    assert said == "ran\n"


def test_limits_are_in_the_units(edge: Host) -> None:
    """Those of the spec, and none where it says nothing: a stack's share and ceiling hold for all of it."""
    names = ("MemoryMax", "MemorySwapMax", "MemoryLow", "CPUQuotaPerSecUSec", "TasksMax")
    limited = _show(edge, "kit", "kit-limited.service", *names)
    sizes = {"MemoryMax": str(96 * 2**20), "MemorySwapMax": str(32 * 2**20), "MemoryLow": str(32 * 2**20)}
    assert limited == {**sizes, "CPUQuotaPerSecUSec": "500ms", "TasksMax": "70"}
    plain = _show(edge, "kit", "kit-plain.service", *names)
    assert plain == {name: "0" if name == "MemoryLow" else "infinity" for name in names}


def test_podman_has_no_limit_of_processes_of_its_own(edge: Host) -> None:
    said = edge.machine.run(["podman", "inspect", "--format={{.HostConfig.PidsLimit}}", "plain"], user="er-kit").stdout
    assert int(said) <= 0


def test_the_environment_arrives_as_written(edge: Host) -> None:
    """From env_file, from .env through ${…}, from a default, and with every awkward character."""
    found = dict(line.partition("=")[::2] for line in _inside(edge, "kit", "variables", "env").splitlines())
    assert found["FROM_FILE"] == "from the file"
    assert found["QUOTED"] == "two words"
    assert found["FROM_DOTENV"] == "dotenv"
    assert found["FROM_DEFAULT"] == "fallback"
    assert found["AWKWARD"] == "quotes \" and ' $dollar %percent \\back"


def test_a_job_that_has_ended_does_not_keep_the_host_from_being_ready(edge: Host) -> None:
    """restart: no, exit 0: it ran once, well, and is not run again."""
    shown = _show(edge, "kit", "kit-once.service", "ActiveState", "Result", "NRestarts")
    assert shown == {"ActiveState": "inactive", "Result": "success", "NRestarts": "0"}


# Several services in one stack.


def test_services_find_each_other_by_name(three: Host) -> None:
    """Bare names, on the stack's private network."""
    assert "greeting: api" in _inside(three, "shop", "web", "wget -q -O - http://api:4000/")
    assert "greeting: shop" in _inside(three, "shop", "worker", "wget -q -O - http://web:3000/")


def test_a_service_waits_until_what_it_depends_on_is_healthy(three: Host) -> None:
    """The unit of the healthy one is active before the other's container starts."""
    api = _show(three, "shop", "shop-api.service", "ActiveEnterTimestampMonotonic", "NotifyAccess")
    web = _show(three, "shop", "shop-web.service", "InactiveExitTimestampMonotonic", "After")
    assert int(api["ActiveEnterTimestampMonotonic"]) <= int(web["InactiveExitTimestampMonotonic"])
    assert "shop-api.service" in web["After"].split()
    health = three.machine.run("podman inspect --format '{{.State.Health.Status}}' api", user="er-shop").stdout
    assert health.strip() == "healthy"


def test_a_named_volume_keeps_its_data(three: Host) -> None:
    """Over a restart of the service, which makes a new container."""
    before = three.machine.run("podman inspect --format '{{.Id}}' api", user="er-shop").stdout
    assert _inside(three, "shop", "api", "echo kept >/srv/data/note") == ""
    three.machine.run("systemctl --user restart shop-api.service", user="er-shop", timeout=60)
    assert three.machine.run("podman inspect --format '{{.Id}}' api", user="er-shop").stdout != before
    assert _inside(three, "shop", "api", "cat /srv/data/note") == "kept\n"
    three.machine.run("systemctl --user start shop-web.service", user="er-shop", timeout=60)


# The proxy network.


def test_a_socket_is_its_stacks_and_the_proxys_alone(three: Host) -> None:
    """Owner, group and mode of each public service's socket and of the setgid directory it is in."""
    for stack in three.spec.stacks:
        place = f"{facts.PROXY_SOCKETS}/{stack.name}"
        shown = three.machine.run(["stat", "-c", "%A %U %G", place]).stdout
        assert shown == f"drwxrws--- er-{stack.name} {facts.PROXY_USER}\n"
        for service in stack.public:
            shown = three.machine.run(["stat", "-c", "%A %U %G", f"{place}/{service.name}.sock"]).stdout
            assert shown == f"srw-rw---- er-{stack.name} {facts.PROXY_USER}\n"
        sockets = {f"{service.name}.sock" for service in stack.public}
        found = set(three.machine.run(["ls", place]).stdout.split())
        assert sockets <= found <= sockets | {f"{service.name}.up" for service in stack.public}
        # Caddy opens what it looks for: unreadable, an app would have a minute for its answers.
        beside = " ".join(found - sockets)
        assert three.machine.run(f"cd {place} && cat {beside}", user=facts.PROXY_USER, stdin=b"").stdout == ""


APPS = [("hello", "web"), ("shop", "web"), ("notes", "site")]
# One with a private network, and one of strict.
SOME_APPS = pytest.mark.parametrize(("stack", "service"), sample(APPS, APPS[1:]))


def _domain(host: Host, stack: str, service: str) -> str:
    found = next(each for each in host.spec.stacks if each.name == stack)
    return next(each.domains[0] for each in found.services if each.name == service)


@SOME_APPS
def test_no_request_fails_while_an_app_restarts(three: Host, stack: str, service: str) -> None:
    """100 requests at a steady rate from two clients, over both families."""
    steady = Steady(three, _domain(three, stack, service))
    three.machine.run(["systemctl", "--user", "restart", f"{stack}-{service}.service"], user=f"er-{stack}")
    results = steady.results()
    assert results == ["200"] * 100, set(results)


@SOME_APPS
def test_no_request_fails_while_an_app_crashes(three: Host, stack: str, service: str) -> None:
    """The same with its first process killed."""
    before = _pid(three, stack, service)
    steady = Steady(three, _domain(three, stack, service))
    three.machine.run(["kill", "-9", before])
    results = steady.results()
    assert results == ["200"] * 100, set(results)
    assert _pid(three, stack, service) != before


@SOME_APPS
def test_a_stopped_app_is_started_by_its_first_request(three: Host, stack: str, service: str) -> None:
    """The socket goes on listening."""
    unit = f"{stack}-{service}.service"
    three.machine.run(["systemctl", "--user", "stop", unit], user=f"er-{stack}")
    assert _show(three, stack, unit, "ActiveState")["ActiveState"] == "inactive"
    assert get(three, f"https://{_domain(three, stack, service)}/").status == 200
    assert _show(three, stack, unit, "ActiveState")["ActiveState"] == "active"


def test_the_proxys_own_configuration_reaches_every_app(three: Host) -> None:
    """Its sites are those of the spec, no more."""
    config = three.machine.run(["curl", "-s", f"http://127.0.0.1:{facts.PROXY_ADMIN}/config/apps/http"]).stdout
    text = json.dumps(json.loads(config))
    for stack in three.spec.stacks:
        for service in stack.public:
            assert f"unix/{facts.PROXY_SOCKETS}/{stack.name}/{service.name}.sock" in text
