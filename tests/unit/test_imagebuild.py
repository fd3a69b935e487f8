"""Images built here: which files count, what an image is made of as one digest, and how programs are called.

What Podman itself leaves out of a context by an ignore file is in ignored.json, as `podman build` did with each. Where
Docker reads a pattern otherwise, Docker's reading counts, which `_DOCKERS` has.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.imagebuild import build_programs, context, ignored, make, oci_archive
from builder.imagebuild.build_programs import PROGRAMS, Request
from builder.localhost import cache
from builder.oci import containerfile, local_images
from builder.problems import UserError
from builder.stack.model import Build
from tests import local_images as made
from tests.local_images import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

_RECORD: dict[str, Any] = json.loads((Path(__file__).parent / "ignored.json").read_text())
# By pattern, what Docker leaves out and Podman does not: names that end so, and signs of regular expressions.
_DOCKERS = {
    "**foo\n": ["deep/er/est/foo", "foo", "xfoo"],
    "**.md\n": ["README.md", "dir/sub/c.md", "docs/README.md", "docs/x.md"],
    "(paren)\n": ["(paren)"],
    "a+b\n": ["a+b"],
    "caret^x\n": ["caret^x"],
}


def _lay(root: Path, files: dict[str, str] | list[str]) -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name] if isinstance(files, dict) else name)


def _names(found: context.Context) -> list[str]:
    return [one.path for one in found.entries if one.kind != "directory"]


@pytest.mark.parametrize("text", sorted(_RECORD["left out"]))
def test_an_ignore_file_leaves_out_what_docker_and_podman_leave_out(text: str, tmp_path: Path) -> None:
    _lay(tmp_path, [*_RECORD["files"], "Containerfile", ".dockerignore"])
    (tmp_path / ".dockerignore").write_bytes(text.encode())
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    expected = _DOCKERS.get(text, _RECORD["left out"][text])
    if expected is None:
        with pytest.raises(UserError, match="is no pattern"):
            context.read(Build(tmp_path, "Containerfile"))
        return
    kept = _names(context.read(Build(tmp_path, "Containerfile")))
    every = {*_RECORD["files"], "Containerfile", ".dockerignore"}
    assert sorted(every - set(kept)) == sorted({*expected, "src/.env"})


def test_the_ignore_file_of_a_containerfile_counts_alone(tmp_path: Path) -> None:
    """As with both: beside it and called after it, then .containerignore, then .dockerignore."""
    _lay(tmp_path, {".dockerignore": "a\n", "a": "", "b": "", "c": "", "web.Containerfile": ""})
    build = Build(tmp_path, "web.Containerfile")
    assert "a" not in _names(context.read(build))
    _lay(tmp_path, {".containerignore": "b\n"})
    assert {"a", "b"} & {*_names(context.read(build))} == {"a"}
    _lay(tmp_path, {"web.Containerfile.dockerignore": "c\n"})
    assert {"a", "b", "c"} & {*_names(context.read(build))} == {"a", "b"}


def test_history_and_passwords_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    _lay(tmp_path, [".git/config", ".env", "sub/.env", "sub/.git", "app.env", "app", ".env.example", ".github/x"])
    build = Build(tmp_path, inline="FROM scratch", never=(tmp_path / "app.env", tmp_path.parent / "other.env"))
    found = context.read(build)
    assert _names(found) == [".env.example", ".github/x", "app"]
    assert found.withheld == (".env", "app.env")
    _lay(tmp_path, {".dockerignore": "!.env\n!app.env\n"})
    found = context.read(build)
    assert {".env", "app.env"} < {*_names(found)}
    assert found.withheld == ()
    _lay(tmp_path, {".dockerignore": "*\n!sub\n!*.env\n!**/.g*\n"})
    assert _names(context.read(build)) == [".github/x"], "a directory or a star asks for none"
    _lay(tmp_path, {".dockerignore": ".env\napp.env\n"})
    assert context.read(build).withheld == (), "who leaves them out knows"


def test_links_are_links_wherever_they_lead(tmp_path: Path) -> None:
    """None is followed out of the context, and none to a directory inside of it."""
    root = tmp_path / "root"
    _lay(tmp_path, {"secret": "word", "root/dir/file": "x"})
    for name, target in {"out": "../secret", "far": "/etc", "dir2": "dir", "gone": "nowhere"}.items():
        (root / name).symlink_to(target)
    found = context.read(Build(root, inline="FROM scratch"))
    kinds = {one.path: (one.kind, one.target) for one in found.entries}
    assert kinds["out"] == ("link", "../secret")
    assert kinds["dir2"] == ("link", "dir")
    assert "dir2/file" not in kinds
    found.copy(tmp_path / "copy")
    assert os.readlink(tmp_path / "copy/out") == "../secret"  # noqa: PTH115
    with tarfile.open(fileobj=io.BytesIO(found.tar())) as tar:
        assert sorted(tar.getnames()) == sorted(kinds)


def test_what_is_no_file_is_left_out_and_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    _lay(tmp_path, ["app", "closed"])
    build = Build(tmp_path, inline="FROM scratch")
    assert _names(context.read(build)) == ["app", "closed"]
    opened = Path.open

    def refusing(self: Path, *words: Any, **more: Any) -> Any:
        if self.name == "closed":
            raise PermissionError(13, "Permission denied")
        return opened(self, *words, **more)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(UserError, match="closed, which the image is built from, cannot be read: Permission denied"):
        context.read(build)
    _lay(tmp_path, {".dockerignore": "closed\n"})
    assert "app" in _names(context.read(build))


_CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "dir/file").write_text("changed"),
    "mode": lambda root: (root / "dir/file").chmod(0o755),
    "name": lambda root: (root / "dir/file").rename(root / "dir/other"),
    "added": lambda root: (root / "new").write_text(""),
    "directory": lambda root: (root / "empty").mkdir(),
    "link": lambda root: (root / "link").symlink_to("dir"),
    "kind": lambda root: (root / "dir/file").replace(root / "dir/other").with_name("file").symlink_to("x"),
}


@pytest.mark.parametrize("change", sorted(_CHANGES))
def test_each_change_of_the_files_is_another_digest(change: str, tmp_path: Path) -> None:
    _lay(tmp_path, {"dir/file": "x"})
    build = Build(tmp_path, inline="FROM scratch")
    before = context.read(build).digest()
    _CHANGES[change](tmp_path)
    assert context.read(build).digest() != before


def test_times_and_what_is_ignored_change_no_digest(tmp_path: Path) -> None:
    _lay(tmp_path, {"dir/file": "x", ".dockerignore": "*.log\n"})
    build = Build(tmp_path, inline="FROM scratch")
    before = context.read(build).digest()
    os.utime(tmp_path / "dir/file", (1, 1))
    _lay(tmp_path, {"much.log": "x"})
    assert context.read(build).digest() == before


def _source(root: Path, **more: Any) -> make.Source:
    program = PROGRAMS[0]
    platform = more.pop("platform", "linux/amd64")
    return make.read(program, "blog", "web", Build(root, **{"inline": "FROM base\n", **more}), platform)


@pytest.fixture
def bases(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What registries say of base images."""
    found = {"base": "sha256:1"}
    monkeypatch.setattr(build_programs, "base_digest", lambda _program, image, _platform: found.get(image, ""))
    return found


