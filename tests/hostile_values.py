"""Values that mean something to a format of the host, put into every text of a spec and of a Compose file.

The fields are found in the models and in the tables of keys: a new one is tried without a word here, or has to be shown
in an example first. A value is either refused, with its place, or comes through whole.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

import yaml
from pydantic import BaseModel

from builder import host as hosts
from builder import spec as specs
from builder.compose import depends_on, environment, keys, networking, service_fields, volumes
from builder.problems import SpecError
from builder.spec.input_model import SpecInput
from builder.spec.input_model import keys as keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.host import Host
    from builder.spec import Spec

VALUES: Final = (
    # Blanks and quotes.
    "a b", " a", "a ", "a\tb", "it's", "'", 'a"b', '"', "'a'", '"a"', "a''b", "`id`",
    # What a shell, systemd, Jinja, Caddy, Compose or Go would put something else for.
    "$HOME", "${HOME}", "$$", "$(id)", "%h", "%%", "%", "100%", "%i%n%t", "{a}", "{$HOME}", "{{ 7*7 }}", "{% x %}",
    "{#", "{", "}", "@a@", "@stack@", "&amp;", "~", "~/x", "*", "a*", "?", "[a]", "!a", "^",
    # What ends or begins something.
    "#a", "a #b", "a#b", ";", "a;b", "a;", "&", "a&&b", "|", "a||b", ">", "<", "-a", "--help", "+a", "=", "a=b", ",",
    "a,b", ":", "a:b", "a::b", "\\", "a\\", "a\\b", "\\n", "\\x41", "a\\\\", "/", "//", "../x",
    "a/../../b", "./.", "..", "/etc/passwd",
    # Lines.
    "a\nb", "a\n", "\na", "a\r\nb", "a\rb", "a\n[Service]\nExecStartPre=/bin/false", "a\n}\nrespond evil {",
    "a\nd /evil 0777\n", "a\nCOMMIT\n*nat", "a\nu evil 0\n", "a\x0bb", "a\x0cb", "a\u2028b", "a\u2029b", "a\x85b",
    # What is no text to some.
    "\x00", "a\x00b", "a\x00", "\x01", "\x1b[31m", "a\x7fb", "a\x80b", "a\x9bb", "\ufeffa", "a\u200bb", "a\u202eb",
    "é", "ü ñ", "\u65e5\u672c", "😀", "a\ufffeb", "\ue000", "\uf8f0", "n" * 300, "0", "00", "1e3", "true", "null",
)  # fmt: skip
KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
KEY_OF_CI: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ci of blog"
# Where the model's own example is no part of a spec that holds together; None is left out.
_INSTEAD: Final[Mapping[str, Any]] = {
    "fail2ban.allow": {"hello.your-domain.org": ["/wp-admin/"]},
    "server.timezone": "Europe/Berlin",
    "admin.ssh_keys": [KEY],
    "stacks.deploy.ssh_keys": [KEY_OF_CI],
    "tls.ca": "https://ca.your-domain.org/acme/directory",
    "tls.ca_root": None,
    "proxy.behind.proxy_protocol": None,  # goes with no header
    "proxy.networks": None,  # goes with a name of `behind`
    "registries": {"docker.io": {"username": "me", "mirrors": ["mirror.your-domain.org"]}},
    "stacks.registries": {"docker.io": {"username": "you"}},
    "backup.to": "sftp:me@nas.your-domain.org:/srv/web1",
    "backup.append_only": None,  # goes with no `keep`
    "notify.allow_exec": ["blog"],
    "fleet": None,  # goes with no data, deploys or backups; its values are numbers
    "stacks.backup.before": {"web": ["pg_dump", "app"]},
    "stacks.domain": None,
    "stacks.listen": "fd",  # a path goes with no `sleep`
    "stacks.domains": ["hello.your-domain.org", "www.your-domain.org"],
    "stacks.compose": None,
    "stacks.build": None,  # goes with no `image`
    "stacks.deploy.git": None,  # goes with `build`; a plain word (deploy_access.py)
    "stacks.public": None,  # goes with `compose`; its values become those of labels
    "stacks.environment": {"LOG_LEVEL": "info", "OTHER": "x"},
    "stacks.egress.to": "db.your-domain.org",
    "stacks.volumes": ["data:/var/lib/app", "more:/srv/more:ro"],
    "stacks.tmpfs": ["/run/app", "/run/more:size=64m"],
}


@dataclass(frozen=True)
class Trial:
    """A text of a document replaced: where, by what, and the document."""

    where: tuple[str | int, ...]
    value: str
    document: Any

    @property
    def name(self) -> str:
        """For a person."""
        return f"{'.'.join(map(str, self.where))} = {self.value!r}"


def spec_example() -> dict[str, Any]:
    """A spec that says everything that can be said, from the examples of the models."""
    return _example(SpecInput, "")


def _example(model: type[BaseModel], path: str) -> dict[str, Any]:
    found = {}
    for name, field in keys_of(model).items():
        place = f"{path}.{name}".lstrip(".")
        value = _value(field.annotation, field.examples, place)
        if value is not None:
            found[name] = value
    return found


def _value(annotation: Any, examples: list[Any] | None, place: str) -> Any:
    if place in _INSTEAD:
        return _INSTEAD[place]
    inner = _model(annotation)
    if inner is not None:
        value = _example(inner, place)
        return [value] if "list" in str(annotation) else value
    assert examples, f"{place} has no example: how is it to be tried?"
    return examples[0]


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model(one))), None)


COMPOSE: Final = """
services:
  web:
    image: docker.io/library/caddy:2.11
    command: [caddy, respond, hello]
    entrypoint: [/entry]
    environment: {PLAIN: word, OTHER: word}
    env_file: {path: app.env, required: true, format: raw}
    labels:
      xyz.easyrunner.service.type: web
      xyz.easyrunner.service.domain: app.your-domain.org
      xyz.easyrunner.service.port: "3000"
      xyz.easyrunner.service.framework: nextjs
      xyz.easyrunner.service.path: /app, /more
      xyz.easyrunner.service.strip-path: "true"
      xyz.easyrunner.service.redirect-from: www.your-domain.org
      xyz.easyrunner.service.protocol: h2c
      own.label: word
    annotations: {own.annotation: word}
    container_name: caller
    hostname: inner
    user: "1000:1000"
    working_dir: /srv
    init: "true"
    tty: "true"
    stdin_open: "true"
    read_only: "false"
    stop_signal: SIGTERM
    stop_grace_period: 10s
    shm_size: 64m
    cap_add: [NET_BIND_SERVICE]
    cap_drop: [ALL]
    group_add: [users]
    sysctls: {net.core.somaxconn: "1024"}
    ulimits: {nofile: {soft: 1024, hard: 2048}, nproc: "64"}
    security_opt: ["no-new-privileges:true"]
    platform: linux/amd64
    pull_policy: missing
    restart: on-failure:3
    deploy:
      resources: {limits: {memory: 512m, cpus: "0.5", pids: "100"}, reservations: {memory: 64m}}
      restart_policy: {condition: any, max_attempts: "3"}
      update_config: {order: stop-first}
    scale: "1"
    mem_limit: 512m
    mem_reservation: 64m
    memswap_limit: 1g
    cpus: "0.5"
    pids_limit: "100"
    depends_on: {db: {condition: service_healthy, required: "true", restart: "true"}}
    links: ["db:database"]
    healthcheck:
      test: [CMD, /check, word]
      interval: 30s
      timeout: 5s
      retries: "3"
      start_period: 10s
      start_interval: 2s
    volumes:
      - data:/data
      - ./filled:/filled
      - ./filled/in side:/inside
      - ./conf:/conf:ro
      - /anonymous
      - {type: volume, source: data, target: /long, read_only: "true", volume: {nocopy: "true"}}
      - {type: tmpfs, target: /scratch, tmpfs: {size: 1m, mode: "1777"}}
      - /srv/shared:/shared
      - ~/mine:/mine
      - ../above:/above
    tmpfs: ["/run/app:size=1m"]
    secrets: [word, {source: key, target: inner, uid: "1", gid: "1", mode: "0440"}]
    configs: [{source: inline, target: /inline, mode: "0444"}, {source: brought, target: /brought}]
    networks:
      inside: {aliases: [alias], ipv4_address: 192.0.2.9, ipv6_address: "2001:db8::9", link_local_ips: [192.0.2.8]}
    build: .
    ports: ["3000:3000"]
    expose: ["3000"]
    dns: [9.9.9.9]
    dns_search: [your-domain.org]
    dns_opt: [ndots]
    extra_hosts: {peer: 192.0.2.1}
  db:
    image: docker.io/library/redis:8
    healthcheck: {test: "redis-cli ping | grep PONG"}
    networks: [inside]
  job:
    image: docker.io/library/redis:8
    network_mode: "service:db"
    volumes_from: ["web:ro"]
