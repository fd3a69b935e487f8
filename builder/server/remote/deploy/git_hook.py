"""The `pre-receive` hook of a stack's repository: what was pushed waits here until it is built and runs.

It runs as the builds' user, as a file of its own, without the rest of er. Descriptor 3 is the connection to
git_push.py, which decides: that asks, a line of JSON each, this answers from the repository and shows to whoever pushes
what it is told to. Of what was pushed nothing is executed, no filter of a tree is applied, and nothing is unpacked.
"""

from __future__ import annotations

import json
import os
import posixpath
import socket
import subprocess
import sys
import tempfile
from typing import IO, Any, Final, NamedTuple

Answer = dict[str, Any]

_CHANNEL: Final = 3
# Of a tree: a small pack can name the same files again and again, without end.
_MOST_FILES: Final = 100_000
_MOST_BYTES: Final = 2048 << 20
_LONGEST: Final = 600


class Refused(Exception):  # noqa: N818 - a push is
    """Why a commit is not built, with a way out."""

    def __init__(self, why: str, hint: str) -> None:
        self.answer: Answer = {"refused": why, "hint": hint}
        super().__init__(why)


def main() -> int:
    """The exit code: 0 lets the branch move."""
    connection = socket.socket(fileno=_CHANNEL)
    with connection, connection.makefile("rb") as asked:
        _send(connection, {"updates": [line.split() for line in sys.stdin.read(1 << 16).splitlines()]})
        for line in asked:
            question = json.loads(line)
            if "end" in question:
                return int(question["end"])
            if "say" in question:
                _show(question["say"])
            else:
                _reply(connection, question)
    _show("the server has ended this; nothing was changed")
    return 1


def _show(text: str) -> None:
    """To whoever pushes; an empty text is a look whether this is still there."""
    if text:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _reply(connection: socket.socket, question: Answer) -> None:
    try:
        if "at" in question:
            _send(connection, {"at": _git("rev-parse", "--verify", "--quiet", question["at"], check=False)})
        elif "find" in question:
            _send(connection, _found(question["find"], question))
        else:
            _give(connection, question["give"], question["never"])
    except Refused as refused:
        _send(connection, refused.answer)
    except OSError:
        # It takes no more, and has said why: that is what comes next.
        return


def _send(connection: socket.socket, answer: Answer) -> None:
    connection.sendall(json.dumps(answer).encode() + b"\n")


def _git(*words: str, check: bool = True) -> str:
    done = subprocess.run(["git", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST, check=False)
    if check and done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Refused(f"git {words[0]}: {said[-1] if said else done.returncode}", "is it a commit like any other?")
    return done.stdout.decode(errors="replace").strip()


def _found(commit: str, asked: Answer) -> Answer:
    """Where in the commit a service's directory and its Containerfile are, once nothing is wrong with them.

    `tree` is the directory's; `text` is that of a Containerfile which is not in it.
    """
    place, file = _place(commit, asked["context"], asked["containerfile"])
    tree = _git("rev-parse", "--verify", f"{commit}:{place}" if place else f"{commit}^{{tree}}")
    found = _listed(tree)
    if _uses_lfs(tree, found):
        raise Refused(
            "of some files only pointers of Git LFS were pushed, and this server has nothing else of them",
            "build it where they are: er deploy HOST STACK --build DIR",
        )
    outside = file.startswith("../")
    text = _git("cat-file", "blob", f"{commit}:{posixpath.normpath(posixpath.join(place, file))}") if outside else None
    withheld = sorted(one.path for one in found if one.path == ".env" or one.path in asked["never"])
    return {"tree": tree, "place": place, "text": text, "files": len(found), "withheld": withheld}


def _place(commit: str, context: str, file: str) -> tuple[str, str]:
    """The directory that the spec names, or the repository itself; and the Containerfile as seen from there."""
    for place in dict.fromkeys((context, "")):
        path = posixpath.normpath(posixpath.join(place, file or "."))
        is_inside = not path.startswith("..")
        if is_inside and _kind(commit, "" if path == "." else path) == ("blob" if file else "tree"):
            return place, file
    where = f"{context}/" if context else ""
    raise Refused(f"the commit has no {posixpath.normpath(where + (file or '.'))}", "is it what the spec builds from?")


def _kind(commit: str, path: str) -> str:
    return _git("cat-file", "-t", f"{commit}:{path}" if path else f"{commit}^{{tree}}", check=False)


class Entry(NamedTuple):
    """A file of a tree."""

    path: str
    blob: str


def _listed(tree: str) -> list[Entry]:
    """All files below a tree. Raises Refused for what is too much, and for submodules."""
    found, size = [], 0
    argv = ["git", "ls-tree", "-r", "-l", "-z", tree]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as listing:
        for record in _records(listing.stdout):
            words, _, name = record.partition(b"\t")
            _, kind, blob, length = words.decode().split()
            path = name.decode(errors="replace")
            if kind == "commit":
                listing.kill()
                raise Refused(
                    f"{path} is a submodule, and the server fetches none",
                    "build it where that is: er deploy HOST STACK --build DIR",
                )
            found.append(Entry(path, blob))
            size += int(length)
            if len(found) > _MOST_FILES or size > _MOST_BYTES:
                listing.kill()
                raise Refused(
                    f"it is more than {_MOST_FILES:,} files, or more than {_MOST_BYTES >> 20} MiB",
                    "push what the image is built from, and nothing else",
                )
    return found


def _records(stream: IO[bytes] | None) -> Any:
    """What stands between NULs."""
    rest = b""
    while block := stream.read(1 << 16) if stream else b"":
        *whole, rest = (rest + block).split(b"\0")
        yield from whole


def _uses_lfs(tree: str, found: list[Entry]) -> bool:
    """Whether an attribute names Git LFS, and a file is one of its pointers."""
    attributes = [one.blob for one in found if posixpath.basename(one.path) == ".gitattributes"][:100]
    if not any("filter=lfs" in _git("cat-file", "blob", blob) for blob in attributes):
        return False
    return bool(_git("grep", "-l", "-I", "-F", "version https://git-lfs.github.com/spec/", tree, check=False))


def _give(connection: socket.socket, tree: str, never: list[str]) -> None:
    """The files of a tree as a tar archive, behind its size. What may hold passwords is left out."""
    without = [":(exclude,glob)**/.env", *(f":(exclude,literal){path}" for path in never)]
    with tempfile.TemporaryFile(dir="tmp") as archive:
        argv = ["git", "archive", "--format=tar", tree, "--", ".", *without]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=archive, timeout=_LONGEST, check=False)
        size = os.fstat(archive.fileno()).st_size
        if done.returncode or size > _MOST_BYTES:
            raise Refused(f"its files cannot be read, or have more than {_MOST_BYTES >> 20} MiB", "is it whole?")
        _send(connection, {"size": size})
        archive.seek(0)
        connection.sendfile(archive)


if __name__ == "__main__":
    sys.exit(main())
