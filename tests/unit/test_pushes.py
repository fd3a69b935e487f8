"""What a host takes of a push: the description of an image, and the layout that its Podman is given."""

from __future__ import annotations

import fcntl
import io
import json
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from builder.oci import local_images
from builder.problems import UserError
from builder.server import push
from builder.server.remote.common import RemoteError
from builder.server.remote.images import pushed_image, pushes
from builder.server.ssh import UnreachableError
from tests import local_images as made

if TYPE_CHECKING:
    from pathlib import Path

BASE = made.layer({"base": b"b" * 2000}, zipped=True)
TOP = made.layer({"hello": b"hello"})
HEX = "0123456789abcdef" * 4


def _value(**changes: Any) -> dict[str, Any]:
    layers = [
        {"digest": one.digest, "diff_id": one.diff_id, "size": len(one.content), "compression": one.compression}
        for one in (BASE, TOP)
    ]
    return {"config": made.config([BASE, TOP]).decode(), "docker": False, "layers": layers, **changes}


def _parsed(value: object) -> pushed_image.Image:
    return pushed_image.parsed(json.dumps(value).encode(), "amd64")


def _with_layer(**changes: Any) -> dict[str, Any]:
    value = _value()
    value["layers"][0].update(changes)
    return value


def test_an_image_as_it_is_described() -> None:
    image = _parsed(_value())
    assert image.id == made.sha256(made.config([BASE, TOP]))
    assert [layer.diff_id for layer in image.layers] == [BASE.diff_id, TOP.diff_id]
    assert pushed_image.parsed(image.described(), "amd64") == image


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"[" * 200_000,
        b'{"config":' * 100_000,
        b"\xff\xfe",
        json.dumps(_value(config=5)).encode(),
        json.dumps(_value(config="[" * 100_000)).encode(),
        json.dumps(_value(config='{"rootfs": []}')).encode(),
        json.dumps(_value(layers={})).encode(),
        json.dumps(_value(layers=[[]])).encode(),
        json.dumps(_value(layers=["sha256"])).encode(),
    ],
)
def test_what_is_no_description(content: bytes) -> None:
    with pytest.raises(RemoteError):
        pushed_image.parsed(content, "amd64")


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "sha256:../../../etc/shadow"},
        {"digest": f"sha256:{HEX}/../x"},
        {"digest": f"sha512:{HEX}"},
        {"digest": f"sha256:{HEX.upper()}"},
        {"digest": f"sha256:{HEX}\n"},
        {"digest": 5},
        {"digest": None},
        {"diff_id": f"sha256:{HEX[:-1]}"},
        {"diff_id": ["sha256"]},
        {"size": 0},
        {"size": -1},
        {"size": True},
        {"size": "5"},
        {"size": 1.5},
        {"size": float("inf")},
        {"compression": "xz"},
        {"compression": "../gzip"},
        {"compression": ["gzip"]},
        {"compression": ""},
    ],
)
def test_a_forged_layer_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RemoteError, match="describes no image"):
        _parsed(_with_layer(**changes))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (_value(layers=[]), "do not belong together"),
        (_value(layers=_value()["layers"][::-1]), "do not belong together"),
        (_value(config=made.config([BASE, TOP, TOP]).decode()), "do not belong together"),
        (_with_layer(size=9 << 30), "more than the 8,192 that can be pushed"),
        (
            _value(layers=_value()["layers"][1:] * 257, config=made.config([TOP] * 257).decode()),
            "257 layers, more than 256",
        ),
        (_value(config=made.config([BASE, TOP], "arm64").decode()), "is for linux/arm64, the server is linux/amd64"),
        (_value(config=made.config([BASE, TOP], "a\x1b[31m" * 99).decode()), r"is for linux/a\[31ma"),
    ],
)
def test_what_is_refused(value: dict[str, Any], said: str) -> None:
    with pytest.raises(RemoteError, match=said):
        _parsed(value)


def test_a_description_that_is_too_large() -> None:
    with pytest.raises(RemoteError, match="larger than 4 MiB"):
        pushed_image.parsed(b" " * ((4 << 20) + 1), "amd64")


def test_nothing_of_a_description_but_checked_values_reaches_podman() -> None:
    """Other keys, annotations and URLs of a layer do not; a layer that Podman has stands there by its tar."""
    image = _parsed(_with_layer(urls=["https://evil.example"], annotations={"a": "b"}, mediaType="x"))
    files = pushed_image.layout(image, {TOP.diff_id: 0})
    index = json.loads(files["index.json"])
    assert [*index] == ["schemaVersion", "manifests"]
    manifest = json.loads(files[f"blobs/{index['manifests'][0]['digest'].replace(':', '/')}"])
    assert manifest["layers"] == [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": BASE.digest,
            "size": len(BASE.content),
        },
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": TOP.diff_id, "size": 0},
    ]
    assert manifest["config"]["digest"] == f"sha256:{image.id}"
    assert files[f"blobs/sha256/{image.id}"] == image.config