volumes:
  data: {labels: {own.label: word}}
networks:
  inside: {internal: "false", enable_ipv6: "true"}
secrets:
  word: {external: true}
  key: {external: true, name: other_name}
configs:
  inline: {content: word}
  brought: {file: ./conf/brought}
"""
FILES: Final[Mapping[str, str]] = {
    "app.env": "FROM_FILE=word\n",
    "conf/brought": "word\n",
    "conf/other": "word\n",
}
# The tables of keys, and where each is used in the example. A key that is taken has to be there.
TABLES: Final[Mapping[str, tuple[Mapping[str, Any], tuple[tuple[str | int, ...], ...]]]] = {
    "service": (keys.SERVICE, (("services", "web"), ("services", "job"))),
    "top": (keys.TOP_LEVEL, ((),)),
    "health": (service_fields._HEALTHCHECK, (("services", "web", "healthcheck"),)),
    "env_file": (environment._ENV_FILE, (("services", "web", "env_file"),)),
    "depends_on": (depends_on._DEPENDENCY, (("services", "web", "depends_on", "db"),)),
    "deploy": (service_fields._DEPLOY, (("services", "web", "deploy"),)),
    "limits": (service_fields._LIMITS, (("services", "web", "deploy", "resources", "limits"),)),
    "mount": (volumes._MOUNT, (("services", "web", "volumes", 5), ("services", "web", "volumes", 6))),
    "reference": (volumes._REFERENCE, (("services", "web", "secrets", 1),)),
    "attachment": (networking._ATTACHMENT, (("services", "web", "networks", "inside"),)),
}
# Said elsewhere, or nothing that is a text: `disable` is a truth value, the rest is Swarm's.
NOT_SHOWN: Final = frozenset({"disable", "bind", "replicas", "mode", "external", "depends_on", "restart_policy"})


def not_shown() -> set[str]:
    """Keys that are taken from a Compose file and stand in no example."""
    found = set()
    for name, (table, places) in TABLES.items():
        shown = {key for place in places for key in _at(yaml.safe_load(COMPOSE), place)}
        found |= {f"{name}: {key}" for key, row in table.items() if row.parse and key not in shown | NOT_SHOWN}
    return found


def _at(document: Any, where: tuple[str | int, ...]) -> Any:
    for step in where:
        document = document[step]
    return document


def trials(document: Any, stride: int) -> Iterator[Trial]:
    """The document with one text, or one key of a mapping of texts, replaced, extended or led by a hostile value.

    Each text gets every `stride`th value, the next text the next ones, in one form; with ER_FUZZ all of all.
    """
    every = bool(os.environ.get("ER_FUZZ"))
    for number, (where, text) in enumerate(_texts(document, ())):
        values = VALUES if every else VALUES[number % stride :: stride]
        for turn, value in enumerate(values):
            forms = (text + value, value, f"{text[:1]}{value}{text[1:]}", value + text)
            for form in forms if every else (forms[(number + turn) % len(forms)],):
                yield Trial(where, value, _replaced(document, where, form))


def _texts(value: Any, where: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield where, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        if isinstance(key, str) and isinstance(child, str) and where:
            yield (*where, f"{_KEY}{key}"), key
        yield from _texts(child, (*where, key))


_KEY: Final = "key of "


def _replaced(document: Any, where: tuple[str | int, ...], text: str) -> Any:
    changed = copy.deepcopy(document)
    parent = _at(changed, where[:-1])
    last = where[-1]
    if isinstance(last, str) and last.startswith(_KEY):
        key = last.removeprefix(_KEY)
        items = [(text if name == key else name, child) for name, child in parent.items()]
        parent.clear()
        parent.update(items)
    else:
        parent[last] = text
    return changed


def lay(directory: Path) -> None:
    """What the example of a Compose file names beside itself."""
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)


def spec_host(trial: Trial, directory: Path) -> tuple[Spec, Host] | None:
    """The host of a changed spec; None when that is refused, which has to be with a place."""
    return _built(json.dumps(trial.document), directory)


def compose_host(trial: Trial, directory: Path, stack: str = "app") -> tuple[Spec, Host] | None:
    """The host of a stack with a changed Compose file. Each dollar is doubled, and so meant as one."""
    (directory / "compose.yaml").write_text(json.dumps(trial.document).replace("$", "$$"))
    stacks = [{"name": stack, "compose": "compose.yaml"}]
    return _built(json.dumps({"server": {"name": "web1"}, "admin": {"ssh_keys": [KEY]}, "stacks": stacks}), directory)


def _built(text: str, directory: Path) -> tuple[Spec, Host] | None:
    try:
        spec, _ = specs.loads(text, directory / "easyrunner.yaml")
    except SpecError as error:
        without = [problem for problem in error.problems if not problem.mark]
        if without:
            raise AssertionError(without) from error
        return None
    return spec, hosts.build(spec)


def accepted(directory: Path) -> Iterator[tuple[Trial, Spec, Host]]:
    """Every changed spec and Compose file that is not refused, each with a stack of a name and a uid of its own.

    Half of what the unit tests take: a host is made of each, and read by programs.
    """
    lay(directory)
    for number, trial in enumerate(trials(spec_example(), 2 * SPEC_STRIDE + 1)):
        stack = trial.document["stacks"][0]
        if trial.where != ("stacks", 0, "name"):
            stack["name"] = f"s{number}"
        stack["uid"] = 20_100 + number
        if built := spec_host(trial, directory):
            yield trial, *built
    for number, trial in enumerate(trials(yaml.safe_load(COMPOSE), 2 * COMPOSE_STRIDE + 1)):
        if built := compose_host(trial, directory, f"c{number}"):
            yield trial, *built


# How many values a text skips in the sample, so that it takes some seconds.
SPEC_STRIDE: Final = 53
COMPOSE_STRIDE: Final = 89
