"""The private mount namespace and control group that all processes of one machine run in.

One process holds them, so the overlay is never mounted where the rest of this machine could see it,
and ending the group ends all: nspawn, the machine, pasta and the holding process itself.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.disk import image_file
from builder.polling import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CGROUP: Final = Path("/sys/fs/cgroup")
# This machine's own hierarchy may be version 1, a machine needs version 2.
_CGROUP2: Final = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
# $1 is the group, $2 the lower tree, or a raw disk, $3 the directory with upper, work and root, $4 where on the disk
# its root is. It ends with its standard input.
_HOLD_MOUNTS: Final = f"""set -e
{_CGROUP2}
mkdir -p "/sys/fs/cgroup/$1/holder"
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" > "/sys/fs/cgroup/$1/cgroup.subtree_control" 2>/dev/null || continue
done
echo $$ > "/sys/fs/cgroup/$1/holder/cgroup.procs"
if [ -f "$2" ]; then mount -o "loop,$4" "$2" "$3/root"
else mount -t overlay overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" "$3/root"
fi
echo mounted
exec cat
"""
# $1 is a group below the machine's own; the rest is what to run in it.
_IN_GROUP: Final = 'mkdir -p "/sys/fs/cgroup/$1"; echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"; shift; exec "$@"'
_END: Final = f"""{_CGROUP2}
[ -d "/sys/fs/cgroup/$1" ] || exit 0
echo 1 > "/sys/fs/cgroup/$1/cgroup.kill"
while grep -q 'populated 1' "/sys/fs/cgroup/$1/cgroup.events"; do sleep 0.01; done
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {{}} +
"""


class MountNamespace:
    """The root of one machine, mounted in `directory`/root until `end`, and its control group `group`.

    `directory` is on a real file system; `lower` is the tree below the overlay, or a raw disk. Raises CommandError.
    """

    def __init__(self, group: str, lower: Path, directory: Path) -> None:
        for name in ("upper", "work", "root"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.group = group
        self.directory = directory
        argv = [
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            _HOLD_MOUNTS,
            "holder",
            group,
            str(lower),
            str(directory),
            _loop_options(lower) if lower.is_file() else "",
        ]
        self._process = process.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = self._process.stdout.readline().decode() if self._process.stdout else ""
        if output.strip() != "mounted":
            rest = self._process.stdout.read().decode() if self._process.stdout else ""
            self.end()
            raise process.CommandError(argv[:1], self._process.returncode or 1, output + rest)

    @property
    def root(self) -> Path:
        """This machine's own file system as the holding process sees it: the mounts are only there."""
        return Path(f"/proc/{self._process.pid}/root")

    @property
    def tree(self) -> Path:
        """The machine's root directory."""
        return self.root / str(self.directory / "root").lstrip("/")

    @property
    def cgroup(self) -> Path:
        """The machine's control group."""
        return self.root / str(CGROUP).lstrip("/") / self.group

    @property
    def controllers(self) -> tuple[str, ...]:
        """The resource controllers a machine here can have."""
        return tuple((self.cgroup / "cgroup.controllers").read_text().split())

    def argv(self, argv: Sequence[str], *, group: str) -> list[str]:
        """`argv` in this mount namespace, and in a control group below this one."""
        enter = ["nsenter", "--target", str(self._process.pid), "--mount"]
        return [*enter, "sh", "-c", _IN_GROUP, "sh", f"{self.group}/{group}", *argv]

    def start(
        self,
        argv: Sequence[str],
        *,
        group: str,
        stdout: int | None = subprocess.DEVNULL,
        stderr: int | None = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program in this mount namespace; its process id is the returned one's."""
        return process.start(self.argv(argv, group=group), stdout=stdout, stderr=stderr, env=env)

    def remove_group(self, name: str) -> None:
        """Remove a group below this one once it is empty, as a new boot needs it fresh."""
        top = self.cgroup / name
        until(lambda: not _populated(top), timeout=10, what=f"the end of every process in {name}")
        for path in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            path.rmdir()
        if top.is_dir():
            top.rmdir()

    def end(self) -> None:
        """End everything in the group, and with it the mounts."""
        end_group(self.group)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _loop_options(raw: Path) -> str:
    """Where the root is on a raw disk, as options of mount(8)."""
    root = image_file.root_of(raw)
    return f"offset={root.offset},sizelimit={root.size}"


def end_group(group: str) -> None:
    """Kill every process of a machine's group and remove the group; also after its owner died."""
    process.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", _END, "end", group], timeout=30)


def _populated(top: Path) -> bool:
    events = top / "cgroup.events"
    return events.exists() and "populated 1" in events.read_text()
