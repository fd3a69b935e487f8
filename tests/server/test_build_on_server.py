"""Images that are built on a booted host, and builds that attack it: visitors of another stack must not notice.

The kernel's limits of memory and processes are set here on the builds' processes with the first version of control
groups, which is all that this machine gives its hosts; that systemd has set its own for the unit is looked at beside.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.lab import trial
from builder.polling import until
from builder.problems import UserError
from builder.server import image_builds
from builder.server.image_builds import Request
from builder.server.remote import egress
from builder.server.ssh import Remote
from builder.stack import user
from tests.machine import attack_image, containment_page, hosts
from tests.machine.clients import Load
from tests.server.conftest import client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.machine.hosts import Host
    from tests.server.conftest import Client

pytestmark = pytest.mark.machine
MIB = 1 << 20
SLOWEST = 10.0
"""Seconds that a visitor may wait, on a machine that does much else."""
CGROUPS = Path("/sys/fs/cgroup")
SITE = "calm.example.com"
FIRST = (hosts.SPECS / "builds/app/Containerfile").read_text()
# What the last build of the stack has made is in its store.
NEXT = "FROM localhost/built\n"
PLAIN = Request("0" * 12, max_age=86_400)


def program(text: str) -> str:
    """A step that runs a program."""
    return f"RUN {json.dumps(['python3', '-c', text])}\n"


def archive(**members: str | bytes) -> bytes:
    """What an image is made of, as a client sends it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@dataclass
class Site:
    """The host, and its admin's connection."""

    host: Host
    remote: Remote
    client: Client

    @cached_property
    def builder(self) -> str:
        """The user that builds for `app`."""
        return user.build_user(self.stack_uid)

    @cached_property
    def stack_uid(self) -> int:
        return next(stack.uid for stack in self.host.spec.stacks if stack.name == "app")

    def build(self, context: bytes, request: Request = PLAIN) -> tuple[str, str]:
        """The image, and what the build printed."""
        printed: list[str] = []
        image = finished(image_builds.build(self.remote, "app", "web", request, context), printed)
        return image, "".join(printed)

    def refused(self, steps: str, request: Request = PLAIN) -> str:
        """Why a build of these steps, on top of the last image, has failed."""
        with pytest.raises(UserError) as caught:
            self.build(archive(Containerfile=NEXT + steps), request)
        return str(caught.value)

    def store(self, *, of: str) -> str:
        """The images in the store of a stack."""
        return self.host.machine.run(["podman", "images", "--noheading"], user=of).stdout


def finished(steps: Generator[image_builds.Progress, None, str], printed: list[str]) -> str:
    """Run to the end; its value."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return str(end.value)
        printed.append(step.text or step.waiting)


@pytest.fixture(scope="module")
def site(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The host of the spec `builds`, with a first image of `app` that runs."""
    tmp = tmp_path_factory.mktemp("builds")
    with hosts.booted("builds", tmp, start=False) as host:
        web = client(host, tmp)
        host.machine.boot()
        host.machine.wait(lambda: serves(host), timeout=120, what="the site that needs no build")
        os.environ["PATH"], before = web.env["PATH"], os.environ["PATH"]
        try:
            yield Site(host, Remote("web", ("-F", str(web.directory / "config"))), web)
        finally:
            os.environ["PATH"] = before


def serves(host: Host) -> bool:
    """Whether the other stack's site is there, and the host's authority for it."""
    return host.machine.path(trial.CA).exists() and " 200" in host.curl(f"https://{SITE}/", timeout=5).stdout[:20]


@pytest.fixture(scope="module")
def base() -> bytes:
    """A Python and what it needs, as the only layer of an image."""
    with tarfile.open(attack_image.PATH) as image:
        sizes = {member.size: member.name for member in image.getmembers()}
        layer = image.extractfile(sizes[max(sizes)])
        assert layer is not None
        return layer.read()


