"""Images that update themselves: a registry whose tag names another image each night, good or bad."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.oci import image_archive
from builder.polling import until
from tests.machine import hosts
from tests.machine.clients import Load
from tests.machine.conftest import example_maker
from tests.machine.registry import Registry
from tests.machine.test_registry import _FILES, World
from tests.server.conftest import Client, client
from tests.sweeps import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.machine

_SITE = "open.example.com"
_RUN = "exec caddy run --config /etc/caddy/Caddyfile --adapter caddyfile"


# Under load a first boot takes its time.
_SLOW = {**_FILES, "/etc/lab-server.env": b"NAME=pull1\nREADY_TIMEOUT=300\n"}


class Night(World):
    """The host with its registry, and what one night brings."""

    web: Client

    def push(self, tag: str, *command: str) -> None:
        """The tag that the spec names is from now on an image with this command that greets with `tag`."""
        maker, archive = example_maker(), self.web.directory / f"{tag}.tar"
        config = maker.APP_CONFIG
        config = replace(config, environment=(*config.environment, ("GREETING", tag)))
        image_archive.write(archive, maker.app_files(), replace(config, command=command) if command else config)
        self.registry.push(archive, "app", label=tag)

    def passes(self) -> str:
        """What the host says of it."""
        run = self.host.machine.run
        run("systemctl start --no-block easyrunner-update.service")
        until(self._is_over, timeout=500, what="the end of the night")
        return run("journalctl -u easyrunner-update.service -o cat -q --no-pager -I").stdout

    def _is_over(self) -> bool:
        look = "systemctl is-active easyrunner-update.service"
        return self.host.machine.run(look, check=False).stdout.strip() in {"inactive", "failed"}

    def greets(self, tag: str) -> bool:
        return tag in self.host.curl(f"https://{_SITE}/", timeout=10).stdout


@pytest.fixture(scope="module")
def night(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Of the spec's stacks one updates itself; its first image is that of the first boot."""
    tmp = tmp_path_factory.mktemp("updates")

    def edit(text: str) -> str:
        kept, _, _ = text.partition("  - name: closed")
        return kept + "    update: {images: nightly, watch: 40s}\n"

    with hosts.booted("registry", tmp, edit=edit, extra_files=_SLOW, start=False) as host:
        found = Night(host, Registry(host.machine.attacker(50), tmp), [])
        found.web = client(host, tmp)
        known = host.machine.files.path("/etc/hosts").read_text()
        host.machine.files.write("/etc/hosts", f"{known}\n{found.registry.place.ipv4} registry.test\n".encode())
        try:
            found.open()
            found.push("first")
            host.boot(300)
            assert found.web.er("apply", found.web.spec, "--yes").returncode == 0
            yield found
        finally:
            found.close()


BAD = {
    "crashing": ("/nonexistent",),
    "hanging": ("sleep", "infinity"),
    "slowly dying": ("sh", "-c", f"(sleep 25; kill $$) & {_RUN}"),
}
NIGHTS = sample(BAD, ("slowly dying",))


def test_nothing_newer_changes_nothing(night: Night) -> None:
    night.passes()
    assert night.web.json("status")["image_updates"][0]["said"] == "nothing is newer"
    assert night.greets("first")
    timer = night.host.machine.run("systemctl list-timers easyrunner-update.timer --no-legend").stdout
    assert "easyrunner-update.service" in timer


def test_a_new_image_of_the_tag_is_taken_and_told(night: Night) -> None:
    night.push("second")
    load = Load(night.host, _SITE, interval=0.3)
    said = night.passes()
    assert "open/web was updated. registry.test:5000/app:1 was another image: it runs sha256:" in said
    assert [status for status, _ in load.end() if status != "200"] == []
    assert night.greets("second")
    [row] = night.web.json("status")["image_updates"]
    assert (row["stack"], row["service"]) == ("open", "web")
    assert row["digest"].startswith("sha256:")
    assert row["said"] == f"updated to {row['digest']}"
    assert night.web.er("verify", night.web.spec).returncode == 0


@pytest.mark.parametrize("kind", NIGHTS)
def test_a_bad_image_is_taken_back_told_once_and_not_tried_again(night: Night, kind: str) -> None:
    """By visitors it is never seen, but for one that has answered well and dies later."""
    assert night.greets("second")
    night.push(kind.replace(" ", "-"), *BAD[kind])
    said = night.passes()
    assert "An update of open/web was taken back. registry.test:5000/app:1 is sha256:" in said
    until(lambda: night.greets("second"), timeout=60, what="the last good image")
    assert "was taken back" not in night.passes(), "it is told once"
    assert "still the image that did not stay up" in night.web.json("status")["image_updates"][0]["said"]
    assert night.greets("second")
