"""A real registry in a namespace of its own: Debian's docker-registry, over plain HTTP, or over HTTPS."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.lab.network import Namespace

OPEN = 5000
CLOSED = 5001
HTTPS = 443
USER, PASSWORD = "reader", "secret"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LIST = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Certificate:
    """Of one authority, for the names of registries: files in PEM form."""

    authority: Path
    chain: Path
    key: Path


def certificate(directory: Path, *names: str) -> Certificate:
    """A new authority, and what it signs for these names."""
    authority, key, chain = (directory / name for name in ("ca.crt", "registry.key", "registry.crt"))
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]
    # Python believes no authority without it.
    signs = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    _openssl(*new, "-x509", "-subj", "/CN=lab", *signs, "-keyout", directory / "ca.key", "-out", authority)
    alternatives = ",".join(f"DNS:{name}" for name in names)
    signer = ["-x509", "-CA", authority, "-CAkey", directory / "ca.key", "-addext", f"subjectAltName={alternatives}"]
    leaf = ["-addext", "basicConstraints=critical,CA:false"]
    _openssl(*new, *signer, *leaf, "-subj", f"/CN={names[0]}", "-keyout", key, "-out", chain)
    return Certificate(authority, chain, key)


def _openssl(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, capture_output=True)


def _bcrypt(password: str) -> str:
    """As docker-registry wants it; the hash of the system's own crypt(3)."""
    script = "print crypt($ARGV[0], q($2y$05$abcdefghijklmnopqrstuu))"
    return subprocess.run(["perl", "-e", script, password], check=True, capture_output=True, text=True).stdout


def limiting(upstream: str, made: Certificate) -> list[str]:
    """The program of a registry in front of `upstream` that limits who is not logged in: limiting_registry.py."""
    program = Path(__file__).with_name("limiting_registry.py")
    return [sys.executable, str(program), upstream, str(made.chain), str(made.key), USER, PASSWORD]


@dataclass
class Registry:
    """Doors to one store, each a port: `CLOSED` and `HTTPS` with a password, all others anybody's."""

    place: Namespace
    directory: Path
    ports: tuple[int, ...] = (OPEN, CLOSED)
    certificate: Certificate | None = None

    def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """By user; one that runs reads them anew."""
        lines = (f"{user}:{_bcrypt(password)}\n" for user, password in passwords.items())
        (self.directory / "htpasswd").write_text("".join(lines))

    def _settings(self, port: int) -> Path:
        file = self.directory / f"{port}.json"
        password = self.directory / "htpasswd"
        if not password.exists():
            self.set_passwords({USER: PASSWORD})
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "store")}},
            "http": {"addr": f"0.0.0.0:{port}"},
        }
        if port == HTTPS and self.certificate:
            names = {"certificate": str(self.certificate.chain), "key": str(self.certificate.key)}
            settings["http"] = {"addr": f"0.0.0.0:{port}", "tls": names}
        if port in {CLOSED, HTTPS}:
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

    def push(self, archive: Path, name: str, tag: str = "1", *, label: str = "") -> str:
        """An OCI archive's image as a release, by the registry's own protocol: as a list of one; the list's digest.

        `label` makes it another image than the same archive under the same tag.
        """
        with tarfile.open(archive) as tar:
            items = [item for item in tar if "/sha256/" in item.name]
            blobs = {f"sha256:{item.name.rpartition('/')[2]}": tar.extractfile(item) for item in items}
            contents = {digest: file.read() for digest, file in blobs.items() if file is not None}
            index = tar.extractfile("index.json")
            assert index is not None
            manifest = json.loads(contents[json.loads(index.read())["manifests"][0]["digest"]])
        settings = json.loads(contents[manifest["config"]["digest"]])
        settings["config"]["Labels"] = {"org.opencontainers.image.version": label or tag}
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
