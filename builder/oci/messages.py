"""Texts of what is wrong with an image that is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


def no_archive(path: Path) -> UserError:
    """It is no tar file, or one that was cut off."""
    return UserError(
        f"{path} is no tar file, or not the whole of one",
        "an image is written to a file by docker save or podman save; unpack a compressed one first: gunzip, unzstd",
    )


def damaged(path: Path) -> UserError:
    """Its parts do not fit together."""
    return UserError(f"{path} is damaged: what it says of its image does not hold", "save it anew")


def no_image(path: Path) -> UserError:
    """It is something else."""
    return UserError(
        f"{path} holds no image",
        "give an archive of docker save or podman save, or an OCI layout: a directory with index.json",
    )


def no_such_name(path: Path, name: str) -> UserError:
    """Other images are in it."""
    return UserError(f"{path} holds no image {name}", "leave the name out where it holds one image")


def several(path: Path, names: Iterable[str]) -> UserError:
    """Which one is meant is not said."""
    listed = ", ".join(sorted({name for name in names if name})) or "none of them has a name"
    return UserError(f"{path} holds several images: {listed}", f"say which: {path}:NAME; or save one alone")


def layers_missing(path: Path, count: int) -> UserError:
    """The image of this platform is not all here."""
    return UserError(
        f"{path} lacks {count} of the image's layers",
        "pull or build the whole image first, as with docker pull --platform; then save it anew",
    )


def wrong_architecture(platforms: Sequence[str], architecture: str) -> UserError:
    """What is here is for other machines than the server."""
    return UserError(
        f"the image is for {', '.join(platforms) or 'no platform'}, the server is linux/{architecture}",
        f"build it with --platform linux/{architecture}, an option of docker build and of podman build",
    )


def no_file(path: Path) -> UserError:
    """Nothing is at that path."""
    return UserError(f"there is no {path}", "look at the path")


def no_engine(image: str) -> UserError:
    """There is neither Docker nor Podman."""
    return UserError(
        f"there is no file and no image {image} here: neither docker nor podman is installed",
        "give the archive or layout as a path; or install one of them",
    )


def not_here(image: str, engines: Sequence[str], said: str) -> UserError:
    """No engine has it."""
    return UserError(
        f"{' and '.join(engines)} here {'has' if len(engines) == 1 else 'have'} no image {image}{said and f': {said}'}",
        "build or pull it first; an image that a registry has needs no push: name it in the spec",
    )


def in_both(image: str) -> UserError:
    """Docker and Podman have different images of this name."""
    return UserError(f"docker and podman have different images {image}", f"say whose: docker:{image} or podman:{image}")
