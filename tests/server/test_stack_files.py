"""What a stack owns and what it does not: its data stays its own, how it runs is root's, and its trouble is its own."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.polling import until
from tests.machine import hosts
from tests.machine.clients import get
from tests.server.conftest import Client, client
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.machine import Machine

pytestmark = pytest.mark.machine

_WORD = "only-for-the-vault"
_DATA = f"{facts.STACK_DATA}/vault/files"
_CHANGE = ("    port: 3000", "    port: 3000\n    environment: {{TURN: '{turn}'}}")
_TURN = (_CHANGE[0], _CHANGE[1].format(turn="blocked"))


@pytest.fixture(scope="module")
def own(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The host of the spec `own`."""
    tmp = tmp_path_factory.mktemp("own")
    with hosts.booted("own", tmp, timeout=240) as host:
        yield client(host, tmp)


def changed(own: Client, turn: str) -> Path:
    """The spec with another environment for hello."""
    return own.edited(_CHANGE[0], _CHANGE[1].format(turn=turn))


def as_999(own: Client, line: str) -> subprocess.CompletedProcess[str]:
    """In the container whose user is 999."""
    return own.host.machine.run(["podman", "exec", "store", "sh", "-c", line], user="er-vault", check=False)


# Files of a stack.


def test_only_its_stack_reads_its_units_and_files(own: Client) -> None:
    """Neither a neighbour nor the proxy nor who logs in without sudo; the apps' own users do."""
    machine = own.host.machine
    uid = machine.user("er-vault").uid
    places = f"{facts.QUADLETS}/{uid} {facts.STACKS}/vault"
    look = f"grep -rl {_WORD} {places}"
    assert len(machine.run(look, user="er-vault").stdout.splitlines()) == 2
    for user in ("er-hello", "er-proxy", "er"):
        done = machine.run(look, user=user, check=False)
        assert done.stdout == ""
        assert done.stderr.count("Permission denied") == 2, user
    assert as_999(own, "cat /conf/settings").stdout.strip() == _WORD
    assert own.er("apply", own.spec, "--dry-run").stderr.startswith("nothing differs")


def test_rights_that_were_changed_by_hand_are_told_and_mended(own: Client) -> None:
    machine = own.host.machine
    unit = f"{facts.QUADLETS}/{machine.user('er-vault').uid}/vault-store.container"
    machine.run(f"chgrp er-hello {unit}; chmod 0755 {facts.STACKS}/vault")
    told = own.er("verify", own.spec).stderr
    assert f"{unit} differs" in told
    assert f"stacks apart: {facts.STACKS}/vault" in told
    shown = own.er("apply", own.spec, "--dry-run").stderr
    assert f"rights 0640 root:er-hello -> 0640 root:er-vault  {unit}" in shown
    assert own.er("doctor", "--fix").returncode in {0, 1}
    assert own.er("apply", own.spec, "--dry-run").stderr.startswith("nothing differs")
    assert machine.run(["stat", "-c", "%a %U:%G", f"{facts.STACKS}/vault"]).stdout == "750 root:er-vault\n"


# Data.


@of_a_sweep
def test_data_stays_whose_it_is_over_apply_and_reboot(own: Client) -> None:
    """Written by the container's user 999 in three directories, one of them inside another, one with an odd name."""
    write = "for place in /data /in /odd; do echo $0 >>$place/note || exit; done; cat /odd/note"
    owners = f"find {_DATA} -mindepth 1 -printf '%u %m %p\\n' | sort"
    assert as_999(own, write.replace("$0", "first")).stdout == "first\n"
    before = own.host.machine.run(owners).stdout
    assert own.er("apply", changed(own, "data"), "--yes").returncode == 0
    assert own.host.machine.run(owners).stdout == before
    assert as_999(own, write.replace("$0", "second")).stdout == "first\nsecond\n"
    own.host.reboot()
    assert own.host.machine.run(owners).stdout == before
    until(lambda: as_999(own, "true").returncode == 0, timeout=60, what="the container")
    assert as_999(own, write.replace("$0", "third")).stdout == "first\nsecond\nthird\n"


def test_an_email_that_begins_like_a_comment_is_one(own: Client) -> None:
    """Caddy has read it whole, and its sites with it."""
    config = own.host.machine.run(["curl", "-s", f"http://127.0.0.1:{facts.PROXY_ADMIN}/config/"]).stdout
    assert own.spec.read_text().count("#ops'`@example.org") == 1
    assert '"vault.example.com"' in config
    assert get(own.host, "https://vault.example.com/").status == 200


# What decides how a stack runs.

