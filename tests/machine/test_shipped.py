"""A Compose file that a project ships for Docker serves unchanged: the spec says what is public, the rest is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.machine import hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def shipped(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host of the spec `shipped`."""
    with hosts.booted("shipped", tmp_path_factory.mktemp("shipped")) as host:
        yield host


def _in(host: Host, service: str, line: str) -> str:
    return host.machine.run(["podman", "exec", service, "sh", "-c", line], user="er-shop").stdout.strip()


def test_it_is_served_where_the_spec_says(shipped: Host) -> None:
    answer = shipped.curl("https://shop.example.com/")
    assert answer.stdout.startswith("HTTP/2 200"), answer


def test_files_are_laid_over_each_other_and_nothing_more_runs(shipped: Host) -> None:
    assert _in(shipped, "site", "echo $GREETING") == "ours"
    assert _in(shipped, "worker", "echo $GREETING") == "shipped"
    names = shipped.machine.run(["podman", "ps", "--format={{.Names}}"], user="er-shop").stdout.split()
    assert sorted(names) == ["site", "worker"]
    kinds = _in(shipped, "worker", "grep ' /srv/uploads ' /proc/mounts | wc -l"), _in(shipped, "site", "ls /srv")
    assert kinds[0] == "1"
    assert "uploads" in kinds[1]


def test_a_variable_without_a_value_is_not_there_though_the_image_sets_it(shipped: Host) -> None:
    assert _in(shipped, "site", "echo ${XDG_CONFIG_HOME-none}:${XDG_DATA_HOME-none}") == "none:/data"


def test_no_port_is_open_and_services_reach_each_other_by_both_names(shipped: Host) -> None:
    assert shipped.curl("http://shop.example.com:8080/", timeout=3).returncode != 0
    for name in ("site", "shop"):
        assert "200" in _in(shipped, "worker", f"wget -S -q -O /dev/null http://{name}:3000/ 2>&1 | head -1")
