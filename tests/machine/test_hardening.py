"""What the hardening settings come to on a booted host: seen by people, by root and by the system's own files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from builder.host import hardening
from builder.lab import base_tree
from tests.audit.test_audits import ssh_audit

if TYPE_CHECKING:
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine


def test_the_network_is_set_as_the_table_says(three: Host) -> None:
    """The network has settings of its own in the lab; the rest of the kernel's belong to the machine below."""
    rows = [
        row for row in hardening.settings() if row.file.startswith("/etc/sysctl.d/") and row.line.startswith("net.")
    ]
    wanted = {key: value for row in rows for key, value in [row.line.split(" = ")] if "*" not in key}
    own = [key for key in wanted if not key.startswith("net.core.")]
    assert len(own) >= 20
    said = three.machine.run(["sysctl", *own]).stdout.splitlines()
    assert dict(line.split(" = ") for line in said) == {key: wanted[key] for key in own}
    assert three.machine.run(["sysctl", "-n", "net.ipv4.conf.lan.rp_filter"]).stdout.strip() == "1"


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_what_anybody_can_write_is_not_run(three: Host, place: str) -> None:
    script = f"cp /bin/true {place}/true && {place}/true"
    done = three.ssh(script)
    assert done.returncode == 126, done.stderr
    assert "Permission denied" in done.stderr
    three.machine.run(["rm", f"{place}/true"])


def test_a_stack_sees_no_process_but_its_own(three: Host) -> None:
    owners = three.machine.run(["ps", "-e", "-o", "user:32="], user="er-hello").stdout.split()
    subordinate = [owner for owner in owners if owner.isdigit()]
    assert set(owners) - set(subordinate) == {"er-hello"}
    assert "root" in three.ssh("ps -e -o user=").stdout.split(), "admins see all"


def test_what_apps_print_is_in_the_journal(three: Host) -> None:
    """Podman's users do not see process 1, by which it would tell that there is one."""
    asked = ["podman", "info", "--format", "{{.Host.LogDriver}} {{.Host.CgroupManager}}"]
    assert three.machine.run(asked, user="er-hello").stdout.strip() == "journald systemd"


def test_profiles_that_confine_nothing_are_not_compiled(three: Host) -> None:
    """A link of that name in `disable` has AppArmor's parser pass a profile over."""
    told = three.machine.run("cd /etc/apparmor.d; grep -lsE 'flags=.(unconfined|complain)' *; echo; ls disable")
    empty, _, disabled = told.stdout.partition("\n\n")
    names = [name for name in disabled.split() if name in set(empty.split())]
    assert sorted(empty.split()) == sorted(names)
    assert len(names) > 50
    assert {"usr.bin.passt", "usr.bin.pasta"}.isdisjoint(disabled.split()), "these do confine"


def test_people_leave_no_core_dumps_and_private_files_but_root_makes_readable_ones(three: Host) -> None:
    assert three.ssh("ulimit -c; umask; sudo sh -c 'ulimit -c; umask'").stdout.split() == ["0", "0027", "0", "0022"]


def test_a_key_file_that_a_power_cut_left_readable_is_closed(three: Host) -> None:
    """cloud-init keeps the mode of a file that is there; what runs is what every boot and `provision` run."""
    keys = "/root/.ssh/authorized_keys"
    three.machine.run(["chmod", "0644", keys])
    three.machine.run(["systemd-tmpfiles", "--create", "easyrunner-modes.conf"])
    assert three.machine.run(["stat", "-c", "%a %U", keys]).stdout.split() == ["600", "root"]


def test_the_policy_comes_out_the_same_wherever_a_run_of_it_ended(three: Host) -> None:
    """The loop of `provision`, as it is, on the stock files: whole, and whole again after its first so many lines."""
    machine = three.machine
    text = machine.files.path("/usr/lib/easyrunner/provision").read_text()
    loop = re.search(r"^\s*while read -r file line.*?^\s*done <\S+$", text, re.DOTALL | re.MULTILINE)
    assert loop is not None
    rows = [line.split(" ", 1) for line in machine.files.path("/usr/lib/easyrunner/lines").read_text().splitlines()]
    stock = {path: (base_tree.tree() / path.lstrip("/")).read_bytes() for path, _ in rows}

    def applied(content: dict[str, bytes], first: int) -> dict[str, bytes]:
        machine.files.write("/root/lines", "".join(f"/root{path} {line}\n" for path, line in rows[:first]).encode())
        for path, was in content.items():
            machine.files.write(f"/root{path}", was)
        machine.run(["sh", "-euc", loop[0].replace("/usr/lib/easyrunner/lines", "/root/lines")])
        return {path: machine.files.path(f"/root{path}").read_bytes() for path in content}

    whole = applied(stock, len(rows))
    for path in stock:
        ours = [line for file, line in rows if file == path]
        assert whole[path].decode().splitlines()[-len(ours) :] == ours
    cut = {first: applied(applied(stock, first), len(rows)) for first in range(1, len(rows) + 1)}
    assert cut == dict.fromkeys(cut, whole)


