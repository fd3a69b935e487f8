from __future__ import annotations

import gzip
import hashlib
import tarfile
from pathlib import Path

import pytest

from builder.oci import image_archive, image_reference, known_images
from builder.problems import Report
from builder.stack import domains

DIGEST = "sha256:" + "a" * 64


def normalise(text: str, base: Path = Path()) -> tuple[str | None, list[str]]:
    report = Report()
    return image_reference.normalise(text, base, "image", None, report), [problem.severity for problem in report]


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("user/app:1", "docker.io/user/app:1"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("ghcr.io/me/app:v1.2_x", "ghcr.io/me/app:v1.2_x"),
        ("GHCR.io/me/app:1", "ghcr.io/me/app:1"),
        ("10.0.0.1:5000/a/b__c.d-e:1", "10.0.0.1:5000/a/b__c.d-e:1"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1.27@{DIGEST}", f"docker.io/library/nginx:1.27@{DIGEST}"),
    ],
)
def test_registry_references(text: str, image: str) -> None:
    assert normalise(text) == (image, [])
    assert normalise(image) == (image, [])
    assert image_reference.host_name("blog", "app", image) == image


@pytest.mark.parametrize("version", ["", ":2.11", f"@{DIGEST}", f":2.11@{DIGEST}"])
def test_a_well_known_program_is_known_however_its_image_is_pinned(version: str) -> None:
    assert image_reference.file_capabilities(f"docker.io/library/caddy{version}", None, None) == ("NET_BIND_SERVICE",)
    assert image_reference.file_capabilities(f"docker.io/library/caddy-x{version}", None, None) == ()


@pytest.mark.parametrize("text", ["nginx", "nginx:latest"])
def test_latest_is_a_warning(text: str) -> None:
    assert normalise(text) == ("docker.io/library/nginx:latest", ["warning"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:-x",
        "a b",
        "-a",
        "a@b",
        "A",
        "localhost/a",
        "$A",
        "x_y.io/a:1",
        "a" * 300,
    ],
)
def test_what_no_registry_would_take(text: str) -> None:
    assert normalise(text) == (None, ["error"])


def test_archives_are_named_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "app.tar").write_bytes(b"layers")
    image, problems = normalise("oci-archive:app.tar", tmp_path)
    assert (image, problems) == (f"oci-archive:{tmp_path / 'app.tar'}", [])
    assert image is not None
    digest = hashlib.sha256(b"layers").hexdigest()
    assert image_reference.host_name("blog", "app", image) == f"localhost/er/blog-app:{digest[:12]}"


def _archive(path: Path, content: bytes) -> str:
    files = [image_archive.ImageFile("app", content, 0o755)]
    image_archive.write(path, files, image_archive.ImageConfig(command=("app",)))
    return image_reference.host_name("blog", "app", f"oci-archive:{path}")


def test_an_archive_is_known_by_its_index_which_names_all_else(tmp_path: Path) -> None:
    """Of a gigabyte only that is read; packed otherwise it is the same image."""
    first, second = (_archive(tmp_path / f"{word}.tar", word.encode()) for word in ("one", "two"))
    assert first != second
    with tarfile.open(tmp_path / "one.tar") as one, tarfile.open(tmp_path / "again.tar", "w") as again:
        for member in reversed(one.getmembers()):
            again.addfile(member, one.extractfile(member))
    assert (tmp_path / "again.tar").read_bytes() != (tmp_path / "one.tar").read_bytes()
    assert image_reference.host_name("blog", "app", f"oci-archive:{tmp_path / 'again.tar'}") == first
    packed = tmp_path / "one.tar.gz"
    packed.write_bytes(gzip.compress((tmp_path / "one.tar").read_bytes(), mtime=0))
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()[:12]
    assert image_reference.host_name("blog", "app", f"oci-archive:{packed}").endswith(f":{digest}")


@pytest.mark.parametrize(
    "text", ["example.com", "a.b-c.example.com", "xn--bcher-kva.de", "app.localhost", "1.example.com"]
)
def test_domains(text: str) -> None:
    assert domains.find_fault(text) is None


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("a.test", True),
        ("a.localhost", True),
        ("a.home.arpa", True),
        ("localhost.com", False),
        ("test.de", False),
    ],
)
def test_private_domains(text: str, *, private: bool) -> None:
    assert domains.is_private(text) is private


@pytest.mark.parametrize(
    ("image", "known"),
    [
        ("docker.io/library/postgres:16", True),
        ("public.ecr.aws/docker/library/postgres:16", True),
        ("mirror.example.org:5000/library/postgres:16", True),
        ("docker.io/pgvector/pgvector:pg16", True),
        ("docker.io/valkey/valkey:8", True),
        ("ghcr.io/immich-app/postgres:14", True),
        ("codeberg.org/forgejo/forgejo:9", True),
        ("codeberg.org/forgejo/forgejo:9-rootless", False),
        ("lscr.io/linuxserver/sonarr:4", True),
        ("docker.io/clickhouse/clickhouse-server:24.8", True),
        ("docker.io/someone/postgres:16", False),
        ("docker.io/bitnami/redis:7", False),
    ],
)
def test_images_that_start_as_root(image: str, known: bool) -> None:
    """Under `strict` they cannot become their user; `standard` leaves what they need, unless it is dropped."""
    lacking = known_images.lacking
    assert bool(lacking(image, "strict", None, (), ())) is known
    assert bool(lacking(image, "standard", None, (), ("ALL",))) is known
    assert bool(lacking(image, "standard", "root:root", (), ("SETUID",))) is known
    assert lacking(image, "standard", None, (), ()) == ()
    assert lacking(image, "strict", None, ("SETGID", "SETUID"), ()) == ()
    assert lacking(image, "strict", "1000", (), ()) == ()
    assert lacking(image, "off", None, (), ("ALL",)) == ()


def test_an_old_elasticsearch_needs_more_than_standard_leaves() -> None:
    image = "docker.elastic.co/elasticsearch/elasticsearch:{}"
    assert "SYS_CHROOT" in known_images.lacking(image.format("7.17.9"), "standard", None, (), ())
    assert known_images.lacking(image.format("7.17.9"), "standard", None, ("SYS_CHROOT",), ()) == ()
    assert known_images.lacking(image.format("8.15.0"), "standard", None, (), ()) == ()
