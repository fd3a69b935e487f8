"""What can be wrong with an image, planted: at least one case for every check that looks at files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# VFS_CAP_REVISION_2 with cap_net_bind_service permitted and effective: capability.h.
_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
_HASH = "$6$saltsaltsalt$" + "x" * 86
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl someone\n"
# In two parts, so that this file holds no such line.
_PRIVATE = "-----BEGIN OPENSSH PRIVATE" + " KEY-----\nabc\n-----END OPENSSH PRIVATE" + " KEY-----\n"


class Soil:
    """A tree to plant in; `restore` makes everything as it was."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._undo: list[Callable[[], object]] = []

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def folder(self, path: str) -> Path:
        here = self.at(path)
        if not here.is_dir():
            self.folder(str(Path(path).parent))
            here.mkdir()
            self._undo.append(here.rmdir)
        return here

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> Path:
        here = self.folder(str(Path(path).parent)) / Path(path).name
        if here.is_symlink() or here.exists():
            self.remove(path)
        here.write_bytes(content if isinstance(content, bytes) else content.encode())
        here.chmod(mode)
        self._undo.append(here.unlink)
        return here

    def add(self, path: str, text: str) -> None:
        here = self.at(path)
        old = here.read_bytes() if here.exists() else b""
        self.write(path, old + text.encode())

    def change(self, path: str, old: str, new: str) -> None:
        text = self.at(path).read_text()
        assert old in text, f"{path} has no {old!r}"
        mode = self.at(path).stat().st_mode & 0o7777
        self.write(path, text.replace(old, new, 1), mode)

    def remove(self, path: str) -> None:
        here = self.at(path)
        aside = here.with_name(f"{here.name}.moved-aside")
        here = here.rename(self.root.parent / f"{self.root.name}-{len(self._undo)}-{aside.name}")
        self._undo.append(lambda: here.rename(self.at(path)))

    def link(self, path: str, target: str) -> None:
        here = self.folder(str(Path(path).parent)) / Path(path).name
        if here.is_symlink() or here.exists():
            self.remove(path)
        here.symlink_to(target)
        self._undo.append(here.unlink)

    def mode(self, path: str, mode: int) -> None:
        here = self.at(path)
        old = here.stat().st_mode & 0o7777
        here.chmod(mode)
        self._undo.append(lambda: here.chmod(old))

    def restore(self) -> None:
        while self._undo:
            self._undo.pop()()


class Plant(NamedTuple):
    """One kind of dirt: the check that must find it, a word for it, how it is made, where it must be found."""

    check: str
    word: str
    make: Callable[[Soil], object]
    path: str
    needs_root: bool = False


def _file(check: str, path: str, content: str | bytes = "x\n", mode: int = 0o644) -> Plant:
    return Plant(check, path.strip("/").replace("/", "_"), lambda soil: soil.write(path, content, mode), path)


def _line(check: str, word: str, path: str, text: str) -> Plant:
    return Plant(check, word, lambda soil: soil.add(path, text), path)


def _user(soil: Soil, row: str, home: str) -> None:
    soil.add("/etc/passwd", row)
    soil.folder(home)


def _chown(soil: Soil, path: str, uid: int, gid: int) -> None:
    os.chown(soil.write(path, "x\n"), uid, gid)


def _capable(soil: Soil) -> None:
    os.setxattr(soil.write("/usr/local/bin/tool", b"\x7fELF", 0o755), "security.capability", _CAPABILITY)


