"""Which service of a Compose file is the web's, and where it listens: weights and reasons, from the file alone.

Each kind of evidence has a weight below. What proxies of a whole host (Traefik, nginx-proxy, caddy-docker-proxy) are
told about a service by its labels or variables counts more than all else; such a proxy itself is no candidate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder.compose import labels as own_labels
from builder.compose import ports as port_lists
from builder.oci import image_reference, known_images
from builder.stack import model, public
from builder.starter import messages
from builder.starter.request import parse_port

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from builder.compose.draft import Port
    from builder.compose.survey import ServiceFacts, Survey


@dataclass(frozen=True)
class WebPort:
    """Where a service listens: None where that is not clear, with the ports that it may be. `why` is the reason.

    `is_label`: a label of EasyRunner says it, so that the spec cannot.
    """

    number: int | None
    why: str = ""
    choices: tuple[int, ...] = ()
    is_label: bool = False


@dataclass(frozen=True)
class Candidate:
    """A service that may be the web's, the heavier the likelier.

    `hosts` are the names that the file gives it, `paths` by name those below which alone it answers there.
    """

    service: str
    weight: int
    reasons: tuple[str, ...]
    port: WebPort
    hosts: tuple[str, ...] = ()
    published: bool = False
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Evidence = tuple[int, str]

_CERTAIN: Final = 200  # EasyRunner's own labels
_EDGE: Final = 100
_PUBLISHED: Final = {"front": 50, "usual": 45, "other": 38}
_LOCAL: Final = -4
_KNOWN_IMAGE: Final = 20
_EXPOSED: Final = 12
_NAME: Final = (20, 10, -30)
_STACK_NAME: Final = 8
_LAST: Final = 8
_WAITED_FOR: Final = -8
_INNER: Final = -80
_TOOL: Final = -70  # a browser shows it, at least
_NO_BROWSER: Final = -40

_FRONT: Final = (80, 443)
_USUAL: Final = (3000, 3001, 4000, 4200, 5000, 5173, 8000, 8008, 8080, 8081, 8088, 8090, 8443, 8888, 9000)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words of a service's name, and of an image's. What is the web's, what may be, and what works behind it.
_FIRST_NAMES: Final = _words("web www app webapp frontend front nginx caddy proxy gateway ingress site")
_SECOND_NAMES: Final = _words("server ui client webui webserver portal dashboard api backend http httpd")
_INNER_NAMES: Final = _words(
    "worker workers cron scheduler beat queue celery sidekiq job jobs migrate migration migrations migrator init setup "
    "seed seeder backup db database cache broker consumer mail smtp exporter agent runner cli chown perms"
)
_INNER_IMAGES: Final = _words(
    "postgres postgresql pgvector postgis timescaledb pgbouncer mysql mariadb percona mongo mongodb redis valkey keydb "
    "dragonfly memcached rabbitmq elasticsearch opensearch clickhouse cassandra scylla cockroach couchdb influxdb "
    "kafka redpanda zookeeper nats etcd consul mosquitto meilisearch typesense qdrant weaviate milvus neo4j solr "
    "logstash fluentd promtail loki selenium chrome chromium browserless gotenberg tika clamav postfix exim opendkim "
    "exporter"
)
_TOOL_IMAGES: Final = _words(
    "adminer phpmyadmin pgadmin4 pgadmin redisinsight mailhog mailpit mailcatcher maildev dozzle portainer "
    "portainer-ce redis-commander mongo-express kibana cadvisor watchtower autoheal ofelia diun"
)
_EDGE_IMAGES: Final = _words(
    "traefik nginx-proxy nginx-proxy-manager caddy-docker-proxy swag acme-companion letsencrypt-nginx-proxy-companion "
    "docker-gen certbot cloudflared https-portal"
)


def is_edge(service: ServiceFacts) -> bool:
    """Whether it is a proxy, or a helper of one, that a host has before all its apps."""
    return _last_part(service.image) in _EDGE_IMAGES


def _last_part(image: str | None) -> str:
    return image_reference.split(image or "").path.rpartition("/")[2]


def candidates(survey: Survey, stack: str) -> tuple[Candidate, ...]:
    """The services that can be the web's, the likeliest first; two that are as likely as in the file."""
    found = [_candidate(one, survey, stack) for one in survey.services if _may_be_public(one)]
    return tuple(sorted(found, key=lambda candidate: -candidate.weight))


