"""`registries` from the spec to the host's files, and what a registry's refusal is taken for and said to mean."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from builder import data, facts, userdata
from builder import host as hosts
from builder import spec as specs
from builder.cli.server import registries as cli
from builder.server.remote import common
from builder.server.remote.common import RemoteError
from builder.server.remote.images import registries

if TYPE_CHECKING:
    from pathlib import Path

    from builder.host import Host
    from builder.spec import Spec

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
SPEC = f"""\
server: {{name: web1}}
admin: {{name: er, ssh_keys: ["{KEY}"]}}
registries:
  ghcr.io: {{username: me}}
  docker.io: {{username: hub, mirrors: ["mirror.example.com:5000/hub", other.example.com]}}
  mirror.example.com:5000: {{username: cache}}
stacks:
  - {{name: blog, image: "ghcr.io/me/blog:1", domain: blog.example.org}}
  - {{name: shop, image: "ghcr.io/me/shop:1", domain: shop.example.org, registries: {{ghcr.io: {{username: you}}}}}}
  - {{name: wiki, image: "wiki:1", domain: wiki.example.org}}
  - {{name: open, image: "quay.io/a/b:1", domain: open.example.org}}
"""


def loaded(tmp_path: Path, text: str) -> Spec:
    spec, problems = specs.loads(text, tmp_path / "easyrunner.yaml")
    assert not problems
    return spec


def content(host: Host, path: str) -> str | None:
    return next((file.content.decode() for file in host.files if file.path == path), None)


def test_each_stack_has_the_logins_of_its_own_images_and_their_mirrors(tmp_path: Path) -> None:
    """The proxy's is Docker Hub; a login of the stack's counts instead of the host's; who needs none has none."""
    spec = loaded(tmp_path, SPEC)
    host = hosts.build(spec)
    assert content(host, facts.LOGINS) == (
        "proxy docker.io hub\nproxy mirror.example.com:5000 cache\nblog ghcr.io me\nshop ghcr.io you\n"
        "wiki docker.io hub\nwiki mirror.example.com:5000 cache\n"
    )
    assert next(file.rights for file in host.files if file.path == facts.LOGINS) == "0600 root:root"
    assert userdata.logins(spec)[2:4] == (("blog", "ghcr.io"), ("shop", "ghcr.io"))


def test_mirrors_are_asked_in_their_order(tmp_path: Path) -> None:
    text = content(hosts.build(loaded(tmp_path, SPEC)), "/etc/containers/registries.conf.d/50-easyrunner.conf")
    assert text == (
        '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "mirror.example.com:5000/hub"\n'
        '[[registry.mirror]]\nlocation = "other.example.com"\n'
    )


def test_without_registries_nothing_is_laid(tmp_path: Path) -> None:
    """Nor is a user name in a file that others read."""
    head, _, stacks = (
        SPEC.partition("registries:")[0],
        "",
        SPEC.partition("stacks:\n")[2].replace(", registries: ", "#"),
    )
    host = hosts.build(loaded(tmp_path, head + "stacks:\n" + stacks.replace("#{ghcr.io: {username: you}}", "")))
    assert content(host, facts.LOGINS) is None
    assert not [file for file in host.files if "registries" in file.path]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        # Docker Hub, GitHub, Debian's docker-registry; a name without a host, a closed port, an unknown authority.
        ("reading manifest 1 in docker.io/a/b: toomanyrequests: You have reached your pull rate limit", "limit"),
        ("received unexpected HTTP status: 429 Too Many Requests", "limit"),
        ("Requesting bearer token: invalid status code from registry 403 (Forbidden)", "login"),
        ("denied: requested access to the resource is denied", "login"),
        ("reading manifest 1 in registry.test/app: unauthorized: authentication required", "login"),
        ('logging into "registry.test": invalid username/password', "login"),
        ("reading manifest 9 in registry.test/app: manifest unknown", "absent"),
        ('Get "https://registry.test/v2/": dial tcp: lookup registry.test: no such host', "unreachable"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "unreachable"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "unreachable"),
        ("sh did not end within 100 s", "unreachable"),
        ("no secret with name or ID db", ""),
    ],
)
def test_what_a_refusal_is_taken_for(said: str, kind: str) -> None:
    assert registries.kind_of(said) == kind


def test_what_a_registry_says_steers_no_terminal() -> None:
    assert registries._shown("denied\x1b[2J\r\x9b1m ü") == "denied[2J1m ü"