def _unit(soil: Soil) -> None:
    soil.write(
        "/etc/systemd/system/left.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    )
    soil.link("/etc/systemd/system/multi-user.target.wants/left.service", "/etc/systemd/system/left.service")


def _enabled(soil: Soil) -> None:
    soil.link("/etc/systemd/system/sockets.target.wants/podman.socket", "/usr/lib/systemd/system/podman.socket")


def _keys_elsewhere(soil: Soil) -> None:
    soil.write("/etc/ssh/sshd_config.d/90-keys.conf", "AuthorizedKeysFile /etc/ssh/keys/%u\n")
    soil.write("/etc/ssh/keys/root", _KEY)


def _package(soil: Soil, state: str, name: str = "telnetd") -> None:
    soil.add("/var/lib/dpkg/status", f"\nPackage: {name}\nStatus: {state}\nArchitecture: amd64\nVersion: 1\n")


PLANTS = (
    _file("ssh-host-keys", "/etc/ssh/ssh_host_ed25519_key", "", 0o600),
    _file("ssh-host-keys", "/etc/ssh/ssh_host_rsa_key.pub"),
    _file("machine-id", "/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    _file("machine-id", "/var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n"),
    _file("random-seed", "/var/lib/systemd/random-seed", bytes(32), 0o600),
    _file("random-seed", "/var/lib/systemd/credential.secret", bytes(64), 0o400),
    _file("random-seed", "/boot/efi/loader/random-seed", bytes(32)),
    _file("hostname", "/etc/hostname", "packer-build-7\n"),
    _line("hostname", "hosts", "/etc/hosts", "127.0.1.1 packer-build-7.example.org packer-build-7\n"),
    _file("hostname", "/etc/mailname", "build.example.org\n"),
    _file("dhcp-leases", "/var/lib/dhcp/dhclient.eth0.leases", "lease {}\n"),
    _file("dhcp-leases", "/var/lib/dhcpcd/duid", "00:01\n"),
    _file("resolver", "/etc/resolv.conf", "# made by hand\nnameserver 10.0.2.3\n"),
    _file("authorized-keys", "/root/.ssh/authorized_keys", _KEY, 0o600),
    _file("authorized-keys", "/root/.ssh/authorized_keys2", _KEY, 0o600),
    _file("authorized-keys", "/etc/skel/.ssh/authorized_keys", _KEY, 0o600),
    Plant("authorized-keys", "told-to-sshd", _keys_elsewhere, "/etc/ssh/keys/root"),
    _line("authorized-keys", "of-a-daemon", "/usr/games/.ssh/authorized_keys", _KEY),
    _file("ssh-directory", "/root/.ssh/known_hosts", "host ssh-ed25519 AAAA\n"),
    _file("ssh-directory", "/root/.ssh/config", "Host *\n"),
    Plant("passwords", "root", lambda soil: soil.change("/etc/shadow", "root:*:", f"root:{_HASH}:"), "/etc/shadow"),
    Plant("passwords", "locked", lambda soil: soil.change("/etc/shadow", "root:*:", f"root:!{_HASH}:"), "/etc/shadow"),
    Plant("passwords", "empty", lambda soil: soil.change("/etc/shadow", "games:*:", "games::"), "/etc/shadow"),
    _file("passwords", "/etc/shadow-", f"root:{_HASH}:20000:0:99999:7:::\n", 0o600),
    Plant("passwords", "passwd", lambda soil: soil.change("/etc/passwd", "games:x:", "games::"), "/etc/passwd"),
    _file("passwords", "/var/cache/debconf/passwords.dat", "Name: x/root-password\nValue: secret\n", 0o600),
    Plant(
        "accounts",
        "login",
        lambda soil: _user(soil, "debian:x:1000:0:Debian:/home/debian:/bin/bash\n", "/home/debian"),
        "/etc/passwd",
    ),
    Plant("accounts", "home", lambda soil: soil.folder("/home/gone"), "/home/gone"),
    _file("sudoers", "/etc/sudoers.d/90-cloud-init-users", "debian ALL=(ALL) NOPASSWD:ALL\n", 0o440),
    _file("private-keys", "/etc/ssl/private/site.key", _PRIVATE, 0o600),
    _file("private-keys", "/opt/deploy/id", _PRIVATE, 0o600),
    _file("credentials", "/root/.aws/credentials", "[default]\n", 0o600),
    _file("credentials", "/root/.docker/config.json", "{}\n", 0o600),
    _file("credentials", "/var/lib/easyrunner/config/20009/containers/auth.json", "{}\n", 0o640),
    _file("credentials", "/opt/deploy/env", "export TOKEN=ghp_" + "a" * 36 + "\n"),
    _file("cloud-init-state", "/var/lib/cloud/data/instance-id", "i-1\n"),
    _file("cloud-init-state", "/var/lib/cloud/seed/nocloud/user-data", "#cloud-config\n"),
    _file("cloud-init-leftovers", "/etc/cloud/cloud.cfg.d/99-lab.cfg", "datasource_list: [NoCloud]\n"),
    _file("cloud-init-leftovers", "/etc/cloud/cloud.cfg.d/98-net.cfg", "network: {config: disabled}\n"),
    _file("cloud-init-leftovers", "/etc/cloud/cloud.cfg.d/97-keys.cfg", f"ssh_authorized_keys:\n  - {_KEY}"),
    _file("cloud-init-leftovers", "/etc/cloud/cloud.cfg.d/99-installer.cfg", "a: 1\n"),
    _file("cloud-init-leftovers", "/etc/cloud/cloud-init.disabled", ""),
    _file("cloud-init-leftovers", "/etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n"),
    _file("network-leftovers", "/etc/netplan/50-cloud-init.yaml", "network: {}\n", 0o600),
    _file("network-leftovers", "/etc/network/interfaces.d/50-cloud-init", "auto lo\n"),
    _file("network-leftovers", "/etc/systemd/network/10-cloud-init-eth0.network", "[Match]\n"),
    _file("network-leftovers", "/etc/udev/rules.d/70-persistent-net.rules", "# rules\n"),
    _file("logs", "/var/log/cloud-init-output.log", "user-data was\n"),
    _file("logs", "/var/log/syslog.1", "x"),
    _file("logs", "/var/log/wtmp", bytes(384)),
    _file("logs", "/var/log/journal/0123/system.journal", bytes(8)),
    _file("logs", "/var/log/apt/history.log", "Start-Date\n"),
    _file("logs", "/var/lib/wtmpdb/wtmp.db", bytes(8)),
    _file("histories", "/root/.bash_history", "mysql -psecret\n", 0o600),
    _file("histories", "/root/.python_history"),
    _file("histories", "/root/.lesshst"),
    _file("histories", "/root/.viminfo"),
    _file("histories", "/root/.local/share/fish/fish_history"),
    _file("user-caches", "/root/.cache/pip/x"),
    _file("user-caches", "/root/.sudo_as_admin_successful", ""),
    _file("temporary-files", "/tmp/script_1234.sh", "#!/bin/sh\n", 0o755),
    _file("temporary-files", "/var/tmp/er-bake/rootfs.tar", "x"),
    _file("build-files", "/root/packer-shell123", "x"),
    _file("build-files", "/opt/goss.yaml", "x"),
    _file("build-files", "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755),
    _file("crash-dumps", "/var/crash/_usr_bin_x.0.crash", "x"),
    _file("crash-dumps", "/var/lib/systemd/coredump/core.x.0.zst", "x"),
    _file("crash-dumps", "/root/core.77", "x"),
    _file("ballast", "/swapfile", bytes(10), 0o600),
    _file("ballast", "/zerofile", bytes(10)),
    _file("service-state", "/var/lib/easyrunner/data/fail2ban/fail2ban.sqlite3", "x"),
    _file("service-state", "/var/lib/systemd/timers/stamp-apt-daily.timer", ""),
    _file("run-files", "/run/reboot-required", "*** System restart required ***\n"),
    _file("run-files", "/run/cloud-init/result.json", "{}\n"),
    _file("apt-lists", "/var/lib/apt/lists/deb.example.org_dists_x_InRelease", "x"),
    _file("apt-caches", "/var/cache/apt/archives/less_1_amd64.deb", "x"),
    _file("apt-caches", "/var/cache/apt/pkgcache.bin", "x"),
    _file("build-network", "/etc/apt/apt.conf.d/01proxy", 'Acquire::http::Proxy "http://10.0.2.2:3142";\n'),
    _file("build-network", "/etc/apt/sources.list.d/m.list", "deb http://10.0.2.2/debian trixie main\n"),
    _line("build-network", "environment", "/etc/environment", "https_proxy=http://proxy:3128\n"),
    _file("base-system", "/etc/os-release", 'ID=debian\nVERSION_ID="12"\n'),
    Plant("dpkg-state", "half", lambda soil: _package(soil, "install ok half-configured"), "/var/lib/dpkg/status"),
    _file("dpkg-state", "/var/lib/dpkg/updates/0001", "x"),
    _file("dpkg-state", "/etc/ssh/sshd_config.ucf-dist", "x"),
    _file("old-settings", "/etc/ca-certificates.conf.dpkg-old", "x"),
    _file("old-settings", "/etc/ssh/sshd_config.ucf-old", "x"),
    Plant("unwanted-packages", "telnetd", lambda soil: _package(soil, "install ok installed"), "-"),
    Plant("unwanted-packages", "agent", lambda soil: soil.folder("/opt/digitalocean"), "/opt/digitalocean"),
    _file("setuid", "/usr/local/bin/rootsh", b"\x7fELF", 0o4755),
    Plant("setuid", "of-a-package", lambda soil: soil.mode("/usr/bin/cloud-init", 0o2755), "/usr/bin/cloud-init"),
    Plant("capabilities", "tool", _capable, "/usr/local/bin/tool", needs_root=True),
    _file("world-writable", "/etc/open.conf", "x", 0o666),
    Plant("world-writable", "folder", lambda soil: soil.folder("/srv/open").chmod(0o777), "/srv/open"),
    Plant("unowned", "uid", lambda soil: _chown(soil, "/srv/lost", 4242, 0), "/srv/lost", needs_root=True),
    Plant("unowned", "gid", lambda soil: _chown(soil, "/srv/found", 0, 4242), "/srv/found", needs_root=True),
    Plant("unwanted-units", "left", _unit, "/etc/systemd/system/multi-user.target.wants/left.service"),
    Plant("unwanted-units", "podman", _enabled, "/etc/systemd/system/sockets.target.wants/podman.socket"),
    _file(
        "unwanted-units",
        "/etc/systemd/system/serial-getty@ttyS0.service.d/auto.conf",
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root %I\n",
    ),
    Plant(
        "updates-held-back",
        "mask",
        lambda soil: soil.link("/etc/systemd/system/apt-daily.timer", "/dev/null"),
        "/etc/systemd/system/apt-daily.timer",
    ),
    Plant(
        "updates-held-back", "hold", lambda soil: _package(soil, "hold ok installed", "less"), "/var/lib/dpkg/status"
    ),
    _file("scheduled-jobs", "/var/spool/cron/crontabs/root", "* * * * * true\n", 0o600),
    _file("scheduled-jobs", "/etc/cron.d/build", "* * * * * root true\n"),
    _file("scheduled-jobs", "/etc/rc.local", "#!/bin/sh\n", 0o755),
    Plant(
        "host-files",
        "mode",
        lambda soil: soil.mode("/usr/lib/easyrunner/firewall", 0o700),
        "/usr/lib/easyrunner/firewall",
    ),
    Plant(
        "host-files",
        "gone",
        lambda soil: soil.remove("/usr/lib/easyrunner/first-boot"),
        "/usr/lib/easyrunner/first-boot",
    ),
    Plant(
        "host-files",
        "changed",
        lambda soil: soil.change("/etc/ssh/sshd_config", "PermitRootLogin no", "PermitRootLogin yes"),
        "/etc/ssh/sshd_config",
    ),
    _file("host-files", "/etc/easyrunner/extra", "x", 0o600),
    Plant(
        "host-units",
        "firewall",
        lambda soil: soil.remove("/etc/systemd/system/sysinit.target.wants/er-firewall.service"),
        "/etc/systemd/system/er-firewall.service",
    ),
    Plant(
        "host-packages",
        "fail2ban",
        lambda soil: soil.change(
            "/var/lib/dpkg/status",
            "Package: fail2ban\nStatus: install ok installed",
            "Package: fail2ban\nStatus: deinstall ok config-files",
        ),
        "/usr/lib/easyrunner/packages",
    ),
    _file("first-boot-state", "/var/lib/easyrunner/complete", ""),
    _file("first-boot-state", "/var/lib/systemd/linger/er-blog", ""),
    Plant(
        "first-boot-state",
        "stack",
        lambda soil: soil.write("/etc/easyrunner/stacks/blog/services", "web web\n"),
        "/etc/easyrunner/stacks/blog",
    ),
    # Last: others need it, when all of them are planted at once.
    Plant("cloud-init-installed", "gone", lambda soil: soil.remove("/usr/bin/cloud-init"), "/usr/bin/cloud-init"),
)