@pytest.fixture(scope="module")
def first(site: Site, base: bytes) -> tuple[str, str]:
    """The first image, by the command: its name, and what the command printed."""
    context = site.client.spec.parent / "app"
    (context / "base.tar").write_bytes(base)
    (context / "greeting").write_text("hello\n")
    (context / ".env").write_text("PASSWORD=secret\n")
    done = site.client.er("push", "app", "--on-server", "--spec", site.client.spec, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["releases"]["app"]["images"]["web"], done.stderr


@pytest.fixture(scope="module")
def tell() -> Iterator[Callable[[str, str], None]]:
    """Adds a row to the table of docs/containment.md; a run of all attacks is compared with it."""
    rows: list[dict[str, str]] = []
    columns = containment_page.SECTIONS["builds"][2]
    yield lambda *words: rows.append(dict(zip(columns, words, strict=True)))
    if len(rows) == ROWS:
        containment_page.settle("builds", rows)


ROWS = 9


@contextmanager
def unnoticed(site: Site) -> Iterator[None]:
    """Every visitor of the other stack gets an answer."""
    load = Load(site.host, SITE, interval=0.3)
    try:
        yield
    finally:
        answers = load.end()
    assert {status for status, _ in answers} == {"200"}, [one for one in answers if one[0] != "200"]
    assert max(seconds for _, seconds in answers) < SLOWEST


def test_an_image_is_built_and_runs(site: Site, first: tuple[str, str]) -> None:
    """By a user of its own, and then it is the stack's; what holds passwords has stayed here."""
    image, said = first
    assert image.startswith("localhost/app/web:")
    assert "COPY greeting /greeting" in said
    assert ".env is no part of the build" in said
    name, _, tag = image.rpartition(":")
    assert f"{name} {tag}" in " ".join(site.store(of="er-app").split())
    assert site.host.curl("https://app.example.com/greeting").stdout.endswith("hello\n")


def test_what_is_the_same_is_not_built_again(site: Site, first: tuple[str, str]) -> None:
    """Nor sent."""
    done = site.client.er("push", "app", "--on-server", "--spec", site.client.spec)
    assert "app/web runs what it is built from" in done.stderr


@of_a_sweep
def test_what_has_changed_is_built_by_an_apply(site: Site, first: tuple[str, str]) -> None:
    """As by a push; of the layers those are sent that have not come from the cache."""
    (site.client.spec.parent / "app/greeting").write_text("hello again\n")
    done = site.client.er("apply", site.client.spec, "--on-server", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Using cache") == 1
    assert site.host.curl("https://app.example.com/greeting").stdout.endswith("hello again\n")


def test_systemd_holds_its_limits(site: Site, first: tuple[str, str]) -> None:
    """What the kernel makes of them is not of this machine."""
    request = replace(PLAIN, by="a colleague", seconds=20)
    with under_way(site, program("import time; time.sleep(60)"), request) as (
        context,
        found,
    ):
        names = "MemoryMax,MemoryHigh,TasksMax,Slice,User,Nice,OOMPolicy,OOMScoreAdjust,RuntimeMaxUSec"
        shown = site.host.machine.run(["systemctl", "show", "build@app.service", "-p", names]).stdout
        unit = dict(line.split("=", 1) for line in shown.splitlines())
        assert (unit["Slice"], unit["User"], unit["OOMPolicy"]) == ("builds.slice", site.builder, "kill")
        assert int(unit["MemoryHigh"]) < int(unit["MemoryMax"]) < 16 << 30
        assert (unit["TasksMax"], unit["Nice"], unit["RuntimeMaxUSec"]) == ("1000", "10", "20s")
        weight = site.host.machine.run("systemctl show builds.slice -p CPUWeight -p MemoryLow").stdout.split()
        assert weight == ["CPUWeight=5", "MemoryLow=0"]
        # Somebody else waits, and is told for whom.
        waiting: list[str] = []
        image = finished(image_builds.build(site.remote, "app", "web", PLAIN, context), waiting)
        assert image.startswith("localhost/app/web:")
        assert "app is being built by a colleague since" in waiting[0]
    assert "was ended after 20 s" in str(found[0])


@contextmanager
def under_way(site: Site, steps: str, request: Request) -> Iterator[tuple[bytes, list[UserError]]]:
    """While somebody builds this; beside it a context that is quick to build."""
    found: list[UserError] = []

    def build() -> None:
        try:
            site.build(archive(Containerfile=NEXT + steps), request)
        except UserError as error:
            found.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    try:
        until(lambda: processes_of(site) > 2, timeout=60, what="a build that is under way")
        yield archive(Containerfile=NEXT), found
    finally:
        thread.join()


def processes_of(site: Site) -> int:
    return len(site.host.machine.run(["pgrep", "-u", site.builder], check=False).stdout.split())


def test_a_cut_connection_ends_nothing(site: Site, first: tuple[str, str]) -> None:
    """Who comes back finds the output from where it was, and the end."""
    context = archive(Containerfile=f"{NEXT}RUN echo begun; sleep 3; echo late\n")
    steps = image_builds.build(site.remote, "app", "web", PLAIN, context)
    printed = ""
    while "begun" not in printed:
        printed += next(steps).text
    steps.close()
    state = site.remote.ask("build-state", "app")
    offset = len(printed)
    while (state := site.remote.ask("build-wait", "app", str(offset), "20", state["build"]))["phase"] != "done":
        offset, printed = state["offset"], printed + state["text"]
    assert printed.count("begun\n") == 1
    assert "late\n" in printed
    assert state["image"].startswith("localhost/app/web:")


# Attacks.

MEMORY = """
held = []
while True:
    held.append(bytearray(b"x" * (16 << 20)))
    if len(held) > 100: raise SystemExit("it has had 1600 MiB")
"""
FORKS = """
import os, time
while True:
    if not os.fork(): time.sleep(600)
"""


@contextmanager
def kernel_limit(site: Site, memory: int) -> Iterator[None]:
    """The kernel ends what takes more memory, of all that the builds run."""
    group = CGROUPS / "memory" / f"er-{site.builder}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(memory))
    uid = user.build_uid(site.stack_uid)
    first = user.subids(uid).first
    ids = {uid, *range(first, first + 100)}
    over = threading.Event()

    def take() -> None:
        while not over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if process.stat().st_uid in ids:
                        (group / "cgroup.procs").write_text(process.name)
                except OSError:
                    continue

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        until(lambda: not (group / "cgroup.procs").read_text(), timeout=30, what="the end of the builds' processes")
        group.rmdir()


def test_memory(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    with kernel_limit(site, 300 * MIB), unnoticed(site):
        why = site.refused(program(MEMORY))
    assert "it was killed, and a build may have" in why
    tell("eats all memory", "killed by the kernel at the build's limit, 40 % of the server's memory")


# As memory is.
@of_a_sweep
def test_processes(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    with unnoticed(site):
        why = site.refused(program(FORKS), replace(PLAIN, seconds=60))
    assert "a build may have 1000 processes at once" in why
    tell("forks without end", "the build's limit of 1000 processes")


@of_a_sweep
def test_time(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    with unnoticed(site):
        why = site.refused("RUN while true; do :; done\n", replace(PLAIN, seconds=4))
    assert why.endswith("it was ended after 4 s")
    assert processes_of(site) == 0
    tell("runs for ever", "its time, an hour, is over")


@of_a_sweep
def test_output(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    """More than is kept, and what a terminal would obey."""
    text = "import sys; sys.stdout.write('\\x1b]0;mine\\x07\\n' * 600_000)"
    with unnoticed(site):
        _, printed = site.build(archive(Containerfile=NEXT + program(text)))
    assert 3 * MIB < len(printed) < 20 * MIB
    assert "\x1b" not in printed
    assert "what it prints from here on is not kept" in printed
    tell("prints without end, and for the terminal", "4 MiB are kept, and shown as text")


ADDRESSES = """
import socket
for address, port in {ends}:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
        s.settimeout(3)
        try: s.connect((address, port))
        except OSError as error: print("refused", flush=True)
        else: print("reached", address, port, flush=True)
"""


def test_addresses(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    """Metadata, the host's own by any address, neighbours, on either network; and what Podman itself fetches."""
    machine = site.host.machine
    outside = [("169.254.169.254", 80), ("fd00:ec2::254", 80), ("168.63.129.16", 80), (machine.attacker(0).ipv4, 22)]
    own = [(name, port) for name in (machine.ipv4, "127.0.0.1", "::1") for port in (22, 2019, 8080, 8443)]
    ends = [*outside, *own, ("192.168.7.7", 5432)]
    steps = program(ADDRESSES.format(ends=ends))
    with unnoticed(site):
        _, printed = site.build(archive(Containerfile=f"{NEXT}{steps}{steps.replace('RUN', 'RUN --network=host')}"))
        why = site.refused("ADD http://169.254.169.254/latest/meta-data/ /\n")
    assert printed.count("refused\n") == 2 * len(ends), printed
    assert "\nreached" not in printed
    assert "connection refused" in why
    saved = "".join(machine.run([f"{tool}-save", "-c"]).stdout for tool in ("iptables", "ip6tables"))
    assert egress.counts(saved)[user.build_uid(site.stack_uid)] > len(ends)
    tell("fetches from refused addresses, also on the host's network", "refused by the firewall, and counted")


def test_files_of_others(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    """From a step there is nothing of the host; a link in what it is made of leads nowhere out of that."""
    look = "import os; print([name for name in ('/run', '/var/lib', '/etc') if os.path.exists(name + '/easyrunner')])"
    with unnoticed(site):
        _, printed = site.build(archive(Containerfile=NEXT + program(look)))
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            file, link = tarfile.TarInfo("Containerfile"), tarfile.TarInfo("link")
            content = f"{NEXT}COPY link /taken\n".encode()
            file.size = len(content)
            link.type, link.linkname = tarfile.SYMTYPE, f"{facts.STACKS}/calm/services"
            tar.addfile(file, io.BytesIO(content))
            tar.addfile(link)
        with pytest.raises(UserError, match=r"no such file|not found|permission denied"):
            site.build(stream.getvalue())
    assert "[]\n" in printed
    tell("reads files of others, from a step or by a link", "they are not there")


def test_out_of_the_container(site: Site, tell: Callable[[str, str], None], first: tuple[str, str]) -> None:
    """As the builds' user on the host, as if the container were left behind."""
    uid = next(stack.uid for stack in site.host.spec.stacks if stack.name == "calm")
    for command in (
        f"ls {facts.HOMES}/calm {facts.HOMES}/app",
        f"cat {facts.STACKS}/app/services",
        f"ls {facts.QUADLETS}/{uid} {facts.QUADLETS}/{site.stack_uid}",
        f"curl -s --unix-socket {facts.PROXY_SOCKETS}/calm/web.sock http://calm/",
        f"cat {facts.BUILDS}/app/request.json",
        f"curl -s http://127.0.0.1:{facts.PROXY_ADMIN}/config/",
        f"XDG_RUNTIME_DIR=/run/user/{site.stack_uid} systemctl --user status",
        "loginctl enable-linger",
        "sudo -n id",
    ):
        done = site.host.machine.run(command, user=site.builder, check=False)
        assert done.returncode != 0, (command, done.stdout)
    tell("as its own user on the host: files, sockets, managers of others", "permission denied")


WRONG = (
    {"size": 1, "volume": "/:/host"},
    {"size": -1},
    {"size": 99_999_999_999},
    {"size": 1, "args": [["--volume", "/:/host"]]},
    {"size": 1, "digest": "../../../../x"},
    {"size": 1, "target": "a\0b"},
)


def test_hostile_archives(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    """Unpacked as the builds' user: nothing is written elsewhere, and a device is none."""
    before = site.host.machine.run("ls -lR /etc/cron* /root /tmp; ls -l /var/lib/easyrunner", check=False).stdout
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, target in (
            ("Containerfile", tarfile.REGTYPE, ""),
            ("out", tarfile.SYMTYPE, "/var/lib/easyrunner"),
            ("out/through-a-link", tarfile.REGTYPE, ""),
            ("../../../escaped", tarfile.REGTYPE, ""),
            ("/etc/cron.d/absolute", tarfile.REGTYPE, ""),
            ("hard", tarfile.LNKTYPE, "/etc/shadow"),
            ("disk", tarfile.BLKTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode, member.devmajor, member.devminor = kind, target, 0o4777, 254, 0
            tar.addfile(member, io.BytesIO())
    with pytest.raises(UserError, match="was not built"):
        site.build(stream.getvalue())
    assert (
        site.host.machine.run("ls -lR /etc/cron* /root /tmp; ls -l /var/lib/easyrunner", check=False).stdout == before
    )
    with pytest.raises(UserError, match="cut off"):
        site.remote.ask("build-start", "app", "web", stdin=b'{"size": 10, "digest": "000000000000"}\nfew')
    for line in (b"{}", b"[]", *(json.dumps({"digest": "0" * 12, **one}).encode() for one in WRONG), b"\xff"):
        with pytest.raises(UserError):
            site.remote.ask("build-start", "app", "web", stdin=line + b"\nx")
    for stack, service in (("calm", "web"), ("../app", "web"), ("app", "../web"), ("--help", "web")):
        with pytest.raises(UserError):
            site.remote.ask("build-start", stack, service, stdin=b'{"size": 0, "digest": "000000000000"}\n')
    tell("an archive with links, devices and paths that lead out", "unpacked in the build's own directory, or refused")


FILL = """
import itertools
for number in itertools.count():
    with open(f"/fill{number}", "wb", buffering=0) as file:
        for _ in range(16): file.write(bytes(1 << 20))
"""


def test_disk(site: Site, first: tuple[str, str], tell: Callable[[str, str], None]) -> None:
    place = f"{facts.BUILDS}/app"
    with unnoticed(site):
        why = site.refused(program(FILL), replace(PLAIN, writes=100 * MIB))
        assert "it was ended, as it has written more than 100 MiB" in why
        used = site.host.machine.run(["du", "-sm", place]).stdout.split()[0]
        assert int(used) < 5, "what it has written is gone"
    tell("fills the disk", "ended where it wrote 20 GiB, or a tenth of the disk was left; what it wrote is removed")


@of_a_sweep
def test_a_full_disk(site: Site, base: bytes, first: tuple[str, str]) -> None:
    """A file system in memory stands for the disk: this machine's is not to be filled."""
    with unnoticed(site):
        site.host.machine.run(f"mount -t tmpfs -o size=400m,mode=0711 builds {facts.BUILDS}")
        try:
            steps = FIRST.replace("CMD", f"{program(FILL)}CMD")
            with pytest.raises(UserError) as caught:
                site.build(archive(Containerfile=steps, base__tar=base, greeting=""))
        finally:
            site.host.machine.run(f"umount {facts.BUILDS}")
    assert "of the server's disk only" in str(caught.value)


# As of keys that have gone: test_deploy.py.
@of_a_sweep
def test_who_builds_nothing_any_more_leaves_nothing(site: Site, first: tuple[str, str]) -> None:
    spec = site.client.edited("build: app", f"image: oci-archive:{hosts.IMAGES}/app.tar")
    spec.write_text("".join(line for line in spec.read_text().splitlines(keepends=True) if "build_egress" not in line))
    done = site.client.er("apply", spec, "--yes")
    assert done.returncode == 0, done.stderr
    assert site.host.machine.run(["id", site.builder], check=False).returncode != 0
    assert not site.host.machine.path(f"{facts.BUILDS}/app").exists()
    assert site.builder not in site.host.machine.path("/etc/subuid").read_text()
