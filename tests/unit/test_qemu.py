"""Virtual machines as values: argv, QMP's conversation, seeds, and the judgement of a host's answers."""

from __future__ import annotations

import json
import os
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.lab import trial
from builder.problems import UserError
from builder.qemu import acceleration, machine, power, seed, verify
from builder.qemu import hardware as hw
from builder.spec import open_to_all
from tests.unit.test_host import spec_of

if TYPE_CHECKING:
    from builder.spec.model import Arch

_TCG = acceleration.emulation("amd64")
_DISK = hw.Drive(Path("/vm/disk.qcow2"), "qcow2", "root")


def test_qemus_argv_for_a_pc() -> None:
    seeded = hw.Drive(Path("/vm/seed.img"), "raw", "seed", read_only=True)
    pc = hw.Hardware("amd64", (_DISK, seeded), Path("/vm/console"), forwards=(22, 443))
    assert hw.argv(pc, _TCG) == [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
        "-accel", "tcg,thread=multi", "-cpu", "Opteron_G3,-cx16,-misalignsse", "-smp", "2", "-m", "2048",
        "-drive", "file=/vm/disk.qcow2,format=qcow2,if=none,id=disk0,discard=unmap",
        "-device", "virtio-blk-pci,drive=disk0,serial=root,bootindex=0",
        "-drive", "file=/vm/seed.img,format=raw,if=none,id=disk1,readonly=on",
        "-device", "virtio-blk-pci,drive=disk1,serial=seed",
        "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:0-:443",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
        "-chardev", "file,id=console,path=/vm/console,append=on", "-serial", "chardev:console", "-qmp", "stdio",
    ]  # fmt: skip


def test_an_arm_machine_has_uefi_and_its_own_program() -> None:
    flash = (Path("/f/code.fd"), Path("/vm/variables.fd"))
    arm = hw.Hardware("arm64", (_DISK,), Path("/vm/console"), memory=1024, cpus=1, flash=flash)
    argv = hw.argv(arm, acceleration.Accelerator("kvm", "kvm", "host"))
    assert argv[:15] == [
        "qemu-system-aarch64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "virt",
        "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "1024",
    ]  # fmt: skip
    assert argv[15:19] == [
        "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/f/code.fd",
        "-drive", "if=pflash,unit=1,format=raw,file=/vm/variables.fd",
    ]  # fmt: skip


def test_only_this_machine_reaches_the_ports_and_a_shut_machine_reaches_nothing() -> None:
    shut = hw.Hardware(
        "amd64", (_DISK,), Path("/c"), forwards=(22,), internet=False, network=("net=169.254.0.0/16",), extra=("-S",)
    )
    argv = hw.argv(shut, _TCG)
    netdev = argv[argv.index("-netdev") + 1]
    assert netdev == "user,id=net,restrict=on,net=169.254.0.0/16,hostfwd=tcp:127.0.0.1:0-:22"
    assert argv[-1] == "-S"


def test_a_comma_in_a_path_does_not_end_it() -> None:
    odd = hw.Hardware("amd64", (hw.Drive(Path("/a,b/d"), "raw", "root"),), Path("/a,b/console"))
    argv = hw.argv(odd, _TCG)
    assert "file=/a,,b/d,format=raw,if=none,id=disk0,discard=unmap" in argv
    assert "file,id=console,path=/a,,b/console,append=on" in argv


def test_a_trial_boots_the_kernel_with_an_init_of_our_own() -> None:
    kvm = acceleration.Accelerator("kvm", "kvm", "host")
    assert acceleration.probe_argv("amd64", kvm, Path("/k"), Path("/d"), cpus=2) == [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35",
        "-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", "256", "-serial", "file:/d/console",
        "-kernel", "/k", "-initrd", "/d/initrd", "-append", "console=ttyS0 quiet panic=-1",
    ]  # fmt: skip
    arm = acceleration.probe_argv("arm64", kvm, Path("/k"), Path("/d"), cpus=1)
    assert arm[0] == "qemu-system-aarch64"
    assert arm[-1].startswith("console=ttyAMA0 ")


