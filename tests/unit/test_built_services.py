"""`build:` of specs and Compose files: the values, the unit on the host, and what waits for its first image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import compose, host, spec, userdata
from builder.imagebuild import context
from builder.problems import Report
from builder.stack import names
from builder.stack.model import Build, Service

if TYPE_CHECKING:
    from pathlib import Path

    from builder.spec.model import Spec

_HEAD = """\
server: {name: web1}
admin:
  ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop]
tls: {ca: internal}
stacks:
"""


def _loaded(directory: Path, stacks: str, **files: str) -> Spec:
    for name, text in {"Containerfile": "FROM scratch\nEXPOSE 9000\n", **files}.items():
        path = directory / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return spec.loads(f"{_HEAD}{stacks}", directory / "easyrunner.yaml")[0]


def _service(directory: Path, build: str, more: str = "") -> Service:
    found = _loaded(directory, f"  - {{name: blog, build: {build}, domain: blog.example.org{more}}}\n")
    [service] = found.stacks[0].services
    return service


def test_the_short_form(tmp_path: Path) -> None:
    service = _service(tmp_path, "app")
    assert (service.image, service.pull) == ("localhost/blog/web", "never")
    never = (tmp_path / "easyrunner.yaml",)
    assert service.build == Build(tmp_path / "app", "Containerfile", never=never)
    long = "{context: app, containerfile: Containerfile, target: one, args: {A: b, COUNT: 1}, max_age: 2w}"
    build = Build(
        tmp_path / "app",
        "Containerfile",
        target="one",
        args=(("A", "b"), ("COUNT", "1")),
        max_age=14 * 86_400,
        never=never,
    )
    assert _service(tmp_path, long).build == build


def test_no_image_has_the_spec_in_it(tmp_path: Path) -> None:
    """Who has one app has the spec beside its Containerfile, and a site would serve it."""
    for name, text in {"Containerfile": "FROM scratch\nCOPY . /site\n", "index.html": "hello"}.items():
        (tmp_path / name).write_text(text)
    file = tmp_path / "easyrunner.yaml"
    file.write_text(f"{_HEAD}  - {{name: blog, build: ., domain: blog.example.org}}\n")
    [service] = spec.load(file)[0].stacks[0].services
    assert service.build is not None
    found = context.read(service.build)
    assert [entry.path for entry in found.entries] == ["Containerfile", "index.html"]


def test_the_port_is_the_one_that_is_exposed_unless_it_is_said(tmp_path: Path) -> None:
    assert _service(tmp_path, "app").port == 9000
    assert _service(tmp_path, "app", ", port: 8080").port == 8080
    (tmp_path / "app/Containerfile").write_text("FROM scratch\nEXPOSE 9000 9001\n")
    found = spec.loads(f"{_HEAD}  - {{name: blog, build: app, domain: blog.example.org}}\n", tmp_path / "x.yaml")[0]
    assert found.stacks[0].services[0].port == 3000, "which of two is not known"


def test_the_unit_names_an_image_that_only_a_release_brings(tmp_path: Path) -> None:
    found = _loaded(tmp_path, "  - {name: blog, build: app, domain: blog.example.org}\n")
    tree = host.build(found)
    [unit] = [file.content.decode() for file in tree.files if file.path.endswith("/blog-web.container")]
    assert "\nImage=localhost/blog/web\nPull=never\n" in unit
    assert not any(str(tmp_path).encode() in file.content for file in tree.files), "no path of this machine"
    assert any(file.path == "/usr/lib/easyrunner/image" for file in tree.files)
    plain = _loaded(tmp_path, "  - {name: blog, image: docker.io/library/caddy:2.11, domain: blog.example.org}\n")
    assert not any(file.path == "/usr/lib/easyrunner/image" for file in host.build(plain).files)


def test_user_data_takes_it_as_it_is(tmp_path: Path) -> None:
    found = _loaded(tmp_path, "  - {name: blog, build: app, domain: blog.example.org}\n")
    assert userdata.archive_problems(found, "stock") == ()
    assert userdata.builds(found) == (("blog", "web"),)
    assert b"localhost/blog/web" in userdata.cloud_config(found, host.build(found), "stock")


def test_no_registry_is_looked_for(tmp_path: Path) -> None:
    """A stack that reaches nothing may be built all the same, and needs no login."""
    text = _HEAD.replace("stacks:", "registries: {ghcr.io: {username: me}}\nstacks:")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/Containerfile").write_text("FROM scratch\n")
    stacks = "  - {name: blog, build: app, domain: blog.example.org, port: 8080, egress: none}\n"
    found, problems = spec.loads(f"{text}{stacks}", tmp_path / "easyrunner.yaml")
    assert [problem.message for problem in problems] == ["no image comes from ghcr.io"]
    assert found.stacks[0].logins == ()


def _contents(directory: Path, *texts: str) -> tuple[Service, ...]:
    files = [directory / f"{number}.yaml" for number, _ in enumerate(texts)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    for name in ("app", "other"):
        (directory / name).mkdir(exist_ok=True)
        (directory / name / "Dockerfile").write_text("FROM scratch\nEXPOSE 9000\n")
    report = Report()
    found = compose.load(files[0], over=files[1:], stack="blog", report=report)
    assert found is not None, [problem.message for problem in report]
    return found.services


_WEB = "services:\n  web:\n    labels: {xyz.easyrunner.service.domain: a.example.org}\n"


def test_a_compose_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("VERSION=3\n")
    (tmp_path / "app.env").write_text("A=1\n")
    text = (
        f"{_WEB}    env_file: app.env\n    secrets: [word]\n"
        "    build:\n      context: ./app\n      args: [VERSION, X=1]\n"
        "      extra_hosts: {db: 10.0.0.1}\n      labels: {a: b}\n      network: none\n      x-max-age: 3d\n"
        "secrets: {word: {file: ./word}}\n"
    )
    [service] = _contents(tmp_path, text)
    assert (service.image, service.pull, service.port) == ("localhost/blog/web", "never", 9000)
    assert service.build == Build(
        tmp_path / "app",
        "Dockerfile",
        args=(("VERSION", "3"), ("X", "1")),
        labels=(("a", "b"),),
        extra_hosts=(("db", "10.0.0.1"),),
        network="none",
        max_age=3 * 86_400,
        never=(tmp_path / "app.env", tmp_path / "word"),
    )


@pytest.mark.parametrize("over", ["build: {args: {B: '2'}}", "build: {args: [B=2]}"])
def test_builds_are_laid_over_each_other_as_compose_does(tmp_path: Path, over: str) -> None:
    first = f"{_WEB}    build: {{context: ./app, args: {{A: '1', B: '1'}}}}\n"
    [service] = _contents(tmp_path, first, f"services:\n  web:\n    {over}\n")
    assert service.build is not None
    assert (service.build.context, service.build.args) == (tmp_path / "app", (("A", "1"), ("B", "2")))
    [service] = _contents(tmp_path, f"{_WEB}    build: ./app\n", f"services:\n  web:\n    {over}\n")
    assert service.build is not None
    assert (service.build.context, service.build.args) == (tmp_path / "app", (("B", "2"),))
    [service] = _contents(tmp_path, first, "services:\n  web:\n    build: ./other\n")
    assert service.build is not None
    assert (service.build.context.name, len(service.build.args)) == ("other", 2)


def test_the_names_of_images_are_lower_case_and_differ() -> None:
    services = ["web", "my_app", "Web", "WEB", "a.b", "a..b", "x-", "a__b", "a---b"]
    found = [names.own_image("blog", service) for service in services]
    assert len(set(found)) == len(found)
    assert found[:2] == ["localhost/blog/web", "localhost/blog/my_app"]
    assert all(name == name.lower() for name in found)
