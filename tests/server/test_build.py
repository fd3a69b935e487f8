"""An image built here and run there: from a directory with a Containerfile to its page, and what each change sends.

The program that builds is this machine's own Podman; the base image is the tests' app, so that no registry is asked.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from builder.oci import local_images
from tests.machine import hosts
from tests.server.conftest import client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

_SITE = "https://blog.example.com/"
_BASE = "localhost/er-tests/app"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Podman has images and cache of its own here, which go with the test."""
    directory = tmp_path_factory.mktemp("storage")
    config = directory / "storage.conf"
    roots = f'graphroot = "{directory}/images"\nrunroot = "{directory}/run"\n'
    config.write_text(f'[storage]\ndriver = "overlay"\n{roots}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(config))
        yield
        subprocess.run(["podman", "rmi", "--all", "--force"], check=False, capture_output=True)


@pytest.fixture(scope="module")
def base(storage: None) -> None:
    """The base image in this machine's Podman: the layer of the tests' app, as an image with a history."""
    [layer] = local_images.read(hosts.IMAGES / "app.tar", "amd64").layers
    with layer.open() as stream:
        argv = ["podman", "import", "--quiet", "--change=ENV PATH=/usr/bin:/bin", "-", _BASE]
        subprocess.run(argv, check=True, input=stream.read(), capture_output=True)


@pytest.fixture(scope="module")
def blog(example_images: None, base: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A host whose only stack waits for its first image."""
    tmp = tmp_path_factory.mktemp("built")
    with hosts.booted("built", tmp) as host:
        yield client(host, tmp)


def _app(blog: Client) -> Path:
    return blog.spec.parent / "app"


def _page(blog: Client, path: str = "") -> str:
    return blog.host.curl(f"{_SITE}{path}", timeout=60).stdout


def _apply(blog: Client, *words: str) -> dict[str, Any]:
    done = blog.er("apply", blog.spec, "--yes", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _states(found: dict[str, Any]) -> list[str]:
    return [one["state"] for one in found["builds"]]


def test_it_waits_for_its_first_image_and_says_so(blog: Client) -> None:
    """The host is ready all the same; console, status and doctor have the command to type."""
    console = blog.host.machine.console_text()
    assert "easyrunner: blog/web waits for its first image: er server apply HOST SPEC" in console
    status = blog.er("status")
    assert status.returncode == 1
    assert "blog/web waits for its first image; er server apply HOST SPEC" in status.stderr
    assert "blog/web" in blog.er("doctor").stdout


def test_from_a_directory_to_its_page(blog: Client) -> None:
    """One command on a host that was made from the spec."""
    since = time.monotonic()
    found = _apply(blog)
    page = _page(blog)
    print(f"from a directory to its page: {time.monotonic() - since:.1f} s")
    assert _states(found) == ["build"]
    assert page.startswith("HTTP/2 200")
    assert "the first page" in page
    inspected = blog.host.machine.run("podman inspect web", user="er-blog").stdout
    [container] = json.loads(inspected)
    assert container["Config"]["Healthcheck"]["Test"] == ["CMD", "caddy", "version"], "a health check is kept"
    assert blog.er("status").returncode == 0


def test_nothing_changed_is_nothing_built_and_nothing_sent(blog: Client) -> None:
    before = blog.json("releases", "blog")
    found = _apply(blog)
    assert (_states(found), found["switched"]) == (["runs"], {})
    assert blog.json("releases", "blog") == before


def test_a_changed_line_sends_its_layer_alone(blog: Client) -> None:
    (_app(blog) / "index.html").write_text("another page\n")
    done = blog.er("push", "blog", "--spec", blog.spec)
    assert done.returncode == 0, done.stderr
    assert "the server lacks 1, " in done.stderr, "the layer with the page, of the base, the style and that"
    assert "another page" in _page(blog)


@of_a_sweep
def test_what_was_built_before_is_not_built_again(blog: Client) -> None:
    """The change is taken back in the source: the server has that image yet."""
    (_app(blog) / "index.html").write_text("the first page\n")
    assert _states(_apply(blog)) == ["there"]
    assert "the first page" in _page(blog)


def test_what_cannot_be_built_changes_nothing(blog: Client) -> None:
    before = _page(blog).splitlines()[-1]
    file = _app(blog) / "Containerfile"
    text = file.read_text()
    file.write_text(text.replace("page.css /site", "missing.css /site"))
    done = blog.er("apply", blog.spec, "--yes")
    file.write_text(text)
    assert done.returncode == 1
    assert "missing.css" in done.stderr
    assert "blog/web was not built" in done.stderr
    assert _page(blog).splitlines()[-1] == before


@of_a_sweep
def test_what_does_not_come_up_is_taken_back(blog: Client) -> None:
    file = _app(blog) / "Containerfile"
    text = file.read_text()
    file.write_text(text.replace('"file-server"', '"nonsense"'))
    done = blog.er("push", "blog/web", "--spec", blog.spec, "--timeout", "20")
    file.write_text(text)
    assert done.returncode == 1
    assert "did not come up" in done.stderr
    assert "the first page" in _page(blog)


@of_a_sweep
def test_a_new_stack_comes_by_one_apply(blog: Client) -> None:
    """Its files, its user and its image."""
    text = blog.spec.read_text()
    blog.spec.write_text(f"{text}  - {{name: docs, build: app, domain: docs.example.com}}\n")
    found = _apply(blog)
    assert _states(found) == ["runs", "build"]
    assert "the first page" in blog.host.curl("https://docs.example.com/", timeout=60).stdout


@of_a_sweep
def test_anew_is_another_image_of_the_same(blog: Client) -> None:
    """Without a cache; the one before stays as a release to go back to."""
    [*_, first] = blog.json("releases", "blog")
    found = _apply(blog, "--pull")
    assert {*_states(found)} == {"build"}
    [newest, *_] = blog.json("releases", "blog")
    assert newest["number"] > first["number"]
    assert "the first page" in _page(blog)