_PLANTED = {
    "systemd/user.conf": "[Manager]\nManagerEnvironment=PLANTED=1\nDefaultEnvironment=PLANTED=1\n",
    "systemd/user.conf.d/planted.conf": "[Manager]\nDefaultEnvironment=PLANTED=1\n",
    "systemd/user/{unit}": "[Service]\nType=exec\nExecStart=sleep 4242\n",
    "systemd/user/{unit}.d/planted.conf": "[Service]\nEnvironment=PLANTED=1\n",
    "systemd/user/default.target.wants/planted.service": "[Service]\nExecStart=sleep 4242\n",
    "environment.d/planted.conf": "PLANTED=1\nQUADLET_UNIT_DIRS=/tmp\nXDG_CONFIG_HOME=/tmp\n",
    "containers/systemd/planted.container": "[Container]\nImage=localhost/x\n[Install]\nWantedBy=default.target\n",
    "containers/containers.conf": '[containers]\nenv=["PLANTED=1"]\n[engine]\nruntime="planted"\n',
    "containers/containers.conf.d/planted.conf": '[containers]\nenv=["PLANTED=1"]\nannotations=["planted=1"]\n',
    "containers/storage.conf": '[storage]\ndriver="vfs"\ngraphroot="/tmp/planted"\n',
    "containers/registries.conf": 'unqualified-search-registries=["planted.example.com"]\n',
    "containers/registries.conf.d/planted.conf": '[[registry]]\nlocation="docker.io"\nblocked=true\n',
    "containers/policy.json": '{"default":[{"type":"reject"}]}\n',
    "containers/mounts.conf": "/etc:/planted\n",
    "containers/podman-connections.json": '{"Connection":{"Default":"planted"}}\n',
    "containers/seccomp.json": "{}\n",
    "credstore/planted": "planted\n",
    "user-tmpfiles.d/planted.conf": "f %h/.cache/planted\n",
}
# Beside the settings, where data of programs is looked for.
_BESIDE = {
    ".local/share/systemd/user/{unit}": _PLANTED["systemd/user/{unit}"],
    ".local/share/containers/systemd/planted.container": _PLANTED["containers/systemd/planted.container"],
    ".local/share/dbus-1/services/planted.service": "[D-BUS Service]\nName=org.planted\nExec=/bin/sleep 4242\n",
    ".local/share/user-tmpfiles.d/planted.conf": "f %h/.cache/planted\n",
    ".config/containers/policy.json": _PLANTED["containers/policy.json"],
    ".docker/config.json": '{"credHelpers":{"docker.io":"planted"}}\n',
    ".pam_environment": "PLANTED=1\n",
    ".profile": "export PLANTED=1\n",
    ".bashrc": "export PLANTED=1\n",
}
USERS = {"er-vault": ("vault", "vault-web.service"), "er-proxy": ("proxy", "er-proxy.service")}


def plant(own: Client, user: str) -> list[str]:
    """As the user, all of it below each directory where settings could be; returns what it could write."""
    stack, unit = USERS[user]
    uid = own.host.machine.user(user).uid
    tops = [f"{facts.HOMES}/{stack}/.config", f"{facts.CONFIG}/{uid}", f"{facts.HOMES}/{stack}"]
    files = {f"{top}/{name}": text for top in tops for name, text in _PLANTED.items()}
    files |= {f"{facts.HOMES}/{stack}/{name}": text for name, text in _BESIDE.items()}
    files |= {f"{facts.HOMES}/{stack}/.local/share/{name}": text for name, text in _PLANTED.items()}
    for name, text in files.items():
        path = name.format(unit=unit)
        own.host.machine.run(
            f"mkdir -p {path.rpartition('/')[0]} && cat >{path}", user=user, stdin=text.encode(), check=False
        )
    written = own.host.machine.run(f"find {' '.join(tops)} -type f -newer /run/er-planting -user {user}", check=False)
    return [path for path in written.stdout.splitlines() if "/containers/storage/" not in path]


def settings_of(own: Client, user: str) -> dict[str, str]:
    """What its manager and its Podman go by."""
    run = own.host.machine.run
    stack, unit = USERS[user]
    podman = "podman info --format '{{.Store.ConfigFile}} {{.Store.GraphRoot}} {{.Store.GraphDriverName}}"
    podman += " {{.Host.OCIRuntime.Name}} {{.Registries}}'"
    container = run("podman ps --format '{{.Names}}' | sort | head -1", user=user).stdout.strip()
    inspect = "podman inspect --format '{{.OCIRuntime}} {{.Config.Env}} {{.Config.Annotations}} {{.Mounts}}'"
    told = run(f"{inspect} {container} | tr ' []' '\\n' | grep -v -e ^HOSTNAME -e ^LISTEN_ | sort", user=user).stdout
    return {
        "environment": run("systemctl --user show-environment | sort", user=user).stdout,
        "unit": run(
            f"systemctl --user show -p FragmentPath -p SourcePath -p DropInPaths -p Environment {unit}", user=user
        ).stdout,
        "units": run(
            "systemctl --user list-units --plain --no-legend --type service | awk '!/er-ingress/ {print $1}' | sort",
            user=user,
        ).stdout,
        "podman": run(podman, user=user).stdout,
        "container": told,
        "home": stack,
    }


