"""`registries: {…: aws}`: the server's role logs in to Amazon ECR; and the packages that only some hosts have."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from builder import facts, userdata
from builder import host as hosts
from builder import spec as specs
from builder.aws import machine_image
from builder.cli.server import registries as cli
from builder.host import Part, packages, rootfs
from builder.oci import ecr
from builder.packer import upload_files
from builder.server.remote import changed_files, common
from builder.server.remote import packages as remote_packages
from builder.server.remote.common import RemoteError
from builder.server.remote.images import registries, role_logins
from tests.unit.test_registries import KEY, content, loaded

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
DUAL = "123456789012.dkr-ecr.eu-central-1.on.aws"
SPEC = f"""\
server: {{name: web1}}
admin: {{name: er, ssh_keys: ["{KEY}"]}}
registries:
  {PLAIN}: aws
  ghcr.io: {{username: me}}
  docker.io: {{mirrors: [{PLAIN}/hub]}}
stacks:
  - {{name: blog, image: "{PLAIN}/team/blog:1", domain: blog.example.org}}
  - {{name: shop, image: "{DUAL}/shop@sha256:{"a" * 64}", domain: shop.example.org, registries: {{{DUAL}: aws}}}}
  - {{name: wiki, image: "ghcr.io/me/wiki:1", domain: wiki.example.org}}
"""


@pytest.mark.parametrize(
    ("host", "name", "arn"),
    [
        (PLAIN, PLAIN, "arn:aws:ecr:eu-central-1:123456789012:repository/a/b"),
        (DUAL, PLAIN, "arn:aws:ecr:eu-central-1:123456789012:repository/a/b"),
        (
            "123456789012.dkr-ecr-fips.us-east-1.on.aws",
            "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com",
            "arn:aws:ecr:us-east-1:123456789012:repository/a/b",
        ),
        (
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            "arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/a/b",
        ),
        (
            "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "arn:aws-cn:ecr:cn-north-1:123456789012:repository/a/b",
        ),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "arn:aws-cn:ecr:cn-north-1:123456789012:repository/a/b",
        ),
    ],
)
def test_every_name_of_a_registry_is_one_that_the_helper_knows(host: str, name: str, arn: str) -> None:
    found = ecr.registry(host)
    assert found is not None
    assert (found.name, found.arn("a/b")) == (name, arn)


@pytest.mark.parametrize(
    "host",
    [
        "public.ecr.aws",
        "ghcr.io",
        f"x{PLAIN}",
        f"{PLAIN}.evil.example",
        f"1{PLAIN}",
        PLAIN[1:],
        PLAIN.replace(".ecr.", ".ecr-other."),
        # Its helper does not know the European Sovereign Cloud.
        "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
    ],
)
def test_other_names_are_none(host: str) -> None:
    assert ecr.registry(host) is None


def test_a_host_asks_for_what_its_images_need(tmp_path: Path) -> None:
    """The proxy's image has a mirror in ECR. A login with a password stays one."""
    spec = loaded(tmp_path, SPEC)
    host = hosts.build(spec)
    assert content(host, facts.ROLE_LOGINS) == (f"proxy {PLAIN} {PLAIN}\nblog {PLAIN} {PLAIN}\nshop {DUAL} {PLAIN}\n")
    assert content(host, facts.LOGINS) == "wiki ghcr.io me\n"
    assert content(host, facts.PACKAGES) == "amazon-ecr-credential-helper\n"
    assert userdata.logins(spec) == (("wiki", "ghcr.io"),)
    assert list(host.extra_packages) == ["amazon-ecr-credential-helper"]
    assert "amazon-ecr-credential-helper" in host.packages
    policy = specs.role_policy(spec)
    assert policy is not None
    prefix = "arn:aws:ecr:eu-central-1:123456789012:repository"
    assert policy["Statement"][1]["Resource"] == [
        f"{prefix}/hub/library/caddy",
        f"{prefix}/shop",
        f"{prefix}/team/blog",
    ]


def test_a_host_without_such_a_login_has_nothing_of_it(tmp_path: Path) -> None:
    """Every byte of user-data counts; and every host's list is baked."""
    spec = loaded(tmp_path, SPEC.replace(": aws", ": {username: AWS}"))
    host = hosts.build(spec)
    assert specs.role_policy(spec) is None
    assert not host.extra_packages
    assert not [file.path for file in host.files if "ecr" in file.path or file.path == facts.PACKAGES]
    lists = [file for file in host.files if file.path.endswith("/packages")]
    assert [file.part for file in lists] == [Part.BAKED]
    assert lists[0].content.decode().split() == sorted(packages.PACKAGES["debian-13"])


def test_all_that_is_laid_for_it_is_known_as_ours(tmp_path: Path) -> None:
    """Or a change to a spec without such a login would leave it running."""
    with_role, without = (
        hosts.build(loaded(tmp_path, text)) for text in (SPEC, SPEC.replace(": aws", ": {username: AWS}"))
    )
    paths = {file.path for file in with_role.files} - {file.path for file in without.files}
    assert len(paths) > 5
    rootfs.write_files(tmp_path / "root", with_role.files)
    assert paths <= set(changed_files.own_files_below(tmp_path / "root"))


def test_what_is_baked_is_the_same_and_the_bake_brings_the_packages(tmp_path: Path) -> None:
    with_role, without = (
        hosts.build(loaded(tmp_path, text)) for text in (SPEC, SPEC.replace(": aws", ": {username: AWS}"))
    )
    assert with_role.only(Part.BAKED) == without.only(Part.BAKED)
    uploads = [
        upload_files.collect(loaded(tmp_path, SPEC), host, check=b"").files.get("packages")
        for host in (with_role, without)
    ]
    assert uploads == [b"amazon-ecr-credential-helper\n", None]


