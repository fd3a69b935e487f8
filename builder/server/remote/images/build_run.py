"""The work of a build's unit: the build itself in another one, as its own user; then the image for the stack's store.

The inner unit has what the build may see, write and take. Where it would leave too little to others it is ended.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, release_record
from builder.server.remote.common import RemoteError
from builder.server.remote.images import image_builds, image_storage, pushed_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value
    from builder.server.remote.images.pushed_image import Image

_MIB: Final = 1 << 20
# Of the disk, and of the server's memory: with less available a build is ended. A full disk stops stacks at 5 %, and
# out of memory the kernel chooses what it ends.
_FREE, _AVAILABLE = 0.10, 0.04
# What one build may write, in bytes, and what it may take in seconds; a request may say less.
_WRITES: Final = 20_480 * _MIB
_SECONDS: Final = 3600
_PROCESSES: Final = 1000
# Seconds after which layers are too old in any case.
_OLDEST: Final = 30 * 86_400
# A store is emptied when it is larger at the end of a build, in bytes and as a share of the disk.
_CACHE, _CACHE_SHARE = 10_240 * _MIB, 0.2
# What is kept of the output, and read at once, in bytes.
_LONGEST_OUTPUT: Final = 4 * _MIB
_CHUNK: Final = 65_536
# Of the layers that the stack has, so many are named to the build: a variable has room for 128 KiB.
_KNOWN: Final = 1900


def build_run(stack: str) -> Value:
    """The work of the unit. Its state says last how it ended: then somebody else may begin."""
    build = image_builds.of(stack)
    request = json.loads((build.directory / "request.json").read_bytes())
    try:
        end = {"phase": "done", "image": _make(build, build.state()["service"], request)}
    except RemoteError as error:
        end = {"phase": "failed", "why": str(error), "hint": error.hint or ""}
    except (OSError, subprocess.SubprocessError) as error:
        end = {"phase": "failed", "why": str(error), "hint": ""}
    (build.directory / "context.tar").unlink(missing_ok=True)
    shutil.rmtree(build.layout, ignore_errors=True)
    _remove_scratch(build)
    if size_of(build.home) > min(_CACHE, _CACHE_SHARE * image_builds.disk()[1]):
        build.empty()
    build.set_state(**end)
    return {}


def _make(build: image_builds.Build, service: str, request: Value) -> str:
    """Build it, and hand it over; returns the name of the image in the stack's store."""
    _make_directories(build)
    build.set_state("building")
    watch, anew, now = _Watch(build, request), _is_anew(build, service, request), time.time()
    with (build.directory / "context.tar").open("rb") as context, (build.directory / "output").open("ab") as output:
        process = subprocess.Popen(
            _argv(build, request, anew=anew), stdin=context, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        with watch.looking():
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            last = _copy(process.stdout, output)
            code = process.wait()
    result = common.show(build.inner_unit, "Result").get("Result", "")
    common.run(["systemctl", "reset-failed", build.inner_unit], check=False)
    if watch.why:
        # What it has written is what there is too little room for.
        build.empty()
        raise watch.why
    if code:
        raise _failure(result, last, watch.seconds)
    if anew:
        build.record.write_text(json.dumps({**_recorded(build), service: now}))
    build.set_state("handing over")
    stamp = time.strftime("%Y%m%d%H%M", time.gmtime(_recorded(build)[service]))
    return _hand_over(build, service, f"{request['digest']}-{stamp}")


def _is_anew(build: image_builds.Build, service: str, request: Value) -> bool:
    """Whether it is built without a cache: somebody asks for it, or its layers are too old, or there are none."""
    last = _recorded(build).get(service, 0.0)
    return bool(request.get("anew")) or time.time() - last >= _at_most(request, "max_age", _OLDEST)


def _recorded(build: image_builds.Build) -> dict[str, float]:
    try:
        found = json.loads(build.record.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return dict(found) if build.home.exists() else {}


def _make_directories(build: image_builds.Build) -> None:
    """All of them are made by root in a directory of root's, and then given away: no link is followed."""
    uid = common.uid(build.user)
    build.home.mkdir(mode=0o700, exist_ok=True)
    os.chown(build.home, uid, pwd.getpwnam(build.user).pw_gid)
    _remove_scratch(build)
    shutil.rmtree(build.layout, ignore_errors=True)
    build.layout.mkdir(mode=0o700)
    # setgid: what is put there can be read by the stack's group.
    os.chown(build.layout, uid, pwd.getpwnam(common.user_of(build.stack)).pw_gid)
    build.layout.chmod(0o2750)


def _remove_scratch(build: image_builds.Build) -> None:
    """What one build leaves and no later one uses, whatever rights it has."""
    for name in ("context", "tmp"):
        shutil.rmtree(build.home / name, ignore_errors=True)


# $1 is where the image goes; the rest are words for `podman build`. What came is unpacked as this user: tar makes
# no device without rights, and takes no path that leads out. Podman writes no layer that is there, so empty files stand
# for those that the stack has. The configuration comes from its storage as it is: an OCI layout has no health checks.
_SCRIPT: Final = """exec 2>&1
layout=$1
shift
podman() { command podman --cgroup-manager=cgroupfs --log-level=error "$@"; }
mkdir context tmp
tar --extract --file=- --directory=context --no-same-owner --same-permissions || exit
[ -z "$INLINE" ] || printf '%s' "$INLINE" >.containerfile
podman build "$@" --iidfile image --tag localhost/built context </dev/null || exit
mkdir -p "$layout/blobs/sha256"
(cd "$layout/blobs/sha256" && touch -- $KNOWN none && rm none)
podman save --quiet --format oci-dir --uncompressed --output "$layout" localhost/built || exit
name=$(cat image)
exec cp .local/share/containers/storage/*-images/"${name#*:}/=$(printf %s "$name" | base64 -w0)" "$layout/config"
"""
# What a build may not see, whatever it makes of Podman: other stacks, their secrets, the ways to their apps.
HIDDEN: Final = (facts.HOMES, facts.RUN, facts.STACKS, facts.CONFIG, facts.IMAGES, facts.QUADLETS)


def _argv(build: image_builds.Build, request: Value, *, anew: bool) -> list[str]:
    """The unit of the build: who it is, what it may see and write, and what it may take."""
    home = build.home
    runtime, known = f"build-{build.stack}", image_storage.layers_of(common.user_of(build.stack))
    properties = [
        f"User={build.user}",
        f"WorkingDirectory={home}",
        f"RuntimeDirectory={runtime}",
        "RuntimeDirectoryMode=0700",
        f"BindsTo={build.unit}.service",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        f"ReadWritePaths={home} {build.layout}",
        f"InaccessiblePaths={' '.join(f'-{path}' for path in HIDDEN)}",
        "UMask=0022",
        "Delegate=yes",
        "MemoryHigh=35%",
        "MemoryMax=40%",
        "OOMPolicy=kill",
        "OOMScoreAdjust=1000",
        f"TasksMax={_PROCESSES}",
        f"LimitNPROC={_PROCESSES}",
        f"LimitFSIZE={_at_most(request, 'writes', _WRITES)}",
        "LimitCORE=0",
        f"RuntimeMaxSec={_at_most(request, 'seconds', _SECONDS)}",
        "TimeoutStopSec=5",
        "Nice=10",
        "IOSchedulingClass=idle",
    ]
    env = {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "XDG_RUNTIME_DIR": f"/run/{runtime}",
        "INLINE": request.get("inline") or "",
        "KNOWN": " ".join(sorted(digest.partition(":")[2] for digest in known)[:_KNOWN]),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    auth = Path(facts.CONFIG, str(common.uid(common.user_of(build.stack))), facts.AUTH_FILE)
    if auth.exists():
        # A copy of the stack's logins to registries, for the images that it builds upon.
        properties.append(f"LoadCredential=auth.json:{auth}")
        env["REGISTRY_AUTH_FILE"] = f"/run/credentials/{build.inner_unit}/auth.json"
    return [
        *(
            "systemd-run",
            "--quiet",
            "--pipe",
            "--wait",
            "--expand-environment=no",
            f"--unit={build.inner_unit}",
            "--slice=builds.slice",
        ),
        *(f"--property={one}" for one in properties),
        *(f"--setenv={name}={value}" for name, value in env.items()),
        *("sh", "-c", _SCRIPT, "sh", str(build.layout)),
        *words(request, anew=anew),
    ]


def _at_most(request: Value, name: str, most: int) -> int:
    wanted = request.get(name)
    return min(wanted, most) if isinstance(wanted, int) and wanted > 0 else most


# Each becomes a single word of Podman's, so that no value is an option of its own.
_OPTIONS: Final = {"args": "--build-arg", "labels": "--label", "extra_hosts": "--add-host"}


def words(request: Value, *, anew: bool) -> Iterator[str]:
    """Words of `podman build`."""
    yield from ("--layers", "--format=docker")
    # What is newer in a registry is taken, and what no registry has may be there.
    yield from ("--no-cache", "--pull=newer") if anew else ("--pull=missing",)
    file = request.get("containerfile") or ""
    if request.get("inline"):
        yield "--file=.containerfile"
    elif file:
        yield f"--file=context/{file}"
    if request.get("target"):
        yield f"--target={request['target']}"
    # Without a word Podman takes the host's network.
    yield f"--network={'none' if request.get('network') == 'none' else 'private'}"
    for name, option in _OPTIONS.items():
        yield from (f"{option}={value}" for value in request.get(name, []))


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy what is printed as it comes, up to the limit; returns the last of it."""
    written, last = 0, b""
    while block := os.read(source.fileno(), _CHUNK):
        last = (last + block)[-4096:]
        if written < _LONGEST_OUTPUT:
            target.write(block[: _LONGEST_OUTPUT - written])
            target.flush()
            written += len(block)
            if written >= _LONGEST_OUTPUT:
                target.write(b"\n... what it prints from here on is not kept\n")
                target.flush()
    return last.decode(errors="replace")


class _Watch:
    """Ends a build that leaves too little of the disk or the memory to others. `why` says so."""

    def __init__(self, build: image_builds.Build, request: Value) -> None:
        self.why: RemoteError | None = None
        self.seconds = _at_most(request, "seconds", _SECONDS)
        self._build = build
        self._writes = _at_most(request, "writes", _WRITES)
        self._before = image_builds.disk()[0]
        self._used = size_of(build.home)
        self._ended = threading.Event()

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            self.why = self._wrong()
            if self.why:
                common.run(["systemctl", "kill", "--signal=KILL", self._build.inner_unit], check=False)
                common.run(["systemctl", "stop", self._build.inner_unit], check=False)
                return

    def _wrong(self) -> RemoteError | None:
        free, total = image_builds.disk()
        if free < common.wanted_free(total, _FREE):
            return RemoteError(
                f"it was ended, as of the server's disk only {free // _MIB} MiB were left",
                "what takes it: er server status",
            )
        # What is free is quick to ask, and others write as well: only then its own is counted.
        if self._before - free > self._writes and size_of(self._build.home) - self._used > self._writes:
            return RemoteError(
                f"it was ended, as it has written more than {self._writes // _MIB} MiB", "does a step of it never end?"
            )
        if _memory_available() < _AVAILABLE:
            return RemoteError("it was ended, as the server's memory was nearly gone", _ELSEWHERE)
        return None


def size_of(directory: Path) -> int:
    """Bytes on the disk."""
    said = common.run(["du", "--summarize", "--one-file-system", "--block-size=1", str(directory)], check=False).split()
    return int(said[0]) if said else 0


def _memory_available() -> float:
    """The share of the server's memory that is free, or would be at once."""
    found = dict(re.findall(r"^(Mem\w+): +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE))
    return int(found["MemAvailable"]) / int(found["MemTotal"])


def _failure(result: str, said: str, seconds: int) -> RemoteError:
    """Why a build has failed: what systemd saw of its unit, or what it said last."""
    if result == "timeout":
        return RemoteError(f"it was ended after {seconds} s", "does a step of it wait for something?")
    if result == "oom-kill":
        return RemoteError(f"it took more memory than a build may have, {_limit()}", _ELSEWHERE)
    reason = _reason(said)
    if "exited on killed" in said or "exit status 137" in said:
        return RemoteError(f"{reason}: it was killed, and a build may have {_limit()} of memory", _ELSEWHERE)
    if "resource temporarily unavailable" in said.lower():
        return RemoteError(f"{reason}: a build may have {_PROCESSES} processes at once", _ELSEWHERE)
    return RemoteError(reason or f"it failed: {result}")


_ELSEWHERE: Final = "build it on your own machine: without --on-server"


def _reason(said: str) -> str:
    """Podman's own words, or else the last line; of a long text the beginning and the end."""
    lines = [line for line in said.splitlines() if line.strip()]
    own = said.rpartition("Error: ")[2] if "Error: " in said else lines[-1] if lines else ""
    text = image_builds.printable(" ".join(own.split()), 4096)
    return text if len(text) < 250 else f"{text[:120]} … {text[-120:]}"


def _limit() -> str:
    most = common.show("builds.slice", "MemoryMax").get("MemoryMax", "")
    return f"{int(most) // _MIB} MiB" if most.isdigit() else "40 % of the server's"


_BLOB: Final = re.compile(r"blobs/sha256/[0-9a-f]{64}")
_OTHERS: Final = frozenset({"config", "index.json", "oci-layout"})


def _hand_over(build: image_builds.Build, service: str, tag: str) -> str:
    """The stack's user reads the image into its own store; returns its name there, with this tag.

    As with a push, Podman is given a manifest that is made here.
    """
    _check_layout(build.layout)
    image, user, scratch = _image(build.layout), common.user_of(build.stack), build.directory / "scratch"
    tars = {layer.diff_id: _tar(build.layout, layer.diff_id) for layer in image.layers}
    for path, content in pushed_image.layout(image, tars).items():
        files.replace(build.layout / path, content, 0o640, owner=(0, common.gid(user)))
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        found = image_storage.pull(user, build.layout, scratch, f"{build.unit}-pull")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if found != image.id:
        raise RemoteError(f"Podman made {found[:12]} of {image.id[:12]}")
    name = f"{release_record.repository(build.stack, service)}:{tag}"
    common.as_user(user, ["podman", "tag", found, name], timeout=common.PODMAN_TIMEOUT)
    return name


def _check_layout(layout: Path) -> None:
    """Nothing in it but plain files by their digest: no link leads root or the stack elsewhere. Its build has ended."""
    for directory, names, found in os.walk(layout):
        for name in (*names, *found):
            path = Path(directory, name)
            inside = str(path.relative_to(layout))
            mode = path.lstat().st_mode
            is_place = stat.S_ISDIR(mode) and inside in ("blobs", "blobs/sha256")
            is_file = stat.S_ISREG(mode) and (inside in _OTHERS or _BLOB.fullmatch(inside))
            if not is_place and not is_file:
                raise RemoteError(f"what it made is no image: there is {image_builds.printable(inside)}")


def _image(layout: Path) -> Image:
    """The image by its configuration, of which every value is checked. Raises RemoteError."""
    with (layout / "config").open("rb") as stream:
        text = stream.read(pushed_image.MAX_TEXT).decode(errors="replace")
    try:
        names = [str(name) for name in json.loads(text)["rootfs"]["diff_ids"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RemoteError("what it made is no image: its configuration cannot be read") from None
    layers = [{"digest": one, "diff_id": one, "size": _tar(layout, one) or 1, "compression": ""} for one in names]
    described = json.dumps({"config": text, "docker": True, "layers": layers})
    return pushed_image.parsed(described.encode(), pushed_image.architecture())


def _tar(layout: Path, diff_id: str) -> int:
    """The size of a layer's tar in the layout; 0 of one that the stack has."""
    path = layout / "blobs/sha256" / diff_id.removeprefix("sha256:").replace("/", "")
    return path.stat().st_size if path.is_file() else 0