def test_a_layer_taken_by_its_tar_is_no_compressed_one() -> None:
    """What another stack's storage gave is the tar of a layer that comes compressed."""
    files = pushed_image.layout(_parsed(_value(docker=True)), {BASE.diff_id: 10_240})
    (manifest,) = (json.loads(content) for content in files.values() if b'"layers": [' in content)
    assert manifest["layers"][0] == {
        "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
        "digest": BASE.diff_id,
        "size": 10_240,
    }
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_a_connection_that_has_died_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that it has: no byte comes any more."""
    monkeypatch.setattr(pushes, "_SILENCE", 1)
    reader, writer = os.pipe()
    with (
        os.fdopen(reader, "rb") as stream,
        os.fdopen(writer, "wb"),
        pytest.raises(RemoteError, match="nothing came for 1 s"),
        pushes._ends_in_silence(),
    ):
        stream.read(1)


def test_only_what_nobody_is_at_goes_after_a_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A push that goes on has written of late; one that is just beginning again holds the lock."""
    monkeypatch.setattr(pushes, "DIRECTORY", tmp_path)
    yesterday = time.time() - 90_000
    places = {name: tmp_path / "shop" / name for name in ("left", "written", "held")}
    for place in (*places.values(), tmp_path / ".from-x1"):
        (place / "parts").mkdir(parents=True)
        (place / "parts" / "layer").write_bytes(b"part")
        for path in (place / "parts" / "layer", place / "parts", place):
            os.utime(path, (yesterday, yesterday))
    os.utime(places["written"] / "parts" / "layer")
    with (places["held"] / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(places["held"], (yesterday, yesterday))
        pushes.remove_leftovers()
    assert {path.name for path in (tmp_path / "shop").iterdir()} == {"written", "held"}
    assert not (tmp_path / ".from-x1").exists()


class _Host:
    """Answers as a host that has a beginning of the first layer, and all of the second."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.got = b""
        self.compress = False

    def ask(self, verb: str, *words: str, stdin: Any = b"", compress: bool = False, **_: object) -> Any:
        self.asked.append((verb, *words))
        if verb == "push-missing":
            image = pushed_image.parsed(stdin, "amd64")
            return {"missing": [{"digest": image.layers[0].digest, "here": 10}]}
        if verb == "push-layers":
            self.got, self.compress = b"".join(stdin), compress
            return {"bytes": len(self.got)}
        return {"image": "localhost/shop/web:1", "id": ""}


def _image(first: made.Blob) -> local_images.LocalImage:
    layers = [first, TOP]
    return local_images.LocalImage(
        made.config(layers),
        docker=False,
        layers=tuple(
            local_images.Layer(
                one.digest, one.diff_id, len(one.content), one.compression, partial(io.BytesIO, one.content)
            )
            for one in layers
        ),
    )


def test_only_the_rest_of_what_is_missing_is_sent() -> None:
    host = _Host()
    seen: list[push.Progress] = []
    image = _image(BASE)
    assert push.push(host, "shop", "web", image, report=seen.append) == "localhost/shop/web:1"
    rest = BASE.content[10:]
    assert host.got == f"{BASE.digest} 10 {len(rest)}\n".encode() + rest
    assert host.asked == [
        ("push-missing", "shop", "web"),
        ("push-layers", "shop", "web"),
        ("push-finish", "shop", "web", image.id[:12]),
    ]
    assert seen[-1] == push.Progress(len(rest), len(rest), 1, 1)
    assert not host.compress, "it is compressed already"


def test_what_becomes_smaller_is_compressed_on_its_way() -> None:
    host = _Host()
    push.push(host, "shop", "web", _image(made.layer({"text": b"the same words " * 90_000})))
    assert host.compress


def test_a_cut_is_explained() -> None:
    class Cut(_Host):
        def ask(self, verb: str, *words: str, **more: Any) -> Any:
            if verb == "push-layers":
                raise UnreachableError("web: it closed the connection")
            return super().ask(verb, *words, **more)

    with pytest.raises(UserError) as raised:
        push.push(Cut(), "shop", "web", _image(BASE))
    assert raised.value.hint == "the same command goes on where it stopped"