@pytest.mark.parametrize(("arch", "machine"), [("amd64", 62), ("arm64", 183)])
def test_the_init_is_an_elf_program_in_a_cpio_archive(arch: Arch, machine: int) -> None:
    program = acceleration.probe_init(arch)
    assert program[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", program, 18) == (machine,)
    size = struct.unpack_from("<Q", program, 64 + 32)
    assert size == (len(program),)
    archive = acceleration.probe_initrd(arch)
    assert archive[:6] == b"070701"
    assert len(archive) % 4 == 0
    assert program in archive
    assert archive.rstrip(b"\0").endswith(b"TRAILER!!!")


def _machine(monkeypatch: pytest.MonkeyPatch, cache: Path, *, system: str = "Linux", machine: str = "x86_64") -> None:
    """A machine with QEMU 10 and, on Linux, a KVM that answers."""
    monkeypatch.setenv("ER_CACHE", str(cache))
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(acceleration, "_no_kvm", lambda: "")
    monkeypatch.setattr(acceleration, "_trial_of", lambda arch: [arch, "this start"])
    monkeypatch.setattr(acceleration, "processors", lambda *_: 2)


@pytest.mark.parametrize(
    ("system", "native", "emulated", "name", "why"),
    [
        ("Linux", 0.5, 4.0, "kvm", "a kernel has run under it, 8 times as fast as emulation"),
        ("Linux", None, 4.0, "tcg", "KVM is here, but a kernel does not run under it, or slower than emulated"),
        ("Linux", 1.0, None, "kvm", "a kernel has run under it, emulation does not work"),
        ("Linux", None, None, "tcg", "KVM is here, but a kernel does not run under it, or slower than emulated"),
        ("Darwin", 0.5, 4.0, "hvf", "a kernel has run under it, 8 times as fast as emulation"),
    ],
)
def test_the_faster_accelerator_is_taken_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    system: str,
    native: float | None,
    emulated: float | None,
    name: str,
    why: str,
) -> None:
    _machine(monkeypatch, tmp_path, system=system)
    limits: list[float] = []

    def boot_seconds(_: Arch, tried: acceleration.Accelerator, __: Path, *, cpus: int, limit: float) -> float | None:
        assert cpus == 2
        limits.append(limit)
        return emulated if tried.emulated else native

    monkeypatch.setattr(acceleration, "boot_seconds", boot_seconds)
    found = acceleration.accelerator("amd64", lambda: tmp_path / "vmlinuz")
    assert (found.name, found.why) == (name, why)
    assert limits[1] == (emulated or 20.0)
    assert acceleration.known("amd64") == found
    assert acceleration.accelerator("amd64", lambda: pytest.fail("it is known")) == found
    monkeypatch.setattr(acceleration, "_trial_of", lambda arch: [arch, "the next start"])
    assert acceleration.known("amd64") is None


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"for": ["amd64", "this start"], "speed": 1}'])
def test_what_cannot_be_read_of_an_earlier_trial_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: str
) -> None:
    _machine(monkeypatch, tmp_path)
    (tmp_path / "accelerator.json").write_text(kept)
    assert acceleration.known("amd64") is None


def test_another_processor_or_system_is_emulated_without_a_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _machine(monkeypatch, tmp_path, machine="aarch64")
    assert str(acceleration.known("amd64")) == "tcg (amd64 on aarch64)"
    _machine(monkeypatch, tmp_path, system="Windows", machine="AMD64")
    assert (acceleration.known("amd64") or pytest.fail("tried")).name == "tcg"


def test_a_kvm_that_is_none_needs_no_trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(acceleration, "KVM", tmp_path / "kvm")
    assert str(acceleration.known("amd64")) == f"tcg (there is no {tmp_path}/kvm)"
    monkeypatch.setattr(acceleration, "KVM", Path("/dev/null"))
    assert str(acceleration.known("amd64")) == "tcg (/dev/null is not KVM)"
    monkeypatch.setattr(acceleration, "KVM", tmp_path)
    assert str(acceleration.known("amd64")) == f"tcg ({tmp_path}: Is a directory)"


@pytest.mark.parametrize(
    ("said", "silent"),
    [
        ("", True),
        ("\0\0\r\n", True),
        ('\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001 "UEFI Misc Device"\r\nBdsDxe: starting Boot0001\r\n', True),
        ("[    0.000000] Linux version 6.12", False),
        ("BdsDxe: starting Boot0001\r\n[    0.000000] Linux", False),
        ("systemd[1]: Hostname set", False),
    ],
)
def test_firmware_is_not_a_kernel(said: str, silent: bool) -> None:
    assert power.silent(said) is silent


