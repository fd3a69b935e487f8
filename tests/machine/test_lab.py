"""The lab itself: a real boot, a way in and out, a second boot, a power cut, and nothing left behind."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.host.packages import PACKAGES
from builder.lab import base_tree, machine_directory, preload
from builder.lab.machine import Machine
from builder.localhost import cache
from builder.polling import until
from builder.problems import UserError
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine

_UID = 20_100
_OWNER = preload.Owner(_UID, 100 * 65_536, "/var/lib/easyrunner/home/app")
_IMAGE = "localhost/er/app-app:test"
_CAPABLE = "localhost/er/app-caddy:test"
_USER_DATA = b"""#cloud-config
users:
  - name: er-app
    uid: 20100
    homedir: /var/lib/easyrunner/home/app
    no_create_home: true
    shell: /usr/sbin/nologin
runcmd:
  - sed -i /er-app/d /etc/subuid /etc/subgid
  - echo er-app:6553600:65536 >> /etc/subuid
  - echo er-app:6553600:65536 >> /etc/subgid
  - loginctl enable-linger er-app
  - echo "lab says hello" > /dev/console
  - echo first >> /root/boots
"""


@pytest.fixture(scope="session")
def tree() -> Path:
    return base_tree.tree(PACKAGES["debian-13"])


@pytest.fixture(scope="module")
def machine(tree: Path, images: Path) -> Iterator[Machine]:
    wanted = [preload.Image(images / "app.tar", _IMAGE), preload.Image(images / "caddy.tar", _CAPABLE)]
    loaded = preload.prepare(tree, _OWNER, wanted)
    with Machine(tree, _USER_DATA, name="web1", preloads=[loaded], extra_files={"/etc/lab": b"1\n"}) as machine:
        machine.boot_and_wait()
        yield machine


def traces(name: str) -> list[str]:
    """Everything on this machine that carries the name of a lab machine."""
    found = [str(path) for path in Path("/run/netns").glob(f"{name}*") if path.name.removeprefix(name)[:1] in {"", "-"}]
    found += [str(path) for path in (cache.root() / "machines").glob(f"{name}*") if path.stem == name]
    found += [str(path) for path in Path("/sys/class/net").glob(name.replace("-", ""))]
    found += [str(path) for path in Path("/run/systemd/nspawn").glob(f"*/{name}")]
    # Other machines live at the same time: er-5 must not be found in er-51.
    word = re.compile(rf"(?:machines/|--machine=|/run/netns/){name}(?![0-9])")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_text() + (process / "mountinfo").read_text()
            group = (process / "cgroup").read_text()
            if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue  # ended; its parent, the machine's own init, has yet to notice
        except OSError:
            continue
        if word.search(told) or f"/{name}/" in group:
            found.append(str(process))
    return found


def test_cloud_init_is_real_and_the_machine_runs(machine: Machine) -> None:
    assert "status: done" in machine.run("cloud-init status --wait").stdout
    assert machine.run(["systemctl", "is-system-running"]).stdout.strip() == "running"
    assert machine.run(["hostname"]).stdout.strip() == "web1"
    assert machine.wait_console("lab says hello")
    assert machine.files.path("/etc/lab").read_text() == "1\n"


def test_keys_and_machine_id_are_its_own(machine: Machine, tree: Path) -> None:
    assert not list((tree / "etc/ssh").glob("ssh_host_*"))
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert machine.path("/etc/ssh/ssh_host_ed25519_key").exists()
    assert len(machine.path("/etc/machine-id").read_text().strip()) == 32


def test_a_lingering_user_runs_a_preloaded_image(machine: Machine) -> None:
    machine.wait(lambda: machine.path(f"/run/user/{_UID}/bus").exists(), what="the user's manager")
    storage = machine.run("podman info --format '{{.Store.GraphDriverName}} {{.Store.GraphStatus}}'", user="er-app")
    assert storage.stdout.startswith("overlay")
    assert "Native Overlay Diff:true" in storage.stdout
    machine.run(
        ["podman", "run", "--detach", "--name", "app", "--publish", "127.0.0.1:3000:3000", _IMAGE], user="er-app"
    )
    ask = ["curl", "--silent", "http://127.0.0.1:3000/x"]
    assert "uri: /x" in machine.wait(lambda: machine.run(ask, check=False).stdout, what="the app")


def test_a_file_capability_needs_its_capability(machine: Machine) -> None:
    """As in official images: a program with a file capability cannot be executed when all are dropped."""
    run = ["podman", "run", "--rm", "--network=none", "--security-opt=no-new-privileges", "--cap-drop=all"]
    version = [_CAPABLE, "caddy", "version"]
    assert "Operation not permitted" in machine.run([*run, *version], user="er-app", check=False).stderr
    assert machine.run([*run, "--cap-add=NET_BIND_SERVICE", *version], user="er-app").stdout.startswith("v2.")


def test_the_way_out_reaches_the_mirror_by_name(machine: Machine) -> None:
    machine.run(["apt-get", "--quiet", "update"], timeout=120)
    index = machine.run("ls /var/lib/apt/lists").stdout
    assert "Packages" in index


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("number", [0, 1])
def test_attackers_reach_sshd(machine: Machine, family: str, number: int) -> None:
    address = getattr(machine, family)
    banner = machine.attacker(number).run(["bash", "-c", f"exec 3<>/dev/tcp/{address}/22; head -1 <&3"])
    assert banner.stdout.startswith("SSH-2.0-OpenSSH")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_this_machine_reaches_sshd(machine: Machine, family: str) -> None:
    address = (getattr(machine, family), 22)
    with socket.create_connection(address, timeout=5) as connection:
        assert connection.recv(100).startswith(b"SSH-2.0-OpenSSH")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_addresses_are_each_ones_own(machine: Machine, family: str) -> None:
    script = (
        "import socket,sys; s=socket.create_server((sys.argv[1],5555),family=socket.AF_INET6 if ':' in sys.argv[1]"
        " else socket.AF_INET); print(s.accept()[1][0])"
    )
    for client in (machine.attacker(0), machine.attacker(1)):
        address = getattr(machine, family)
        server = machine.start(["python3", "-c", script, address], stdout=subprocess.PIPE)
        machine.wait(lambda: ":5555" in machine.run(["ss", "-ltn"]).stdout, what="the listener")
        client.run(["bash", "-c", f"exec 3<>/dev/tcp/{address}/5555"])
        output, _ = server.communicate(timeout=10)
        assert output.decode().strip() == getattr(client, family)


@of_a_sweep
def test_a_second_boot_keeps_the_disk_and_loses_the_firewall(machine: Machine) -> None:
    boot_id = machine.run(["cat", "/run/cloud-init/.instance-id"]).stdout
    machine.run("echo kept > /root/kept; iptables -A INPUT -p tcp --dport 9999 -j DROP; touch /run/gone")
    machine.poweroff()
    assert not machine.running
    machine.boot_and_wait()
    assert machine.run("cat /root/kept").stdout == "kept\n"
    assert machine.run("cat /root/boots").stdout == "first\n"
    assert machine.run(["cat", "/run/cloud-init/.instance-id"]).stdout == boot_id
    assert not machine.path("/run/gone").exists()
    assert "9999" not in machine.run("iptables -S").stdout
    assert machine.run(["systemctl", "is-system-running"]).stdout.strip() == "running"


@of_a_sweep
def test_a_power_cut_at_any_moment_is_survived(machine: Machine) -> None:
    machine.cut()
    assert not machine.running
    machine.boot()
    machine.wait(machine.systemd_up, what="systemd")
    machine.cut()
    machine.boot_and_wait()
    assert machine.run("cat /root/kept").stdout == "kept\n"
    machine.run(["apt-get", "--quiet", "update"], timeout=120)


@of_a_sweep
def test_two_machines_at_once_do_not_meet(machine: Machine, tree: Path) -> None:
    with Machine(tree, internet=False) as other:
        other.boot_and_wait()
        assert other.id != machine.id
        assert other.attacker(0).run(["ip", "route", "get", machine.ipv4], check=False).returncode != 0
        name = other.id
    assert traces(name) == []
    assert machine.running


def test_a_machine_that_dies_ends_the_wait(tree: Path) -> None:
    with Machine(tree, internet=False) as machine:
        machine.boot()
        machine.wait(machine.started, what="the start")
        with machine.start(["systemctl", "--force", "--force", "poweroff"]):
            pass
        with pytest.raises(UserError, match="went off"):
            machine.wait(lambda: False, timeout=20, what="nothing")
        name = machine.id
    assert traces(name) == []


_OWN_PROCESS = """
import sys
from pathlib import Path
from builder.lab.machine import Machine
from builder.process import terminable
with terminable(), Machine(Path(sys.argv[1])) as machine:
    machine.attacker(0)
    machine.boot()
    print(machine.id, flush=True)
    machine.wait(lambda: False, timeout=60)
"""


@pytest.mark.parametrize("number", sample([signal.SIGINT, signal.SIGTERM], [signal.SIGINT]))
def test_an_ended_run_leaves_nothing(tree: Path, number: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", _OWN_PROCESS, str(tree)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with run:
        assert run.stdout is not None
        name = run.stdout.readline().strip()
        assert traces(name) != []
        run.send_signal(number)
        run.wait(20)
    assert traces(name) == []


def test_what_a_killed_run_left_is_swept(tree: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", _OWN_PROCESS, str(tree)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with run:
        assert run.stdout is not None
        name = run.stdout.readline().strip()
        assert name not in machine_directory.sweep(), "a living run is not swept"
        run.kill()
    assert traces(name) != []
    assert name in machine_directory.sweep()
    until(lambda: traces(name) == [], timeout=20, what="the end of the last process")