def _may_be_public(service: ServiceFacts) -> bool:
    return not is_edge(service) and _with_older(service).get(own_labels.TYPE, "web") == "web"


# What the likeliest has to weigh, and by how much more than the next, to be taken without a question.
_ENOUGH: Final = 15
_LEAD: Final = 15
_UNLIKELY: Final = -20  # at most this: something speaks against it


def clear(found: Collection[Candidate]) -> Candidate | None:
    """The one that is the web's without a doubt."""
    first, *others = found or (None,)
    if first is None or not others:
        return first
    second = others[0].weight
    if (first.weight >= _ENOUGH and first.weight - second >= _LEAD) or (first.weight >= 0 and second <= _UNLIKELY):
        return first
    return None


def looks_public(found: Collection[Candidate]) -> bool:
    """Whether a stack looks as if the world should reach it."""
    return any(one.weight >= _ENOUGH or (one.published and one.weight > _UNLIKELY) for one in found)


def likely(found: Collection[Candidate]) -> tuple[Candidate, ...]:
    """Those that are worth being asked about: all but the unlikely, where there are others."""
    return tuple(one for one in found if one.weight > _UNLIKELY) or tuple(found)


def _candidate(service: ServiceFacts, survey: Survey, stack: str) -> Candidate:
    hosts = tuple(dict.fromkeys(host for host, _ in _edge_hosts(service)))
    evidence = [
        *_of_labels(service),
        *_of_ports(service),
        *_of_image(service),
        *_of_name(service, stack),
        *_of_others(service, survey),
    ]
    port = port_of(service)
    reasons = tuple(dict.fromkeys(reason for weight, reason in sorted(evidence, key=lambda one: -abs(one[0]))))
    published = bool(_web_ports(service.ports)) and not any(weight <= _TOOL for weight, _ in evidence)
    return Candidate(
        service.name, sum(weight for weight, _ in evidence), reasons, port, hosts, published, _edge_paths(service)
    )


def _of_labels(service: ServiceFacts) -> Iterator[Evidence]:
    if own_labels.kind_of(_with_older(service)) == "web":
        yield _CERTAIN, messages.LABEL_TYPE
    hosts = list(_edge_hosts(service))
    for host, place in hosts:
        yield _EDGE if host == hosts[0][0] else 0, messages.EDGE_HOST.format(place=place, host=host)
    port = _edge_port(service)
    if not hosts and (port is not None or service.labels.get("traefik.enable", "").lower() == "true"):
        yield _EDGE, port.why if port else messages.EDGE_LABEL.format(label="traefik.enable")


_HOST_RULE: Final = re.compile(r"Host\(([^)]*)\)")
_QUOTED: Final = re.compile(r"[`'\"]([^`'\"]+)[`'\"]")
_ROUTER: Final = re.compile(r"traefik\.http\.routers\.[^.]+\.rule")


def _edge_hosts(service: ServiceFacts) -> Iterator[tuple[str, str]]:
    """The names that a proxy before it is told, each with the place that says so."""
    for label, value in service.labels.items():
        if _ROUTER.fullmatch(label):
            for rule in _HOST_RULE.findall(value):
                yield from ((host, label) for host in _QUOTED.findall(rule))
        elif re.fullmatch(r"caddy(_\d+)?", label):
            yield from ((_bare(host), label) for host in re.split(r"[\s,]+", value) if host)
    setting = service.settings.get("VIRTUAL_HOST")
    for host in re.split(r"[\s,]+", (setting.value or "") if setting else ""):
        if host:
            yield _bare(host), "VIRTUAL_HOST"


_OR_HOST: Final = re.compile(r"\|\|(?=[^|]*Host\()")
_PATH_RULE: Final = re.compile(r"(?<!!)Path(?:Prefix)?\(([^)]*)\)")


