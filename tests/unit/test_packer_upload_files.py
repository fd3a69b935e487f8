"""What is uploaded for a bake: the host's baked files as a tar, and lists of what goes into whose storage."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from builder import host
from builder import spec as specs
from builder.host import File, Part
from builder.packer import upload_files

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
TEXT = """
server: {{name: web1, base: debian-13}}
admin: {{name: er, ssh_keys: ["{key}"]}}
{proxy}
stacks:
  - {{name: hello, image: "docker.io/library/caddy:2.11", domain: hello.example.org, port: 8080}}
  - {{name: blog, image: "{blog}", domain: blog.example.org, port: 8080}}
"""


def spec_of(*, proxy: str = "", blog: str = "docker.io/library/nginx:1.29") -> specs.Spec:
    return specs.loads(TEXT.format(key=KEY, proxy=proxy, blog=blog), Path("easyrunner.yaml"))[0]


def made(spec: specs.Spec, *, with_stacks: bool = False, apt_sources: str = "") -> upload_files.Upload:
    return upload_files.collect(spec, host.build(spec), check=b"zip", with_stacks=with_stacks, apt_sources=apt_sources)


def test_the_rootfs_is_the_baked_part_with_owners_and_modes() -> None:
    files = host.build(spec_of()).only(Part.BAKED)
    with tarfile.open(fileobj=io.BytesIO(upload_files.rootfs(files))) as archive:
        members = archive.getmembers()
        contents = {member.name: archive.extractfile(member) for member in members}
        assert {name: stream.read() for name, stream in contents.items() if stream} == {
            file.path.lstrip("/"): file.content for file in files
        }
    assert {member.name: member.mode for member in members} == {
        file.path.lstrip("/"): int(file.mode, 8) for file in files
    }
    assert {(member.uid, member.gid, member.isreg(), member.mtime) for member in members} == {(0, 0, True, 1577836800)}


def test_the_same_host_gives_the_same_bytes() -> None:
    assert made(spec_of(), with_stacks=True) == made(spec_of(), with_stacks=True)


def test_a_file_that_is_not_roots_is_refused() -> None:
    with pytest.raises(ValueError, match="/etc/x"):
        upload_files.rootfs([File("/etc/x", b"", Part.BAKED, owner="er-proxy")])


def test_without_stacks_nothing_tells_whose_image_it_is() -> None:
    found = made(spec_of())
    assert sorted(found.files) == ["check.pyz", "images/er-proxy.list", "rootfs.tar", "store-images"]
    assert found.files["images/er-proxy.list"] == b"docker.io/library/caddy:2.11.7\n"
    assert found.archives == {}


def test_with_stacks_their_users_and_images_come_along() -> None:
    found = made(spec_of(), with_stacks=True).files
    assert found["images/er-hello.list"] == b"docker.io/library/caddy:2.11\n"
    assert found["images/er-blog.list"] == b"docker.io/library/nginx:1.29\n"
    first = {file.path: file.content for file in host.build(spec_of()).only(Part.FIRST_BOOT)}
    for stack in ("hello", "blog"):
        assert found[f"stacks/sysusers.d/er-{stack}.conf"] == first[f"/etc/sysusers.d/er-{stack}.conf"]
    assert sorted(found["stacks/subids"].decode().splitlines()) == [
        *(sorted(first[f"/etc/easyrunner/stacks/{stack}/subids"].decode().strip() for stack in ("hello", "blog")))
    ]


def test_an_archive_is_uploaded_once_and_named_by_its_content(tmp_path: Path) -> None:
    archive = tmp_path / "app.tar"
    archive.write_bytes(b"an image")
    name = f"oci-archive:{archive}"
    found = made(spec_of(proxy=f'proxy: {{image: "{name}"}}', blog=name), with_stacks=True)
    digest = "a5df3fde7b20"  # sha256 of the archive
    assert found.files["images/er-proxy.list"].decode() == f"localhost/er/proxy-caddy:{digest} {digest}.tar\n"
    assert found.files["images/er-blog.list"].decode() == f"localhost/er/blog-web:{digest} {digest}.tar\n"
    assert found.archives == {f"images/{digest}.tar": archive}


def test_package_lists_from_elsewhere_are_a_file_of_their_own() -> None:
    line = "deb http://deb.example.org/debian trixie main\n"
    assert made(spec_of(), apt_sources=line).files["apt-sources.list"] == line.encode()


def test_what_is_written_is_for_this_user_only(tmp_path: Path) -> None:
    archive = tmp_path / "app.tar"
    archive.write_bytes(b"an image")
    found = made(spec_of(proxy=f'proxy: {{image: "oci-archive:{archive}"}}'))
    target = tmp_path / "payload"
    upload_files.write(found, target)
    assert target.stat().st_mode & 0o777 == 0o700
    written = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert written == {**found.files, **{name: path.read_bytes() for name, path in found.archives.items()}}