@pytest.mark.parametrize("user", sample(USERS, ("er-vault",)))
def test_nothing_that_a_user_writes_changes_how_it_runs(own: Client, user: str) -> None:
    """Most of it cannot be written at all; what can is read by nobody, at a boot neither."""
    before = settings_of(own, user)
    own.host.machine.run("touch -d '1 second ago' /run/er-planting")
    written = plant(own, user)
    assert not [path for path in written if "/.local/share/containers/" not in path], written
    own.host.machine.run(f"systemctl restart user@{own.host.machine.user(user).uid}")
    until(
        lambda: (
            own.host.machine.run(f"systemctl --user is-active {USERS[user][1]}", user=user, check=False).stdout.strip()
            == "active"
        ),
        timeout=90,
        what="the manager's services",
    )
    after = settings_of(own, user)
    momentary = re.compile(r"^(podman-pause|rootless-netns|run-|[0-9a-f]{20,}).*\n", re.MULTILINE)
    for key in before:
        assert momentary.sub("", after[key]) == momentary.sub("", before[key]), key
    assert "PLANTED" not in str(after)
    assert "4242" not in own.host.machine.run(["ps", "-u", user, "-o", "args"]).stdout
    own.host.machine.run(f"rm -rf {' '.join(written) or '/run/er-planting'}")


# What of the home may change, and is read again after a boot: Podman's store and cache, which are the stack's own, as
# its data is. An app that was taken over can leave itself there.
_ITS_OWN = ("/.local/share/containers", "/.cache/containers")


def test_programs_of_a_user_look_for_nothing_that_it_could_have_written(own: Client) -> None:
    """Every file that the manager, Podman, Quadlet, conmon, crun, pasta and their helpers ask for, from a start on."""
    machine, user = own.host.machine, "er-hello"
    who = machine.user(user)
    asked = traced(own, who.uid)
    assert any(path.endswith("/containers.conf") for path in asked)
    assert any(path.endswith("/user.conf") for path in asked)
    assert {"podman", "conmon", "crun", "pasta", "podman-user-generator"} <= {path.rpartition("/")[2] for path in asked}
    lasting = [
        path
        for path in asked
        if not path.startswith(("/run/", "/proc/", "/sys/", "/dev/", "/tmp/", "/var/tmp/", "/var/run/"))
    ]
    open_ = [path for path in lasting if could_write(machine, path, who.uid, who.gid)]
    open_ = [path for path in open_ if not path.startswith(f"{facts.STACK_DATA}/hello/")]
    elsewhere = [path for path in open_ if not path.removeprefix(who.home).startswith(_ITS_OWN)]
    assert sorted(set(elsewhere)) == []


def traced(own: Client, uid: int) -> set[str]:
    """Paths that are opened, run or looked for while the user's manager starts and its service comes up."""
    machine = own.host.machine
    trace = own.directory / "trace"
    calls = "trace=open,openat,openat2,execve,access,faccessat,faccessat2,stat,newfstatat,statx,readlink,readlinkat"
    argv = ["strace", "-f", "-qq", "-e", calls, "-e", "signal=none", "-o", str(trace), "-p", str(machine.leader)]
    machine.run(f"systemctl stop user@{uid}")
    tracer = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(
            lambda: "TracerPid:\t0\n" not in Path(f"/proc/{machine.leader}/status").read_text(),
            timeout=30,
            what="the tracer",
        )
        machine.run(f"systemctl start user@{uid}", timeout=300)
        until(lambda: get(own.host, "https://hello.example.com/").status == 200, timeout=300, what="the app")
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(60)
    text = trace.read_text(errors="replace")
    return {os.path.normpath(path) for path in re.findall(r'\((?:AT_FDCWD, )?"(/[^"]*)"', text)}


def could_write(machine: Machine, path: str, uid: int, gid: int) -> bool:
    """Whether the user owns the file or a directory on the way to it, or may write there: then it could be its own."""
    for here in [*reversed(PurePosixPath(path).parents), PurePosixPath(path)]:
        place = str(machine.path(str(here)))
        if not os.path.lexists(place):
            return False
        found = os.lstat(place)
        if stat.S_ISLNK(found.st_mode):
            continue
        if (
            found.st_uid == uid
            or found.st_mode & stat.S_IWOTH
            or (found.st_gid == gid and found.st_mode & stat.S_IWGRP)
        ):
            return True
    return False