def test_an_overlay_names_the_format_of_its_image() -> None:
    argv = machine.overlay_argv(Path("/i.raw"), "raw", Path("/o.qcow2"), 6 * 1024**3)
    assert argv == ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/i.raw", "/o.qcow2", "6442450944"]
    assert machine.overlay_argv(Path("/i"), "qcow2", Path("/o"), None)[-1] == "/o"


class _Qemu:
    """The other end of a conversation: answers in order, and keeps what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.reads, there = os.pipe()
        here, self.writes = os.pipe()
        self.asked: list[dict[str, object]] = []
        self._thread = threading.Thread(target=self._talk, args=(here, there, answers))
        self._thread.start()

    def _talk(self, here: int, there: int, answers: tuple[object, ...]) -> None:
        with os.fdopen(here) as asked, os.fdopen(there, "w") as said:
            said.write(json.dumps({"QMP": {"version": {}}}) + "\n")
            for answer in answers:
                said.flush()
                self.asked.append(json.loads(asked.readline()))
                said.write(json.dumps({"event": "RESUME"}) + "\n" + json.dumps(answer) + "\n")

    def close(self) -> None:
        os.close(self.writes)
        self._thread.join()
        os.close(self.reads)


def test_qmp_skips_events_and_raises_refusals() -> None:
    qemu = _Qemu({"return": {}}, {"return": {"status": "running"}}, {"error": {"desc": "no such thing"}})
    talk = power.Qmp(qemu.reads, qemu.writes)
    talk.greet()
    assert talk.command("query-status") == {"status": "running"}
    with pytest.raises(UserError, match="QEMU refused eject: no such thing"):
        talk.command("eject", {"device": "x"})
    qemu.close()
    assert qemu.asked == [
        {"execute": "qmp_capabilities"},
        {"execute": "query-status"},
        {"execute": "eject", "arguments": {"device": "x"}},
    ]


def test_the_end_of_qemu_is_an_error() -> None:
    qemu = _Qemu({"return": {}})
    talk = power.Qmp(qemu.reads, qemu.writes)
    talk.greet()
    with pytest.raises(UserError, match="QEMU has ended"):
        talk.command("query-status")
    qemu.close()


def test_forwards_are_read_from_what_qemu_shows() -> None:
    shown = """Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  17       127.0.0.1 43871       10.0.2.15   443     0     0
  TCP[ESTABLISHED]   19       127.0.0.1 43871       10.0.2.15   443     0     0
  TCP[HOST_FORWARD]  15       127.0.0.1 45443       10.0.2.15    22     0     0
"""
    assert power.forwards(shown) == {443: 43871, 22: 45443}


def test_a_seed_holds_what_a_provider_passes() -> None:
    files = seed.files(b"#cloud-config\n", instance="i-1", name="web1", vendor_data=b"v")
    assert files == {
        "user-data": b"#cloud-config\n",
        "meta-data": b'{"instance-id": "i-1", "local-hostname": "web1"}\n',
        "vendor-data": b"v",
    }
    form, copy = seed.seed_argvs(Path("/s"), 4096, [Path("/s.d/user-data")])
    assert form == ["mformat", "-i", "/s", "-v", "CIDATA", "-T", "4096", "-h", "16", "-s", "63", "::"]
    assert copy == ["mcopy", "-i", "/s", "-Q", "/s.d/user-data", "::"]


def test_clients_go_to_this_machine_only() -> None:
    ssh = machine.ssh_argv(Path("/k"), "er", 2200, "true")
    assert ssh[:7] == ["ssh", "-F", "none", "-i", "/k", "-p", "2200"]
    assert ssh[-2:] == ["er@127.0.0.1", "true"]
    assert {"BatchMode=yes", "UserKnownHostsFile=/dev/null"} <= set(ssh)
    curl = trial.curl("a.test", "127.0.0.1", 8443, Path("/ca"))
    assert curl[curl.index("--resolve") + 1] == "a.test:8443:127.0.0.1"
    assert curl[-1] == "https://a.test:8443/"
    assert "--insecure" not in curl


_GOOD = {
    "state": "running",
    "failed": "",
    "firewall unit": "active",
    "iptables": "-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT ACCEPT",
    "ip6tables": "-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT ACCEPT",
    "nat": "-A ER-PRE -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 8443",
    "listeners": """\
