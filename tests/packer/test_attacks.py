"""A stack that was taken over attacks its host, on a kernel of the host's own; the others and SSH must not notice.

Each attack is one test: what it tried, what stopped it, that everybody else was served meanwhile, that `er server
status` shows it, and how the stack comes back.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts, process
from builder.host import hardening
from builder.host.firewall import CONNECTIONS
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.polling import until
from builder.server.remote.reload import shares_words
from builder.stack import shares
from builder.stack.model import Limits
from tests.audit.conftest import TOOLS, answers
from tests.audit.test_audits import INDEX
from tests.machine import containment_page
from tests.packer import attacked_machine as stages
from tests.packer.attacked_machine import PATIENCE, Stage, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.packer.shared_bake import Built

# More than an hour where everything is emulated: `make attacks` runs them.
pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif("ER_ATTACKS" not in os.environ, reason="`make attacks` runs these; they need KVM or patience"),
]
MIB = 1 << 20
# Those of the service `web`; the other one, `greedy`, has none.
LIMITS = Limits(memory=512 * MIB, cpus=1.0, pids=512)
SLOWEST = 30.0
"""Seconds; the guest is emulated, and its one processor is what an attacker takes first."""


@pytest.fixture(scope="module")
def stage(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stages.stage(built.image, tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def boot(stage: Stage) -> str:
    """The kernel's name for the boot that all of this happens in."""
    return stage.root(_BOOT)


_BOOT = "cat /proc/sys/kernel/random/boot_id"
ROWS = 17


@pytest.fixture(scope="module")
def tell() -> Iterator[Callable[..., None]]:
    """Adds a row to the table of docs/containment.md; a run of all attacks is compared with it."""
    rows: list[dict[str, str]] = []
    columns = containment_page.SECTIONS["resources"][2]
    yield lambda *words: rows.append(dict(zip(columns, words, strict=True)))
    if len(rows) == ROWS:
        containment_page.settle("resources", rows)


@contextmanager
def unnoticed(stage: Stage) -> Iterator[None]:
    """Every visitor of the others gets an answer, and an admin who comes now gets in."""
    with Watch(stage) as watch:
        yield
    assert watch.failures == []
    assert watch.slowest < SLOWEST


def evil(stage: Stage) -> dict[str, Any]:
    """The stack in `er server status`."""
    found: dict[str, Any] = next(row for row in stage.status()["stacks"] if row["stack"] == "evil")
    return found


def files(stage: Stage) -> str:
    """Where the volume is on the host."""
    return f"{facts.HOMES}/evil/.local/share/containers/storage/volumes/evil_data/_data"


# What is in force, as the kernel tells it.


def test_every_setting_of_the_kernel_is_in_force(stage: Stage) -> None:
    wanted = [row.line.split(" = ") for row in hardening.settings() if row.file.startswith("/etc/sysctl.d/")]
    names = " ".join(name.replace("*", "all") for name, _ in wanted)
    found = dict(line.split(" = ") for line in stage.root(f"sysctl {names}").splitlines())
    assert {name: found.get(name.replace("*", "all")) for name, _ in wanted} == dict(wanted)


def test_modules_and_mounts_are_as_hardened(stage: Stage) -> None:
    barred = [row.line.split()[1] for row in hardening.settings() if row.line.startswith("install ")]
    said = stage.root(f"for name in {' '.join(barred)}; do modprobe -n -v $name 2>&1 | tail -n 1; done")
    assert {line.strip() for line in said.splitlines()} == {"install /bin/false"}
    for place in ("/tmp", "/dev/shm"):
        assert {"nosuid", "nodev", "noexec"} <= set(stage.root(f"findmnt -no OPTIONS {place}").split(","))
    assert f"resgid={facts.PROXY_UID}" in stage.root("findmnt -no OPTIONS /")
    assert "hidepid=invisible" in stage.root("findmnt -no OPTIONS /proc")
    assert int(stage.root("cat /proc/sys/net/netfilter/nf_conntrack_max")) >= 65536


