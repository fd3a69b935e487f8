"""Deploy keys from the spec to the host's files, what is a request of one, and the examples for CI."""

from __future__ import annotations

import inspect
import io
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.problems import SpecError
from builder.server import deploy_login, host_keys, ssh
from builder.server.deploy_login import DeployLogin
from builder.server.remote import deploy_service, main
from builder.server.remote.common import RemoteError
from builder.server.remote.deploy import deploy_key
from builder.server.remote.deploy.deploy_key import DeployKey
from tests.unit.test_docs import ROOT, wrong_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADMIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
CI = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
SPEC = f"""\
server: {{name: web1}}
admin: {{name: er, ssh_keys: ["{ADMIN}"]}}
ssh: {{allow_from: ["0.0.0.0/0"]}}
stacks:
  - {{name: blog, image: "ghcr.io/me/blog:1", domain: blog.example.org, deploy: {{ssh_keys: [ci.pub, "{CI}"]}}}}
  - {{name: shop, image: "ghcr.io/me/shop:1", domain: shop.example.org}}
"""


_DEPLOY = r", deploy: \{.*?\}\}"


def loaded(tmp_path: Path, text: str = SPEC, comment: str = ' of "blog"') -> hosts.Host:
    (tmp_path / "ci.pub").write_text(f"{CI}{comment}\n")
    return hosts.build(specs.loads(text, tmp_path / "easyrunner.yaml")[0])


def content(host: hosts.Host, path: str) -> str:
    return next((file.content.decode() for file in host.files if file.path == path), "")


# ---- on the host


def test_each_key_has_its_command_and_nothing_else(tmp_path: Path) -> None:
    """The service reads the same lines."""
    text = content(loaded(tmp_path), facts.DEPLOY_KEYS)
    assert text.splitlines() == [
        f'restrict,command="{facts.DEPLOY_SHELL} blog" {CI} of "blog"',
        f'restrict,command="{facts.DEPLOY_SHELL} blog" {CI}',
    ]


def test_the_service_reads_what_sshd_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text(content(loaded(tmp_path), facts.DEPLOY_KEYS))
    monkeypatch.setattr(facts, "DEPLOY_KEYS", tmp_path / "keys")
    first, second = deploy_key.keys()
    assert first == DeployKey("blog", second.fingerprint, 'of "blog"')
    assert re.fullmatch(host_keys.FINGERPRINT, first.fingerprint)
    assert second.comment == ""


def test_only_hosts_with_deploy_keys_have_anything_of_it(tmp_path: Path) -> None:
    """But for the group, which sshd's policy names on every host."""
    without = loaded(tmp_path, re.sub(_DEPLOY, "}", SPEC))
    paths = {file.path for file in loaded(tmp_path).files} - {file.path for file in without.files}
    assert {facts.DEPLOY_KEYS, facts.DEPLOY_SHELL, "/etc/ssh/sshd_config.d/10-easyrunner.conf"} <= paths
    assert len(paths) == 9
    assert f"AllowGroups sudo {facts.DEPLOY_GROUP}\n" in content(without, "/etc/ssh/sshd_config")
    assert f"g {facts.DEPLOY_GROUP} -\n" in content(without, "/usr/lib/sysusers.d/easyrunner.conf")
    assert not any(file.part is hosts.Part.BAKED for file in loaded(tmp_path).files if file.path in paths)


