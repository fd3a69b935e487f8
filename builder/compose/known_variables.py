"""The variables of EasyRunner's that a Compose file may use: they depend on the labels of all its services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from builder.compose import labels, ports
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.labels import DOMAIN, KEYS, PATH, PORT
from builder.stack import model, public, variables
from builder.stack.variables import ServiceIdentity

if TYPE_CHECKING:
    from builder.compose.draft import Port, Project
    from builder.compose.node import Node
    from builder.stack.model import Kind


def injected_variables(
    files: list[Any], project: Project, server: str | None, environment: dict[str, str]
) -> dict[str | None, dict[str, str]]:
    """EasyRunner's variables of each service by its name, and under None those that are the same for all.

    `files` are the Compose files as YAML gives them, unchecked; `environment` the variables of `.env`, for labels.
    """
    services: dict[str, dict[str, Any]] = {}
    for data in files:
        named = data.get("services") if isinstance(data, dict) else None
        for name, service in named.items() if isinstance(named, dict) else ():
            services.setdefault(name, {}).update(_raw_facts(service, services.get(name, {}), environment))
    peers = [_identity(name, facts, project.public.get(name)) for name, facts in services.items()]
    stack = project.stack
    shared = {"EASYRUNNER_STACK": stack, "EASYRUNNER_APP_NAME": stack, "COMPOSE_PROJECT_NAME": stack}
    shared |= {"PWD": "."}  # for who mounts ${PWD}/data
    if server:
        shared["EASYRUNNER_SERVER_NAME"] = server
    known: dict[str | None, dict[str, str]] = {None: shared}
    for peer in peers:
        # The framework adds PORT and the like to the container, not to the file.
        known[peer.name] = variables.of_service(stack, peer._replace(framework=None), peers, server)
    return known


def _identity(name: str, facts: dict[str, Any], spec: Node | None) -> ServiceIdentity:
    said = {} if spec is None else {KEYS[key]: labels.as_label(node.value) for key, node in spec.items() if key in KEYS}
    found = {**facts["labels"], **said}
    kind = "web" if spec is not None else labels.kind_of(found)
    domain = found.get(DOMAIN, "").split(",")[0].strip() or None
    paths = public.normal_paths(path.strip() for path in found.get(PATH, "/").split(","))
    port = found.get(PORT) or str(ports.web_port(facts["ports"], facts["expose"], facts["image"])[0] or model.PORT)
    return ServiceIdentity(
        name,
        cast("Kind", kind) if kind in ("web", "internal", "worker") else "internal",
        domain,
        int(port) if port.isdigit() else model.PORT,
        path=paths[0] if paths else "",
    )


def _raw_facts(service: Any, before: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Labels, ports and image of a service, roughly: what is wrong with them is reported when the service is read.

    `before` are those of the files that this one is laid over.
    """
    raw = service if isinstance(service, dict) else {}
    image = raw.get("image")
    return {
        "labels": {**before.get("labels", {}), **_raw_labels(raw.get("labels"), environment)},
        "image": _expand(image, environment) if isinstance(image, str) else before.get("image"),
        **{key: [*before.get(key, []), *_raw_ports(raw.get(key), environment)] for key in ("ports", "expose")},
    }


def _raw_ports(listed: Any, environment: dict[str, str]) -> list[Port]:
    entries = listed if isinstance(listed, list) else []
    expanded = (_expand(entry, environment) if isinstance(entry, str) else entry for entry in entries)
    return [port for entry in expanded for port in ports.parse(entry) or ()]


def _raw_labels(raw: Any, environment: dict[str, str]) -> dict[str, str]:
    if isinstance(raw, list):
        raw = dict(str(item).partition("=")[::2] for item in raw)
    items = raw.items() if isinstance(raw, dict) else ()
    return labels.with_newer_names({str(name): _expand(str(value), environment) for name, value in items})


def _expand(text: str, environment: dict[str, str]) -> str:
    try:
        return Expansion(environment.get).expand(text)
    except (FormatError, RequiredError):
        return ""