# Trouble.


def test_no_stack_blocks_a_change(own: Client) -> None:
    """Whatever it leaves where root works: directories and links in its home, a held lock, a halted manager."""
    machine, home = own.host.machine, f"{facts.HOMES}/vault"
    manager = f"user@{machine.user('er-vault').uid}"
    mess = f"""
        for name in .local/dirty .local/share/containers/dirty .local/share/containers/precious .cache/x; do
            rm -rf {home}/$name; mkdir -p {home}/$name/deep
        done
        ln -sfn /etc/shadow {home}/.cache/link; ln -sfn / {_DATA}/root; mkfifo {home}/.cache/fifo
    """
    machine.run(mess, user="er-vault", check=False)
    lock = f"{home}/.local/share/containers/storage/storage.lock"
    machine.run(f"systemd-run -q --unit=holder --uid=er-vault flock {lock} sleep 900")
    machine.run(f"systemctl kill --kill-whom=main --signal=STOP {manager}")
    try:
        done = own.er("apply", changed(own, "blocked"), "--yes", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        assert "vault was ill before this change" in done.stderr
        assert own.er("apply", own.edited(*_TURN), "--dry-run").stderr.startswith("nothing differs")
        assert get(own.host, "https://hello.example.com/").status == 200
    finally:
        machine.run("systemctl stop holder")
        machine.run(f"rm -rf {home}/.cache/* {_DATA}/root {home}/.local/share/containers/precious")
        machine.run(
            f"systemctl kill --kill-whom=main --signal=CONT {manager}; systemctl restart {manager}", timeout=300
        )
    until(lambda: get(own.host, "https://vault.example.com/").status == 200, timeout=120, what="the vault")


@of_a_sweep
def test_a_link_in_its_data_is_not_mounted_and_is_its_own_trouble(own: Client) -> None:
    """What a container has put in place of a directory of its own: another mount would follow it out."""
    machine = own.host.machine
    until(lambda: as_999(own, "true").returncode == 0, timeout=120, what="the container")
    runtime = f"/run/user/{machine.user('er-vault').uid}"
    assert as_999(own, f"mv /data/deep /data/kept && ln -s {runtime} /data/deep").returncode == 0
    machine.run("systemctl --user restart --no-block vault-store.service", user="er-vault")
    said = "journalctl -b -q -o cat --namespace=* --grep '^Error: a link leads elsewhere'"
    try:
        until(lambda: "data/deep" in machine.run(said, check=False).stdout, timeout=60, what="the refusal")
        done = own.er("apply", changed(own, "link"), "--yes", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        assert "vault was ill before this change" in done.stderr
        assert get(own.host, "https://vault.example.com/").status == 200
    finally:
        machine.run(f"rm {_DATA}/data/deep && mv {_DATA}/data/kept {_DATA}/data/deep")
        again = "systemctl --user reset-failed vault-store.service; systemctl --user start vault-store.service"
        machine.run(again, user="er-vault", timeout=120)


def test_what_a_container_says_does_not_reach_the_terminal_as_it_is(own: Client) -> None:
    """A change that fails shows its last words; so do the logs."""
    said = "sh, -c, 'printf \"Error: \\\\033]0;owned\\\\007 \\\\033[31mred\\\\n\"; exit 1'"
    broken = own.edited("    port: 3000", f"    port: 3000\n    command: [{said}]")
    done = own.er("apply", broken, "--yes", "--timeout", "10")
    assert done.returncode == 1
    assert "owned" in done.stderr
    logs = own.er("logs", "hello", "--lines", "200")
    assert all(char.isprintable() or char in "\n\t" for char in done.stderr + logs.stdout + logs.stderr)


def _serves(client: Client, url: str) -> bool:
    """Whether it does by now; while a host boots, nothing listens yet."""
    return client.host.curl(url, timeout=5).stdout.startswith("HTTP/2 200")


@of_a_sweep
def test_a_stack_in_trouble_stops_no_other_at_a_boot(own: Client) -> None:
    """Its home is a file; the others come up, and the console says whose home it is."""
    machine = own.host.machine
    machine.run(f"systemctl stop user@{machine.user('er-vault').uid}")
    machine.run(f"mv {facts.HOMES}/vault {facts.HOMES}/kept; : >{facts.HOMES}/vault")
    machine.poweroff()
    machine.boot()
    machine.wait_console("easyrunner: trouble", timeout=90)
    serves = partial(_serves, own, "https://hello.example.com/")
    until(serves, timeout=90, what="the neighbour")
    assert f"{facts.HOMES}/vault" in machine.run("journalctl -b -u er-first-boot --no-pager").stdout