def test_limits_are_the_kernels(stage: Stage) -> None:
    group = f"/sys/fs/cgroup/stacks.slice/user@{stage.uid}.service/app.slice/evil-web.service"
    assert {one.name: one.limits for one in stage.evil.services} == {"web": LIMITS, "greedy": Limits()}
    assert int(stage.root(f"cat {group}/memory.max")) == LIMITS.memory
    assert int(stage.root(f"cat {group}/pids.max")) == LIMITS.pids
    assert stage.root(f"cat {group}/cpu.max") == "100000 100000"
    without = group.replace("evil-web", "evil-greedy")
    for name in ("memory.max", "pids.max", "cpu.max"):
        said = stage.root(f"find {without} -name {name} -exec cat {{}} +", check=False).split("\n")
        assert {line.split()[0] for line in said if line} <= {"max"}, (name, said)
    total = int(stage.root("sed -n 's/^MemTotal: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo")) * 1024
    assert int(stage.root("cat /sys/fs/cgroup/stacks.slice/memory.max")) < 0.81 * total
    stack, proxy = f"stacks.slice/user@{stage.uid}.service", f"system.slice/user@{facts.PROXY_UID}.service"
    for name in (stack, proxy, "system.slice/ssh.service"):
        for one in (name, name.partition("/")[0]):
            assert int(stage.root(f"cat /sys/fs/cgroup/{one}/memory.low")) > 0, one
    others = len(stage.spec.stacks) - 1
    ceiling = int(stage.root(f"cat /sys/fs/cgroup/{stack}/memory.max"))
    assert ceiling + others * int(stage.root(f"cat /sys/fs/cgroup/{stack}/memory.low")) <= 0.8001 * total
    assert int(stage.root(f"cat /sys/fs/cgroup/{proxy}/memory.max")) < 0.41 * total
    # As `er server apply` does it for the stacks that stay when another one comes or goes.
    for limit, low in (("50%", "5%"), ("60%", "10%")):
        stage.root(shlex.join(shares_words(stage.uid, f"[Service]\nMemoryMax={limit}\nMemoryLow={low}\n")))
        for name, wanted in (("memory.max", limit), ("memory.low", low)):
            part = int(wanted.rstrip("%")) / 100 * total
            assert 0.99 * part < int(stage.root(f"cat /sys/fs/cgroup/{stack}/{name}")) <= part, (name, wanted)
    score = "cat /proc/$(pgrep -u er-{} -o caddy)/oom_score_adj"
    assert int(stage.root(score.format("proxy"))) < 0 < int(stage.root(score.format("hello")))


# Attacks.

RESTARTED = "restarted by the admin"


def test_a_fork_bomb(stage: Stage, tell: Callable[..., None]) -> None:
    with unnoticed(stage):
        stage.attack("fork", "15")
        forks = evil(stage)["pressure"]["forks"]
        assert forks > 0
        assert "at the limit of processes" in stage.er("status").stdout
        # The app is no init: what the bomb left behind stays until a restart, which needs no process of the stack's.
        stage.recover()
    tell("fork bomb", f"its limit of {LIMITS.pids} processes", "counts the refusals", RESTARTED)


@pytest.mark.parametrize(
    ("what", "way"),
    [
        ("memory", ("memory", "900")),
        ("full sockets", ("sockets", "4")),
    ],
    ids=["memory", "sockets"],
)
def test_memory(stage: Stage, tell: Callable[..., None], what: str, way: tuple[str, ...]) -> None:
    """Taken straight, and by what the kernel keeps for sockets: all of it is the stack's own."""
    before = evil(stage)["pressure"]["killed"]
    with unnoticed(stage):
        stage.attack(*way, seconds=90)
        assert evil(stage)["pressure"]["killed"] > before
        stage.recover()
    tell(what, f"its limit of {(LIMITS.memory or 0) // MIB} MiB", "counts what was killed", RESTARTED)


def test_a_full_tmp_is_told_to_the_app(stage: Stage, tell: Callable[..., None]) -> None:
    """It holds half of what the service may have, so that nothing is killed for it."""
    size, before = (LIMITS.memory or 0) // 2 // MIB, evil(stage)["pressure"]["killed"]
    with unnoticed(stage):
        said = stage.attack("fill", "/tmp", seconds=90)
    assert said == {"mib": size, "stopped_by": "No space left on device"}
    assert evil(stage)["pressure"]["killed"] == before
    stage.recover()
    tell("files in memory, in /tmp", f"half of its limit, {size} MiB", "as memory used", "as before")


CEILING = f"its stack's ceiling, {shares.ceiling(3):g} %"


