"""Compose files as projects ship them, on a booted host: visited, written to, changed, booted again.

`er init --compose` writes the spec. The images are made of Debian's packages and start as the published ones do
(tests/machine/package_images.py); they are on the disk under the published names, as no registry is in reach.

One host has every service as it comes, in `standard`. On the other all are `strict`: what `er check` told does not run
there, everything else does, and everything runs once those services are `standard` again.

One number in the files is this laboratory's: `nofile`, as a container gets no more than the machine it runs on has.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.polling import until
from tests.machine import hosts, package_images
from tests.machine.clients import Load, get
from tests.server.conftest import ER, client, generate_secrets
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.machine.hosts import Host
    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

_PROJECTS = {
    "blog": {"nginx", "wordpress", "db"},
    "notes": {"web", "migrate", "db", "cache"},
    "search": {"search"},
}
_SERVICES = {stack: _PROJECTS[stack] for stack in sample(_PROJECTS, ("notes", "search"))}
_SITES = tuple(f"{stack}.example.com" for stack in _SERVICES)
_UPLOAD = 40 << 20


# What `er init` is told: the search engine publishes a second port, which could be the web's as well.
_DOMAINS = {
    "blog": "blog.example.com=blog",
    "notes": "notes.example.com=notes",
    "search": "search.example.com=search/search:9200",
}


def _with_stacks(text: str, directory: Path) -> str:
    """The spec with the stacks that `er init` makes of the Compose files in its directory."""
    for stack in {*_PROJECTS} - {*_SERVICES}:
        shutil.rmtree(directory / stack)
    domains = [word for stack in _SERVICES for word in ("--domain", _DOMAINS[stack])]
    subprocess.run([ER, "init", "made.yaml", "--compose", ".", *domains], cwd=directory, check=True)
    return text + "stacks:" + (directory / "made.yaml").read_text().partition("\nstacks:")[2]


def _images() -> dict[str, Path]:
    """A blog's have packages of their own, which take half a minute to install."""
    others = ("notes", "postgres", "valkey", "search")
    return package_images.archives() if "blog" in _SERVICES else package_images.archives(others)


@contextmanager
def _booted(tmp: Path, edit: Callable[[str], str] = str) -> Iterator[Client]:
    """A host that has been given its secrets while its first boot waited for them, as its admin would."""

    def edited(text: str) -> str:
        return edit(_with_stacks(text, tmp / "moved"))

    with hosts.booted("moved", tmp, edit=edited, images=_images(), start=False) as host:
        host.machine.boot()
        admin = client(host, tmp)
        generate_secrets(admin, *({"blog", "notes"} & {*_SERVICES}))
        yield admin


