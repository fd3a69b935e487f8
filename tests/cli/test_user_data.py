"""`er user-data` and `er providers`, as a user sees them."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

from builder import providers
from builder.host.packages import PACKAGES
from tests.cli.test_cli import ER, ROOT, WEB, er

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "words",
    [
        ["user-data", str(WEB), "--for", "moon", "--on", "stock"],
        ["user-data", str(WEB), "--for", "aws", "--on", "mars"],
        ["user-data", str(WEB), "--for", "aws"],
        ["user-data", str(WEB), "--for", "aws", "--on", "stock", "--manifest", str(WEB)],
        ["providers", "moon"],
        ["providers", "aws", "gcp"],
    ],
)
def test_wrong_words_are_2_and_nothing_on_stdout(words: list[str]) -> None:
    done = er(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_talk_says_how_full_it_is_and_how_to_use_it(tmp_path: Path) -> None:
    target = tmp_path / "user-data"
    done = er("user-data", WEB, "--for", "hetzner", "--on", "stock", "-o", target)
    assert (done.returncode, done.stdout) == (0, "")
    assert target.read_bytes().startswith(b"MIME-Version: 1.0\n")
    assert f"{target.stat().st_size:,} of 32,768 bytes" in done.stderr
    assert "[###" in done.stderr
    assert "what takes the space" in done.stderr
    assert f"hcloud server create --user-data-from-file {target}" in done.stderr
    assert "secret db-password of stack blog is not in it" in done.stderr
    assert "root, the image's own login, is shut" in done.stderr


def test_json_has_it_all() -> None:
    done = er("user-data", WEB, "--for", "aws", "--on", "baked", "--json")
    found = json.loads(done.stdout)
    assert found["encoding"] == "plain"
    assert found["user_data"].startswith("#cloud-config\n")
    assert found["used"] == found["bytes"] == len(found["user_data"].encode())
    assert found["limit"] == 16_384
    assert {"stack": "blog", "name": "db-password"} in found["secrets"]
    small = json.loads(er("user-data", WEB, "--for", "aws", "--on", "baked", "--small", "--json").stdout)
    assert small["encoding"] == "gzip"
    assert len(base64.b64decode(small["user_data_base64"])) == small["bytes"] < found["bytes"] / 3


def test_flat_json_has_the_same_as_text() -> None:
    """What an external data source of OpenTofu takes: one mapping of text to text."""
    words = ("user-data", WEB, "--for", "aws", "--on", "baked", "--json")
    whole, flat = json.loads(er(*words).stdout), json.loads(er(*words, "--flat").stdout)
    assert whole["domains"]
    assert list(flat) == list(whole)
    assert all(isinstance(value, str) for value in flat.values())
    assert {key: value if isinstance(whole[key], str) else json.loads(value) for key, value in flat.items()} == whole
    alone = er("user-data", WEB, "--on", "baked", "--flat")
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "--flat says how --json writes its values: add that" in alone.stderr


def test_explain_goes_to_stdout_and_the_data_to_the_file(tmp_path: Path) -> None:
    target = tmp_path / "user-data"
    done = er("user-data", WEB, "--for", "aws", "--on", "baked", "--explain", "-o", target)
    assert done.returncode == 0
    assert {"bootcmd", "users", "write_files", "runcmd"} <= {line.split()[0] for line in done.stdout.splitlines()}
    assert target.read_text().startswith("#cloud-config\n")


def test_binary_is_not_for_a_terminal() -> None:
    ours, theirs = pty.openpty()
    try:
        words = [str(ER), "user-data", str(WEB), "--for", "aws", "--on", "baked", "--small"]
        done = subprocess.run(
            words, cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 1
    assert "binary" in done.stderr
    assert "-o FILE" in done.stderr


def test_too_large_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "spec"
    folder.mkdir()
    noise = {f"N{number}": os.urandom(50).hex() for number in range(400)}
    (folder / "easyrunner.yaml").write_text(
        "server: {name: web1}\n"
        f"admin: {{ssh_keys: [{json.dumps(_KEY)}]}}\n"
        "stacks:\n"
        "  - name: shop\n    image: ghcr.io/example/shop:1\n    domain: shop.example.org\n"
        f"    environment: {json.dumps(noise)}\n"
    )
    target = tmp_path / "user-data"
    done = er("user-data", folder / "easyrunner.yaml", "--for", "linode", "--on", "stock", "-o", target)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Linode (Akamai) takes 16,384" in done.stderr
    assert "stack shop" in done.stderr
    assert "--on baked takes" in done.stderr
    assert not target.exists()


def test_providers_lists_all_and_one_with_sources() -> None:
    listed = er("providers").stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == list(providers.NAMES)
    one = er("providers", "exoscale").stdout
    assert "32767" in one
    assert "https://" in one
    found = json.loads(er("providers", "--json").stdout)
    assert [row["name"] for row in found] == list(providers.NAMES)
    assert found[0]["limit"]["value"] == 16_384
    assert found[0]["limit"]["verified"] is True


_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"


def test_what_the_image_lacks_is_said(tmp_path: Path) -> None:
    """By its manifest, with the reason where not every host has the package."""
    spec = tmp_path / "easyrunner.yaml"
    host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    stack = f'{{name: blog, image: "{host}/blog:1", domain: blog.example.org, port: 8080}}'
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
    head = f'server: {{name: web1}}\nadmin: {{ssh_keys: ["{key}"]}}\n'
    spec.write_text(f"{head}registries: {{{host}: aws}}\nstacks: [{stack}]\n")
    names = [*PACKAGES["debian-13"], "amazon-ecr-credential-helper"]
    made = tmp_path / "image.manifest.json"

    def said(*there: str) -> str:
        made.write_text(json.dumps({"manifest": 1, "packages": [{"name": name} for name in there]}))
        done = er("user-data", spec, "--for", "aws", "--on", "baked", "--manifest", made, "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert " lacks " not in said(*names)
    text = said(*(name for name in names if name not in {"podman", names[-1]}))
    assert (
        "lacks amazon-ecr-credential-helper (asks Amazon ECR for passwords, as the server's role): first boot" in text
    )
    assert "lacks podman: first boot installs it" in text
    assert "the server's role logs in to ECR: attach an instance profile" in text
    found = json.loads(er("user-data", spec, "--for", "aws", "--on", "baked", "--json").stdout)
    assert found["role_policy"]["Statement"][1]["Resource"][0].endswith(":123456789012:repository/blog")
    assert list(found["packages"]) == [names[-1]]
    refused = er("user-data", spec, "--for", "hetzner", "--on", "stock")
    assert refused.returncode == 1
    assert "a server of Hetzner Cloud has no role of AWS's that could log in" in refused.stderr