@pytest.mark.parametrize(
    ("what", "way"),
    [
        ("memory", ("memory", "16000")),
        # Each of them smaller than the app of a neighbour, which the kernel would end first if it could choose.
        ("memory, in many small processes", ("herd", "8")),
        # Half of what the host has is the size of such a file system.
        ("memory, and files in memory, in /tmp", ("fill_and_take", "/tmp", "16000")),
    ],
    ids=["memory", "herd", "tmpfs"],
)
def test_memory_of_a_service_that_has_no_limit(
    stage: Stage, tell: Callable[..., None], what: str, way: tuple[str, ...]
) -> None:
    """What its stack may have ends it, before all stacks are at the end of what they may have together."""
    before = evil(stage)["pressure"]["killed"]
    together = "sed -n 's/^max //p' /sys/fs/cgroup/stacks.slice/memory.events.local"
    events = stage.root(together)
    with unnoticed(stage):
        stage.attack(*way, seconds=240, service="greedy")
        assert evil(stage)["pressure"]["killed"] > before
        assert stage.root(together) == events
        stage.recover()
    tell(f"{what}, by a service without a limit of its own", CEILING, "counts what was killed", RESTARTED)


def test_a_fork_bomb_of_a_service_that_has_no_limit(stage: Stage, tell: Callable[..., None]) -> None:
    """Where memory is short, so many processes come to the stack's ceiling of that first."""
    before = evil(stage)["pressure"]
    with unnoticed(stage):
        stage.attack("fork", "100", seconds=240, service="greedy")
        after = evil(stage)["pressure"]
        assert (after["forks"], after["killed"]) > (before["forks"], before["killed"])
        stage.recover()
    tell(
        "fork bomb, by a service without a limit of its own",
        f"its stack's ceilings, 30 % of processes, {shares.ceiling(3):g} % of memory",
        "counts the refusals, and what was killed",
        RESTARTED,
    )


def test_shared_memory_has_its_size(stage: Stage, tell: Callable[..., None]) -> None:
    with unnoticed(stage):
        said = stage.attack("fill", "/dev/shm", seconds=20)
    assert said == {"mib": 64, "stopped_by": "No space left on device"}
    stage.recover()
    tell("shared memory", "the size of /dev/shm, 64 MiB", "as memory used", "as before")


def test_busy_processes(stage: Stage, tell: Callable[..., None]) -> None:
    with unnoticed(stage):
        assert stage.attack("cpu", "16", "15", service="greedy") == {"busy": 16}
    tell(
        "16 busy processes, by a service without a limit of its own",
        "its share of the processor",
        "as load",
        "as before",
    )


def test_what_apps_print_is_in_the_journal(stage: Stage) -> None:
    """Podman's users cannot see process 1, by which it would tell that there is one."""
    for user in ("evil", "hello", "proxy"):
        name = "caddy" if user == "proxy" else "web"
        said = stage.podman(user, f"inspect {name} --format '{{{{.HostConfig.LogConfig.Type}}}}'")
        assert said == "journald", user
    stage.attack("words", "hear-me")
    assert "hear-me" in stage.er("logs", "evil").stdout


def test_a_talkative_app_does_not_fill_the_disk(stage: Stage, tell: Callable[..., None]) -> None:
    """With the journal's limit smaller than on a real host, or it would take hours here."""
    name = f"systemd-journald@{facts.JOURNAL}"
    conf = f"/run/{name.replace('-', '/')}.conf.d/zz-small.conf"
    stage.root(f"mkdir -p {Path(conf).parent}; printf '[Journal]\\nSystemMaxUse=64M\\n' >{conf}")
    stage.root(f"systemctl restart {name}; logger -t witness who-logged-in")
    before = stage.status()["disk"]["free"]
    with unnoticed(stage):
        assert stage.attack("talk", "96", seconds=240) == {"mib": 96}
        assert before - stage.status()["disk"]["free"] < 80 * MIB
    assert stage.root("journalctl --namespace= -b -q -o cat -t witness") == "who-logged-in"
    stage.root(f"rm {conf}; systemctl restart {name}")
    tell("96 MiB of log lines at once", "the limits of the stacks' own journal", "as disk used", "as before")


# A full disk. A file of root's leaves little of it, so that little has to be written.


@pytest.fixture(scope="module")
def small(stage: Stage) -> None:
    leave = 700
    free = stage.status()["disk"]["free"] // MIB
    stage.root(f"fallocate -l {free - leave}M /ballast")


def stopped(stage: Stage) -> bool:
    return evil(stage)["pressure"]["filled"] is not None


_PROBE = f"{facts.CADDY_DATA}/probe"
_AS_PROXY = f"setpriv --reuid {facts.PROXY_UID} --regid {facts.PROXY_UID} --clear-groups"