def _edge_paths(service: ServiceFacts) -> dict[str, tuple[str, ...]]:
    """By name the paths that a proxy before it is told, where it is not told the whole name."""
    found: dict[str, list[str]] = {}
    rules = [value for label, value in service.labels.items() if _ROUTER.fullmatch(label)]
    for rule in (part for whole in rules for part in _OR_HOST.split(whole)):
        paths = [path for listed in _PATH_RULE.findall(rule) for path in _QUOTED.findall(listed)]
        for host in (host for listed in _HOST_RULE.findall(rule) for host in _QUOTED.findall(listed)):
            found.setdefault(host, []).extend(paths or [public.ROOT])
    setting = service.settings.get("VIRTUAL_PATH")
    path = (setting.value if setting else None) or public.ROOT
    for host in (host for host, place in _edge_hosts(service) if place == "VIRTUAL_HOST"):
        found.setdefault(host, []).append(path)
    good = {host: paths for host, paths in found.items() if not any(map(public.path_fault, paths))}
    return {host: normal for host, paths in good.items() if (normal := public.normal_paths(paths))}


_STRIPS: Final = re.compile(r"traefik\.http\.middlewares\.[^.]+\.stripprefix\.prefixes", re.IGNORECASE)


def strips_path(service: ServiceFacts) -> bool:
    """Whether a proxy before it is told to take the path away."""
    destination = service.settings.get("VIRTUAL_DEST")
    return any(map(_STRIPS.fullmatch, service.labels)) or (destination is not None and destination.value == "/")


def _bare(address: str) -> str:
    return re.sub(r"^[a-z]+://", "", address).partition("/")[0].partition(":")[0]


