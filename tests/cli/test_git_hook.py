"""The hook of a repository that is pushed to, asked in a real one: what it finds in a commit, refuses and gives."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.server.remote.deploy import git_hook, git_repository

if TYPE_CHECKING:
    from collections.abc import Callable

WHO = {f"GIT_{role}_{what}": "me" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ASKED = {"context": "app", "containerfile": "Containerfile", "never": ["db.env"]}


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Git in a repository of its own, where the hook finds itself as well."""
    env = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": "/dev/null"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()

    def run(*words: str) -> str:
        return subprocess.run(["git", *words], env=env, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "--quiet", "--initial-branch=main")
    return run


def commit(git: Callable[..., str], **files: str) -> str:
    """A commit with these files alone, `_` for a slash; its id."""
    for name, text in files.items():
        path = Path(name.replace("_", "/"))
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        git("add", "--force", str(path))
    git("commit", "--quiet", "-m", "one")
    return git("rev-parse", "HEAD")


def refused(new: str, **asked: Any) -> str:
    with pytest.raises(git_hook.Refused) as caught:
        git_hook._found(new, {**ASKED, **asked})
    return str(caught.value)


def test_a_directory_is_the_specs_or_the_repository_itself(git: Callable[..., str]) -> None:
    new = commit(git, app_Containerfile="FROM scratch\n", app_db="", README="")
    found = git_hook._found(new, ASKED)
    assert (found["place"], found["files"], found["text"], found["withheld"]) == ("app", 2, None, [])
    assert found["tree"] == git("rev-parse", f"{new}:app")
    assert (
        git_hook._found(new, {**ASKED, "context": "other/place", "containerfile": "app/Containerfile"})["place"] == ""
    )
    assert "the commit has no other/web.Containerfile" in refused(
        new, context="other", containerfile="web.Containerfile"
    )
    assert "the commit has no app/../../x" not in refused(new, containerfile="../../x")
    outside = git_hook._found(new, {**ASKED, "context": "app", "containerfile": "../README"})
    assert (outside["place"], outside["text"]) == ("app", "")
    inline = git_hook._found(new, {**ASKED, "containerfile": ""})
    assert inline["place"] == "app"


def test_a_small_pack_may_name_a_million_files(git: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    new = commit(git, app_Containerfile="", **{f"app_{number}": "x" for number in range(5)})
    assert git_hook._found(new, ASKED)["files"] == 6
    monkeypatch.setattr(git_hook, "_MOST_FILES", 5)
    assert refused(new) == "it is more than 5 files, or more than 2048 MiB"


def test_what_is_given_is_the_commit_without_passwords(git: Callable[..., str]) -> None:
    """Whatever its attributes say: the repository's own have the last word, as on the server."""
    Path(".git/info/attributes").write_text(git_repository._SCRIPT.partition("echo '")[2].partition("'")[0])
    new = commit(
        git, app_Containerfile="$Format:%H$\n", app_a="A", **{"app_.env": "P", "app_db.env": "P", "app_sub.env": "Q"}
    )
    Path("app/deep").mkdir()
    new = commit(git, **{"app/deep/.env": "P", "app/.gitattributes": "a export-ignore\nContainerfile export-subst\n"})
    found = git_hook._found(new, ASKED)
    assert found["withheld"] == [".env", "db.env"]
    here, there = socket.socketpair()
    with here, there, there.makefile("rb") as stream:
        sender = threading.Thread(target=git_hook._reply, args=(here, {"give": found["tree"], "never": ["db.env"]}))
        sender.start()
        size = json.loads(stream.readline())["size"]
        archive = io.BytesIO(stream.read(size))
        sender.join()
    with tarfile.open(fileobj=archive) as tar:
        content = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]
    assert sorted(content) == [".gitattributes", "Containerfile", "a", "sub.env"]
    assert content["Containerfile"] == b"$Format:%H$\n"
