"""What a running server is asked and told, as values: errors of ssh in words, the files that are ours."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from builder.server import Remote, apply, ssh
from builder.server.remote import changed_files, common, host_readiness, main, reload
from builder.server.remote.images import images

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# `.ask("verb", …)` wherever the client has it, or as handed over to be called; `.read` is of verbs that write bytes.
_ASKED = re.compile(
    r"(?:(?<!secrets)\.(?:ask|read|follow)[(,]\s*|_states\(server, |remote_command\(digest, )\"([a-z-]+)\""
)
# A change of a stack is followed by the verb of its kind.
_FOLLOWED = re.compile(r"follow\(\w+, stack, \"([a-z]+)\"")
# What starts these runs them: a unit.
_RUN_BY_UNITS = {
    *(
        "apply-run",
        "apply-recover",
        "build-run",
        "move-run",
        "release-recover",
        "release-run",
        "restore-run",
        "restore-first",
    ),
    *("backup-run", "backup-recover", "drill-run", "drill-recover"),
    *("notify-watch", "notify-send"),
    "update-run",
    "update-recover",
}
_BUILDER = Path(__file__).parents[2] / "builder"
_REMOTE_PACKAGES = {
    ".".join(path.parent.relative_to(_BUILDER.parent).parts)
    for path in (_BUILDER / "server" / "remote").rglob("__init__.py")
}
_GOLDEN = Path(__file__).parents[1] / "golden" / "host" / "web"
# Other programs give these their names, so that only what the last apply laid tells that they are ours.
_PLAIN = {
    "/etc/aide/aide.conf",
    "/etc/fail2ban/jail.local",
    "/etc/issue",
    "/etc/issue.net",
    "/etc/security/limits.d/10-coredump-debian.conf",
    "/etc/security/pwquality.conf",
    "/etc/ssh/sshd_config",
    "/etc/systemd/journald.conf",
    "/etc/systemd/journald.conf.d/syslog.conf",
    "/etc/systemd/system/sysctl-reapply-network.service",
    "/etc/systemd/user-environment-generators/30-systemd-environment-d-generator",
    "/usr/lib/systemd/system/firewall-unconfined.service",
    "/usr/lib/systemd/system/mount-hardening.service",
    "/usr/lib/systemd/system/stacks.slice",
}


def test_files_of_ours_are_known_by_place_and_name() -> None:
    """Or what another version of er, or another spec, has left is never removed."""
    every = {f"/{path.relative_to(_GOLDEN)}" for path in _GOLDEN.rglob("*") if path.is_file()}
    assert every - set(changed_files.own_files_below(_GOLDEN)) == _PLAIN


def test_files_of_others_are_not_ours(tmp_path: Path) -> None:
    others = (
        "etc/fail2ban/jail.d/defaults-debian.conf",
        "etc/containers/systemd/users/1000/mine.container",
        "etc/subuid",
        "etc/ssh/sshd_config.d/50-cloud-init.conf",
        "usr/lib/systemd/system/ssh.service",
    )
    for path in others:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    link = tmp_path / "etc/alternatives/10-easyrunner"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "etc/subuid")
    assert list(changed_files.own_files_below(tmp_path)) == []


_CHANGED = """\
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Offending ED25519 key in /home/me/.ssh/known_hosts:12
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("code", "said", "message", "hint"),
    [
        (255, _CHANGED, "the host key is not the one that is known", "line 12 of /home/me/.ssh/known_hosts"),
        (255, "Received disconnect from 203.0.113.7 port 22:2: Too many authentication failures", "more keys", "Ident"),
        (255, "er@203.0.113.7: Permission denied (publickey).", "accepts none of your keys", "as in: er@web"),
        (255, "something new", "something new", "ssh -v web"),
        (1, "er-error: there is no stack x\ner-hint: there are: y\n", "there is no stack x", "there are: y"),
        (1, "Failed to parse timestamp: x", "Failed to parse timestamp: x", None),
        (7, "", "exit code 7", None),
        (255, "", "the connection was lost", "ssh -v web"),
    ],
)
def test_what_ssh_says_becomes_one_error(code: int, said: str, message: str, hint: str | None) -> None:
    found = ssh.explain_failure("web", code, said)
    assert isinstance(found, ssh.UnreachableError) == (code == 255)
    assert message in found.message
    assert (hint in (found.hint or "")) if hint else found.hint is None


def test_new_connections_wait_for_a_moment_that_ends_by_itself() -> None:
    assert " ".join(reload.pause_rule(1_800_000_000)) == (
        "INPUT -p tcp --syn -m multiport --dports 8080,8443 -m time --datestop 2027-01-15T08:00:00 -j DROP"
    )


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("shop/api", ("shop", "api")),
        ("er-shop/shop-worker.service", ("shop", "worker")),
        ("er-proxy/er-proxy.service", ("proxy", "er-proxy")),
    ],
)
def test_what_first_boot_misses_is_named_as_elsewhere(word: str, place: tuple[str, str]) -> None:
    assert host_readiness._stack_and_service(word) == place


@pytest.mark.parametrize(
    ("tag", "offered", "newer"),
    [
        ("2.11.7", "2.11.6 2.11.7 2.11.10 2.11.9", "2.11.10"),
        ("2.11.7", "2.12.0 2.11.8", "2.12.0"),
        ("2.11.7", "3.0.0 2.11 2 latest 2.12.0-beta.1 2.11.8-alpine v2.11.8 2.11.8.1", None),
        ("2.11.7-alpine", "2.11.8 2.11.8-alpine 2.11.9-builder-alpine", "2.11.8-alpine"),
        ("2.11", "2.11.8 2.12", "2.12"),
        ("v1.2.3", "1.2.4 v1.2.4", "v1.2.4"),
        ("2.11.7", "", None),
    ],
)
def test_the_newest_release_is_of_the_same_major_version_and_form(tag: str, offered: str, newer: str | None) -> None:
    assert images.newest_tag(tag, offered.split()) == newer


