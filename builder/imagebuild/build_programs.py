"""Programs that build images: the argument lists of Podman, Buildah and Docker, each tried in this order.

Podman and Buildah come first: it is Podman that runs the image on the server, and neither needs a daemon. All three
build images in Docker's format, which keeps health checks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from builder import process
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.stack.model import Build


@dataclass(frozen=True, slots=True)
class Request:
    """What is built: `context` and `containerfile` are paths here, `id_file` gets the id of the image.

    `anew`: without a cache, and from the newest base images.
    """

    build: Build
    context: Path
    containerfile: Path
    platform: str
    name: str
    id_file: Path
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A program: whether it answers, and its argument lists.

    `fetch` brings the newest image of a name and platform, and `digest` prints its digest; `local_digest` prints what
    is known here without a network.
    """

    name: str
    answers: tuple[str, ...]
    build: Callable[[Request], list[str]]
    save: Callable[[str, Path], list[str]]
    fetch: Callable[[str, str], list[str]] | None
    digest: Callable[[str], list[str]]
    local_digest: Callable[[str], list[str]]


def _common(request: Request) -> list[str]:
    """What all three understand."""
    build = request.build
    return [
        *(["--no-cache"] if request.anew else []),
        f"--platform={request.platform}",
        f"--file={request.containerfile}",
        f"--tag={request.name}",
        f"--iidfile={request.id_file}",
        *([f"--target={build.target}"] if build.target else []),
        *([f"--network={build.network}"] if build.network != "default" else []),
        *(f"--build-arg={name}={value}" for name, value in build.args),
        *(f"--label={name}={value}" for name, value in build.labels),
        *(f"--add-host={name}:{address}" for name, address in build.extra_hosts),
    ]


def _podman_like(program: Sequence[str], request: Request) -> list[str]:
    """The base images are here already: what was fetched is what the digest was made of."""
    return [
        *program,
        "--format=docker",
        "--layers",
        "--pull=missing" if program[0] == "podman" else "--pull=false",
        *_timestamp(),
        *_common(request),
        str(request.context),
    ]


def _timestamp() -> list[str]:
    """The time of all that a build makes, where somebody has set it for reproducible builds."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return [f"--timestamp={epoch}"] if epoch.isdigit() else []


def _buildx(request: Request) -> list[str]:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return [
        *("docker", "buildx", "build", "--load", "--progress=plain", "--provenance=false", "--sbom=false", "--pull"),
        *([f"--build-arg=SOURCE_DATE_EPOCH={epoch}"] if epoch.isdigit() else []),
        *_common(request),
        str(request.context),
    ]


def _docker(request: Request) -> list[str]:
    return ["docker", "build", "--pull", *_common(request), str(request.context)]


# What was never at a registry has none but its id.
_DOCKER_DIGEST: Final = "--format={{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}"

PROGRAMS: Final = (
    Program(
        "podman",
        ("podman", "info", "--format={{.Version.Version}}"),
        partial(_podman_like, ("podman", "build")),
        lambda image, path: ["podman", "save", "--quiet", "--format=docker-archive", f"--output={path}", image],
        lambda image, platform: ["podman", "pull", "--quiet", f"--platform={platform}", image],
        lambda image: ["podman", "image", "inspect", "--format={{.Digest}}", image],
        lambda image: ["podman", "image", "inspect", "--format={{.Digest}}", image],
    ),
    Program(
        "buildah",
        ("buildah", "info"),
        partial(_podman_like, ("buildah", "build")),
        lambda image, path: ["buildah", "push", "--quiet", image, f"docker-archive:{path}"],
        lambda image, platform: ["buildah", "pull", "--quiet", f"--platform={platform}", image],
        lambda image: ["buildah", "inspect", "--type=image", "--format={{.FromImageDigest}}", image],
        lambda image: ["buildah", "inspect", "--type=image", "--format={{.FromImageDigest}}", image],
    ),
    Program(
        "docker buildx",
        ("docker", "buildx", "ls"),
        _buildx,
        lambda image, path: ["docker", "save", f"--output={path}", image],
        None,
        lambda image: ["docker", "buildx", "imagetools", "inspect", "--format={{.Manifest.Digest}}", image],
        lambda image: ["docker", "image", "inspect", _DOCKER_DIGEST, image],
    ),
    Program(
        "docker",
        ("docker", "version", "--format={{.Server.Version}}"),
        _docker,
        lambda image, path: ["docker", "save", f"--output={path}", image],
        lambda image, platform: ["docker", "pull", "--quiet", f"--platform={platform}", image],
        lambda image: ["docker", "image", "inspect", _DOCKER_DIGEST, image],
        lambda image: ["docker", "image", "inspect", _DOCKER_DIGEST, image],
    ),
)
# Seconds: a daemon or a virtual machine may not run, a registry may not answer, and an image be large.
_ANSWER, _FETCH = 30, 1800


def find() -> Program:
    """The first program that answers. Raises UserError with what each of the others said."""
    said = []
    for program in PROGRAMS:
        if shutil.which(program.answers[0]):
            why = _refusal(program.answers)
            if not why:
                return program
            said.append(f"{program.name} says: {why}")
    if not said:
        raise UserError(
            "no program here builds images",
            "install podman, buildah or Docker; or let the server build: --on-server",
        )
    raise UserError(f"no program here builds images: {'; '.join(said)}", "or let the server build: --on-server")


def _refusal(argv: Sequence[str]) -> str:
    """What a program says that does not answer; nothing of one that does."""
    try:
        done = process.run(argv, timeout=_ANSWER, check=False)
    except subprocess.TimeoutExpired:
        return f"nothing within {_ANSWER} s"
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return said[-1] if done.returncode else ""


def base_digest(program: Program, image: str, platform: str) -> str:
    """The digest of a base image: the registry's now, else what is known here; empty where nothing is.

    An image that a digest names is the same on any day.
    """
    if "@sha256:" in image:
        return image.partition("@")[2]
    # What was built here is asked of no registry.
    local = image.startswith("localhost/")
    if not local and (program.fetch is None or _run(program.fetch(image, platform)) is not None):
        found = _run(program.digest(image))
        if found:
            return found.rpartition("@")[2]
    return (_run(program.local_digest(image)) or "").rpartition("@")[2]


def _run(argv: Sequence[str]) -> str | None:
    """What a program prints; None where it fails."""
    try:
        done = process.run(argv, timeout=_FETCH, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
