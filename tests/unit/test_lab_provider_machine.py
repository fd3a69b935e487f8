"""A machine that takes itself for a provider's server, as values: its files, nspawn's options, its network card."""

from __future__ import annotations

from pathlib import Path

from builder.lab import network, power
from builder.lab.network import Card, Network
from builder.lab.provider_machine import INIT, ProviderMachine

_SERVER = ProviderMachine(
    {"sys_vendor": "Hetzner", "product_serial": "42"},
    Card("ens3", "02:00:00:00:00:01", addressed=False),
    files={"/etc/hosts": b"127.0.0.1 localhost\n", "/usr/local/bin/eject": b"#!/bin/sh\n"},
    disks={"/dev/sr0": "/dev/loop7"},
)


def test_the_firmware_says_what_it_is_given() -> None:
    """One file a value, by the kernel's names."""
    written = _SERVER.image_files()
    assert written["/.lab/dmi/sys_vendor"] == (b"Hetzner\n", 0o644)
    assert written["/.lab/dmi/product_serial"] == (b"42\n", 0o644)


def test_programs_can_be_executed() -> None:
    """The lab's own and the image's, told by their first line; nothing else."""
    programs = {path for path, (_, mode) in _SERVER.image_files().items() if mode == 0o755}
    assert programs == {
        INIT,
        "/.lab/systemd-detect-virt",
        "/etc/systemd/system-generators/cloud-init-generator",
        "/usr/local/bin/eject",
    }
    assert all(_SERVER.image_files()[path][0].startswith(b"#!/bin/sh\n") for path in programs)


def test_the_first_process_is_started_in_place_of_systemd() -> None:
    """With the disks, the card and its driver."""
    argv = power.nspawn_argv("er-1", Path("/root"), "er-1", [], _SERVER.init)
    assert argv[-4:] == ["--bind=/dev/loop7:/dev/sr0", INIT, "ens3", "virtio_net"]
    assert "--boot" not in argv
    assert power.nspawn_argv("er-1", Path("/root"), "er-1", [])[-1] == "--boot"


def test_a_provider_gives_the_card_its_addresses() -> None:
    """The card is there, and down."""
    net = Network(1)
    bare = network.join(net, net.machine, _SERVER.card)
    assert bare == [argv for argv in bare if "addr" not in argv and argv[-2:] != ["ens3", "up"]]
    [link] = [argv for argv in bare if "add" in argv and "link" in argv]
    assert link[5:8] == ["ens3", "address", "02:00:00:00:00:01"]
    addressed = network.join(net, net.machine)
    assert ["ip", "-n", "er-1", "link", "set", "lan", "up"] in addressed
    assert sum("addr" in argv for argv in addressed) == 2