def test_the_digest_is_of_all_that_an_image_is_made_of(tmp_path: Path, bases: dict[str, str]) -> None:
    root = tmp_path / "app"
    _lay(tmp_path, {"app/file": "x"})
    first = _source(root).digest
    assert _source(root).digest == first
    moved = tmp_path / "moved"
    root.rename(moved)
    assert _source(moved).digest == first, "where it is does not count"
    others = [
        _source(moved, args=(("A", "1"),)).digest,
        _source(moved, target="one").digest,
        _source(moved, inline="FROM base\n#\n").digest,
        _source(moved, labels=(("a", "b"),)).digest,
        _source(moved, network="none").digest,
        _source(moved, platform="linux/arm64").digest,
    ]
    bases["base"] = "sha256:2"
    others.append(_source(moved).digest)
    assert len({first, *others}) == len(others) + 1
    bases["base"] = "sha256:1"
    assert _source(moved, max_age=60.0).digest == first, "how old it may be is not what it is made of"


def test_an_image_is_current_by_its_content_and_its_age(tmp_path: Path, bases: dict[str, str]) -> None:
    source = _source(tmp_path)
    now = 1_800_000_000.0
    stamp = time.strftime("%Y%m%d%H%M", time.gmtime(now - 6 * 86_400))
    image = f"localhost/blog/web:{source.digest}-{stamp}"
    assert source.is_current(image, now)
    assert not source.is_current(image, now + 86_400), "a week, where nothing is said"
    assert not _source(tmp_path, max_age=86_400.0).is_current(image, now)
    assert _source(tmp_path, max_age=30.0 * 86_400).is_current(image, now + 20 * 86_400)
    for other in ("localhost/blog/web", "localhost/blog/web:0123456789ab", f"x:000000000000-{stamp}"):
        assert not source.is_current(other, now)