def test_the_numbers_of_paths_are_the_logins(tmp_path: Path) -> None:
    paths = [
        file.path for file in loaded(tmp_path).files if "/user" in file.path and f"{facts.DEPLOY_UID}" in file.path
    ]
    assert [path.split("/")[4] for path in paths] == [
        f"user-{facts.DEPLOY_UID}.slice.d",
        f"user@{facts.DEPLOY_UID}.service.d",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("shop.example.org", f'shop.example.org, deploy: {{ssh_keys: ["{CI} x"]}}', "a key of the stack blog too"),
        ("[ci.pub, ", f'["{ADMIN}", ', "this key is the admin's"),
        ("[ci.pub, ", "[none.pub, ", "there is no file none.pub"),
        ("{ssh_keys: [ci.pub, ", "{git: main, ssh_keys: [ci.pub, ", "nothing of this stack is"),
        ("name: er,", "name: deploy,", "the login of those who may only deploy"),
        ("name: shop", "name: deploy", "er-deploy is the group"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_keys(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, SPEC.replace(old, new))
    assert any(said in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("networks", "warns"),
    [('"0.0.0.0/0"', False), ('"203.0.113.0/24"', True), ('"::/0"', True), ('"0.0.0.0/0", "::/0"', False)],
)
def test_a_firewall_that_keeps_ci_out_is_said(tmp_path: Path, networks: str, *, warns: bool) -> None:
    """Hosted machines ask over IPv4."""
    (tmp_path / "ci.pub").write_text(CI)
    text = SPEC.replace('"0.0.0.0/0"', networks)
    _, problems = specs.loads(text, tmp_path / "easyrunner.yaml")
    assert any("no deploy key works from elsewhere" in problem.message for problem in problems) == warns
    _, problems = specs.loads(re.sub(_DEPLOY, "}", text), tmp_path / "easyrunner.yaml")
    assert not any("deploy key" in problem.message for problem in problems)


# ---- requests


@pytest.mark.parametrize(
    ("request_", "verb"),
    [
        ("stack-status blog", "stack-status"),
        ("stack-logs blog 100", "stack-logs"),
        ("stack-logs blog 100 web", "stack-logs"),
        ("push-target blog", "push-target"),
        ("push-missing blog web look", "push-missing"),
        ("push-finish blog web 0123456789ab", "push-finish"),
        ("release-wait blog 'waiting for the stack' 20", "release-wait"),
        ("release-rollback blog", "release-rollback"),
        ("release-rollback blog 3", "release-rollback"),
        ("release-rollback blog spec", "release-rollback"),
    ],
)
def test_requests(request_: str, verb: str) -> None:
    assert deploy_service.parsed(request_, "blog") == (verb, tuple(shlex.split(request_)[1:]))


_SHELL, _OTHER, _WORDS = "no shell", "for the stack blog alone", "does not take these words"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("", _SHELL),
        ("id", _SHELL),
        ("'stack-status blog'", _SHELL),
        ("stack-status 'blog", _SHELL),
        ("apply-start", _SHELL),
        ("keep-code blog", _SHELL),
        ("release-run blog", _SHELL),
        ("stack-status", _OTHER),
        ("stack-status shop", _OTHER),
        ("stack-status ''", _OTHER),
        ("stack-status blog/../shop", _OTHER),
        ("stack-status Blog", _OTHER),
        ("stack-status 'blog\n'", _OTHER),
        ("stack-status blog blog", _WORDS),
        ("stack-status blog ''", _WORDS),
        ("stack-logs blog", _WORDS),
        ("stack-logs blog -5", _WORDS),
        ("stack-logs blog 5 -x", _WORDS),
        ("stack-logs blog 5 'web\n'", _WORDS),
        ("stack-logs blog 5 web/../../x", _WORDS),
        ("stack-logs blog \N{ARABIC-INDIC DIGIT FIVE}", _WORDS),
        ("push-missing blog", _WORDS),
        ("push-missing blog web all", _WORDS),
        ("push-missing blog web look own", _WORDS),
        ("push-finish blog web", _WORDS),
        ("push-finish blog web a:b", _WORDS),
        ("push-finish blog .. tag", _WORDS),
        ("release-wait blog done 60", _WORDS),
        ("release-wait blog DONE 6", _WORDS),
        ("release-rollback blog --help", _WORDS),
    ],
)
def test_what_is_no_request(request_: str, said: str) -> None:
    with pytest.raises(RemoteError, match=said):
        deploy_service.parsed(request_, "blog")


@given(st.text(max_size=60))
def test_no_text_is_about_another_stack(text: str) -> None:
    """Whatever comes: refused, or the key's own stack and plain words."""
    for request in (text, f"stack-logs {text}", f"stack-logs blog 5 {text}", f"push-finish blog {text}"):
        try:
            _, (stack, *words) = deploy_service.parsed(request, "blog")
        except RemoteError:
            continue
        assert stack == "blog"
        assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.' -]*", word) for word in words)


def test_every_verb_is_one_of_the_remote_part() -> None:
    """And takes the words that a request may have."""
    for verb, request in deploy_service.REQUESTS.items():
        words = ["blog", *["1"] * len(request.words), *request.adds]
        inspect.signature(main.function(verb)).bind(*words)


KEY = DeployKey("blog", "SHA256:x", "ci of blog")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"images": {"web": "a:b"}, "source": "push", "by": "root", "timeout": 60, "again": {"number": 1}},
         {"images": {"web": "a:b"}, "source": "push", "timeout": 60, "by": "ci of blog"}),
        ({"source": []}, {"images": {}, "source": "", "timeout": 300, "by": "ci of blog"}),
        ({"source": "rollback"}, {"images": {}, "source": "", "timeout": 300, "by": "ci of blog"}),
        ({"timeout": 10**9}, {"images": {}, "source": "", "timeout": 3600, "by": "ci of blog"}),
    ],
)  # fmt: skip
def test_who_asks_for_a_release_is_the_key(asked: dict[str, Any], told: dict[str, Any]) -> None:
    assert json.loads(deploy_service.told(json.dumps(asked).encode(), KEY)) == told


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"images": 1}', b'{"timeout": NaN}', b'{"timeout": 1e999}', b"\xff"])
def test_what_is_no_release(text: bytes) -> None:
    with pytest.raises(RemoteError, match="cut short"):
        deploy_service.told(text, KEY)