@pytest.mark.parametrize("way", ["write", "reserve"])
def test_a_filled_volume(stage: Stage, small: None, tell: Callable[..., None], way: str) -> None:
    with unnoticed(stage):
        stage.attack("fill", "/srv/data", way, seconds=240)
        until(lambda: stopped(stage), timeout=PATIENCE, what="the stop")
        said = stage.er("status")
        assert said.returncode == 1
        assert "evil was stopped" in said.stderr
        assert "evil was stopped" in stage.er("doctor").stdout
        # The proxy can write all the while; the others again when somebody has made room.
        stage.root(f"{_AS_PROXY} sh -c 'echo certificate >{_PROBE} && rm {_PROBE}'")
        stage.root(f"rm -rf {files(stage)}/*")
        stage.until_answered()
    assert not stopped(stage)
    tell(
        f"a filled volume ({way})", "stopped when 5 % were left", "says so, and by how much", "starts when room is made"
    )


@pytest.mark.parametrize(
    ("what", "way"),
    [("the container's own files", ("/srv", "write")), ("files without a name", ("/srv/data", "nameless"))],
    ids=["layer", "nameless"],
)
def test_what_ends_with_the_container(
    stage: Stage, small: None, tell: Callable[..., None], what: str, way: tuple[str, ...]
) -> None:
    with unnoticed(stage):
        stage.attack("fill", *way, seconds=240)
        stops = "journalctl -b -u er-room --no-pager -o cat | grep -c 'evil is started'"
        until(lambda: stage.root(stops, check=False) != "0", timeout=PATIENCE, what="the start")
        stage.until_answered()
    tell(what, "stopped when 5 % were left", "says so while it is", "starts by itself")


# The network.


def test_a_port_scan_of_the_host(stage: Stage, tell: Callable[..., None]) -> None:
    """By the name that containers have for it; the kernel's log has a line that `er server logs --refused` finds.

    What is open are the host's own sites, as for every visitor.
    """
    before = refusals(stage)
    with unnoticed(stage):
        said = stage.attack("scan", "host.containers.internal", "1", "1024", seconds=120)
    assert said is not None
    assert said["open"] == [80, 443]
    assert refusals(stage) - before > 1000
    assert " DPT=" in stage.er("logs", "evil", "--refused").stdout
    tell(
        "a scan of the host's ports",
        "the firewall; its sites answer, as to all",
        "counts the refusals, logs some",
        "as before",
    )


def refusals(stage: Stage) -> int:
    """How often the firewall refused the stack something, as status counts it."""
    return int(next(row for row in stage.status()["egress"] if row["user"] == "er-evil")["refused"])


def test_a_flood_of_connections_leaves_room_for_others(stage: Stage, tell: Callable[..., None]) -> None:
    with unnoticed(stage):
        said = stage.attack("flood", "20")
        used = int(stage.root("cat /proc/sys/net/netfilter/nf_conntrack_count"))
    assert said is not None
    assert said["sent"] > 2 * CONNECTIONS
    assert used < 2 * CONNECTIONS
    tell("a flood of connections", f"its limit of {CONNECTIONS} connections", "counts the refusals", "as before")


def test_the_host_came_through(stage: Stage, boot: str) -> None:
    """One boot, no unit failed, nobody else's process was killed, the others were never restarted."""
    failed = stage.root("systemctl --failed --no-legend --plain")
    assert failed == "", stage.root(
        f"journalctl -b --no-pager {' '.join(f'-u {line.split()[0]}' for line in failed.splitlines())}"
    )
    assert stage.root(_BOOT) == boot
    for stack in stage.status()["stacks"]:
        if stack["stack"] != "evil":
            assert stack["pressure"] == {"killed": 0, "forks": 0, "filled": None}
            assert [service["restarts"] for service in stack["services"]] == [0]


def test_lynis(stage: Stage) -> None:
    """The whole index, with no test left out: in the lab the kernel's settings are the machine's."""
    stage.root("systemctl start er-integrity.service")
    tree = base_tree.tree((*PACKAGES["debian-13"], *TOOLS))
    lynis = ["usr/sbin/lynis", "usr/share/lynis", "etc/lynis"]
    packed = subprocess.run(["tar", "-C", str(tree), "-cz", *lynis], capture_output=True, check=True).stdout
    process.run(stage.ssh_argv("sudo tar -C / -xz --no-same-owner"), stdin=packed, timeout=PATIENCE)
    stage.root("lynis audit system --quick --no-colors --quiet", check=False, timeout=2 * PATIENCE)
    report = stage.root("cat /var/log/lynis-report.dat")
    found = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert found
    answered = {name for name, answer in answers()["lynis"].items() if answer.get("only") != "lab"}
    assert set(re.findall(r"^(?:suggestion|warning)\[\]=([\w-]+)\|", report, re.MULTILINE)) <= answered
    assert int(found[1]) >= INDEX, report