tcp   LISTEN 0 128 0.0.0.0:22 0.0.0.0:*
tcp   LISTEN 0 4096 *:8080 *:*
tcp   LISTEN 0 4096 *:8443 *:*
udp   UNCONN 0 0 *:8443 *:*
udp   UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*
udp   UNCONN 0 0 10.0.2.15%enp0s2:68 0.0.0.0:*
udp   UNCONN 0 0 0.0.0.0:45000 0.0.0.0:*
tcp   LISTEN 0 4096 127.0.0.1:2019 0.0.0.0:*""",
}


def test_a_good_host_has_no_faults() -> None:
    assert list(verify.judge(_GOOD)) == []


@pytest.mark.parametrize(
    ("question", "answer", "fault"),
    [
        ("state", "degraded", "systemd says 'degraded', not running"),
        ("failed", "fail2ban.service loaded failed failed Ban", "the unit fail2ban.service has failed"),
        ("firewall unit", "failed", "the firewall's unit is failed"),
        ("iptables", "-P INPUT ACCEPT\n-P FORWARD DROP", "iptables: -P INPUT DROP is not set"),
        ("ip6tables", "-P INPUT DROP\n-P FORWARD ACCEPT", "ip6tables: -P FORWARD DROP is not set"),
        ("nat", "-P PREROUTING ACCEPT", "nothing leads from 443 to the proxy"),
        ("listeners", "tcp LISTEN 0 9 0.0.0.0:2019 0.0.0.0:*", "somebody listens on tcp 0.0.0.0:2019"),
        ("listeners", "tcp LISTEN 0 9 [::]:53 [::]:*", "somebody listens on tcp [::]:53"),
        ("listeners", "udp UNCONN 0 0 0.0.0.0:5355 0.0.0.0:*", "somebody listens on udp 0.0.0.0:5355"),
        ("listeners", "tcp LISTEN 0 9 127.0.0.1:5432 0.0.0.0:*", "somebody listens on tcp 127.0.0.1:5432"),
    ],
)
def test_each_fault_is_named(question: str, answer: str, fault: str) -> None:
    assert list(verify.judge({**_GOOD, question: answer})) == [fault]


def test_the_inspection_is_a_python_program() -> None:
    compile(verify.inspection(), "asked", "exec")


def test_the_spec_is_changed_only_so_far_as_this_machine_needs() -> None:
    spec = spec_of(more="ssh: {allow_from: [192.0.2.0/24]}")
    here = verify.for_this_machine(spec, "ssh-ed25519 AAAA test")
    assert here.admin.ssh_keys == (*spec.admin.ssh_keys, "ssh-ed25519 AAAA test")
    assert here.tls.ca == "internal"
    assert here.ssh.allow_from == ("192.0.2.0/24", "10.0.2.2/32")
    assert (here.server, here.proxy, here.stacks, here.fail2ban) == (
        spec.server,
        spec.proxy,
        spec.stacks,
        spec.fail2ban,
    )


def test_a_machine_that_only_this_one_reaches_has_no_edge_before_it() -> None:
    """Who comes straight is answered; the rest of the host is as the spec says."""
    spec = spec_of(more="proxy: {behind: cloudflare, only: true}")
    for here in (verify.for_this_machine(spec, "ssh-ed25519 AAAA test"), open_to_all(spec)):
        assert spec.proxy.edge
        assert here.proxy.edge == replace(spec.proxy.edge, only=False)
    tried = trial.plan(spec, timeout=1).user_data
    assert b"-A ER-OWN-SOURCE" in tried
    assert b"-I ER-WEB -p udp -j DROP" in tried
    assert b"-I ER-WEB -j DROP" not in tried
    assert open_to_all(spec_of()) == spec_of()


def test_archives_are_mounted_where_the_host_looks_for_them() -> None:
    text = seed.VENDOR_DATA.decode()
    assert text.startswith("#cloud-config\n")
    assert json.loads(text.removeprefix("#cloud-config\n")) == {
        "mounts": [
            ["/dev/disk/by-id/virtio-er-images", "/var/lib/easyrunner/images", "ext4", "defaults,nofail", "0", "0"]
        ]
    }
    argv = seed.mke2fs_argv(Path("/f"), Path("/i"), 32 * 1024**2)
    assert argv[-4:] == ["-d", "/f", "/i", "32768k"]


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright", (7, 2)),
        ("QEMU emulator version 10.0.2", (10, 0)),
        ("", (0, 0)),
    ],
)
def test_the_version_of_qemu(said: str, version: tuple[int, int]) -> None:
    assert acceleration.version(said) == version


def test_only_emulation_is_held_to_one_processor() -> None:
    assert acceleration.processors("amd64", acceleration.Accelerator("kvm", "kvm", "host")) == 2