@pytest.mark.parametrize(
    ("provider", "refused"), [("aws", False), ("nocloud", False), ("hetzner", True), ("lightsail", True)]
)
def test_a_role_is_refused_where_servers_have_none(tmp_path: Path, provider: str, refused: bool) -> None:
    found = userdata.role_problems(loaded(tmp_path, SPEC), provider)
    assert [problem.where for problem in found] == (
        [f'registries["{one}"]' for one in (PLAIN, DUAL)] if refused else []
    )


def test_an_image_of_aws_says_what_was_baked_in() -> None:
    described = {"ImageId": "ami-1", "Tags": [{"Key": "er:packages", "Value": "amazon-ecr-credential-helper git"}]}
    assert machine_image.read(described).packages == ("amazon-ecr-credential-helper", "git")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a host with a stack below `tmp_path`."""
    for name, path in (("LOGINS", "registries"), ("ROLE_LOGINS", "ecr"), ("CONFIG", "config"), ("ROLE_STATE", "state")):
        monkeypatch.setattr(facts, name, str(tmp_path / path))
    monkeypatch.setattr(common, "stacks", lambda: ["blog"])
    monkeypatch.setattr(common, "uid", lambda user: {"er-blog": 1, "er-proxy": 2}[user])
    (tmp_path / "ecr").write_text(f"blog {PLAIN} {PLAIN}\n")
    return tmp_path


def noted(server: Path, seconds: float | None, said: str = "") -> None:
    """As the unit leaves it: a password that is good for so long, if any."""
    until = seconds and datetime.fromtimestamp(time.time() + seconds, UTC).isoformat().replace("+00:00", "Z")
    (server / "state").write_text(json.dumps({f"blog {PLAIN}": {"until": until, "said": said}}))
    file = server / "config/1" / facts.AUTH_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"auths": {PLAIN: {"auth": base64.b64encode(b"AWS:x").decode()}} if until else {}}))


DENIED = (
    "https response error StatusCode: 400, RequestID: 1, api error AccessDeniedException: User: x is not authorized"
)
NO_ROLE = (
    "get identity: get credentials: failed to refresh cached credentials, no EC2 IMDS role found, operation error "
    "ec2imds: GetMetadata, http response error StatusCode: 404, request to EC2 IMDS failed"
)
NO_SERVICE = (
    "no EC2 IMDS role found, operation error ec2imds: GetMetadata, exceeded maximum number of attempts, 3, request "
    'send failed, Get "http://169.254.169.254/latest/meta-data/": dial tcp 169.254.169.254:80: connect: refused'
)


@pytest.mark.parametrize(
    ("seconds", "said", "state", "shown", "missing"),
    [
        (3600, "", "set", "by the server's role, good until 20", None),
        (3600, DENIED, "set", "by the server's role, good until 20", None),
        (-5, NO_ROLE, "missing", "MISSING, by the server's role, ended 20", ": the server has no role"),
        (None, NO_SERVICE, "missing", "MISSING, by the server's role", ": no metadata service answers"),
        (None, "dial tcp: lookup api.ecr", "missing", "MISSING", ": dial tcp: lookup api.ecr"),
    ],
)
def test_what_is_said_of_it(
    server: Path, seconds: float | None, said: str, state: str, shown: str, missing: str | None
) -> None:
    noted(server, seconds, said)
    (row,) = registries.registry_list()
    assert (row["state"], row["by_role"]) == (state, True)
    assert shown in cli._password_state(row)
    assert len(list(cli._failed_renewals([row]))) == bool(said)
    texts = list(cli.missing("web", [row]))
    assert bool(texts) == bool(missing)
    if missing:
        assert f"blog has no login to {PLAIN} by the server's role{missing}" in texts[0]
        assert "er server doctor web --fix" in texts[0]
        assert list(cli.waits("web", "blog", registries.missing("blog"))) == texts


def test_before_it_was_asked_it_is_missing(server: Path) -> None:
    assert [one["state"] for one in registries.missing("blog")] == ["missing"]
    assert not (server / "state").exists()


def test_no_password_is_set_by_hand(server: Path) -> None:
    """It would be overwritten; and it is not one of those that a lone REGISTRY could be."""
    (server / "registries").write_text("blog ghcr.io me\n")
    with pytest.raises(RemoteError, match="the server's role logs in"):
        registries._chosen(PLAIN, "")
    assert [one.registry for one in registries._chosen("", "")] == ["ghcr.io"]


def test_what_a_host_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that was removed and left its settings is not there; a clock of the cloud's own counts."""
    listed = "install ok installed curl\ndeinstall ok config-files git\ninstall ok half-installed podman\n"

    class Done:
        stdout = listed

    monkeypatch.setattr(remote_packages, "_apt", lambda *_: Done)
    monkeypatch.setattr("os.access", lambda path, _: path == "/usr/sbin/chronyd")
    assert remote_packages.missing(["curl\ngit\n", "podman\nsystemd-timesyncd\ngit\n"]) == ["git", "podman"]


def test_the_lists_of_a_host_are_both_its_own() -> None:
    assert role_logins.USERNAME == ecr.USERNAME
    assert (f"{facts.LIB}/packages", facts.PACKAGES) == remote_packages.LISTS
