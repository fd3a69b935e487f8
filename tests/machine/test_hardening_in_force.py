"""Each row of `er explain` on a booted host: in force for a real login, service, file or packet, by a measurement.

A row without a measurement fails. The kernel's own settings are the machine's below in the lab: there it is shown that
no other file has the last word on them, and `make attacks` reads them from a kernel of the host's own.
"""

from __future__ import annotations

import fnmatch
import json
import re
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeAlias

import pytest

from builder import facts, process
from builder.host import hardening

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from builder.host.hardening import Setting
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

ROWS = {row.id: row for row in hardening.settings()}
GOOD = "Kx7#mQ2$vL9!wZ"
VISITOR = "visitor"


# What a shell is asked, and what is in its answer.
PROMPTS = {
    "shell-timeout": ("bash -lic 'bash -c \"echo =\\$TMOUT=\"; TMOUT=1'", "=900=.*readonly"),
    "shell-timeout-who": ("TMOUT=0 bash -lic 'echo =$TMOUT='", "=0="),
    "shell-timeout-end": ("bash -lc 'echo =$TMOUT='", "=="),
}


class Measured:
    """The host, with what several rows are measured by asked once."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.machine = host.machine

    def root(self, command: str, *, stdin: str | None = None, user: str = "root", fails: bool = False) -> str:
        """What a command says on the host, both outputs; `fails` is whether it has to."""
        done = self.machine.run(command, user=user, check=False, stdin=stdin.encode() if stdin else None, timeout=300)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, said
        return said

    def login(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """A command over SSH, with more options of the client's."""
        program, *words = self.host.ssh_argv(command)
        return self.machine.attacker(5).run([program, *options, *words], check=False)

    def said(self, command: str, *options: str) -> str:
        """What a login's command says on its standard output."""
        done = self.login(command, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @cached_property
    def talk(self) -> str:
        """What client and server tell each other at a login, in the client's words."""
        return self.login("true", "-vvv", "-o", "LogLevel=DEBUG3").stderr

    def proposed(self, what: str) -> list[str]:
        """What the server offers."""
        server = self.talk.partition("peer server KEXINIT proposal")[2]
        found = re.search(rf"{what}: (\S+)", server)
        assert found
        return found[1].split(",")

    @cached_property
    def sshd(self) -> dict[str, set[str]]:
        """Each option as sshd understands it, by lower-case name."""
        options: dict[str, set[str]] = {}
        for line in self.root("sshd -T").splitlines():
            name, _, value = line.partition(" ")
            options.setdefault(name, set()).update({value, *value.split()})
        return options

    @cached_property
    def apt(self) -> str:
        """Everything that apt is set to."""
        return self.root("apt-config dump")

    def set_to(self, file: str, key: str) -> str:
        """The last word that systemd's own files and drop-ins have on a key."""
        found = re.findall(rf"^{key}\s*=\s*(.*)$", self.root(f"systemd-analyze cat-config {file}"), re.MULTILINE)
        assert found, key
        return str(found[-1])

    @cached_property
    def kernel(self) -> dict[str, str]:
        """The last word on each setting of the kernel, in the order in which they are applied at a boot."""
        text = self.root("systemd-analyze cat-config sysctl.d")
        pairs = [line.lstrip("-").partition("=") for line in text.splitlines() if not line.startswith(("#", ";"))]
        return {key.strip(): value.strip() for key, _, value in pairs}

    @cached_property
    def visitor(self) -> str:
        """A person with a password, made by the host's own tools."""
        self.root(f"useradd --create-home --shell /bin/bash {VISITOR} && echo '{VISITOR}:{GOOD}' | chpasswd")
        return VISITOR

    @cached_property
    def prompts(self) -> dict[str, str]:
        """What shells of a person say of their time-out, by row."""
        script = "".join(f"echo '{row}:' $({command} 2>&1)\n" for row, (command, _) in PROMPTS.items())
        lines = self.root(script, user="er").splitlines()
        return {row: said for row, _, said in (line.partition(": ") for line in lines)}

    @cached_property
    def looks(self) -> tuple[str, dict[str, str]]:
        """What the integrity service says of files that were made, touched and changed since its last look."""
        made = {
            "boot": "/boot/er-made",
            "etc": "/etc/er-made",
            "usr": "/usr/local/bin/er-made",
            "not-generated": "/etc/er.easyrunner-made",
            "not-compiled": "/usr/lib/er-made/__pycache__/er-made",
        }
        self.root("systemctl start er-integrity")
        self.root("mkdir -p /usr/lib/er-made/__pycache__ /boot && touch /etc/hostname " + " ".join(made.values()))
        self.root("systemctl start er-integrity")
        show = "journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID er-integrity)"
        said = self.root(show)
        self.root("rm -r /usr/lib/er-made " + " ".join(list(made.values())[:4]))
        return said, made

    @cached_property
    def probes(self) -> tuple[dict[str, str], dict[str, str]]:
        """What root may do here, and what a service of our name may: each try and its error."""
        self.machine.files.write("/root/probe.py", PROBE.encode())
        run = "python3 /root/probe.py"
        confined = f"systemd-run --quiet --pipe --wait --unit=er-probe -p Type=oneshot {run}"
        outside, inside = (self.root(command).splitlines()[-1] for command in (run, confined))
        return json.loads(outside), json.loads(inside)


# What runs inside the sandbox of `er-*`, by the name of the row: the error, or `done`.
PROBE = r"""
import ctypes, json, mmap, os, socket, subprocess
c = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    if c.syscall(number, *words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def name():
    socket.sethostname(socket.gethostname())
def write(path):
    with open(path, "r+") as file:
        text = file.read()
        file.seek(0)
        file.write(text)
def setuid():
    if "NoNewPrivs:\t1" in open("/proc/self/status").read():
        raise PermissionError(1, "no new privileges")
def capability(number):
    if not int(open("/proc/self/status").read().split("CapBnd:")[1].split()[0], 16) >> number & 1:
        raise PermissionError(1, "not in the bounding set")
tries = {
    "clock": lambda: capability(25),
    "hostname": name,
    "cgroups": lambda: (os.mkdir("/sys/fs/cgroup/er-probe"), os.rmdir("/sys/fs/cgroup/er-probe")),
    "log": lambda: os.open("/dev/kmsg", os.O_RDONLY),
    "modules": lambda: capability(16),
    "tunables": lambda: write("/proc/sys/net/ipv4/tcp_syncookies"),
    "namespaces": lambda: call(272, 0x10000000),
    "realtime": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "personality": lambda: call(135, 0x0040000),
    "memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "calls": lambda: call(161, b"/"),
    "refusal": lambda: call(161, b"/"),
    "privileges": setuid,
}
said = {}
for key, attempt in tries.items():
    try:
        attempt()
        said[key] = "done"
    except OSError as error:
        said[key] = os.strerror(error.errno)
print(json.dumps(said))
"""

Measurement: TypeAlias = "Callable[[Measured, Setting], None]"
BY_ID: dict[str, Measurement] = {}
BY_FILE: dict[str, Measurement] = {}


def measures(*names: str) -> Callable[[Measurement], Measurement]:
    """For these rows; a file's name is for each of its rows that has no measurement by its id."""

    def kept(function: Measurement) -> Measurement:
        for name in names:
            (BY_FILE if name.startswith("/") else BY_ID)[name] = function
        return function

    return kept


@pytest.fixture(scope="module")
def measured(three: Host) -> Iterator[Measured]:
    found = Measured(three)
    yield found
    # Attempts that were refused on purpose are nobody's attack.
    three.machine.run("fail2ban-client unban --all", check=False)
    three.machine.run(f"userdel --remove --force {VISITOR}", check=False)


@pytest.mark.parametrize("row", sorted(ROWS))
def test_setting_is_in_force(measured: Measured, row: str) -> None:
    setting = ROWS[row]
    measurement = BY_ID.get(row) or BY_FILE.get(setting.file)
    assert measurement is not None, f"{row} is claimed by `er explain` and measured by nothing"
    measurement(measured, setting)


def test_every_measurement_is_of_a_row() -> None:
    assert set(BY_ID) <= set(ROWS)
    assert set(BY_FILE) <= {row.file for row in ROWS.values()}


# SSH: what sshd understands, and what a client meets.


@measures("/etc/ssh/sshd_config")
def sshd_option(measured: Measured, row: Setting) -> None:
    name, _, value = row.line.partition(" ")
    assert {value} <= measured.sshd[name.lower()] or set(value.split()) <= measured.sshd[name.lower()]


@measures("ssh-kex", "ssh-ciphers", "ssh-macs", "ssh-host-keys")
def offered(measured: Measured, row: Setting) -> None:
    what = {"KexAlgorithms": "KEX algorithms", "Ciphers": "ciphers stoc", "MACs": "MACs stoc"}
    option, _, value = row.line.partition(" ")
    found = measured.proposed(what.get(option, "host key algorithms"))
    if row.id == "ssh-kex":
        found = [name for name in found if not name.startswith(("ext-info", "kex-strict"))]
        assert found
        assert all("mlkem" in name or "sntrup" in name for name in found)
    elif row.id == "ssh-host-keys":
        assert all(any(fnmatch.fnmatch(name, one) for one in value.split(",")) for name in found)
    else:
        assert found == value.split(",")


@measures("ssh-user-keys")
def accepted(measured: Measured, row: Setting) -> None:
    found = re.search(r"server-sig-algs=<(\S+)>", measured.talk)
    assert found
    patterns = row.line.partition(" ")[2].split(",")
    assert all(any(fnmatch.fnmatch(name, one) for one in patterns) for name in found[1].split(","))


@measures("ssh-banner", "banner-net")
def greeting(measured: Measured, row: Setting) -> None:
    assert ROWS["banner-net"].line in measured.talk


@measures("banner")
def prompt(measured: Measured, row: Setting) -> None:
    assert row.line in measured.root("script -qc 'agetty --show-issue' /dev/null")


@measures("ssh-log")
def fingerprint(measured: Measured, row: Setting) -> None:
    assert measured.said("true") == ""
    assert "found at" in measured.root("journalctl -b -o cat -t sshd -t sshd-session -g 'Accepted key'")


@measures("ssh-groups")
def groups(measured: Measured, row: Setting) -> None:
    visitor(measured)
    assert measured.host.ssh("true", user=VISITOR, source=measured.machine.attacker(6)).returncode == 255
    said = measured.root("journalctl -b -o cat -t sshd -t sshd-session")
    assert f"User {VISITOR} from" in said
    assert "none of user's groups are listed in AllowGroups" in said


def visitor(measured: Measured) -> None:
    """The visitor has the admin's key."""
    home = f"/home/{measured.visitor}/.ssh"
    key = measured.host.key.with_suffix(".pub").read_text()
    measured.root(f"install -d -m 0700 -o {VISITOR} {home}; cat >{home}/authorized_keys", stdin=key)
    measured.root(f"chown {VISITOR} {home}/authorized_keys")


@measures("ssh-root")
def root(measured: Measured, row: Setting) -> None:
    """With a good key, and in the group."""
    measured.root("cp -p /root/.ssh/authorized_keys /root/keys 2>/dev/null; mkdir -p /root/.ssh")
    key = measured.host.key.with_suffix(".pub").read_text()
    measured.root("cat >/root/.ssh/authorized_keys; gpasswd -a root sudo", stdin=key)
    try:
        assert measured.host.ssh("true", user="root", source=measured.machine.attacker(7)).returncode == 255
        assert "ROOT LOGIN REFUSED" in measured.root("journalctl -b -o cat -t sshd -t sshd-session")
    finally:
        measured.root("gpasswd -d root sudo; rm .ssh/authorized_keys; [ ! -e keys ] || mv keys .ssh/authorized_keys")


@measures("ssh-keys-only", "ssh-no-passwords", "ssh-no-keyboard", "ssh-hosts")
def keys_only(measured: Measured, row: Setting) -> None:
    sshd_option(measured, row)
    assert "Authentications that can continue: publickey\n" in measured.talk.replace("\r", "")


@measures("ssh-environment")
def environment(measured: Measured, row: Setting) -> None:
    measured.said("mkdir -p .ssh; echo ER_TEST=1 >.ssh/environment")
    assert measured.said("echo ${ER_TEST:-none}; rm .ssh/environment").strip() == "none"


@measures("ssh-accept")
def language(measured: Measured, row: Setting) -> None:
    sent = ["-o", "SetEnv=LC_ER=one ER_TEST=two"]
    assert measured.said("echo ${LC_ER:-none} ${ER_TEST:-none}", *sent).split() == ["one", "none"]


@measures("ssh-forwarding", "ssh-forwarding-tcp")
def forwarding(measured: Measured, row: Setting) -> None:
    sshd_option(measured, row)
    argv = measured.host.ssh_argv()
    argv[1:1] = ["-W", f"127.0.0.1:{facts.PROXY_ADMIN}"]
    assert "forwarding failed" in measured.machine.attacker(5).run(argv, check=False).stderr


@measures("ssh-forwarding-agent", "ssh-forwarding-x11")
def forwarded(measured: Measured, row: Setting) -> None:
    argv = ["ssh-agent", *measured.host.ssh_argv("echo ${SSH_AUTH_SOCK:-none} ${DISPLAY:-none}")]
    argv[2:2] = ["-A", "-X"]
    done = measured.machine.attacker(5).run(["env", "DISPLAY=:0", *argv], check=False)
    assert done.stdout.split() == ["none", "none"], done.stderr


@measures("ssh-tries")
def tries(measured: Measured, row: Setting) -> None:
    """The good key comes last, and too late."""
    options: list[str] = []
    for number in range(int(row.line.split()[1])):
        key = measured.host.key.parent / f"wrong{number}"
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
        options += ["-i", str(key)]
    program, *words = measured.host.ssh_argv("true")
    done = measured.machine.attacker(8).run([program, *options, *words], check=False)
    assert "Too many authentication failures" in done.stderr


@measures("ssh-sessions")
def sessions(measured: Measured, row: Setting) -> None:
    """One connection, and as many sessions as it may have: the next is refused."""
    control = measured.host.key.parent / "control"
    control.unlink(missing_ok=True)
    source = measured.machine.attacker(5)
    program, *words = measured.host.ssh_argv()
    shared = [program, "-o", f"ControlPath={control}"]
    clients = [source.start([*shared, "-M", "-N", *words])]
    try:
        measured.machine.wait(control.exists, what="the connection")
        for number in range(1, int(row.line.split()[1]) + 1):
            clients.append(source.start([*shared, *words, "exec tail -f --pid=$PPID /dev/null"]))
            measured.machine.wait(partial(held, measured, number), what="the session")
        assert "Session open refused by peer" in source.run([*shared, *words, "true"], check=False).stderr
    finally:
        for client in clients:
            client.kill()
            client.wait()


def held(measured: Measured, count: int) -> bool:
    """Whether that many sessions are open."""
    said = measured.machine.run(["pgrep", "-xu", "er", "tail"], check=False).stdout
    return len(said.split()) == count


@measures("ssh-tcp-keepalive")
def keepalive(measured: Measured, row: Setting) -> None:
    """The connection that asks has no timer of the kernel's that would send probes."""
    said = measured.said("ss -Htno state established sport = :22")
    assert ":22" in said
    assert "keepalive" not in said


@measures("ssh-include")
def included(measured: Measured, row: Setting) -> None:
    """A drop-in's own option holds, and one of ours does not give way."""
    drop_in = "/etc/ssh/sshd_config.d/zz-test.conf"
    measured.root(f"printf 'PermitTTY no\\nPermitRootLogin yes\\n' >{drop_in}")
    try:
        assert {"permittty no", "permitrootlogin no"} <= set(measured.root("sshd -T").splitlines())
    finally:
        measured.root(f"rm {drop_in}")


@measures("ssh-sftp")
def copied(measured: Measured, row: Setting) -> None:
    words = measured.host.ssh_argv()[1:]
    done = measured.machine.attacker(5).run(["sftp", "-b", "/dev/null", *words], check=False)
    assert done.returncode == 0, done.stderr


@measures("ssh-penalties")
def penalties(measured: Measured, row: Setting) -> None:
    assert {word.rstrip("s") for word in row.line.split()[1:]} <= measured.sshd["persourcepenalties"]


# The kernel.


@measures("/etc/sysctl.d/60-easyrunner.conf")
def sysctl(measured: Measured, row: Setting) -> None:
    key, value = row.line.split(" = ")
    assert measured.kernel[key] == value
    # The network's settings are the host's own also in the lab.
    if key.startswith("net.") and not key.startswith("net.core."):
        assert measured.root(f"sysctl -n {key.replace('*', 'lan')}").strip() == value


@measures("net-again")
def again(measured: Measured, row: Setting) -> None:
    measured.root("sysctl -q net.ipv4.conf.lan.rp_filter=0; systemctl is-enabled sysctl-reapply-network")
    measured.root("systemctl restart sysctl-reapply-network")
    assert measured.root("sysctl -n net.ipv4.conf.lan.rp_filter").strip() == "1"


@measures("/etc/modprobe.d/easyrunner.conf")
def module(measured: Measured, row: Setting) -> None:
    """No file that comes later says otherwise; whether modprobe refuses is seen on a kernel of its own."""
    kind, name, _ = row.line.split(" ", 2)
    said = measured.root(
        f"cat /lib/modprobe.d/*.conf /etc/modprobe.d/*.conf 2>/dev/null | grep -E '^{kind} {name} ' | tail -n 1"
    )
    assert said.strip() == row.line


@measures("mount-tmp-is-one", "mount-tmp", "mount-shm", "mount-dev", "mount-proc", "fstab-shm")
def mount(measured: Measured, row: Setting) -> None:
    line = "x -o nosuid,nodev,noexec /dev/shm" if row.id == "fstab-shm" else row.line.rstrip("'")
    place = line.split()[-1]
    wanted = re.search(r"-o (?:remount,)?(?:bind,)?(\S+)", line)
    options = measured.root(f"findmnt -no OPTIONS {place} | tail -n 1").strip().split(",")
    if row.id == "mount-proc":
        assert "hidepid=invisible" in options
    else:
        assert set(wanted[1].split(",") if wanted and "bind /tmp" not in line else []) <= set(options)
    if row.id == "fstab-shm":
        found = measured.root("findmnt --fstab -no OPTIONS /dev/shm").strip().split(",")
        assert {"nosuid", "nodev", "noexec"} <= set(found)


@measures("disk-reserve")
def reserve(measured: Measured, row: Setting) -> None:
    """The lab's disk is no ext4: there it was tried. `make attacks` sees it on a disk."""
    assert f"resgid={facts.PROXY_UID}" in measured.root("systemctl show -P ExecStart mount-hardening | tail -n 1")


# Packages.


@measures("/etc/apt/apt.conf.d/52easyrunner")
def apt(measured: Measured, row: Setting) -> None:
    if block := re.fullmatch(r"(?i)(\S+) \{ (.*) \};", row.line):
        for value in block[2].split(";")[:-1] if "||" not in row.line else [block[2].rstrip(";")]:
            assert f"{block[1]}:: {value.strip()};".lower() in measured.apt.lower()
    else:
        assert row.line in measured.apt.splitlines()


@measures("apt-modes")
def package(measured: Measured, row: Setting) -> None:
    """A package installed now brings open directories and a log: closed when apt ends."""
    apt(measured, row)
    made = """
set -e
rm -rf /root/package; mkdir -p /root/package/DEBIAN /root/package/etc/cron.weekly
printf '%s\\n' 'Package: er-test' 'Version: 1' 'Architecture: all' 'Maintainer: x <x@example.org>' 'Description: x' \\
    >/root/package/DEBIAN/control
touch /root/package/etc/cron.weekly/er-test; chmod 0755 /root/package/etc/cron.weekly
dpkg-deb --root-owner-group -b /root/package /root/er-test.deb >/dev/null
chmod 0644 /var/log/dpkg.log 2>/dev/null || :
apt-get -qy install /root/er-test.deb
"""
    try:
        measured.root(made)
        assert measured.root("stat -c %a /etc/cron.weekly").strip() == "700"
        assert measured.root("stat -c '%a %G' /var/log/dpkg.log").split() == ["640", "adm"]
    finally:
        measured.root("apt-get -qy purge er-test; rm -rf /root/package /root/er-test.deb")


@measures(
    "/etc/systemd/system/apt-daily.timer.d/10-easyrunner.conf",
    "/etc/systemd/system/apt-daily-upgrade.timer.d/10-easyrunner.conf",
)
def timer(measured: Measured, row: Setting) -> None:
    unit = row.file.split("/")[4].removesuffix(".d")
    found = measured.root(f"systemctl show -p TimersCalendar -p RandomizedDelayUSec -p ActiveState {unit}")
    key, _, value = row.line.partition("=")
    wanted = {"OnCalendar": f"OnCalendar=*-*-* {value}:00 ", "RandomizedDelaySec": "RandomizedDelayUSec=30min"}
    assert wanted[key] in found or not value
    assert found.count("OnCalendar=") == 1
    assert "ActiveState=active" in found


# The journal, clocks and dumps.


@measures(
    "/etc/systemd/journald.conf",
    "/etc/systemd/journald.conf.d/syslog.conf",
    "/etc/systemd/timesyncd.conf.d/10-easyrunner.conf",
    "/etc/systemd/coredump.conf.d/10-easyrunner.conf",
)
def last_word(measured: Measured, row: Setting) -> None:
    key, _, value = row.line.partition("=")
    file = re.sub(r"^/etc/|\.d/.*$", "", row.file)
    assert measured.set_to(file, key) == value


@measures("journal-kept")
def kept(measured: Measured, row: Setting) -> None:
    measured.root("test -s /var/log/journal/$(cat /etc/machine-id)/system.journal")


@measures("journal-size", "journal-free")
def capped(measured: Measured, row: Setting) -> None:
    last_word(measured, row)
    ask = "journalctl -b -o json MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6 _COMM=systemd-journal"
    said = [json.loads(line) for line in measured.root(ask).splitlines()]
    found = [one for one in said if one["JOURNAL_NAME"] == "System Journal"][-1]
    if row.id == "journal-size":
        assert int(found["MAX_USE"]) == 500 << 20
    else:
        assert int(found["DISK_KEEP_FREE"]) == 1 << 30


@measures("journal-compress")
def compressed(measured: Measured, row: Setting) -> None:
    last_word(measured, row)
    assert "COMPRESSED" in measured.root(
        "journalctl --header --file /var/log/journal/$(cat /etc/machine-id)/system.journal"
    )


@measures("core-services")
def core_of_a_service(measured: Measured, row: Setting) -> None:
    limits = measured.root("cat /proc/$(systemctl show -P MainPID er-watch@web)/limits")
    assert re.search(r"Max core file size +0 +0 ", limits)


@measures("core-users", "shell-core")
def core_of_a_person(measured: Measured, row: Setting) -> None:
    if row.id == "core-users":
        assert measured.said("ulimit -Hc").strip() == "0"
    else:
        assert measured.root("prlimit --core=unlimited bash -lc 'ulimit -Hc'", user="er").strip() == "0"


@measures("core-root")
def core_of_root(measured: Measured, row: Setting) -> None:
    assert measured.root("prlimit --core=unlimited su - root -c 'ulimit -Hc'").strip() == "0"


# Passwords and people.


def refused(measured: Measured, password: str) -> str:
    return measured.root(f"echo '{measured.visitor}:{password}' | chpasswd", fails=True)


PASSWORDS = {
    "password-length": (GOOD[:-1], "shorter than 14"),
    "password-repeat": ("Kx7#mQ2$vLaaaaZ9", "same characters consecutively"),
    "password-sequence": ("Kx7#mQ2$vL1234Z9", "monotonic"),
    "password-enforced": ("short", "BAD PASSWORD"),
    "password-root": ("short", "BAD PASSWORD"),
}


@measures(*PASSWORDS)
def bad_password(measured: Measured, row: Setting) -> None:
    """Root sets it, and is refused."""
    password, why = PASSWORDS[row.id]
    assert why in refused(measured, password)


@measures("password-dictionary")
def no_dictionary(measured: Measured, row: Setting) -> None:
    measured.root(f"echo '{measured.visitor}:{GOOD}' | chpasswd")


@measures("password-differs")
def differs(measured: Measured, row: Setting) -> None:
    """By its owner, for whom the last one is compared with; on the day on which it was set, for once."""
    was = measured.root(f"getent shadow {measured.visitor}").split(":")[3]
    measured.root(f"echo '{VISITOR}:{GOOD}' | chpasswd; chage -m 0 {VISITOR}")
    new = f"{GOOD[:-1]}Y"
    said = measured.root("passwd", user=VISITOR, stdin=f"{GOOD}\n{new}\n{new}\n", fails=True)
    measured.root(f"chage -m {was} {VISITOR}")
    assert "BAD PASSWORD" in said


@measures("login-umask", "pam-umask")
def umask_of_a_login(measured: Measured, row: Setting) -> None:
    """Of a command, where no file of a shell is read, by a user whose group is its own."""
    assert measured.said("umask; id -un; id -gn").split() == ["0027", "er", "er"]


@measures("shell-umask", "shell-umask-who", "bash-umask", "bash-umask-who")
def umask_of_a_shell(measured: Measured, row: Setting) -> None:
    shell = "bash -ic umask" if row.id.startswith("bash-umask") else "bash -lc umask"
    assert measured.root(f"umask 0; {shell} 2>/dev/null", user="er").strip() == "0027"
    assert measured.root(f"umask 022; {shell} 2>/dev/null").strip() == "0022"


@measures("login-min-days")
def min_days(measured: Measured, row: Setting) -> None:
    for name in (measured.visitor, "er"):
        assert re.search(r"Minimum number of days.*: 1$", measured.root(f"chage -l {name}"), re.MULTILINE)


@measures("login-inactive")
def inactive(measured: Measured, row: Setting) -> None:
    """Of who was made before this line was there as well: the admin of a stock image."""
    for name in (measured.visitor, "er"):
        assert measured.root(f"getent shadow {name}").strip().split(":")[6] == "45"


@measures("login-rounds")
def rounds(measured: Measured, row: Setting) -> None:
    measured.root(f"echo '{measured.visitor}:{GOOD}' | chpasswd -c SHA512")
    assert measured.root(f"getent shadow {VISITOR}").split(":")[1].startswith("$6$rounds=65536$")
    measured.root(f"echo '{VISITOR}:{GOOD}' | chpasswd")


@measures("login-uids", "login-gids")
def numbers(measured: Measured, row: Setting) -> None:
    ids = measured.root(f"id -u {measured.visitor}; id -g {VISITOR}").split()
    assert all(1000 <= int(one) < facts.UID_BASE for one in ids)


@measures("su-group", "pam-nullok")
def su(measured: Measured, row: Setting) -> None:
    """Who is out of the group has the right password; then who is in it has none, for an account without."""
    stdin = f"{GOOD}\n"
    if row.id == "pam-nullok":
        measured.root(f"gpasswd -a er sugroup; passwd -d {measured.visitor}")
        stdin = "\n"
    try:
        measured.root(f"su {measured.visitor} -c true", user="er", stdin=stdin, fails=True)
        measured.root(f"gpasswd -a er sugroup; echo '{VISITOR}:{GOOD}' | chpasswd")
        measured.root(f"su {VISITOR} -c true", user="er", stdin=f"{GOOD}\n")
    finally:
        measured.root("gpasswd -d er sugroup")


@measures("sudo-pty")
def own_terminal(measured: Measured, row: Setting) -> None:
    outside, inside = measured.said("tty; sudo tty", "-tt").split()
    assert outside != inside


@measures("sudo-umask")
def umask_of_root(measured: Measured, row: Setting) -> None:
    assert measured.said("sudo sh -c umask").strip() == "0022"


@measures("sudo-tries", "sudo-timeout")
def defaults(measured: Measured, row: Setting) -> None:
    assert row.line.removeprefix("Defaults ") in measured.said("sudo -l")


@measures("sudo-log")
def sudo_log(measured: Measured, row: Setting) -> None:
    measured.root(": >/var/log/sudo.log")
    measured.said("sudo printf er-test-of-the-log")
    assert "er-test-of-the-log" in measured.root("cat /var/log/sudo.log")
    assert "considering log /var/log/sudo.log" in measured.root("logrotate --debug /etc/logrotate.conf")


@measures(*PROMPTS)
def timeout(measured: Measured, row: Setting) -> None:
    assert re.search(PROMPTS[row.id][1], measured.prompts[row.id], re.DOTALL)


@measures("memory-swap")
def swap(measured: Measured, _: Setting) -> None:
    """It starts at boots, and not in a container, which has no swap of its own: see tests/packer/test_data_disk.py."""
    unit = measured.root("systemctl cat easyrunner-zram").splitlines()
    assert {"ConditionMemory=<2G", "ConditionVirtualization=!container"} <= {*unit}
    assert measured.root("systemctl is-enabled easyrunner-zram").strip() == "enabled"
    assert measured.root("systemctl show -P ConditionResult easyrunner-zram").strip() == "no"


# Files and programs.


@measures("/usr/lib/tmpfiles.d/easyrunner-modes.conf")
def modes(measured: Measured, row: Setting) -> None:
    """Opened, then set by what every boot runs."""
    _, pattern, mode, *owners = row.line.split(" ")
    # The lab has no boot loader and no cron.
    for path in {"/boot/grub/grub.cfg", "/etc/crontab", "/root/.ssh/authorized_keys"} & {pattern}:
        measured.root(f"mkdir -p {path.rpartition('/')[0]}; touch {path}")
    found = measured.machine.run(["bash", "-c", f"ls -d {pattern}"], check=False).stdout.split()
    assert found
    measured.root(f"chmod a+r {' '.join(found)}")
    measured.root("systemd-tmpfiles --create easyrunner-modes.conf")
    for line in measured.root(f"stat -c '%a %U %G' {' '.join(found)}").splitlines():
        has, *own = line.split()
        assert int(has, 8) == int(mode, 8)
        assert all(wanted in ("-", name) for wanted, name in zip(owners, own, strict=False))


@measures("/etc/audit/rules.d/60-easyrunner.rules")
def audited(measured: Measured, row: Setting) -> None:
    """What auditd loads; the kernel's own list is seen on a kernel of its own."""
    measured.root("augenrules >/dev/null 2>&1 || :")
    assert row.line in measured.root("cat /etc/audit/audit.rules").splitlines()


@measures("integrity-boot", "integrity-etc", "integrity-usr", "integrity-report", "integrity-look", "integrity-in")
def told(measured: Measured, row: Setting) -> None:
    said, made = measured.looks
    for place in ("boot", "etc", "usr"):
        assert said.count(made[place]) == 1, said


@measures("integrity-not-generated", "integrity-not-compiled")
def not_told(measured: Measured, row: Setting) -> None:
    said, made = measured.looks
    assert made[row.id.removeprefix("integrity-")] not in said


@measures("integrity-checks")
def times_are_not_told(measured: Measured, row: Setting) -> None:
    assert "/etc/hostname" not in measured.looks[0]


@measures("integrity-quiet", "integrity-out")
def quiet(measured: Measured, row: Setting) -> None:
    assert "attributes of the" not in measured.looks[0]
    measured.root("test -s /var/lib/aide/aide.db && ! test -e /var/lib/aide/aide.db.new")


@measures("integrity-service-name", "integrity-timer-name")
def other_names(measured: Measured, row: Setting) -> None:
    name = row.line.partition("=")[2]
    assert measured.root(f"systemctl is-enabled {name} || :").strip() in {"enabled", "alias"}
    if name.endswith(".timer"):
        assert measured.root(f"systemctl is-active {name}").strip() == "active"


@measures("/usr/lib/systemd/system/er-.service.d/10-sandbox.conf")
def sandbox(measured: Measured, row: Setting) -> None:
    """A service of our name is refused what root is not; what the lab refuses root is read from a unit."""
    key, _, value = row.line.partition("=")
    outside, inside = (probe.get(row.id.removeprefix("sandbox-")) for probe in measured.probes)
    if outside == "done":
        assert inside in {"Operation not permitted", "Permission denied", "Read-only file system"}
    else:
        assert measured.root(f"systemctl show -P {key} er-watch@web").strip() == value
