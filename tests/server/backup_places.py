"""Where hosts under test back up to: an S3 endpoint (moto's), a real sshd for SFTP, a REST server that only appends.

Each runs in a namespace beside the host, as a program of this machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder.polling import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.lab.network import Namespace

S3_PORT: Final = 9000
REST_PORT: Final = 9001
BUCKET: Final = "backups"
KEYS: Final = {"s3-access-key": "lab-access", "s3-secret-key": "lab-secret"}
_SSHD: Final = """\
Port 22
ListenAddress 0.0.0.0
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
ForceCommand internal-sftp
"""


@dataclass
class Places:
    """The endpoints; `directory` is where SFTP and REST keep their repositories, and their keys."""

    place: Namespace
    directory: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.directory / "sftp").mkdir(parents=True)
        for name in ("host_key", "client_key"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(self.directory / name)]
            subprocess.run(argv, check=True)
        public = (self.directory / "client_key.pub").read_bytes()
        (self.directory / "authorized_keys").write_bytes(public)

    @property
    def s3(self) -> str:
        """As the spec has it."""
        return f"s3:http://{self.place.ipv4}:{S3_PORT}/{BUCKET}/saved1"

    def sftp(self, path: str = "sftp/saved1") -> str:
        """The same, of a directory here."""
        return f"sftp:root@{self.place.ipv4}:{self.directory}/{path}"

    @property
    def rest(self) -> str:
        """The same, of a server that lets nobody remove anything."""
        return f"rest:http://{self.place.ipv4}:{REST_PORT}/saved1/"

    @property
    def host_key(self) -> str:
        """Of the SFTP server, without its comment."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    def start_s3(self) -> None:
        """moto's server: what is in it is gone when it ends. A bucket is there."""
        self._start([sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(S3_PORT)], S3_PORT)
        url = f"http://127.0.0.1:{S3_PORT}/{BUCKET}"
        self.place.run(["curl", "--silent", "--fail", "-X", "PUT", url])

    def start_sftp(self, small: str = "", megabytes: int = 0) -> subprocess.Popen[bytes]:
        """A real sshd. To itself alone, the directory `small` here may be a file system of so many megabytes."""
        assert shutil.which("sshd"), "apt-get install openssh-server"
        config = self.directory / "sshd_config"
        config.write_text(_SSHD.format(directory=self.directory))
        run = "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f " + str(config)
        if not small:
            return self._start(["sh", "-c", run], 22)
        (self.directory / small).mkdir(exist_ok=True)
        mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {self.directory / small}"
        return self._start(["unshare", "--mount", "--propagation=private", "sh", "-c", f"{mount} && {run}"], 22)

    def start_rest(self) -> None:
        """Restic's own protocol, spoken by rclone."""
        assert shutil.which("rclone"), "apt-get install rclone"
        where = self.directory / "rest"
        argv = ["rclone", "--config=", "serve", "restic", "--append-only", f"--addr=0.0.0.0:{REST_PORT}", str(where)]
        self._start(argv, REST_PORT)

    def _start(self, argv: Sequence[str], port: int) -> subprocess.Popen[bytes]:
        process = self.place.start(list(argv))
        self.running.append(process)
        look = ["sh", "-c", f"ss -Htln sport = :{port} | grep -q ."]
        until(lambda: self.place.run(look, check=False).returncode == 0, timeout=60, what=f"port {port}")
        return process

    def stop(self, *processes: subprocess.Popen[bytes]) -> None:
        """These, or all."""
        for process in processes or tuple(self.running):
            process.terminate()
            process.wait()
            self.running.remove(process)