def _edge_port(service: ServiceFacts) -> WebPort | None:
    """The port that a proxy before it is told."""
    for label, value in service.labels.items():
        found = None
        if re.fullmatch(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port", label):
            found = parse_port(value)
        elif re.fullmatch(r"caddy(_\d+)?\.(?:[^.]+\.)?(?:\d+_)?reverse_proxy", label):
            match = re.search(r"upstreams\s+(?:https?\s+)?([0-9]+)|:([0-9]+)\s*$", value)
            found = parse_port(match[1] or match[2]) if match else 80
        if found is not None:
            return WebPort(found, messages.PORT_LABEL.format(label=label))
    setting = service.settings.get("VIRTUAL_PORT")
    found = parse_port(setting.value or "") if setting else None
    return None if found is None else WebPort(found, messages.PORT_VARIABLE.format(variable="VIRTUAL_PORT"))


def _web_ports(listed: Collection[Port]) -> list[Port]:
    """Those that the web may speak, those that the host alone reaches included."""
    numbers = port_lists.web_candidates(listed)
    return [port for port in listed if port.number in numbers and port.protocol == "tcp"]


def _of_ports(service: ServiceFacts) -> Iterator[Evidence]:
    published = _web_ports(service.ports)
    if published:
        best = max(_weight(port) for port in published)
        yield best, messages.PUBLISHES.format(ports=_shown(published))
    elif service.ports:
        yield _NO_BROWSER, messages.PUBLISHES_OTHERS
    exposed = _web_ports(service.exposed)
    if exposed and not published:
        yield _EXPOSED, messages.EXPOSES.format(ports=_shown(exposed))


def _weight(port: Port) -> int:
    numbers = {port.published, port.number}
    kind = "front" if numbers & {*_FRONT} else "usual" if numbers & {*_USUAL} else "other"
    return _PUBLISHED[kind] + (_LOCAL if port.local else 0)


def _shown(listed: Collection[Port]) -> str:
    return ", ".join(dict.fromkeys(str(port.number) for port in listed))


def _of_image(service: ServiceFacts) -> Iterator[Evidence]:
    last = _last_part(service.image)
    if _words_of(last) & _INNER_IMAGES:
        yield _INNER, messages.IMAGE_INNER
    elif last in _TOOL_IMAGES:
        yield _TOOL, messages.IMAGE_ADMIN
    elif known_images.speaks_fastcgi(service.image):
        yield _INNER, messages.IMAGE_FASTCGI
    elif (port := known_images.web_port(service.image)) is not None:
        yield _KNOWN_IMAGE, messages.IMAGE_WEB.format(port=port)


def _of_name(service: ServiceFacts, stack: str) -> Iterator[Evidence]:
    words = _words_of(service.name)
    if words & _INNER_NAMES:
        yield _NAME[2], messages.NAMED_INNER.format(name=service.name)
    elif words & _FIRST_NAMES:
        yield _NAME[0], messages.NAMED.format(name=service.name)
    elif words & _SECOND_NAMES:
        yield _NAME[1], messages.NAMED.format(name=service.name)
    if service.name.lower() == stack:
        yield _STACK_NAME, messages.NAMED.format(name=service.name)


def _words_of(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def _of_others(service: ServiceFacts, survey: Survey) -> Iterator[Evidence]:
    waiting = {one.name: one.waits_for[service.name] for one in survey.services if service.name in one.waits_for}
    if "service_completed_successfully" in waiting.values():
        yield _INNER, messages.JOB
        return
    # Who works behind the web's may well wait for it.
    front = [name for name in waiting if not _words_of(name) & _INNER_NAMES]
    if front:
        yield _WAITED_FOR, messages.WAITED_FOR.format(services=", ".join(front))
    elif not waiting and len(survey.services) > 1 and not _words_of(service.name) & _INNER_NAMES:
        yield _LAST, messages.LAST


# Variables that name the port on which many apps listen.
_PORT_VARIABLES: Final = (
    "PORT", "HTTP_PORT", "APP_PORT", "SERVER_PORT", "WEB_PORT", "LISTEN_PORT", "WEBSERVER_PORT", "NITRO_PORT",
)  # fmt: skip
_AT_ITSELF: Final = re.compile(r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]):([0-9]{2,5})\b")
_LISTENS: Final = re.compile(r"(?:0\.0\.0\.0|\[::\]|^|\s):([0-9]{2,5})\b|--(?:http-)?port[= ]([0-9]{2,5})\b")


def port_of(service: ServiceFacts) -> WebPort:
    """Where the service listens, by what says it best."""
    label = _with_older(service).get(own_labels.PORT)
    if label is not None:
        # One that is no port is said by `er check`.
        return WebPort(
            parse_port(label) or model.PORT, messages.PORT_LABEL.format(label=own_labels.PORT), is_label=True
        )
    edge = _edge_port(service)
    if edge is not None:
        return edge
    number, key = port_lists.web_port(service.ports, service.exposed, service.image)
    if number is not None:
        return WebPort(number, messages.PORT_OF[key])
    if key:
        return _of_several(_web_ports(service.ports if key == "ports" else service.exposed), service)
    return next(_said_elsewhere(service), WebPort(None))


def _with_older(service: ServiceFacts) -> dict[str, str]:
    """The labels, those of EasyRunner's earlier names as the newer ones."""
    older = {new: service.labels[old] for old, new in own_labels.ALIASES.items() if old in service.labels}
    return {**older, **service.labels}


def _of_several(listed: list[Port], service: ServiceFacts) -> WebPort:
    """Of several ports the one that the host has as 80, or that something else names as well."""
    front = [port for port in listed if port.published == _FRONT[0]] or [
        port for port in listed if port.number == _FRONT[0]
    ]
    if len({port.number for port in front}) == 1:
        return WebPort(front[0].number, messages.PORT_PUBLISHED.format(published=front[0].published or front[0].number))
    numbers = tuple(dict.fromkeys(port.number for port in listed))
    said = next((one for one in _said_elsewhere(service) if one.number in numbers), None)
    return said or WebPort(None, "", numbers)


def _said_elsewhere(service: ServiceFacts) -> Iterator[WebPort]:
    for name in _PORT_VARIABLES:
        setting = service.settings.get(name)
        number = parse_port(setting.value or "") if setting else None
        if number is not None:
            yield WebPort(number, messages.PORT_VARIABLE.format(variable=name))
    for found in _AT_ITSELF.finditer(" ".join(service.health)):
        if (number := parse_port(found[1])) is not None:
            yield WebPort(number, messages.PORT_HEALTH)
    for found in _LISTENS.finditer(" ".join(service.words)):
        if (number := parse_port(found[1] or found[2])) is not None:
            yield WebPort(number, messages.PORT_COMMAND)
