"""Certificates on NFS for real: a host and a server of files, both virtual machines with Debian's kernels.

What does not need NFS is in machine/test_shared_certificates.py. By itself, which prints its figures:

    ER_SWEEPS=1 .venv/bin/pytest -s tests/packer/test_shared_certificates.py
"""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from builder import facts, host, userdata
from builder.polling import until
from builder.qemu import Settings, Vm, verify
from builder.spec import with_storage
from tests import sweeps
from tests.machine import hosts
from tests.packer import nfs_server
from tests.packer.nfs_server import NfsServer
from tests.packer.shared_bake import bake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.spec import Spec

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(not sweeps.WHOLE, reason="minutes where virtual machines are emulated: make sweeps"),
]

_DOMAIN: Final = "hello.example.com"
# Seconds of an emulated boot, and of one command in such a machine.
_BOOT: Final = 1800.0
_COMMAND: Final = 400.0
_LOCKS: Final = 500
# Makes files as Caddy makes a lock, and prints how many it had. Both sides begin when both are there, from either end.
_RACE: Final = """
import os, sys, time
place, count, side = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.chdir(place)
open(f"here-{side}", "w").close()
while len([name for name in os.listdir(".") if name.startswith("here-")]) < 2:
    time.sleep(0.01)
won = 0
for number in sorted(range(count), reverse=side == "server"):
    time.sleep(0.01 if side == "server" else 0)  # what one takes over the network
    try:
        os.close(os.open(f"lock-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        won += 1
    except FileExistsError:
        pass
print("won", won)
"""


@dataclass
class Pair:
    """The host, which is on, and the server of files; what took how long, in seconds."""

    vm: Vm
    server: NfsServer
    directory: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def asked(self, line: str, *, check: bool = True) -> str:
        """What root is told by a command line."""
        return self.vm.ssh(shlex.join(["sudo", "sh", "-c", line]), timeout=_COMMAND, check=check).stdout

    def as_proxy(self, line: str) -> str:
        """The same as the proxy's user: root is nobody at the server."""
        user = ["setpriv", f"--reuid={facts.PROXY_UID}", f"--regid={facts.PROXY_UID}", "--clear-groups"]
        return self.asked(shlex.join([*user, "sh", "-c", line]))

    def status(self) -> int:
        """Of the front page, with a certificate of the host's authority, which lies on the server."""
        ca = self.directory / "ca.crt"
        if not ca.exists():
            ca.write_text(self.as_proxy(f"cat {facts.CADDY_DATA}/caddy/pki/authorities/local/root.crt"))
        return self.vm.https_status(_DOMAIN, ca)

    def answers(self) -> bool:
        """Whether the host finds its storage well."""
        return self.asked(f"{facts.LIB}/storage look", check=False).strip().lstrip("-").isdigit()

    def wait_console(self, text: str, what: str, since: float) -> None:
        """Until the console has said it once more than it had."""
        before = self.vm.console_text().count(text)
        self.vm.wait_console(text, timeout=_BOOT, times=before + 1)
        self.seconds[what] = time.monotonic() - since


def _user_data(spec: Spec) -> bytes:
    """With an address on the wire, which providers would give by DHCP."""
    document: dict[str, Any] = yaml.safe_load(userdata.cloud_config(spec, host.build(spec), "baked"))
    card = f"i=$(grep -l {nfs_server.CLIENT_MAC} /sys/class/net/*/address | cut -d/ -f5)"
    address = f"{card}; ip link set $i up; ip addr add {nfs_server.CLIENT}/24 dev $i"
    document["bootcmd"] = [address, *document.get("bootcmd", [])]
    return b"#cloud-config\n" + yaml.safe_dump(document).encode()