def test_programs_of_another_processor_are_not_run_where_nothing_can(
    tmp_path: Path, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "_INTERPRETERS", {"arm64": "none-such", "amd64": "none-such"})
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(UserError, match="runs programs of arm64, and this machine is amd64"):
        _source(tmp_path, inline="FROM base\nRUN make\n", platform="linux/arm64")
    assert _source(tmp_path, inline="FROM base\nCOPY a /a\n", platform="linux/arm64").digest
    cross = "FROM --platform=$BUILDPLATFORM base AS build\nRUN make\nFROM scratch\nCOPY --from=build /a /a\n"
    assert _source(tmp_path, inline=cross, platform="linux/arm64").digest


_COMMON = [
    "--no-cache", "--platform=linux/arm64", "--file=/s/Containerfile", "--tag=localhost/blog/web", "--iidfile=/s/id",
    "--target=release", "--network=none", "--build-arg=A=1 2", "--label=a=b", "--add-host=db:10.0.0.1", "/s/context",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("podman", ["podman", "build", "--format=docker", "--layers", "--pull=missing"]),
        ("buildah", ["buildah", "build", "--format=docker", "--layers", "--pull=false"]),
        ("docker buildx", ["docker", "buildx", "build", "--load", "--progress=plain", "--provenance=false",
                           "--sbom=false", "--pull"]),
        ("docker", ["docker", "build", "--pull"]),
    ],
)  # fmt: skip
def test_what_each_program_is_told(name: str, head: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    scratch = Path("/s")
    build = Build(
        scratch, "x", target="release", args=(("A", "1 2"),), labels=(("a", "b"),), extra_hosts=(("db", "10.0.0.1"),),
        network="none",
    )  # fmt: skip
    request = Request(
        build, scratch / "context", scratch / "Containerfile", "linux/arm64", "localhost/blog/web", scratch / "id", True
    )
    program = next(one for one in PROGRAMS if one.name == name)
    assert program.build(request) == [*head, *_COMMON]


def test_the_first_program_that_answers_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"podman": "its machine is not running", "docker": ""}
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name in answers else None)
    monkeypatch.setattr(build_programs, "_refusal", lambda argv: answers[argv[0]])
    assert build_programs.find().name == "docker buildx"
    answers["docker"] = "the daemon is not running"
    with pytest.raises(UserError, match=r"podman says: its machine is not running; docker buildx says: the daemon"):
        build_programs.find()
    answers.clear()
    with pytest.raises(UserError, match="no program here builds images"):
        build_programs.find()


