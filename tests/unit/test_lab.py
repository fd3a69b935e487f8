"""The parts of the lab that are values: argv lists, addresses, the mirror, archives."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from builder.lab import base_tree, machine, network, power
from builder.localhost import cache, debian_mirror
from builder.oci import image_archive
from builder.problems import UserError

_SECOND_STANZA = """Types: deb
URIs: http://packages.test/x
Suites: other
Components: main

Types: deb deb-src
# why
URIs:
 http://mirror.test/debian
Suites: trixie trixie-updates
Components: main
"""


def test_addresses_follow_from_the_number() -> None:
    net = network.Network(31)
    assert net.machine == network.Namespace("er-31", "10.213.31.2", "fd13:e5:0:1f::2")
    assert net.gateway == network.Namespace("er31", "10.213.31.1", "fd13:e5:0:1f::1")
    assert net.attacker(1) == network.Namespace("er-31-a1", "10.213.31.11", "fd13:e5:0:1f::b")


def test_a_namespace_is_entered_by_name() -> None:
    assert network.Network(7).attacker(0).argv(["id"]) == ["ip", "netns", "exec", "er-7-a0", "id"]


@pytest.mark.parametrize(
    ("families", "there", "not_there"),
    [
        ((4, 6), ["10.214.9.2", "fd14:e5:0:9::2"], ["-4", "-6"]),
        ((4,), ["-4"], ["fd14:e5:0:9::2"]),
        ((6,), ["-6"], ["10.214.9.2"]),
    ],
)
def test_pasta_forwards_no_port(families: tuple[int, ...], there: list[str], not_there: list[str]) -> None:
    argv = network.pasta(network.Network(9), families)
    assert argv[argv.index("-t") : argv.index("-t") + 8] == ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    assert "--no-map-gw" in argv
    assert set(there) <= set(argv)
    assert not set(not_there) & set(argv)


@pytest.mark.parametrize(
    ("path", "text", "mirror"),
    [
        ("sources.list", "deb [arch=amd64] http://mirror.test/debian bookworm main # x\n", "http://mirror.test/debian"),
        ("sources.list", "# deb http://no.test/debian trixie main\n", None),
        ("sources.list", "deb http://archive.test/ubuntu noble main\n", None),
        ("sources.list.d/a.list", "deb http://mirror.test/debian trixie main contrib\n", "http://mirror.test/debian"),
        (
            "sources.list.d/d.sources",
            _SECOND_STANZA,
            "http://mirror.test/debian",
        ),
        (
            "sources.list.d/d.sources",
            "Types: deb\nEnabled: no\nURIs: http://m.test/debian\nSuites: trixie\nComponents: main\n",
            None,
        ),
    ],
)
def test_the_mirror_is_the_machines_own(tmp_path: Path, path: str, text: str, mirror: str | None) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / path).write_text(text)
    assert debian_mirror.mirror(tmp_path) == mirror


def test_mmdebstrap_takes_its_own_default_without_a_mirror() -> None:
    argv = base_tree.argv(Path("/t"), ("a", "b"), "trixie", None)
    assert argv[-2:] == ["trixie", "/t"]
    assert "--include=a,b" in argv
    assert base_tree.argv(Path("/t"), (), "trixie", "http://mirror.test")[-1] == "http://mirror.test"


def test_a_trees_name_changes_with_what_is_in_it() -> None:
    assert base_tree.key(("a",), "trixie") != base_tree.key(("a", "b"), "trixie")


def test_the_date_of_a_release_file() -> None:
    text = "-----BEGIN PGP SIGNED MESSAGE-----\n\nSuite: stable\nDate: Sat, 21 Nov 2026 09:15:44 UTC\nArchitectures:"
    assert debian_mirror.published(text) == "20261121T091544"
    assert debian_mirror.published("<html>a captive portal's page</html>") == ""
    assert debian_mirror.published("Date: soon\n") == ""


def test_without_a_mirror_there_is_no_edition() -> None:
    assert debian_mirror.edition(None, "trixie") == ""


def test_a_tree_is_made_anew_for_a_new_edition_and_kept_where_none_is_known(tmp_path: Path) -> None:
    made: list[str] = []

    def make(aside: Path) -> None:
        aside.mkdir(parents=True)
        made.append(aside.name)

    target = tmp_path / "trees/trixie-abc"
    old, new = "20260905T100000", "20261121T091544"
    assert cache.current(target, "", make).name == "trixie-abc-0"
    assert cache.current(target, old, make).name == f"trixie-abc-{old}"
    assert cache.current(target, new, make).name == f"trixie-abc-{new}"
    # Nothing is made from here on: what there is will do.
    Path(f"{target}-20990101T000000.part").mkdir()
    assert cache.current(target, "", make).name == f"trixie-abc-{new}"
    assert cache.current(target, old, make).name == f"trixie-abc-{old}"
    assert made == ["trixie-abc-0.part", f"trixie-abc-{old}.part", f"trixie-abc-{new}.part"]


def test_nspawn_registers_nothing_here() -> None:
    argv = power.nspawn_argv("er-1", Path("/root-dir"), "er-1", ["--bind=/a:/home"])
    assert {"--register=no", "--keep-unit", "--resolv-conf=off", "--network-namespace-path=/run/netns/er-1"} <= set(
        argv
    )


def test_a_user_gets_its_own_bus_and_no_environment_of_ours() -> None:
    user = machine.find_user("root:x:0:0::/root:/bin/sh\ner-blog:x:20100:20100::/h:/x\n", "er-blog")
    argv = machine.nsenter_argv(42, "id", user, {"A": "1"})
    assert argv[:6] == ["nsenter", "--target", "42", "--all", "--", "env"]
    assert {"XDG_RUNTIME_DIR=/run/user/20100", "HOME=/h", "A=1", "--reuid=20100"} <= set(argv)
    assert argv[-3:] == ["sh", "-c", "id"]


def test_a_missing_user_is_an_error() -> None:
    with pytest.raises(UserError, match="no user er-x"):
        machine.find_user("root:x:0:0::/root:/bin/sh\n", "er-x")


def test_an_archive_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    files = [
        image_archive.ImageFile("usr/bin/x", b"x", 0o755, capability=image_archive.NET_BIND_SERVICE),
        image_archive.ImageFile("a", link="b"),
    ]
    for name in ("one.tar", "two.tar"):
        image_archive.write(
            tmp_path / name, reversed(files) if name == "two.tar" else files, image_archive.ImageConfig(command=("x",))
        )
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert {"oci-layout", "index.json"} <= set(tar.getnames())