@pytest.fixture(scope="module")
def pair(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both switched on, with a directory on the server that is root's, as somebody has just made it."""
    directory = tmp_path_factory.mktemp("nfs")
    spec, key = hosts.written("shared", directory)
    image = bake(directory / "built", "--builder", "container", "--no-verify", spec=key.with_name("easyrunner.yaml"))
    own = verify.for_this_machine(spec, key.with_suffix(".pub").read_text().strip())
    here, there = nfs_server.free_ports(2)
    settings = Settings(
        user_data=_user_data(with_storage(own, nfs_server.ADDRESS, nfs_server.EXPORT)),
        key=key,
        extra=nfs_server.card(nfs_server.CLIENT_MAC, here, there),
    )
    place = directory / "server"
    place.mkdir()
    with NfsServer(place, (there, here)) as server, Vm(image.image, settings) as vm:
        vm.boot()
        found = Pair(vm, server, directory)
        yield found
        print({what: round(taken, 1) for what, taken in found.seconds.items()})


def test_a_directory_that_is_roots_is_named_and_taken_once_it_is_given(pair: Pair) -> None:
    """Root is nobody there: the host cannot give it to the proxy, and says who can."""
    wanted = f"chown {facts.PROXY_UID}:{facts.PROXY_UID}"
    pair.vm.wait_console(f"the directory is of user 0: on the server that has it, {wanted}", timeout=_BOOT)
    pair.server.run(f"{wanted} {nfs_server.EXPORT}")
    since = time.monotonic()
    pair.wait_console("easyrunner: ready name=web1", "given, until ready", since)
    until(lambda: pair.status() == 200, timeout=_COMMAND, what="the site")
    assert pair.server.run(f"stat -c '%a %u' {nfs_server.EXPORT}").splitlines()[-1] == f"700 {facts.PROXY_UID}"
    assert f"{_DOMAIN}.key" in pair.server.run(f"find {nfs_server.EXPORT}")
    options = pair.asked(f"findmnt -no FSTYPE,OPTIONS {facts.CADDY_DATA}")
    assert options.startswith("nfs4 ")
    assert {"nosuid", "nodev", "noexec", "vers=4.1", "softerr", "lookupcache=pos"} <= set(re.split("[ ,\n]", options))
    # Nothing of NFS listens on the host, and no package came for it.
    assert pair.asked("dpkg-query -Wf '${Status}\n' nfs-common rpcbind 2>&1 | grep -c '^install ok' || :") == "0\n"
    assert "2049" not in pair.asked("ss -Hltun")


def test_of_two_who_make_a_lock_one_has_it(pair: Pair) -> None:
    """The host and the server's own kernel, at once, some hundred times."""
    place = f"{nfs_server.EXPORT}/race"
    pair.server.run(f"mkdir -m 777 {place}; echo {shlex.quote(_RACE)} >/run/race.py")
    pair.server.run(f"(python3 /run/race.py {place} {_LOCKS} server >/run/won 2>&1) </dev/null >/dev/null 2>&1 &")
    since = time.monotonic()
    mine = pair.as_proxy(f"python3 -c {shlex.quote(_RACE)} {facts.CADDY_DATA}/race {_LOCKS} host")
    pair.seconds[f"{_LOCKS} locks over NFS"] = time.monotonic() - since
    theirs = until(lambda: re.search(r"won (\d+)", pair.server.run("cat /run/won")), timeout=60, what="the server's")
    ours = re.search(r"won (\d+)", mine)
    assert ours
    assert theirs
    print(f"locks: the host had {ours[1]}, the server {theirs[1]}")
    assert int(ours[1]) + int(theirs[1]) == _LOCKS


def test_visitors_notice_nothing_while_the_server_does_not_answer(pair: Pair) -> None:
    """Two minutes of it, and a look at the storage has an answer all the same."""
    pair.server.stop()
    since, answers = time.monotonic(), []
    said = ""
    while time.monotonic() - since < 120:
        answers.append(pair.status())
        if not said and time.monotonic() - since > 30:
            begun = time.monotonic()
            said = pair.asked(f"{facts.LIB}/storage look 2>&1 || :")
            pair.seconds["a look at a server that is away"] = time.monotonic() - begun
    print(f"{len(answers)} visits while it was away")
    assert set(answers) == {200}
    assert "Refusal" in said or "TimeoutExpired" in said
    pair.server.go_on()
    begun = time.monotonic()
    until(pair.answers, timeout=600, what="the storage")
    pair.seconds["back, until it answers"] = time.monotonic() - begun
    assert pair.status() == 200


def test_a_server_that_was_cut_and_boots_again_is_used_again(pair: Pair) -> None:
    pair.server.power.cut()
    pair.server.boot()
    begun = time.monotonic()
    until(pair.answers, timeout=600, what="the storage")
    pair.seconds["booted again, until it answers"] = time.monotonic() - begun
    pair.asked("systemctl restart user@20008")
    until(lambda: pair.status() == 200, timeout=_COMMAND, what="the site")


def test_a_host_boots_without_the_server_and_serves_once_it_is_back(pair: Pair) -> None:
    pair.server.stop()
    since = time.monotonic()
    pair.vm.reboot(timeout=600)
    pair.seconds["shut down and on again without the server"] = time.monotonic() - since
    pair.wait_console(
        f"easyrunner: storage: {nfs_server.ADDRESS} does not answer", "on, until it says what is missing", since
    )
    pair.vm.wait_ssh(timeout=_BOOT)
    assert pair.status() == 0
    assert pair.asked("systemctl is-active user@20008 || :") != "active\n"
    assert pair.asked(f"ls -A {facts.CADDY_DATA}") == ""
    pair.server.go_on()
    since = time.monotonic()
    until(lambda: pair.status() == 200, timeout=_COMMAND, what="the site")
    pair.seconds["back, until the site is served"] = time.monotonic() - since
