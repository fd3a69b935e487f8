"""The real programs read what hostile values became: Podman's generator, systemd, Caddy, iptables, sudo, a shell."""

from __future__ import annotations

import json
import re
import shlex
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from builder import facts, process, userdata
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from tests import hostile_values
from tests.quadlet_generator import generate, verify
from tests.unit_file import expand, sections, split

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from builder.host import Host
    from builder.spec import Spec

pytestmark = pytest.mark.machine

_CADDY = Path(sysconfig.get_path("scripts"), "caddy")
Accepted = list[tuple[hostile_values.Trial, "Spec", "Host"]]


@pytest.fixture(scope="module")
def tree() -> Path:
    """A Debian root with the host's packages."""
    return base_tree.tree(PACKAGES["debian-13"])


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    """Hosts of changed specs and Compose files, each with a stack of a name of its own."""
    found = list(hostile_values.accepted(tmp_path_factory.mktemp("hostile")))
    assert len(found) > 20
    return found


def files(accepted: Accepted, pattern: str) -> dict[str, bytes]:
    """The files at paths that match, of all hosts; one that is the same on several once."""
    found: dict[str, bytes] = {}
    for number, (_, _, host) in enumerate(accepted):
        for file in host.files:
            if re.fullmatch(pattern, file.path) and file.content not in found.values():
                found[f"{number:04}-{file.path.rpartition('/')[2]}"] = file.content
    return found


def laid(directory: Path, wanted: dict[str, bytes]) -> Path:
    directory.mkdir()
    for name, content in wanted.items():
        (directory / name).write_bytes(content)
    return directory


