"""What a container's root can do with the capabilities that it keeps, and that none of it leaves the stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import facts
from tests.machine import containment_page, hosts
from tests.machine.clients import get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine
PROGRAM = (Path(__file__).parent / "container_attacks.py").read_text()
DATA = f"{facts.HOMES}/yard/.local/share/containers/storage/volumes/yard_shared/_data"
COLUMNS = {"root, `standard`": "web", "root, `strict`": "strict", "another user, `standard`": "person"}
# The kernel is this machine's: others may change the rest meanwhile.
SETTINGS = "sysctl kernel.dmesg_restrict vm.overcommit_memory kernel.core_pattern"
KEYRING = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
add, keyctl = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
if sys.argv[1] == "add":
    sys.exit(libc.syscall(add, b"user", b"of-the-host", b"x", 1, -4) < 0)
sys.exit(libc.syscall(keyctl, 10, -4, b"user", sys.argv[1].encode(), 0) < 0)
"""


@pytest.fixture(scope="module")
def rights(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts.booted("rights", tmp_path_factory.mktemp("rights")) as host:
        yield host


def inside(host: Host, service: str, *words: str, user: str | None = None) -> str:
    """What a program says in a container of `yard`."""
    who = [f"--user={user}"] if user else []
    return host.machine.run(["podman", "exec", *who, service, *words], user="er-yard").stdout


def pid_of_the_other(host: Host) -> str:
    return host.machine.run(["podman", "inspect", "--format={{.State.Pid}}", "web"], user="er-other").stdout.strip()


@pytest.fixture(scope="module")
def tried(rights: Host) -> Iterator[dict[str, dict[str, str]]]:
    """By container what came of each attempt; what the host is like is the same before and after."""
    machine = rights.machine
    machine.run(["python3", "-c", KEYRING, "add"], user="er-yard")
    prepare = "import os; os.chmod('/srv/shared', 0o1777); open('/srv/shared/locked', 'w').write('secret')\n"
    inside(
        rights,
        "web",
        "python3",
        "-c",
        f"{prepare}os.chmod('/srv/shared/locked', 0o600); os.chown('/srv/shared/locked', 33, 33)",
    )
    machine.run("touch /run/marker")
    before = unchanging(rights)
    number = f"--env=HOST_PID={pid_of_the_other(rights)}"
    found = {}
    for service in COLUMNS.values():
        words = ["podman", "exec", number, service, "python3", "-c", PROGRAM, "capabilities"]
        found[service] = json.loads(machine.run(words, user="er-yard", timeout=120).stdout)
    yield found
    assert unchanging(rights) == before
    assert machine.run("find /etc /usr /boot /root /opt /srv -xdev -type f -newer /run/marker").stdout == ""


def unchanging(host: Host) -> dict[str, str]:
    """What no container may change."""
    return {
        "settings": host.machine.run(SETTINGS).stdout,
        "mounts": host.machine.run("findmnt -rno TARGET,OPTIONS --task 1").stdout,
        "setuid": host.machine.run(
            f"find / -xdev -path {facts.HOMES}/yard -prune -o -type f -perm /6000 -print"
        ).stdout,
        "other": host.machine.run("systemctl --user show -PNRestarts,ActiveState other-web", user="er-other").stdout,
        "process": pid_of_the_other(host),
    }


def test_what_root_may(tried: dict[str, dict[str, str]]) -> None:
    attempts = tried["web"]
    rows = [
        {"attempt": name, **{column: tried[service][name] for column, service in COLUMNS.items()}} for name in attempts
    ]
    containment_page.settle("capabilities", rows)


def test_nothing_else_works(tried: dict[str, dict[str, str]]) -> None:
    done = {service: {name for name, said in found.items() if said == "done"} for service, found in tried.items()}
    anybody = containment_page.ANYBODY
    assert done == {"web": containment_page.MAY, "strict": {*anybody, "root's id"}, "person": anybody}


def test_files_belong_to_the_stack_whoever_owns_them(rights: Host, tried: dict[str, dict[str, str]]) -> None:
    """Root in a container is the stack's user, any other one of its subordinate ids."""
    stack = rights.spec.stacks[0]
    first = (stack.uid - facts.UID_BASE) * facts.SUBID_SIZE
    found = rights.machine.run(f"find {DATA} -printf '%U %G %P\n'").stdout.splitlines()
    assert any("given-33" in line for line in found)
    for line in found:
        for number in map(int, line.split()[:2]):
            assert number == stack.uid or first <= number < first + facts.SUBID_SIZE, line


@pytest.mark.parametrize("user", ["er", "er-other", "er-proxy", "nobody"])
def test_nobody_else_runs_a_setuid_program_of_the_stack(
    rights: Host, tried: dict[str, dict[str, str]], user: str
) -> None:
    program = f"{DATA}/of-web/setuid"
    assert "-rwsr-sr-x" in rights.machine.run(["stat", "-c", "%A", program]).stdout
    done = rights.machine.run([program, "-c", ""], user=user, check=False)
    shown = rights.machine.run(f"namei -lx {program}; id {user}").stdout
    assert done.returncode != 0, shown
    assert "Permission denied" in done.stderr


def test_keys_do_not_cross(rights: Host, tried: dict[str, dict[str, str]]) -> None:
    """The stack's user has a key on the host; its container had one of its own under the same user."""
    words = ["python3", "-c", KEYRING]
    assert rights.machine.run([*words, "of-the-host"], user="er-yard", check=False).returncode == 0
    assert rights.machine.run([*words, "of-a-container"], user="er-yard", check=False).returncode != 0


def test_a_low_port_is_not_the_hosts(rights: Host) -> None:
    """While a container listens on one: the same port of the host answers nobody, the proxy's do."""
    listen = "import socket,time; s=socket.create_server(('', 443)); time.sleep(30)"
    rights.machine.run(["podman", "exec", "-d", "web", "python3", "-c", listen], user="er-yard")
    assert get(rights, "https://other.example.com/").status == 200
    assert get(rights, "https://yard.example.com/").status == 200
    assert rights.machine.run("ss -Hltn 'sport < 1024'").stdout.count("127.0.0.1:443") == 0


def test_links_in_the_stacks_directories_lead_nowhere(rights: Host) -> None:
    """At a restart the host makes directories and gives them to the container's user: never what a link names."""
    shadow = rights.machine.run("stat -c '%U %G %a' /etc /etc/shadow /etc/passwd").stdout
    for service, place in (("web", "/srv/made"), ("person", "/srv/theirs")):
        for name, target in (("directory", "/etc"), ("file", "/etc/shadow"), ("up", "../../../../../../../etc/passwd")):
            inside(rights, service, "python3", "-c", f"import os; os.symlink('{target}', '{place}/{name}')")
        rights.machine.run(["systemctl", "--user", "restart", f"yard-{service}.service"], user="er-yard", timeout=90)
        assert inside(rights, service, "python3", "-c", f"import os; print(os.path.islink('{place}/file'))") == "True\n"
    assert rights.machine.run("stat -c '%U %G %a' /etc /etc/shadow /etc/passwd").stdout == shadow
    assert get(rights, "https://other.example.com/").status == 200
