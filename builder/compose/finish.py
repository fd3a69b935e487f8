"""The last step: what can only be said once every service of a file is known, and the stack's values of all of them.

Each draft is checked by itself, then network modes and dependencies between them; then come the networks in use, the
services, the volumes in use, and whether their systemd units have names of their own.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.compose import environment, messages, ports
from builder.compose.depends_on import check_dependencies, dependencies
from builder.compose.draft import StackContents
from builder.compose.node import attempt
from builder.compose.values import boolean, mapping
from builder.messages import IMAGE_CAPABILITIES, IMAGE_READ_ONLY, IMAGE_RUNS_FROM_TMP, IMAGE_STRICT
from builder.oci import known_images
from builder.stack import names, public
from builder.stack.model import Attachment, Limits, Network, Service, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from builder.compose.draft import Draft, Project
    from builder.compose.node import Node
    from builder.problems import Mark


def finish(project: Project, drafts: list[Draft]) -> StackContents:
    """The contents of the stack; what does not fit together is in the report."""
    awaited = {dependency.service for draft in drafts for dependency in dependencies(draft, drafts)}
    for draft in drafts:
        _check(draft)
        ports.tell(draft, awaited=draft.name in awaited)
    _tell_undeclared(project)
    _share_mounts(drafts)
    _check_only_read(project, drafts)
    _check_network_modes(drafts)
    _check_merged_labels(drafts)
    check_dependencies(drafts, project)
    networks = _networks(project, drafts)
    with_image = [draft for draft in drafts if "image" in draft.fields]
    services = tuple(_service(draft, drafts, networks) for draft in with_image)
    for draft, service in zip(with_image, services, strict=True):
        if known_images.runs_from_tmp(service.image) and not service.tmp_executes:
            draft.nodes["image"].report(IMAGE_RUNS_FROM_TMP, service=service.name)
        if paths := known_images.not_writable(service.image, service.hardening, service.targets):
            draft.nodes["image"].report(IMAGE_READ_ONLY, service=service.name, paths=", ".join(paths))
        if fault := public.listen_conflict(service):
            text, values = fault
            draft.nodes["listen"].report(text, key=False, **values)
    volumes = _volumes(project)
    _check_units(project, drafts, volumes, networks)
    environment.tell_unset(project)
    environment.tell_secrets(project)
    # Where something is wrong, or was meant to be said by the spec, that is why.
    excused = project.report.failed or project.says_public
    if drafts and not excused and all(draft.fields.get("kind") != "web" for draft in drafts):
        first = next((draft for draft in drafts if draft.ports), drafts[0])
        first.node.report(messages.NOTHING_PUBLIC, key=True, service=first.name)
    files = tuple(project.files[path] for path in sorted(project.files))
    return StackContents(services, volumes, networks, files)


_LONGEST_NAME: Final = 40  # what still fits in the path of a socket


def _check(draft: Draft) -> None:
    if len(draft.name) > _LONGEST_NAME or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", draft.name):
        draft.node.report(messages.SERVICE_NAME, key=True, service=draft.name)
    if draft.node.is_map and draft.node.get("image") is None and draft.node.get("build") is None:
        draft.node.report(messages.IMAGE_MISSING, key=True, service=draft.name)
    _check_swap(draft)
    _check_capabilities(draft)


def _check_capabilities(draft: Draft) -> None:
    """Say which capabilities a well-known image needs, when it gets neither them nor another user."""
    image, hardening, user, added, dropped = (
        draft.fields.get(key) for key in ("image", "hardening", "user", "cap_add", "cap_drop")
    )
    if image and (lacking := known_images.lacking(image, hardening or "standard", user, added or (), dropped or ())):
        text = IMAGE_STRICT if hardening == "strict" else IMAGE_CAPABILITIES
        draft.nodes["image"].report(text, capabilities=", ".join(lacking), service=draft.name)


def _check_swap(draft: Draft) -> None:
    """Beside memory_and_swap there is a limit of memory, and not a greater one, unless it has been raised."""
    total, memory = draft.fields.get("memory_and_swap"), _limits(draft).memory
    if total is not None and memory is None:
        draft.nodes["memory_and_swap"].report(messages.SWAP_ALONE, service=draft.name)
    elif total is not None and memory is not None and facts.MIN_MEMORY < memory > total:
        draft.nodes["memory_and_swap"].report(messages.SWAP_LOW)


def _limits(draft: Draft) -> Limits:
    """The limits, swap among them: as Compose has it, what memory and swap together are more than memory."""
    limits: Limits = draft.fields.get("limits", Limits())
    total = draft.fields.get("memory_and_swap")
    return limits if total is None or limits.memory is None else replace(limits, swap=max(total - limits.memory, 0))


def _tell_undeclared(project: Project) -> None:
    """Report all volumes without a declaration together: a file that has none of them lacks the same lines for each."""
    if project.undeclared_volumes:
        name, node = next(iter(project.undeclared_volumes.items()))
        names = ", ".join(project.undeclared_volumes)
        lines = ", ".join(f"{other}: {{}}" for other in project.undeclared_volumes)
        node.report(messages.VOLUME_UNDECLARED, names=names, name=name, lines=lines)


def _check_only_read(project: Project, drafts: list[Draft]) -> None:
    """Report directories that are not there, where no service writes what others read."""
    mounts = [mount for draft in drafts for mount, _ in draft.mounts]
    filled = {mount.source for mount in mounts if mount.kind == "bind" and not mount.read_only}
    for path, (source, node) in project.only_read.items():
        if not any(f"{path}/".startswith(f"{other}/") or other.startswith(f"{path}/") for other in filled):
            node.report(messages.BIND_MISSING, path=source)


def _share_mounts(drafts: list[Draft]) -> None:
    """Give each service the mounts of those it names in `volumes_from`, on paths where it has none of its own."""
    by_name = {draft.name: draft for draft in drafts}
    for draft in drafts:
        _share(draft, by_name, ())


def _share(draft: Draft, by_name: dict[str, Draft], trail: tuple[str, ...]) -> None:
    named, draft.volumes_from = draft.volumes_from, []
    for name, read_only, node in named:
        other = by_name.get(name)
        if other is None or name in trail:
            continue  # that is wrong with the dependency already
        _share(other, by_name, (*trail, draft.name))
        if not other.mounts:
            node.report(messages.VOLUMES_FROM_NOTHING, name=name)
        taken = {posixpath.normpath(mount.target) for mount, _ in draft.mounts}
        for mount, _ in other.mounts:
            if posixpath.normpath(mount.target) not in taken:
                draft.mounts.append((replace(mount, read_only=mount.read_only or read_only), node))


def _check_merged_labels(drafts: list[Draft]) -> None:
    """Report a service that has another's domain because it takes over its labels."""
    first: dict[Mark, str] = {}
    for draft in drafts:
        node = draft.nodes.get("domains")
        if node is not None and first.setdefault(node.mark(), draft.name) != draft.name:
            node.report(messages.LABEL_DOMAIN_MERGED, service=draft.name, other=first[node.mark()])


