"""Where the drill restores to, and who does it: a user who exists nowhere else, in a place that only root enters.

The unit has its own /etc/passwd, /etc/subuid and /etc/subgid, so that on the host there is no such user, and nothing is
left of it however the drill ends. What is restored belongs to that user: no owner, and so no right of anybody's, comes
out of a snapshot. It sees /drill, and of er's own files nothing; a database has no network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, host_secrets
from builder.server.remote.backup import dump_load, restic
from builder.server.remote.backup.dump_load import Account
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.server.remote.service_container import Container

SLICE: Final = f"{facts.DRILLS}.slice"
_UID: Final = facts.DRILL_UID
_FIRST: Final = (_UID - facts.UID_BASE) * facts.SUBID_SIZE
_USER: Final = "er-drill"
# What it finds in its home, and what root gives it.
HOME, GIVEN = "/drill", "/run/drill-given"
_ENVIRONMENT: Final = Path(facts.RUN, "drill.env")
_FILES_OF_SSH: Final = re.compile(r"(?:IdentityFile|UserKnownHostsFile)=(\S+)")
# What it may not see, whatever it makes of what it runs.
_HIDDEN: Final = (facts.STATE, facts.RUN, facts.STACKS, facts.QUADLETS, "/run/user")


@dataclass(frozen=True)
class Cell:
    """The place of one stack's drill."""

    directory: Path

    @property
    def home(self) -> Path:
        """All that is restored, and Podman's store, the user's own."""
        return self.directory / "home"

    def make(self) -> None:
        """An empty place."""
        self.remove()
        self.directory.mkdir(mode=0o700, parents=True)
        for name in ("home", "run", "given"):
            path = self.directory / name
            path.mkdir(mode=0o700)
            os.chown(path, _UID, _UID)
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        self._write("passwd", f"{passwd}{_USER}:x:{_UID}:{_UID}::{HOME}:/usr/sbin/nologin\n")
        self._write("group", f"{group}{_USER}:x:{_UID}:\n")
        self._write("subid", f"{_USER}:{_FIRST}:{facts.SUBID_SIZE}\n")

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o644)

    def remove(self) -> None:
        """Take all of it away."""
        if self.directory.exists():
            common.run(["rm", "-rf", "--one-file-system", "--", str(self.directory)])

    def account(self, capabilities: str = "") -> Account:
        """Who does it; its unit begins as root, for only that may be there without being one of the host's users."""
        binds = {"home": HOME, "run": f"/run/{_USER}"}
        shown = {"passwd": "/etc/passwd", "group": "/etc/group"}
        read = [f"{self.directory}/{name}:{path}" for name, path in shown.items()]
        read += [f"{self.directory}/subid:/etc/{name}" for name in ("subuid", "subgid")]
        properties = (
            f"Slice={SLICE}",
            f"BindPaths={' '.join(f'{self.directory}/{name}:{path}' for name, path in binds.items())}",
            f"BindReadOnlyPaths={' '.join(read)}",
            f"InaccessiblePaths={' '.join(f'-{path}' for path in _HIDDEN)}",
            f"WorkingDirectory={HOME}",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
        )
        runtime = f"/run/{_USER}"
        environment = {"USER": _USER, "LOGNAME": _USER, "HOME": HOME, "TMPDIR": HOME, "XDG_RUNTIME_DIR": runtime}
        words = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups"]
        words += [f"--inh-caps=+{capabilities}", f"--ambient-caps=+{capabilities}"] if capabilities else []
        return Account(_UID, _UID, properties, environment, tuple(words), GIVEN)

    # What it does.

    def restic(self, words: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Restic with the host's repository and credentials, to its end. Neither stands in a command line."""
        backup = restic.settings()
        base = [self._given(word) for word in restic.base_words(backup) if "cache" not in word]
        variables = {**restic.environment(), "RESTIC_PASSWORD": host_secrets.read("restic-password").decode().strip()}
        del variables["RESTIC_PASSWORD_FILE"]
        names = [name for name in variables if name.startswith(("RESTIC_", "AWS_"))]
        # A directory is root's, as is all that is in it.
        account = self.account("dac_read_search" if backup["repository"].startswith("/") else "")
        more = [f"EnvironmentFile={_ENVIRONMENT}", "PrivateNetwork=no"]
        more.append(f"BindReadOnlyPaths={self.directory / 'given'}:{GIVEN}")
        argv = account.argv("easyrunner-drill-restic", seconds, more, [*base, "--no-cache", "--no-lock", *words])
        try:
            dump_load.write_environment(_ENVIRONMENT, {name: variables[name] for name in names})
            return subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
            )
        finally:
            _ENVIRONMENT.unlink(missing_ok=True)

    def _given(self, word: str) -> str:
        """A word of restic's with the files of root's that ssh reads, which are copied to where it finds them."""
        for name in _FILES_OF_SSH.findall(word):
            copy = self.directory / "given" / Path(name).name
            shutil.copyfile(name, copy)
            copy.chmod(0o600)
            os.chown(copy, _UID, _UID)
            word = word.replace(name, f"{GIVEN}/{copy.name}")
        return word

    def bring_image(self, user: str, image: str, seconds: float) -> str:
        """An image of a stack's goes into this user's store; its name there. Raises RemoteError."""
        script = "exec podman --cgroup-manager=cgroupfs --log-level=error load --quiet"
        argv = self.account().argv("easyrunner-drill-image", seconds, [], ["sh", "-c", script])
        save = [*common.in_session(user), "podman", "save", "--quiet", "--format=docker-archive", image]
        with subprocess.Popen(
            save, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as giver:
            done = subprocess.run(argv, stdin=giver.stdout, capture_output=True, text=True, check=False)
        if giver.returncode or done.returncode:
            raise RemoteError(f"its image {image} cannot be had: {dump_load.last_line(done.stderr)}")
        return done.stdout.split()[-1]

    def mounts(self, stack: str, wanted: Container) -> list[str]:
        """Files that the spec brings, copied; the database's own data is nowhere, and goes with its container."""
        found = []
        for number, mount in enumerate(wanted.mounts):
            source, target, *_ = mount.split(":")
            if source.startswith(f"{facts.STACKS}/{stack}/"):
                copy = self.home / "mounts" / str(number)
                copy.parent.mkdir(exist_ok=True)
                (shutil.copytree if Path(source).is_dir() else shutil.copyfile)(source, copy)
                common.run(["chown", "--recursive", "--no-dereference", f"{_UID}:{_UID}", str(copy.parent)])
                found.append(f"{HOME}/mounts/{number}:{target}:ro")
        return found
