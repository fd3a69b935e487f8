"""User-data in every form, read by the real cloud-init of the base: byte for byte the files that `er render` shows."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import host as hosts
from builder import process, providers, userdata
from builder import spec as specs
from builder.lab import base_tree
from builder.providers import Encoding
from builder.userdata.encoding import packed
from tests.machine.hosts import ROOT, booted
from tests.sweeps import WHOLE, sample

if TYPE_CHECKING:
    from builder.host import Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

pytestmark = pytest.mark.machine

READER = Path(__file__).parent / "cloud_init_reads.py"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
SPECS = {
    "web": (ROOT / "examples/web.yaml").read_text(),
    "many": "\n".join(
        [
            "server: {name: web1}",
            f"admin: {{ssh_keys: [{KEY}]}}",
            "stacks:",
            *(
                f"  - {{name: app{number}, uid: {24_000 + number}, image: 'ghcr.io/example/app:{number}', "
                f"domain: app{number}.example.org, "
                f"environment: {{MOTTO: '{{{{ no }}}} {{% jinja %}} ünï 😀 {number}'}}}}"
                for number in range(12)
            ),
        ]
    ),
}


def read(content: bytes, tmp: Path) -> dict[str, Any]:
    """What the real cloud-init makes of it, in a private view of the base tree, of which nothing is written."""
    (tmp / "user-data").write_bytes(content)
    shutil.copy(READER, tmp / "reads.py")
    script = (
        'mount --bind "$1" "$2/mnt"; mount -t proc proc "$2/proc"; mount -t tmpfs tmp "$2/tmp"; '
        'exec chroot "$2" python3 -W ignore /mnt/reads.py /mnt/user-data'
    )
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
        str(tmp),
        str(base_tree.tree()),
    ]
    found: dict[str, Any] = json.loads(process.run(argv, timeout=60).stdout)
    return found


# The one with the most of text that is not ASCII; hosts boot from the other's kind.
@pytest.mark.parametrize(
    ("name", "on"),
    sample([(name, on) for name in SPECS for on in ("stock", "baked")], [("many", "baked")]),
)
def test_cloud_init_reads_every_form(name: str, on: On, tmp_path: Path) -> None:
    """Plain, multipart, multipart and gzip with the template: the same files, with their modes and owners."""
    shutil.copytree(ROOT / "examples/blog", tmp_path / "blog")
    (tmp_path / "easyrunner.yaml").write_text(SPECS[name])
    spec, _ = specs.load(tmp_path / "easyrunner.yaml")
    host = hosts.build(spec)
    wanted = {
        file.path: [file.initial_mode, "root:root", file.content] for file in host.only(*userdata.cloudconfig.PARTS[on])
    }
    forms = list(userdata.delivery.forms(spec, host, providers.get("nocloud"), on))
    assert [(form, shared) for form, shared, _ in forms] == [
        (Encoding.PLAIN, False),
        (Encoding.MIME, False),
        (Encoding.MIME, True),
        (Encoding.GZIP, True),
        (Encoding.PACKED_GZIP, False),
    ]
    for form, shared, content in forms:
        found = read(content, tmp_path)
        assert found["types"] == ["text/jinja2" if shared else "text/cloud-config"], form
        files = {path: [mode, owner, base64.b64decode(text)] for path, (mode, owner, text) in found["files"].items()}
        assert files == wanted, form
        assert {"users", "runcmd", "bootcmd", "disable_root"} <= set(found["keys"])
    found = read(_packed(spec, host, on), tmp_path)
    files = {path: [mode, owner, base64.b64decode(text)] for path, (mode, owner, text) in found["files"].items()}
    assert (found["types"], files) == (["text/cloud-config"], wanted)


def _packed(spec: Spec, host: Host, on: On) -> bytes:
    """The form for who takes text only, and little of it."""
    content = packed(spec, host, on)
    assert content is not None
    return content


def test_a_host_boots_from_the_packed_form(example_images: None, tmp_path: Path) -> None:
    """And its second boot, in the sweep, does not lay the files down again."""
    with booted("three", tmp_path, form=lambda spec: _packed(spec, hosts.build(spec), "stock")) as host:
        assert host.curl("https://shop.example.com/").stdout.startswith("HTTP/2 200")
        assert host.machine.run("cloud-init status", check=False).stdout.strip() == "status: done"
        if not WHOLE:
            return
        changed = host.machine.path("/etc/issue.net")
        changed.write_text("changed\n")
        host.reboot()
        assert host.machine.path("/etc/issue.net").read_text() == "changed\n"
        assert host.curl("https://shop.example.com/").stdout.startswith("HTTP/2 200")
