"""A distribution's own cloud image, by file or URL; never without its checksum, as it is a whole host's software."""

from __future__ import annotations

import hashlib
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, TYPE_CHECKING, Final

from builder.disk import image_file
from builder.localhost import cache
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SHA256: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_CHUNK: Final = 1024 * 1024
_SECONDS: Final = 60
_NAME: Final = "image"
_SCHEMES: Final = ("https", "http")


def digest(checksum: str) -> str:
    """The 64 hexadecimal digits of `checksum`, which may begin with `sha256:`. Raises UserError for anything else."""
    match = _SHA256.fullmatch(checksum.strip())
    if match is None:
        raise UserError(f"not a SHA-256 checksum: {checksum}", "64 hexadecimal digits; sha256sum IMAGE prints them")
    return match[1].lower()


def from_file(path: Path, checksum: str) -> Path:
    """The image itself, once its checksum was found to be right. Raises UserError."""
    expected = digest(checksum)
    image_file.format_of(path)
    with path.open("rb") as file:
        _compare(hashlib.file_digest(file, "sha256").hexdigest(), expected, path.name)
    return path


def from_url(url: str, checksum: str, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """The image, downloaded once and kept by its checksum.

    Only a whole one with the right checksum is kept. `progress` is called with the bytes so far and all bytes, 0 when
    the server does not say. Raises UserError.
    """
    expected = digest(checksum)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise UserError(f"{url} is not a URL to download from", "https://…, or the path of a file")

    def download(aside: Path) -> None:
        aside.mkdir(parents=True)
        try:
            _download(url, aside / _NAME, expected, progress or (lambda *_: None))
        except BaseException:
            shutil.rmtree(aside)
            raise

    return cache.made(cache.root() / "disks" / f"sha256-{expected}", download) / _NAME


def _download(url: str, target: Path, expected: str, progress: Callable[[int, int], None]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as source, target.open("wb") as file:  # noqa: S310 - checked
            found = _copy(source, file, int(source.headers.get("Content-Length") or 0), progress)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{url}: {getattr(error, 'reason', None) or error}") from None
    _compare(found, expected, url)
    image_file.format_of(target)


def _copy(source: IO[bytes], target: IO[bytes], size: int, progress: Callable[[int, int], None]) -> str:
    """The SHA-256 of what was copied."""
    found = hashlib.sha256()
    so_far = 0
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        found.update(chunk)
        so_far += len(chunk)
        progress(so_far, size)
    return found.hexdigest()


def _compare(found: str, expected: str, name: str) -> None:
    if found != expected:
        raise UserError(
            f"{name}: the checksum is sha256:{found}, not sha256:{expected}",
            "the file is damaged or another one; compare with what the distribution publishes",
        )
