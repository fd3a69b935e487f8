"""A push as values: who asks for it, what may be pushed, and what is on the server of the spec."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.server.remote.common import RemoteError
from builder.server.remote.deploy import git_push
from tests.unit.test_deploy import ADMIN, CI

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("request_", "stack"),
    [
        ("git-receive-pack '/blog'", "blog"),
        ("git-receive-pack 'blog'", "blog"),
        ("git-receive-pack '/../blog'", "../blog"),
        ("git-receive-pack --stateless-rpc '/blog'", ""),
        ("git-receive-pack", ""),
        ("git receive-pack '/blog'", None),
        ("stack-status blog", None),
        ("git-receive-pack '/blog", None),
        ("", None),
    ],
)
def test_who_asks_to_push(request_: str, stack: str | None) -> None:
    assert git_push.stack_of(request_) == stack


@pytest.mark.parametrize("verb", ["git-upload-pack", "git-upload-archive"])
def test_nobody_reads(verb: str) -> None:
    with pytest.raises(RemoteError, match="reads nothing"):
        git_push.stack_of(f"{verb} '/blog'")


@pytest.mark.parametrize(
    ("updates", "why"),
    [
        ([["0" * 40, "1" * 40, "refs/heads/other"]], "only the branch main is taken, not refs/heads/other"),
        ([["0" * 40, "1" * 40, "refs/heads/main"], ["0" * 40, "1" * 40, "refs/tags/v1"]], "not refs/tags/v1"),
        ([["1" * 40, "0" * 40, "refs/heads/main"]], "main is what blog is built from, and stays"),
        ([["1" * 40, "--help", "refs/heads/main"]], "this is no push"),
    ],
)
def test_only_the_branch(updates: list[list[str]], why: str) -> None:
    with pytest.raises(RemoteError, match=why):
        git_push.update(updates, "blog", "main")


def test_what_the_spec_says_is_on_the_server(tmp_path: Path) -> None:
    """Paths as they are in a repository; nothing of the way to it on this machine."""
    infra = tmp_path / "infra"
    for path in ("infra/blog", "app/web"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "Containerfile").write_text("FROM scratch\nEXPOSE 8080\n")
    compose = "services:\n  web:\n    build: {context: ../../app/web, args: {A: b}}\n"
    (infra / "blog/compose.yaml").write_text(f"{compose}  worker:\n    build: .\n    env_file: db.env\n")
    (infra / "blog/db.env").write_text("A=b\n")
    text = f"""\
server: {{name: web1}}
admin: {{name: er, ssh_keys: ["{ADMIN}"]}}
stacks:
  - name: blog
    compose: blog/compose.yaml
    public: {{web: {{domains: [blog.example.org], port: 8080}}}}
    deploy: {{ssh_keys: ["{CI}"], git: release/web}}
"""
    host = hosts.build(specs.loads(text, infra / "easyrunner.yaml")[0])
    content = next(file.content for file in host.files if file.path == f"{facts.STACKS}/blog/{facts.GIT}")
    found = json.loads(content)
    assert found["branch"] == "release/web"
    web, worker = found["services"]["web"], found["services"]["worker"]
    assert (web["context"], web["never"], web["args"]) == ("app/web", [], ["A=b"])
    assert (worker["context"], worker["never"], worker["max_age"]) == ("blog", ["db.env"], 7 * 86_400)
    assert str(tmp_path) not in content.decode()
    assert "git" in host.extra_packages