@pytest.fixture(scope="module")
def moved(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Every service as it comes."""
    with _booted(tmp_path_factory.mktemp("moved")) as admin:
        admin.host.machine.wait_console("easyrunner: ready", timeout=300)
        yield admin


def _units(host: Host) -> dict[tuple[str, str], dict[str, str]]:
    """By stack and service what systemd says of its unit."""
    wanted = "Id,ActiveState,Result,NRestarts,MemoryMax"
    found = {}
    for stack, services in _SERVICES.items():
        names = [f"{stack}-{service}.service" for service in sorted(services)]
        shown = host.machine.run(["systemctl", "--user", "show", "-p", wanted, *names], user=f"er-{stack}").stdout
        for block in shown.strip().split("\n\n"):
            said = dict(line.split("=", 1) for line in block.splitlines())
            found[stack, said["Id"].removeprefix(f"{stack}-").removesuffix(".service")] = said
    return found


def _running(host: Host) -> set[tuple[str, str]]:
    """The services that run since they were first started."""
    return {name for name, said in _units(host).items() if (said["ActiveState"], said["NRestarts"]) == ("active", "0")}


def _all() -> set[tuple[str, str]]:
    return {(stack, service) for stack, services in _SERVICES.items() for service in services}


def _check_runs(host: Host) -> None:
    """Every service runs, the job has ended well, none was started twice, and nothing failed."""
    assert _running(host) == _all(), json.dumps([*_units(host).values()])
    run = host.machine.run
    assert run("systemctl --failed --no-legend").stdout == ""
    for stack in _SERVICES:
        assert run("systemctl --user --failed --no-legend", user=f"er-{stack}").stdout == ""


def _check_health(host: Host) -> None:
    """So far in this boot, no write was denied either."""
    _check_runs(host)
    said = host.machine.run("journalctl --namespace=stacks --no-pager --boot --output=cat").stdout
    assert re.findall(r".*(?:[Pp]ermission denied|Read-only file system|Operation not permitted).*", said) == []


def _json(host: Host, site: str, path: str = "/", *words: str) -> Any:
    reply = get(host, f"https://{site}{path}", *words)
    assert reply.status == 200, reply
    return json.loads(reply.body)


def test_every_service_runs(moved: Client) -> None:
    _check_health(moved.host)


def test_the_heavy_one_has_the_memory_it_asks_for(moved: Client) -> None:
    """1.5 GB are its own, and no limit is set that nobody wrote."""
    assert _json(moved.host, "search.example.com")["resident_mb"] > 1500
    assert _units(moved.host)["search", "search"]["MemoryMax"] == "infinity"


def test_data_is_written_through_the_sites(moved: Client, tmp_path: Path) -> None:
    host = moved.host
    if "blog" in _SERVICES:
        _write_to_the_blog(host, tmp_path)
    # A row in PostgreSQL, and a file in a bind, which belongs to the image's own user.
    _json(host, "notes.example.com", "/", "--data", "a note")
    _json(host, "notes.example.com", "/a.txt", "--request", "PUT", "--data", "attached")
    _json(host, "search.example.com", "/one", "--request", "PUT", "--data", "a document")
    _check_data(host, "first")


def _write_to_the_blog(host: Host, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(b"x" * _UPLOAD)
    # Spooled in the container's /tmp, moved to a bind, and served from there by another service with another user.
    assert _json(host, "blog.example.com", "/", "-F", f"file=@{large}") == {"moved": True, "spool": "/tmp", "error": 0}
    head = get(host, "https://blog.example.com/wp-content/uploads/large.bin", "--head")
    assert (head.status, head.header("content-length")) == (200, str(_UPLOAD))
    # A row in MariaDB, and a file beside the bind.
    assert _json(host, "blog.example.com", "/", "-F", "title=a post")["cached"] == "a post"


def _check_data(host: Host, title: str) -> None:
    """What was written is there, and each stack has the environment of this `title`."""
    if "blog" in _SERVICES:
        blog = _json(host, "blog.example.com")
        assert blog == {"title": title, "posts": ["a post"], "uploads": ["large.bin"], "cached": "a post"}
    notes, search = (_json(host, f"{stack}.example.com") for stack in ("notes", "search"))
    assert (notes["title"], notes["notes"], notes["files"]) == (title, ["a note"], {"a.txt": "attached"})
    assert (notes["uid"], notes["secret"]) == (1000, 64)
    assert (search["cluster_name"], search["documents"]) == (title, {"one": "a document"})


# Of others: machine/test_own_sites.py.
@of_a_sweep
def test_an_app_calls_its_own_public_address(moved: Client) -> None:
    """As WordPress does for its cron and its check of itself."""
    found = _json(moved.host, "blog.example.com", "/?self=1")
    assert "pong" in json.loads(found["answer"] or "{}"), found


def test_the_database_ran_what_came_along_for_its_first_start(moved: Client) -> None:
    argv = ["exec", "notes", "db", "--", "psql", "-U", "notes", "-Atc", "SELECT nspname FROM pg_namespace"]
    assert "made_at_first_start" in moved.er(argv[0], *argv[1:]).stdout.splitlines()


_DUMP = (
    "import sys,json,pathlib;sys.path.insert(0,'/var/lib/easyrunner/remote.zip')\n"
    "from builder.server.remote.backup import dumps\n"
    "place=pathlib.Path('/root/dumps'); place.mkdir(exist_ok=True)\n"
    "print(json.dumps(dumps.dump(sys.argv[1], {}, place)))\n"
)


# As the weekly drill has it, once the snapshot is restored.
_LOAD = (
    "import sys,time,shutil,pathlib;sys.path.insert(0,'/var/lib/easyrunner/remote.zip')\n"
    "from builder.server.remote.backup import drill\n"
    "from builder.server.remote.backup.drill_cell import Cell\n"
    "stack, kind = sys.argv[1:]\n"
    "cell = Cell(pathlib.Path('/var/lib/easyrunner/drills/1')); cell.make()\n"
    "place = drill._dumps(stack, cell); place.mkdir(parents=True)\n"
    "shutil.copytree('/root/dumps/dumps', place/'dumps')\n"
    "told = {'file': 'dumps/db.sql', 'kind': kind, 'bytes': 1}\n"
    "print(drill._load(stack, 'db', told, cell, time.monotonic()+300)); cell.remove()\n"
)


# A whole dump of the same kind is loaded by test_restore.py.
_LOADS = sample([(stack, how) for stack in ("blog", "notes") for how in ("whole", "torn")], [("notes", "torn")])


def test_their_databases_are_dumped_while_they_run(moved: Client) -> None:
    """By their rows for backups, with passwords as the images read them: variables of secrets, and files."""
    assert moved.er("secret set", "--host", "unused", stdin="x\n").returncode == 0, "it leaves the remote part there"
    kinds = {"blog": ("mariadb", "a post"), "notes": ("postgres", "a note")}
    for stack, (kind, row) in ((stack, kinds[stack]) for stack in kinds if stack in _SERVICES):
        made, errors = json.loads(moved.host.machine.run(["python3", "-I", "-c", _DUMP, stack]).stdout)
        assert errors == []
        assert [(service, one["kind"]) for service, one in made.items()] == [("db", kind)]
        text = moved.host.machine.run(["cat", "/root/dumps/dumps/db.sql"]).stdout
        assert row in text
        assert re.search("dump complete", text[-300:], re.IGNORECASE), text[-300:]
        load = ["python3", "-I", "-c", _LOAD, stack, kind]
        if (stack, "whole") in _LOADS:
            loaded = moved.host.machine.run(load, timeout=300, check=False)
            assert loaded.stdout == "True\n", loaded.stderr
        if (stack, "torn") in _LOADS:
            moved.host.machine.run("echo 'CREATE TABEL x;' >/root/dumps/dumps/db.sql")
            torn = moved.host.machine.run(load, timeout=300, check=False)
            assert "it does not load: ERROR" in torn.stderr
        moved.host.machine.run("rm -r /var/lib/easyrunner/drills")


def _changed(admin: Client, old: str, new: str) -> None:
    for file in admin.spec.parent.glob("*/compose.yaml"):
        file.write_text(file.read_text().replace(old, new))


@of_a_sweep
def test_a_changed_environment_is_applied_while_visitors_come(moved: Client) -> None:
    """Who asks an app meanwhile waits, and is answered, but for one in fifty at most on a busy machine.

    Where nginx stands before the app, that answers by itself. It has asked for the app's address once, when it started.
    """
    _changed(moved, "first", "second")
    loads = {site: Load(moved.host, site, interval=0.1) for site in _SITES}
    done = moved.er("apply", moved.spec, "--yes")
    answers = {site: load.end() for site, load in loads.items()}
    assert done.returncode == 0, done.stderr
    for site, found in answers.items():
        statuses = Counter(status for status, _ in found)
        print(f"{site}: {dict(statuses)}, the longest wait {max(seconds for _, seconds in found):.1f} s")
        assert site == "blog.example.com" or len(found) - statuses["200"] <= len(found) // 50
    _check_data(moved.host, "second")
    _check_health(moved.host)


@of_a_sweep
def test_all_is_there_after_another_boot(moved: Client) -> None:
    moved.host.reboot()
    _check_data(moved.host, "second")
    _check_health(moved.host)


@of_a_sweep
def test_what_strict_breaks_is_told(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the services that are told none runs, all others do; and all run once the told ones are standard again."""
    tmp = tmp_path_factory.mktemp("strict")

    def edit(text: str) -> str:
        _write_strict(tmp / "moved", spared=set())
        return re.sub(r"compose: (\S+)/compose.yaml", r"compose: [\1/compose.yaml, \1/strict.yaml]", text)

    with _booted(tmp, edit) as admin:
        told = _told(admin)
        waiting = _dependents(admin, told) - told
        until(lambda: _running(admin.host) >= _all() - told - waiting, timeout=90, what="what strict leaves alone")
        until(lambda: not _running(admin.host) & told, timeout=30, what="what strict breaks")
        assert told
        _write_strict(tmp / "moved", spared=told)
        done = admin.er("apply", admin.spec, "--yes")
        assert done.returncode == 0, done.stderr
        assert _told(admin) == set()
        _check_runs(admin.host)
        assert all(_json(admin.host, site) for site in _SITES)


def _write_strict(directory: Path, spared: set[tuple[str, str]]) -> None:
    """A file for each stack that makes its services strict, but for those spared."""
    strict = {"labels": {"xyz.easyrunner.service.security-hardening": "strict"}}
    for stack, services in _SERVICES.items():
        laid_over = {service: strict for service in sorted(services) if (stack, service) not in spared}
        (directory / stack / "strict.yaml").write_text(json.dumps({"services": laid_over}))


def _told(admin: Client) -> set[tuple[str, str]]:
    """The services of whose image `er check` says that it cannot run under `strict`."""
    done = subprocess.run([ER, "check", admin.spec, "--json"], capture_output=True, text=True, check=True)
    found = (problem for problem in json.loads(done.stdout)["problems"] if "`strict`" in problem["message"])
    return {(Path(problem["file"]).parent.name, problem["where"].split(".")[1]) for problem in found}


def _dependents(admin: Client, names: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What waits for one of them, or for what waits for one."""
    services = [(stack.name, service) for stack in admin.host.spec.stacks for service in stack.services]
    found = set(names)
    for _ in services:
        found |= {
            (stack, service.name)
            for stack, service in services
            if any((stack, dependency.service) in found for dependency in service.depends_on)
        }
    return found - names
