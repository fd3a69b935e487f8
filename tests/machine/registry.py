"""A real registry in a namespace of its own: Debian's docker-registry, over plain HTTP."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from builder.lab.network import Namespace

OPEN = 5000
CLOSED = 5001
USER, PASSWORD = "reader", "secret"
# bcrypt, as docker-registry wants it, of that password.
_HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LIST = "application/vnd.oci.image.index.v1+json"


@dataclass
class Registry:
    """Doors to one store, each a port: `CLOSED` with a password, all others anybody's."""

    place: Namespace
    directory: Path
    ports: tuple[int, ...] = (OPEN, CLOSED)

    def _settings(self, port: int) -> Path:
        file = self.directory / f"{port}.json"
        password = self.directory / "htpasswd"
        password.write_text(_HTPASSWD)
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "store")}},
            "http": {"addr": f"0.0.0.0:{port}"},
        }
        if port == CLOSED:
            settings["auth"] = {"htpasswd": {"realm": "lab", "path": str(password)}}
        file.write_text(json.dumps(settings))
        return file

    def start(self) -> list[subprocess.Popen[bytes]]:
        """Both, as a program of this machine in the registry's namespace."""
        assert shutil.which("docker-registry"), "apt-get install docker-registry"
        return [self.place.start(["docker-registry", "serve", str(self._settings(port))]) for port in self.ports]

    def up(self) -> bool:
        """Whether it answers."""
        look = ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{self.ports[0]}/v2/"]
        return self.place.run(look, check=False).returncode == 0

    def push(self, archive: Path, name: str, tag: str = "1") -> str:
        """An OCI archive's image as a release, by the registry's own protocol: as a list of one; the list's digest."""
        with tarfile.open(archive) as tar:
            items = [item for item in tar if "/sha256/" in item.name]
            blobs = {f"sha256:{item.name.rpartition('/')[2]}": tar.extractfile(item) for item in items}
            contents = {digest: file.read() for digest, file in blobs.items() if file is not None}
            index = tar.extractfile("index.json")
            assert index is not None
            manifest = json.loads(contents[json.loads(index.read())["manifests"][0]["digest"]])
        settings = json.loads(contents[manifest["config"]["digest"]])
        settings["config"]["Labels"] = {"org.opencontainers.image.version": tag}
        config = json.dumps(settings).encode()
        manifest["config"] |= {"digest": _digest(config), "size": len(config)}
        for layer in manifest["layers"]:
            self._upload(name, layer["digest"], contents[layer["digest"]])
        self._upload(name, _digest(config), config)
        return self._tag(name, tag, json.dumps(manifest).encode(), settings["architecture"])

    def _tag(self, name: str, tag: str, manifest: bytes, processor: str) -> str:
        self._send("PUT", f"/v2/{name}/manifests/{_digest(manifest)}", manifest, _MANIFEST)
        one = {"mediaType": _MANIFEST, "digest": _digest(manifest), "size": len(manifest)}
        platform = {"architecture": processor, "os": "linux"}
        whole = {"schemaVersion": 2, "mediaType": _LIST, "manifests": [one | {"platform": platform}]}
        content = json.dumps(whole).encode()
        self._send("PUT", f"/v2/{name}/manifests/{tag}", content, _LIST)
        return _digest(content)

    def _upload(self, name: str, digest: str, content: bytes) -> None:
        place = self._send("POST", f"/v2/{name}/blobs/uploads/", b"", "text/plain")
        mark = "&" if "?" in place else "?"
        self._send("PUT", f"{place}{mark}digest={digest}", content, "application/octet-stream")

    def _send(self, method: str, place: str, body: bytes, kind: str) -> str:
        url = place if place.startswith("http") else f"http://{self.place.ipv4}:{self.ports[0]}{place}"
        request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers.get("Location", ""))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