def _check_network_modes(drafts: list[Draft]) -> None:
    names = {draft.name for draft in drafts}
    for draft in drafts:
        mode = draft.fields.get("network_mode", "")
        if mode and "networks" in draft.fields:
            draft.nodes["network_mode"].report(messages.NETWORK_AND_MODE)
        name = mode.removeprefix("service:")
        if mode.startswith("service:") and (name not in names or name == draft.name):
            draft.nodes["network_mode"].report(messages.NETWORK_SERVICE, name=name)


def _networks(project: Project, drafts: list[Draft]) -> tuple[Network, ...]:
    """The networks in use. A single service needs none, unless its network is to have no way out."""
    used = {attachment.network for draft in drafts for attachment in _attachments(draft)}
    networks = tuple(_network(name, project.networks.get(name)) for name in sorted(used))
    if len(drafts) == 1 and not any(network.internal for network in networks):
        return ()
    return networks


def _network(name: str, node: Node | None) -> Network:
    internal, ipv6 = (None if node is None else node.get(key) for key in ("internal", "enable_ipv6"))
    return Network(
        name,
        internal=internal is not None and attempt(boolean, internal, False),
        ipv6=ipv6 is not None and attempt(boolean, ipv6, False),
    )


def _attachments(draft: Draft) -> tuple[Attachment, ...]:
    """The networks a service is on; without a word about them, the stack's default one."""
    if "network_mode" in draft.fields:
        return ()
    own: tuple[Attachment, ...] = draft.fields.get("networks", ())
    return own if own or draft.on_proxy_network else (Attachment("default"),)


def _service(draft: Draft, drafts: list[Draft], networks: tuple[Network, ...]) -> Service:
    fields = {key: value for key, value in draft.fields.items() if key not in ("links", "memory_and_swap")}
    fields.update(
        environment=environment.merged(draft),
        unset_environment=environment.unset(draft),
        depends_on=dependencies(draft, drafts),
        limits=_limits(draft),
        mounts=tuple(mount for mount, _ in draft.mounts),
        networks=_aliased(draft, drafts) if networks else (),
    )
    if "build" in fields:
        fields["build"] = replace(fields["build"], never=_never(draft))
        fields["pull"] = "never"
    # Compose's default is `no`. Here it is `on-failure`: one that fails is started again, one that ends well is not.
    fields.setdefault("restart", "on-failure")
    return Service(name=draft.name, mark=draft.node.mark(key=True), **fields)


def _never(draft: Draft) -> tuple[Path, ...]:
    """The files beside the Compose file that hold secrets: no build gets them."""
    secrets = draft.project.secrets.values()
    files = ((node, file) for node in secrets if (file := node.get("file")) is not None)
    return (*draft.env_paths, *(node.document.directory / str(file.value) for node, file in files))


def _aliased(draft: Draft, drafts: list[Draft]) -> tuple[Attachment, ...]:
    """Networks with every name: the long form's, container_name, and what the `links` of others call it."""
    linked = [alias for other in drafts for name, alias in other.fields.get("links", ()) if name == draft.name]
    extra = [name for name in (*draft.aliases, *linked) if name != draft.name]
    return tuple(
        Attachment(attachment.network, tuple(dict.fromkeys((*attachment.aliases, *extra))))
        for attachment in _attachments(draft)
    )


def _volumes(project: Project) -> tuple[Volume, ...]:
    """The volumes in use; Compose makes no others."""
    made = [Volume(name) for name in project.anonymous_volumes]
    for name in project.used_volumes:
        labels = project.volumes[name].get("labels")
        made.append(Volume(name, () if labels is None else attempt(mapping, labels, ())))
    return tuple(sorted(made, key=lambda volume: volume.name))


def _check_units(
    project: Project, drafts: list[Draft], volumes: tuple[Volume, ...], networks: tuple[Network, ...]
) -> None:
    """No two parts of a stack may become one systemd unit, nor one of EasyRunner's own."""
    made = names.unit_names(
        project.stack,
        services=[draft.name for draft in drafts],
        volumes=[volume.name for volume in volumes],
        networks=[network.name for network in networks],
    )
    for draft in drafts:
        unit = names.service_unit(project.stack, draft.name)
        if made.count(unit) > 1 or unit.startswith(("er-ingress-", "er-listen-")):
            draft.node.report(messages.SERVICE_COLLIDES, key=True, service=draft.name)