def test_a_reference_is_cut_at_its_tag_and_digest() -> None:
    digest = f"sha256:{'a' * 64}"
    split = images.split_reference
    assert split(f"registry.test:5000/a/caddy:2.11@{digest}") == (
        "registry.test:5000/a/caddy",
        "2.11",
        digest,
    )
    assert split("registry.test:5000/caddy") == ("registry.test:5000/caddy", "", "")
    assert images.image_of_unit("[Container]\nContainerName=caddy\nImage=a.b/c:1\nPull=missing\n") == "a.b/c:1"


def test_a_refused_key_is_not_tried_until_fail2ban_bans(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a server refuses the key after a change: less than five times within ten minutes."""
    clock, tries = [0.0], []
    monkeypatch.setattr("builder.server.apply.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("builder.server.apply.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))

    class Refusing:
        def ask(self, *_: object, **__: object) -> Iterator[dict[str, str]]:
            tries.append(clock[0])
            raise ssh.KeyRefusedError("web: the server accepts none of your keys")

        follow = ask

    followed = apply._follow(cast("Remote", Refusing()), {"phase": "telling services"}, apply.CONFIRM_WITHIN)
    with pytest.raises(ssh.KeyRefusedError):
        list(followed)
    assert tries[1] > apply.CONFIRM_WITHIN
    assert len(tries) < 5


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_of_the_remote_part_is_a_function_of_the_module_that_the_table_names(verb: str) -> None:
    """The function's own module, so that a name imported from elsewhere does not hide a verb that has moved."""
    found = main.function(verb)
    assert inspect.isfunction(found)
    assert found.__module__ == f"builder.server.remote.{main.VERBS[verb]}"


def test_every_verb_that_a_client_asks_for_is_in_the_table() -> None:
    texts = [path.read_text() for path in _BUILDER.rglob("*.py")]
    asked = {verb for text in texts for verb in _ASKED.findall(text)}
    asked |= {f"{kind}-wait" for text in texts for kind in _FOLLOWED.findall(text)}
    assert asked == set(main.VERBS) - _RUN_BY_UNITS


def test_the_package_that_is_sent_needs_only_itself_and_the_standard_library() -> None:
    """Python on the host runs it isolated, with nothing of ours installed."""
    digest, content = ssh.package()
    size, _, archive = content.partition(b"\n")
    assert (len(archive), hashlib.sha256(archive).hexdigest()) == (int(size), digest)
    with zipfile.ZipFile(io.BytesIO(archive)) as package:
        sources = {name: package.read(name).decode() for name in package.namelist()}
    sent = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in sources}
    for name, source in sources.items():
        foreign = {one for one in _imported(ast.parse(source)) if one.partition(".")[0] not in sys.stdlib_module_names}
        assert foreign <= sent, name


class _Host:
    """What answers in place of ssh; it keeps the code that it was sent, and each call's stdin."""

    def __init__(self) -> None:
        self.has_code = False
        self.sent: list[bytes] = []

    def call(self, _host: str, argv: list[str], stdin: bytes | Iterable[bytes], _timeout: float) -> object:
        self.sent.append(stdin if isinstance(stdin, bytes) else b"".join(stdin))
        size, _, rest = self.sent[-1].partition(b"\n")
        self.has_code = self.has_code or int(size) > 0
        if not self.has_code:
            return subprocess.CompletedProcess(argv, 1, "", "er-code: wanted\n")
        answer = json.dumps(rest[int(size) :].decode())
        return subprocess.CompletedProcess(argv, 0, answer, "")


def test_the_remote_part_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in pieces is there once: with it the code goes along, unless the host has answered before."""
    host, (_, archive) = _Host(), ssh.package()
    monkeypatch.setattr(ssh, "call", host.call)
    monkeypatch.setattr(ssh, "_HAVE_CODE", set())
    web = Remote("web")
    assert web.ask("push-layers", stdin=iter((b"a", b"b"))) == "ab"
    assert web.ask("push-layers", stdin=iter((b"c", b"d"))) == "cd"
    assert web.ask("status", stdin=b"e") == "e"
    assert [len(one) for one in host.sent] == [len(archive) + 2, 4, 3]
    host.has_code = False
    with pytest.raises(ssh.UnreachableError, match="restarted meanwhile"):
        web.ask("push-layers", stdin=iter((b"a", b"b")))
    host.sent.clear()
    assert web.ask("status", stdin=b"f") == "f"
    assert [len(one) for one in host.sent] == [3, len(archive) + 1]


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports, also those that only a type checker reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            package = module == "builder" or module in _REMOTE_PACKAGES
            yield from (f"{module}.{name.name}" if package else module for name in node.names)


def test_a_host_that_has_just_started_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the users of stacks nor their sessions are there in its first seconds."""
    with pytest.raises(common.RemoteError, match="there is no user er-gone") as gone:
        common.as_user("er-gone", ["true"])

    def refused(*_: object, **__: object) -> str:
        raise common.RemoteError("podman failed: Failed to obtain podman configuration")

    monkeypatch.setattr(common, "run", refused)
    monkeypatch.setattr(common, "_runtime", lambda _: str(tmp_path / "none"))
    with pytest.raises(common.RemoteError, match="root has no session") as early:
        common.as_user("root", ["true"])
    assert "needs a minute" in str(gone.value.hint)
    assert gone.value.hint == early.value.hint