_TEXT = """\
# escape=`
# syntax=docker/dockerfile:1
ARG TAG=13
ARG EMPTY
FROM docker.io/library/debian:${TAG} AS build
RUN --mount=type=bind,from=docker.io/library/golang:1,target=/go `
    # a comment inside

    make all
RUN <<END
FROM not-an-image
EXPOSE 1
END
EXPOSE 9000
FROM build AS middle
EXPOSE 80/tcp 53/udp
FROM --platform=$BUILDPLATFORM node:22 as tools
FROM ${UNKNOWN} AS odd
FROM scratch
COPY --from=build /a /a
COPY --from=docker.io/x/y:1 --chown=1 /b /b
COPY --from=0 /c /c
EXPOSE 8080
"""


def test_what_a_containerfile_says() -> None:
    found = containerfile.read(_TEXT, {})
    assert found.images == (
        "docker.io/library/debian:13", "docker.io/library/golang:1", "node:22", "docker.io/x/y:1",
    )  # fmt: skip
    assert (found.ports, found.runs) == ((8080,), True)
    assert containerfile.read(_TEXT, {"TAG": "12"}).images[0] == "docker.io/library/debian:12"
    assert containerfile.read(_TEXT, {}, "middle").ports == (9000, 80)
    assert containerfile.read(_TEXT, {}, "0").ports == (9000,)
    for text in ("", "FROM", "\\", "RUN <<X", "FROM a as", "EXPOSE 99999999", "ARG", "FROM ${A", "\ufeffFROM a"):
        containerfile.read(text, {})


def test_an_image_becomes_an_archive_byte_for_byte(tmp_path: Path) -> None:
    """With its health check, which Podman would take out of one in OCI's form."""
    layout = Layout()
    layers = [made.layer({"a": b"1"}), made.layer({"b": b"2"}, zipped=True)]
    layout.add_image(layers, "amd64", name="x", Healthcheck={"Test": ["CMD", "true"]})
    layout.in_directory(tmp_path / "layout")
    image = local_images.read(tmp_path / "layout", "amd64")
    oci_archive.write(image, tmp_path / "one.tar")
    oci_archive.write(image, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    again = local_images.read(tmp_path / "one.tar", "amd64")
    assert (again.config, again.docker) == (image.config, True)
    assert [one.digest for one in again.layers] == [one.digest for one in image.layers]
    for one, other in zip(again.layers, image.layers, strict=True):
        with one.open() as written, other.open() as source:
            assert written.read() == source.read()


def test_a_build_begins_anew_when_its_layers_are_too_old(
    tmp_path: Path, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this machine has in its cache counts too: a changed file alone brings no security update."""
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    (tmp_path / "app").mkdir()
    layout = Layout()
    layout.add_image([made.layer({"a": b"1"})], "amd64", name="x")
    layout.in_directory(tmp_path / "layout")
    asked: list[bool] = []

    def run(_program: object, _source: object, _scratch: Path, *, anew: bool) -> Any:
        asked.append(anew)
        yield "STEP 1"
        return "id"

    monkeypatch.setattr(make, "_run", run)
    monkeypatch.setattr("builder.process.run", lambda _argv: None)
    monkeypatch.setattr("builder.oci.local_images.read", lambda *_: local_images.LocalImage(b"", True, ()))
    now = [1_800_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])

    def tag(**more: Any) -> str:
        lines = make.make(PROGRAMS[0], _source(tmp_path / "app"), tmp_path, **more)
        while True:
            try:
                assert next(lines) == "STEP 1"
            except StopIteration as end:
                return str(end.value.tag.partition("-")[2])

    first = tag()
    now[0] += 6 * 86_400
    assert tag() == first, "a layer of it may be as old as the first"
    now[0] += 86_400
    assert tag() > first
    now[0] += 60
    newest = tag(anew=True)
    now[0] += 60
    assert tag() == newest
    assert asked == [False, False, True, True, False]


def test_the_name_of_a_pattern_is_that_of_the_root() -> None:
    found = ignored.Patterns([ignored.pattern("node_modules"), ignored.pattern("!node_modules/keep.js")])
    assert found.ignores("node_modules/a/b")
    assert not found.ignores("src/node_modules")
    assert not found.ignores("node_modules/keep.js")
    assert found.may_keep_below("node_modules")
    assert not found.may_keep_below("node_modules/a")