REFUSED = {
    "service": "web",
    "registry": "ghcr.io",
    "image": "ghcr.io/me/a:1",
    "said": "x",
    "username": None,
    "by_role": False,
    "waits": False,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "login"}, ["refuses ghcr.io/me/a:1 to who is not logged in", "registries: {ghcr.io: {username: …}}"]),
        ({"kind": "login", "username": "me"}, ["to me; is the password still right?", "login web ghcr.io --stack s"]),
        ({"kind": "login", "username": "AWS", "by_role": True}, ["to the server's role; may it pull"]),
        ({"kind": "limit"}, ["an address may fetch without a login", "registries: {ghcr.io:"]),
        ({"kind": "limit", "username": "me", "waits": True}, ["without a login", "login web ghcr.io --stack s"]),
        ({"kind": "limit", "username": "me"}, ["how many images me may fetch", "tells the server to wait"]),
        ({"kind": "absent"}, ["ghcr.io has no ghcr.io/me/a:1"]),
        ({"kind": "unreachable"}, ["ghcr.io cannot be reached: x"]),
    ],
)
def test_a_refusal_is_said_with_the_way_out(change: dict[str, object], words: list[str]) -> None:
    (text,) = cli.refusals("web", "s", [{**REFUSED, **change}])
    assert text.startswith("s/web has no image: ")
    assert all(word in text for word in words), text


def test_a_login_that_is_missing_is_said_once() -> None:
    """As what is missing, not as a refusal too."""
    assert list(cli.refusals("web", "s", [{**REFUSED, "kind": "login", "username": "me", "waits": True}])) == []
    row = {"stack": "s", "registry": "ghcr.io", "username": "me", "by_role": False}
    assert list(cli.missing("web", [{**row, "state": "set"}, {**row, "state": "unnamed"}])) == []
    assert [text[-44:] for text in cli.missing("web", [{**row, "state": "other"}])] == [
        "er server registry login web ghcr.io --stack s"[-44:]
    ]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a host with two stacks below `tmp_path`, whose user is who runs this."""
    monkeypatch.setattr(facts, "LOGINS", str(tmp_path / "registries"))
    monkeypatch.setattr(facts, "CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(common, "stacks", lambda: ["blog"])
    monkeypatch.setattr(common, "uid", lambda user: {"er-blog": 1, "er-proxy": 2}[user])
    (tmp_path / "registries").write_text("blog ghcr.io me\nproxy docker.io hub\n")
    return tmp_path


def _auth(server: Path, uid: int, content: object) -> None:
    file = server / "config" / str(uid) / facts.AUTH_FILE
    file.parent.mkdir(parents=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def _entry(username: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:p:w".encode()).decode()}


def test_which_logins_are_there(server: Path) -> None:
    """One under another name is not the one that the spec names; one that somebody laid by hand is shown."""
    assert [one["state"] for one in registries.registry_list()] == ["missing", "missing"]
    _auth(server, 1, {"auths": {"ghcr.io": _entry("other"), "quay.io": _entry("x")}})
    _auth(server, 2, {"auths": {"docker.io": _entry("hub")}})
    assert [(one["stack"], one["registry"], one["username"], one["state"]) for one in registries.registry_list()] == [
        ("blog", "ghcr.io", "me", "other"),
        ("proxy", "docker.io", "hub", "set"),
        ("blog", "quay.io", "x", "unnamed"),
    ]
    assert [one["registry"] for one in registries.missing("blog")] == ["ghcr.io"]
    assert registries.missing("proxy") == []


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": []}'])
def test_a_broken_file_keeps_nobody_from_looking(server: Path, content: str) -> None:
    """Podman reads nothing of it either; who changes it hears which file it is."""
    _auth(server, 1, content)
    assert [one["registry"] for one in registries.missing("blog")] == ["ghcr.io"]
    with pytest.raises(RemoteError, match=r"auth\.json is no auth\.json"):
        registries._set(registries.Login("blog", "ghcr.io", "me"), b"p")


def test_the_environment_of_every_stack_names_its_file() -> None:
    """For its units, and for what er runs as its user; the script has the number of who runs it."""
    script = data.tree("images") / "rootfs/etc/systemd/user-environment-generators"
    text = (script / "30-systemd-environment-d-generator").read_text()
    assert f'echo "REGISTRY_AUTH_FILE={facts.CONFIG}/$uid/{facts.AUTH_FILE}"' in text
    session = common.in_session("root")
    assert f"REGISTRY_AUTH_FILE={facts.CONFIG}/{os.getuid()}/{facts.AUTH_FILE}" in session