def test_a_request_ends_at_its_nul(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing behind it has been read."""
    stream = io.BytesIO(b"stack-status blog\0input")
    monkeypatch.setattr("os.read", lambda _, size: stream.read(size))
    assert deploy_service._read_request() == "stack-status blog"
    assert stream.read() == b"input"
    for text in (
        b"stack-status blog",
        b"a\nb\0",
        b"a\x1b\0",
        "bl\N{CYRILLIC SMALL LETTER O}g\0".encode(),
        b"a" * 10**6,
    ):
        stream = io.BytesIO(text)
        with pytest.raises(RemoteError, match="no request"):
            deploy_service._read_request()


# ---- whose key it is


def _message(text: object) -> str:
    return json.dumps({"MESSAGE": text})


_PRINT = "SHA256:" + "a" * 43
_LINE = f"Accepted publickey for deploy from 192.0.2.1 port 5000 ssh2: ED25519 {_PRINT}"


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([_LINE], {_PRINT}),
        (["Connection from 192.0.2.1 port 5000", _LINE], {_PRINT}),
        ([f"{_LINE} [preauth]"], set()),
        ([f"x\n{_LINE}"], set()),
        ([f"{_LINE}\n"], set()),
        ([_LINE.replace("for deploy", "for er")], set()),
        ([list(_LINE.encode())], set()),
        ([], set()),
    ],
)
def test_what_sshd_says_that_it_has_let_in(messages: list[object], found: set[str]) -> None:
    """One of its helper without rights has a mark at its end; nothing that a client sends is the whole of a message."""
    assert deploy_key.accepted("\n".join(map(_message, messages))) == found


# ---- the near side


def test_a_request_is_one_command_line() -> None:
    """ssh asks nobody, and takes no unknown host."""
    argv = DeployLogin("deploy@web", ("-o", "Port=22")).argv(["release-wait", "blog", "waiting for the stack", "20"])
    assert argv[:4] == ["ssh", "-T", "-o", "Port=22"]
    assert argv[-3:] == ["--", "deploy@web", "release-wait blog 'waiting for the stack' 20"]
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= {*argv}


@pytest.mark.parametrize(
    ("host", "is_deploy"),
    [("deploy@web", True), ("web", False), ("er@web", False), ("deploy", False), ("er@deploy@x", False)],
)
def test_which_login_a_host_names(host: str, *, is_deploy: bool) -> None:
    assert deploy_login.is_deploy(host) == is_deploy


def test_a_refused_key_and_another_host_key_are_explained() -> None:
    login = DeployLogin("deploy@web")
    assert "deploy.ssh_keys" in (login.explained(255, "deploy@web: Permission denied (publickey).").hint or "")
    said = f"{ssh.SEEN_KEY}{_PRINT}\nHost key verification failed.\n"
    assert login.explained(255, said).message == f"deploy@web: the host key is {_PRINT}, and not the one that was given"


@pytest.mark.parametrize(
    "text", ["SHA256:", "SHA256:short", "MD5:aa:bb", f"{_PRINT}'; id #", f"{_PRINT} x", f"{_PRINT}\n"]
)
def test_no_other_text_is_a_fingerprint(text: str) -> None:
    """It stands in a command of ssh's configuration."""
    with pytest.raises(ValueError, match=re.escape(text)):
        host_keys.by_fingerprint(text)


# ---- the examples for CI


def _examples() -> Iterator[dict[str, Any]]:
    page = (ROOT / "docs/own-apps.md").read_text()
    for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        found = yaml.safe_load(block)
        if "jobs" in found or "deploy" in found:
            yield found


def test_the_examples_for_ci_are_what_those_read() -> None:
    """Lines of the shell, in each job; those of `er` are valid, and have a host key and a key."""
    github, gitlab = _examples()
    steps = [step["run"] for step in github["jobs"]["blog"]["steps"] if "run" in step]
    scripts = [line for job in gitlab.values() for line in job["script"]]
    for lines in (steps, scripts):
        assert all(isinstance(line, str) and line.strip() for line in lines)
        (call,) = (line.strip() for line in lines if line.startswith("er "))
        assert wrong_command(call) == ""
        assert "--key " in call
        assert re.search(rf"--host-key {host_keys.FINGERPRINT}|--known-hosts \"\$KNOWN_HOSTS\"", call)
