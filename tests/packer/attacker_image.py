"""The image of an app that was taken over: the example app, and Python with just what the attacker needs."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder import process
from builder.oci import image_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_name("attacker.py")
ATTACK = ("/usr/bin/python3", "-I", "-S", "/usr/bin/attacker.py")
_LIBRARY = re.compile(r"(/\S+)(?= \(0x)")


def make(app: Path, target: Path) -> None:
    """Write the image as an OCI archive; `app` is that of the example app."""
    with tarfile.open(app) as archive:
        blobs = {name: _read(archive, name) for name in archive.getnames() if name.startswith("blobs/sha256/")}
        index = json.loads(_read(archive, "index.json"))
    manifest = json.loads(_blob(blobs, index["manifests"][0]["digest"]))
    config = json.loads(_blob(blobs, manifest["config"]["digest"]))["config"]
    layer = _blob(blobs, manifest["layers"][0]["digest"])
    environment = tuple(tuple(entry.split("=", 1)) for entry in config["Env"])
    files = {file.path: file for file in (*_files(layer), *_python())}
    settings = image_archive.ImageConfig(
        command=tuple(config["Cmd"]), environment=environment, working_dir=config["WorkingDir"]
    )
    image_archive.write(target, files.values(), settings)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def _blob(blobs: dict[str, bytes], digest: str) -> bytes:
    return blobs["blobs/" + digest.replace(":", "/")]


def _files(layer: bytes) -> Iterator[image_archive.ImageFile]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            if member.issym():
                yield image_archive.ImageFile(member.name, link=member.linkname)
            elif member.isdir():
                yield image_archive.ImageFile(member.name, mode=member.mode, directory=True)
            else:
                yield image_archive.ImageFile(member.name, _read(tar, member.name), member.mode)


def _python() -> Iterator[image_archive.ImageFile]:
    """The interpreter of these tests, its libraries, and the modules that the attacker imports."""
    program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    listed = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import attacker\n"
    listed += "print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)), sep='\\n')"
    modules = process.run([str(program), "-I", "-S", "-c", listed]).stdout.split()
    inside = [Path(name) for name in modules if name != str(SOURCE)]
    programs = [program, *(path for path in inside if path.suffix == ".so")]
    libraries = {Path(found) for path in programs for found in _LIBRARY.findall(process.run(["ldd", str(path)]).stdout)}
    for path in (*inside, *libraries):
        yield image_archive.ImageFile(str(path), path.read_bytes(), 0o755)
    yield image_archive.ImageFile(str(program), program.read_bytes(), 0o755)
    yield image_archive.ImageFile("usr/bin/python3", link=str(program))
    yield image_archive.ImageFile("usr/bin/attacker.py", SOURCE.read_bytes(), 0o755)