def test_pam_keeps_what_was_edited_when_a_package_adds_a_module(three: Host) -> None:
    update = "DEBIAN_FRONTEND=noninteractive pam-auth-update --package"
    three.machine.run(f"{update} --enable mkhomedir")
    try:
        session = three.machine.path("/etc/pam.d/common-session").read_text()
        assert "pam_mkhomedir.so" in session
        assert "pam_umask.so nousergroups\n" in session
        assert "nullok" not in three.machine.path("/etc/pam.d/common-auth").read_text()
    finally:
        three.machine.run(f"{update} --disable mkhomedir")


def test_services_leave_no_core_dumps(three: Host) -> None:
    assert three.machine.run(["systemctl", "show", "-P", "DefaultLimitCORE"]).stdout.strip() == "0"


def test_who_comes_is_told(three: Host) -> None:
    program, *words = three.ssh_argv("true")
    done = three.machine.attacker(0).run([program, "-o", "LogLevel=INFO", *words])
    assert "authorized access only." in done.stderr


def test_ssh_forwards_nothing(three: Host) -> None:
    """Not to the proxy's admin port, which listens for the host itself."""
    argv = three.ssh_argv()
    argv[1:1] = ["-W", "127.0.0.1:2019"]
    done = three.machine.attacker(0).run(argv, check=False)
    assert done.returncode == 255
    assert "forwarding failed" in done.stderr


def test_ssh_audit_finds_nothing(three: Host) -> None:
    assert ssh_audit(three.machine.attacker(1), three.machine.ipv4) == []


def test_only_admins_log_in(three: Host) -> None:
    """A user with a good key, but not of the group."""
    machine = three.machine
    key = three.key.with_suffix(".pub").read_text()
    machine.run("useradd --create-home --shell /bin/bash visitor && install -d -m 0700 -o visitor ~visitor/.ssh")
    try:
        machine.run("cat >~visitor/.ssh/authorized_keys && chown visitor ~visitor/.ssh/*", stdin=key.encode())
        assert three.ssh("true", user="visitor").returncode == 255
        machine.run("usermod -aG sudo visitor")
        assert three.ssh("true", user="visitor").returncode == 0
    finally:
        machine.run("userdel --remove --force visitor", check=False)


def test_updates_have_a_window(three: Host) -> None:
    for timer, at in (("apt-daily", "02:30:00"), ("apt-daily-upgrade", "03:30:00")):
        said = three.machine.run(["systemctl", "show", "-P", "TimersCalendar", f"{timer}.timer"]).stdout
        assert said.count("OnCalendar=") == 1
        assert f"OnCalendar=*-*-* {at} " in said


def test_a_change_of_the_systems_files_is_told_once(three: Host) -> None:
    machine = three.machine

    def look() -> str:
        machine.run("systemctl start er-integrity.service", timeout=180)
        argv = "journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID er-integrity.service)"
        return machine.run(argv).stdout

    look()
    machine.run("echo changed >/usr/local/bin/er-test-intruder")
    try:
        assert "/usr/local/bin/er-test-intruder" in look()
        assert "NO differences" in look()
    finally:
        machine.run("rm /usr/local/bin/er-test-intruder")


def test_no_unit_failed_and_all_of_ours_run(three: Host) -> None:
    assert three.machine.run("systemctl --failed --no-legend").stdout == ""
    watches = ["er-watch@ssh.service", "er-watch@web.service"]
    units = ["er-firewall.service", "er-first-boot.service", *watches, "mount-hardening.service"]
    said = three.machine.run(["systemctl", "is-active", *units, "er-integrity.timer"], check=False).stdout.split()
    assert said == ["active"] * 6


def test_a_firewall_without_its_sandbox_still_loads(three: Host) -> None:
    """Where the kernel refuses the sandbox, the rules load without it."""
    machine = three.machine
    drop_in = "/run/systemd/system/er-firewall.service.d/99-broken.conf"
    machine.run(f"mkdir -p {drop_in.rpartition('/')[0]}")
    machine.run(f"printf '[Service]\\nReadWritePaths=/nowhere-at-all\\n' >{drop_in}; systemctl daemon-reload")
    try:
        machine.run("rm -f /run/er-firewall.loaded; iptables -F ER-INPUT; systemctl restart er-firewall", check=False)
        assert machine.run(["systemctl", "show", "-P", "Result", "er-firewall"]).stdout.strip() == "exit-code"
        machine.wait(machine.path("/run/er-firewall.loaded").exists, timeout=20, what="the rules")
        assert "--dport 22" in machine.run(["iptables", "-S", "ER-INPUT"]).stdout
    finally:
        machine.run(f"rm {drop_in}; systemctl daemon-reload; systemctl restart er-firewall")
