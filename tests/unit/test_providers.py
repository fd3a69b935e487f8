"""The table of providers: complete, sourced, and the same in the docs."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import pytest

from builder import host as hosts
from builder import providers, userdata
from builder import spec as specs
from builder.cli import provider_table
from builder.host.packages import PACKAGES
from builder.providers import Counted
from builder.userdata import encoding
from tests import providers_page

ROWS = list(providers.PROVIDERS.values())
each = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_the_names_are_those_of_the_contract() -> None:
    assert len(set(providers.NAMES)) == 15
    assert tuple(row.name for row in ROWS) == providers.NAMES
    assert "qemu" not in providers.NAMES


@each
def test_every_fact_has_a_source(row: providers.Provider) -> None:
    for name, fact in row.facts():
        for source in fact.source.split("; "):
            assert source.startswith("https://"), name


@each
def test_every_base_has_an_image_and_a_login(row: providers.Provider) -> None:
    assert set(row.images.value) == set(row.login.value) == set(PACKAGES)


@each
def test_the_command_names_the_file(row: providers.Provider) -> None:
    assert "{file}" in row.command.value or "{name}" in row.command.value


@pytest.mark.parametrize(
    ("counted", "size", "used"),
    [
        (Counted.RAW, 10, 10),
        (Counted.BASE64, 0, 0),
        (Counted.BASE64, 1, 4),
        (Counted.BASE64, 3, 4),
        (Counted.BASE64, 4, 8),
    ],
)
def test_what_a_provider_counts(counted: Counted, size: int, used: int) -> None:
    row = next(row for row in ROWS if row.counted.value is counted)
    assert row.used(size) == used


def test_root_logins_are_those_of_six_hosters() -> None:
    roots = {row.name for row in ROWS if row.root("debian-13")}
    assert roots == {"digitalocean", "hetzner", "vultr", "linode", "scaleway", "upcloud"}


def test_the_table_shows_every_provider_and_marks_what_is_not_verified() -> None:
    lines = provider_table.table(ROWS)
    assert [line.split()[0] for line in lines[1:]] == list(providers.NAMES)
    assert "16,384 ?" in lines[1 + providers.NAMES.index("vultr")]


ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"


def test_the_page_in_the_docs_is_made_from_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """`UPDATE=1 pytest tests/unit/test_providers.py` writes it anew. What was booted, its tests wrote down."""
    monkeypatch.setattr(encoding, "gzip", functools.cache(encoding.gzip))
    spec, _ = specs.loads(_SPEC.replace("KEY", KEY), Path("easyrunner.yaml"))
    host = hosts.build(spec)
    found = [userdata.deliver(spec, host, name, on) for name in providers.NAMES for on in userdata.cloudconfig.PARTS]
    sizes = {(one.provider, str(one.on)): (one.encoding, one.used) for one in found}
    results = DOCS / "providers-booted.json"
    booted = json.loads(results.read_text()) if results.exists() else {}
    text = providers_page.markdown(sizes, booted)
    target = DOCS / "providers.md"
    if os.environ.get("UPDATE"):
        target.write_text(text)
    assert target.read_text() == text


def test_what_was_booted_is_what_would_be_handed_over(tmp_path: Path) -> None:
    """The form of user-data follows from its size: a host that has grown past a limit is to be booted again."""
    text = (ROOT / "tests" / "datasource" / "spec.yaml").read_text()
    for name in ("caddy", "app"):
        (tmp_path / f"{name}.tar").touch()
    spec, _ = specs.loads(text.replace("id.pub", KEY).replace("IMAGES", str(tmp_path)), Path("easyrunner.yaml"))
    host = hosts.build(spec)
    booted = json.loads((DOCS / "providers-booted.json").read_text())
    found = {name: str(userdata.deliver(spec, host, row["provider"], "stock").encoding) for name, row in booted.items()}
    assert found == {name: row["encoding"] for name, row in booted.items()}, "UPDATE=1 pytest tests/datasource"


_SPEC = """
server: {name: web1}
admin:
  ssh_keys: [KEY]
stacks:
  - {name: shop, image: "ghcr.io/example/shop:1.4.2", domain: shop.example.org, port: 3000}
  - {name: blog, image: "docker.io/library/ghost:6.0", domain: blog.example.org, port: 2368}
  - {name: wiki, image: "ghcr.io/example/wiki:2026.1", domain: wiki.example.org, port: 8080}
"""
