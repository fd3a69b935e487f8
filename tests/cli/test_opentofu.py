"""The examples for OpenTofu: their program is run as OpenTofu runs it, and what files say to each other fits.

Where `tofu` is installed it reads them as well; with plugins in a directory, TOFU_PLUGINS, it validates them.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import hcl2
import pytest
import yaml

from builder import facts, providers
from builder import spec as specs
from tests.cli.test_cli import er

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples" / "opentofu"
NAMES: Final = sorted(path.name for path in EXAMPLES.iterdir())
TOFU: Final = shutil.which("tofu")
PLUGINS: Final = os.environ.get("TOFU_PLUGINS", "")
READY: Final = "/.well-known/easyrunner/ready"
each = pytest.mark.parametrize("name", NAMES)


@cache
def configuration(name: str) -> dict[str, Any]:
    """What main.tf says, by kind of block, each a mapping of labels to bodies."""
    found = _plain(hcl2.loads((EXAMPLES / name / "main.tf").read_text()))
    blocks: dict[str, Any] = {}
    for kind, bodies in found.items():
        for body in bodies if isinstance(bodies, list) else [bodies]:
            _merge(blocks.setdefault(kind, {}), body)
    return blocks


def _plain(value: Any) -> Any:
    """Without the quotes that the parser keeps."""
    if isinstance(value, dict):
        return {key.strip('"'): _plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def test_there_is_one_for_each_that_is_named() -> None:
    assert NAMES == ["digitalocean", "hetzner", "openstack"]


@each
def test_the_program_prints_what_the_external_data_source_takes(name: str) -> None:
    """One mapping, whose values are all text."""
    program = configuration(name)["data"]["external"]["host"]["program"]
    words = [word.replace("${path.module}", str(EXAMPLES / name)) for word in program]
    assert words[0] == "er"
    done = er(*words[1:])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(isinstance(value, str) for value in found.values())
    assert found["provider"] == name
    assert found["on"] == "baked"
    limit = providers.get(name).limit.value
    assert limit is None or int(found["used"]) <= limit
    assert found["user_data"].startswith("#cloud-config\n")
    assert json.loads(found["domains"]) == ["hello.your-domain.org"]
    assert specs.load(EXAMPLES / name / "easyrunner.yaml")[0].admin.name == found["login"]


@each
def test_every_result_that_is_used_is_there(name: str) -> None:
    text = (EXAMPLES / name / "main.tf").read_text()
    done = er("user-data", EXAMPLES / name / "easyrunner.yaml", "--on", "baked", "--for", name, "--json", "--flat")
    assert set(re.findall(r"data\.external\.host\.result\.(\w+)", text)) <= set(json.loads(done.stdout))


@each
def test_the_certificates_are_where_hosts_look_for_them(name: str) -> None:
    spec, warnings = specs.load(EXAMPLES / name / "easyrunner.yaml")
    assert not warnings
    storage, edge = spec.tls.storage, spec.proxy.edge
    assert storage
    assert storage.server
    assert edge
    server = yaml.safe_load((EXAMPLES / name / "certificates.yaml").read_text())
    written = {one["path"]: one["content"] for one in server["write_files"]}
    path, network, options = re.split(r"[ (]", written["/etc/exports.d/certificates.exports"].strip(), maxsplit=2)
    assert path == storage.path
    assert ipaddress.ip_address(storage.server) in ipaddress.ip_network(network)
    # Root of another machine stays nobody.
    assert options == "rw,no_subtree_check)"
    (made,) = (line for line in server["runcmd"] if line[0] == "install")
    assert made[-1] == storage.path
    assert {f"--owner={facts.PROXY_UID}", f"--group={facts.PROXY_UID}", "--mode=0700"} < set(made)
    if name != "digitalocean":  # there an address is known only once the droplet is made
        assert storage.server in (EXAMPLES / name / "main.tf").read_text()
        assert all(
            one.split("/")[0].rpartition(".")[0] in (EXAMPLES / name / "main.tf").read_text() for one in edge.networks
        )


# By example the part of the balancer, and what of it switches the PROXY protocol on.
PASSES_ON: Final[dict[str, tuple[str, str, object]]] = {
    "digitalocean": ("digitalocean_loadbalancer", "enable_proxy_protocol", True),
    "hetzner": ("hcloud_load_balancer_service", "proxyprotocol", True),
    "openstack": ("openstack_lb_pool_v2", "protocol", "PROXYV2"),
}


@each
def test_balancers_pass_on_who_a_visitor_is_and_ask_for_what_tells_readiness(name: str) -> None:
    resources = configuration(name)["resource"]
    edge = specs.load(EXAMPLES / name / "easyrunner.yaml")[0].proxy.edge
    assert edge
    assert edge.proxy_protocol
    text = json.dumps(resources) + json.dumps(configuration(name).get("locals", {}))
    assert READY in text
    kind, key, value = PASSES_ON[name]
    assert resources[kind]["web"][key] == value


SERVERS: Final = {
    "digitalocean": "digitalocean_droplet",
    "hetzner": "hcloud_server",
    "openstack": "openstack_compute_instance_v2",
}


@each
def test_a_changed_spec_destroys_no_server(name: str) -> None:
    """User-data belongs to a server's identity at all three: a change would make each of them anew, all at once."""
    kind = {
        "hetzner": "hcloud_server",
        "digitalocean": "digitalocean_droplet",
        "openstack": "openstack_compute_instance_v2",
    }
    (lifecycle,) = configuration(name)["resource"][kind[name]]["web"]["lifecycle"]
    assert "user_data" in str(lifecycle["ignore_changes"])


@pytest.mark.skipif(TOFU is None, reason="OpenTofu is not installed here")
@each
def test_opentofu_reads_it(name: str, tmp_path: Path) -> None:
    assert TOFU
    copy = tmp_path / name
    shutil.copytree(EXAMPLES / name, copy)

    def tofu(*words: str) -> None:
        done = subprocess.run([TOFU, f"-chdir={copy}", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    tofu("fmt", "-check", "-diff")
    if PLUGINS:
        tofu("init", "-input=false", f"-plugin-dir={PLUGINS}")
        tofu("validate")