def inside(tree: Path, directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A shell in the tree, with a directory on /mnt."""
    place = shlex.quote(str(tree))
    enter = f"mount --bind {shlex.quote(str(directory))} {place}/mnt && mount -t proc proc {place}/proc"
    argv = ["unshare", "--mount", "sh", "-c", f"{enter} && exec chroot {place} sh -c {shlex.quote(script)}"]
    return process.run(argv, check=False)


def test_podman_and_systemd_read_every_unit_as_it_is_meant(accepted: Accepted, tree: Path, tmp_path: Path) -> None:
    """None is refused, nothing is said about any, and each value of an environment arrives whole."""
    units = {}
    for _, spec, host in accepted:
        for file in host.files:
            if file.path.startswith(f"{facts.QUADLETS}/{spec.stacks[0].uid}/"):
                units[file.path.rpartition("/")[2]] = file.content
    directory = laid(tmp_path / "units", units)
    made = generate(tree, directory)
    verify(tree, directory)
    for trial, spec, _ in accepted:
        for service in spec.stacks[0].services:
            unit = sections(made[f"{spec.stacks[0].name}-{service.name}.service"])["Service"]
            [line] = [value for key, value in unit if key == "ExecStart"]
            words = [_expanded(word) for word in split(line)]
            wanted = {f"{name}={value}" for name, value in service.environment}
            given = {words[at + 1] for at, word in enumerate(words) if word == "--env"}
            assert wanted <= given, (trial.name, wanted - given)
            for word in service.command or ():
                assert word in words, (trial.name, word)
            pre = [split(value) for key, value in unit if key == "ExecStartPre"]
            built = [secret.built for secret in service.env_secrets if secret.built is not None]
            texts = [argv[2] for argv in pre if argv[0] == f"{facts.LIB}/secret"]
            assert [expand(text, {"ER_EMPTY": "", "ER_SEMICOLON": ";"}) for text in texts] == built, trial.name
            programs = {f"{facts.LIB}/{name}" for name in ("address", "data", "secret")}
            assert {argv[0] for argv in pre} <= programs, trial.name


def _expanded(word: str) -> str:
    """Paths of the runtime directory keep their specifier."""
    if word.startswith(("--pidfile=", "--cidfile=", "%t")):
        return word
    return expand(word, {"ER_EMPTY": "", "ER_SEMICOLON": ";"})


def test_tmpfiles_and_sysusers_take_every_line(accepted: Accepted, tree: Path, tmp_path: Path) -> None:
    users = laid(tmp_path / "users", files(accepted, "/(etc|usr/lib)/sysusers.d/e.*"))
    done = inside(tree, users, "systemd-sysusers --dry-run /mnt/*.conf")
    assert (done.returncode, _unusual(done.stderr)) == (0, "")
    places = files(accepted, "/(etc|usr/lib)/tmpfiles.d/e.*")
    # The users are not made: who owns a line is looked up by root's name.
    known = {
        name: re.sub(rb" er-[a-z0-9-]+(?= |$)", b" root", text, flags=re.MULTILINE) for name, text in places.items()
    }
    done = inside(tree, laid(tmp_path / "places", known), "systemd-tmpfiles --dry-run --create /mnt/*.conf")
    assert (done.returncode, _unusual(done.stderr)) == (0, "")


def _unusual(stderr: str) -> str:
    return "\n".join(line for line in stderr.splitlines() if not line.startswith(("Would ", "Creating ", "Running ")))


_CADDYS = {"tls", "name", "labels", "domain", "domains", "redirect_from", "path", "headers", "basic_auth", "protocol"}


def test_caddy_takes_every_configuration_and_reads_it_as_it_is_meant(accepted: Accepted, tmp_path: Path) -> None:
    """With the sites of all hosts that differ, each under the settings of its host."""
    seen: set[tuple[bytes, ...]] = set()
    for number, (trial, spec, host) in enumerate(accepted):
        found = {file.path: file.content for file in host.files if file.path.startswith(f"{facts.ETC}/caddy/")}
        if tuple(found.values()) in seen or not _CADDYS & set(trial.where):
            continue
        seen.add(tuple(found.values()))
        etc = tmp_path / str(number)
        for path, content in found.items():
            target = etc / path.removeprefix(f"{facts.ETC}/caddy/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.replace(b"/etc/caddy/", f"{etc}/".encode()))
        done = process.run([str(_CADDY), "adapt", "--config", str(etc / "Caddyfile")], check=False)
        assert done.returncode == 0, (trial.name, done.stderr)
        if spec.tls.email:
            emails = re.findall(r'"email":"((?:[^"\\]|\\.)*)"', done.stdout)
            assert {yaml.safe_load(f'"{email}"') for email in emails} == {spec.tls.email}, trial.name
        _check_services(spec, json.loads(done.stdout), trial.name)
    assert seen


def _check_services(spec: Spec, config: object, name: str) -> None:
    """Names, headers and users are there as the services have them, and each value is one."""
    parts = [*_mappings(config)]
    hosts = {one for part in parts if isinstance(part.get("host"), list) for one in part["host"]}
    users = {part["username"] for part in parts if "username" in part}
    headers = [part["set"] for part in parts if isinstance(part.get("set"), dict)]
    for service in (one for stack in spec.stacks for one in stack.public):
        assert hosts >= {*service.domains, *service.redirect_from}, name
        assert users == {user for user, _ in service.basic_auth}, name
        for header, value in service.headers:
            assert value is None or {header.lower(): [value]}.items() <= _all_lower(headers).items(), name


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _mappings(child)


def _all_lower(headers: list[dict[str, Any]]) -> dict[str, Any]:
    """Of what is said twice the first: the proxy's own come after a service's."""
    return {key.lower(): value for said in reversed(headers) for key, value in said.items()}


def test_iptables_takes_every_rule(accepted: Accepted, tmp_path: Path) -> None:
    """Of both families, in a network namespace of their own; names come later, as addresses."""
    rules = files(accepted, f"{facts.FIREWALL}/.*\\.filter")
    chains = sorted({word for text in rules.values() for word in re.findall(rb"-A (\S+)", text)})
    head = b"*filter\n" + b"".join(b":%s -\n" % chain for chain in chains)
    for number, text in enumerate(rules.values()):
        file = tmp_path / str(number)
        file.write_bytes(head + text + b"COMMIT\n")
        for tool in ("iptables-restore", "ip6tables-restore"):
            done = process.run(["unshare", "--net", tool, "--test", str(file)], check=False)
            assert done.returncode == 0, (text, done.stderr)
    for text in files(accepted, f"{facts.FIREWALL}/.*\\.names").values():
        assert all(
            re.fullmatch(r"-A ER-OUT-\d+ -d [a-z0-9.-]+ -p (tcp|udp)[ a-z0-9,-]* -j ACCEPT", line)
            for line in text.decode().splitlines()
        )


def test_a_shell_and_sudo_take_what_they_are_given(accepted: Accepted, tree: Path, tmp_path: Path) -> None:
    scripts = files(accepted, f"{facts.ETC}/server.env|{facts.LIB}/(names|users|firewall|data|first-boot)")
    for name, text in scripts.items():
        (tmp_path / name).write_bytes(text)
        assert process.run(["sh", "-n", str(tmp_path / name)], check=False).returncode == 0, text
    names = sorted({spec.admin.name for _, spec, _ in accepted})
    sudoers = {name: f"{name} ALL=(ALL) NOPASSWD:ALL\n".encode() for name in names}
    done = inside(tree, laid(tmp_path / "sudoers", sudoers), "for file in /mnt/*; do visudo -cf $file || exit; done")
    assert done.returncode == 0, done.stdout + done.stderr
    commands = {
        " ".join(
            yaml.safe_load(userdata.cloudconfig.head_and_tail(spec, ascii_only=True)[0].removesuffix("write_files:\n"))[
                "bootcmd"
            ]
        )
        for _, spec, _ in accepted
    }
    for command in commands:
        assert process.run(["sh", "-nc", command], check=False).returncode == 0, command
