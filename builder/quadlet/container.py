"""A stack's Quadlet units: a .container for each service, and its .volume and .network units."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.oci import image_reference
from builder.quadlet import health
from builder.quadlet.container_keys import container_options
from builder.quadlet.podman import BASES, defaults, pasta
from builder.quadlet.unit_file import VARIABLES, Section, Unit, line, word, words
from builder.quadlet.volumes import mounts
from builder.stack import names, sleeping, variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.quadlet.podman import Podman
    from builder.quadlet.unit_file import Entry
    from builder.stack.model import Dependency, Network, Restart, Service, Stack, Volume


def units(stack: Stack, *, base: str, server: str | None = None) -> tuple[tuple[str, str], ...]:
    """The Quadlet units of a stack as (file name, text), sorted by name.

    `base` says which Podman reads them; `server` is the server's name, which the services get in their environment.
    """
    podman = BASES[base]
    return tuple(sorted((unit.filename, str(unit)) for unit in _units(stack, podman, server)))


def _units(stack: Stack, podman: Podman, server: str | None) -> Iterator[Unit]:
    for service in stack.services:
        yield _container_unit(stack, service, podman, server)
    for volume in stack.volumes:
        yield _volume_unit(stack, volume, podman)
    for network in stack.networks:
        yield _network_unit(stack, network, podman)


def _container_unit(stack: Stack, service: Service, podman: Podman, server: str | None) -> Unit:
    """The .container unit of one service."""
    if _reaches_nobody(stack, service):
        service = replace(service, network_mode="none", networks=(), dns=(), dns_search=(), dns_opt=())
    entries = tuple(_container_section(stack, service, podman, server))
    return Unit(
        names.container_unit(stack.name, service.name),
        (
            Section("Unit", tuple(_unit_section(stack, service))),
            Section("Quadlet", defaults(podman)),
            Section("Container", entries),
            Section("Service", tuple(_service_section(stack, service, podman, entries))),
            *(() if _sleeps(stack, service) else (Section("Install", (("WantedBy", "default.target"),)),)),
        ),
    )


def _reaches_nobody(stack: Stack, service: Service) -> bool:
    """Without a way out and a neighbour a service needs no network, nor pasta's memory: its ingress comes in."""
    joined = {attachment.network for attachment in service.networks}
    shared = {at.network for other in stack.services if other is not service for at in other.networks}
    return stack.no_egress and service.network_mode == "private" and not joined & shared


def _sleeps(stack: Stack, service: Service) -> bool:
    return service.name in sleeping.sleeping(stack.services)


def _unit_section(stack: Stack, service: Service) -> Iterator[Entry]:
    yield "Description", f"{stack.name}: {service.name}"
    if _sleeps(stack, service):
        yield "StopWhenUnneeded", "yes"
    pulled = sleeping.pulled(stack.services)
    for name in pulled.get(service.name, ()):
        yield "Wants", names.service_unit(stack.name, name)
    for dependency in service.depends_on:
        unit = names.service_unit(stack.name, dependency.service)
        yield "After", unit
        # Who is started by another does not hold that one: neither would ever be unneeded.
        if service.name not in pulled.get(dependency.service, ()):
            yield _requirement(stack, service, dependency), unit
    if service.network_mode.startswith("service:"):
        unit = names.service_unit(stack.name, service.network_mode.removeprefix("service:"))
        yield from (("After", unit), ("Requires", unit))
    if service.own_socket:
        yield "Wants", f"{names.listen_unit(service.name)}.path"
    # What is started in vain is told to visitors, or has lost its socket; others start again by themselves.
    if _sleeps(stack, service) or (service.listen and not service.own_socket):
        yield from (("Wants", _NAMESPACE), ("After", _NAMESPACE))
    yield from _start_limit(stack, service)


def _start_limit(stack: Stack, service: Service) -> Iterator[Entry]:
    """How often systemd starts a service that fails: without end, or as often as the user said.

    Of one that sleeps each wake is a start.
    """
    if service.restart_attempts is None or _sleeps(stack, service):
        yield "StartLimitIntervalSec", "0"
    else:
        yield "StartLimitIntervalSec", "infinity"
        yield "StartLimitBurst", str(service.restart_attempts + 1)


def _requirement(stack: Stack, service: Service, dependency: Dependency) -> str:
    """Requires= or Wants= for a service that this one depends on.

    Requires= where the dependency may fail for good, and must not; else Wants=, which waits just as long for a service
    that is tried again and again, and does not restart this one when somebody restarts the other. One that sleeps with
    this one goes when this one goes, and the next visitor wakes both.
    """
    if not dependency.required:
        return "Wants"
    other = _service_of(stack, dependency.service)
    if _sleeps(stack, service) and _sleeps(stack, other):
        return "Requires"
    final = other.restart == "no" or dependency.condition == "service_completed_successfully"
    return "Requires" if final or dependency.restart else "Wants"


def _service_of(stack: Stack, name: str) -> Service:
    return next(service for service in stack.services if service.name == name)


def _container_section(stack: Stack, service: Service, podman: Podman, server: str | None) -> Iterator[Entry]:
    yield from _image(stack, service)
    yield "ContainerName", service.name
    if service.command is not None:
        yield "Exec", words(*service.command)
    yield from _environment(stack, service, server)
    yield from container_options(service, podman)
    yield from _network_lines(stack, service, podman)
    yield from mounts(stack, service)
    if service.own_socket:
        directory = names.listen_directory(stack.name, service.name)
        yield "Volume", f"{directory}:{service.own_socket[0]}:rw,noexec,nosuid,nodev"
    yield from _hardening(service)
    yield from health.entries(service.healthcheck, podman)
    if _others_wait_for_health(stack, service) and podman.notify_healthy:
        yield "Notify", "healthy"
    yield "PodmanArgs", f"--pidfile={names.pidfile(stack.name, service.name)}"


def _image(stack: Stack, service: Service) -> Iterator[Entry]:
    yield "Image", line(image_reference.host_name(stack.name, service.name, service.image))
    yield "Pull", "never" if image_reference.is_archive(service.image) else service.pull


def _environment(stack: Stack, service: Service, server: str | None) -> Iterator[Entry]:
    for name, value in (*variables.injected(stack, service, server).items(), *service.environment):
        yield "Environment", word(f"{name}={value}")
    for secret in service.env_secrets:
        yield "Secret", word(f"{secret.name},type=env,target={secret.variable}")
    if service.unset_environment:
        yield "PodmanArgs", words(*(f"--unsetenv={name}" for name in service.unset_environment))


def _network_lines(stack: Stack, service: Service, podman: Podman) -> Iterator[Entry]:
    mode, _, other = service.network_mode.partition(":")
    if mode == "service":
        unit = names.container_unit(stack.name, other)
        yield "Network", unit if podman.joins_containers else f"container:{other}"
    elif mode == "none":
        yield "Network", "none"
    elif not service.networks:
        yield from pasta(podman, resolver=not service.dns)
    for number, attachment in enumerate(service.networks):
        aliases = "".join(f"alias={alias}," for alias in attachment.aliases)
        network = line(f"{names.network_unit(stack.name, attachment.network)}:{aliases}")
        yield "Network", f"{network}${{ER_ADDRESS{number}}}"  # an option: see _keeps_address


# Of what Podman gives a container: images need the others when they start as root and become a user of their own.
# They are left by dropping these, not added: what is added, a process that is not root has from its start.
_NOT_STANDARD: Final = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_CHROOT")


def _hardening(service: Service) -> Iterator[Entry]:
    if service.hardening != "off":
        yield "NoNewPrivileges", "true"
    added = (*_file_capabilities(service), *service.cap_add)
    if service.drops_all:
        dropped: tuple[str, ...] = ("all",)
    else:
        base = _NOT_STANDARD if service.hardening == "standard" else ()
        dropped = tuple(name for name in dict.fromkeys((*base, *service.cap_drop)) if name not in added)
    for key, names_ in (("DropCapability", dropped), ("AddCapability", dict.fromkeys(added))):
        if names_:
            yield key, " ".join(names_)


def _file_capabilities(service: Service) -> tuple[str, ...]:
    """What the program itself asks for, where nothing else would leave it."""
    if not service.drops_all:
        return ()
    entrypoint, command = (next(iter(argv or ()), None) for argv in (service.entrypoint, service.command))
    return image_reference.file_capabilities(service.image, entrypoint, command)


def _others_wait_for_health(stack: Stack, service: Service) -> bool:
    """True when another service starts once this one is healthy, and this one has a health check."""
    check = service.healthcheck
    return "service_healthy" in _conditions(stack, service) and check is not None and not check.disable


def _conditions(stack: Stack, service: Service) -> set[str]:
    """What others wait for before they start after this service."""
    return {
        dependency.condition
        for other in stack.services
        for dependency in other.depends_on
        if dependency.service == service.name
    }


# Neither systemd nor Podman reads them, a change of the service does (builder/server/remote/next_units.py).
STOP_FIRST: Final = ("X-EasyRunner-Order", "stop-first")
LISTEN: Final = "X-EasyRunner-Listen"
# The user namespace of a stack, made: cloudinit/rootfs/etc/easyrunner/units.
_NAMESPACE: Final = "er-namespace.service"
_RESTART: Final[dict[Restart, str]] = {
    "no": "no",
    "always": "always",
    "on-failure": "on-failure",
    "unless-stopped": "always",
}
_PODMAN_FAILED: Final = "125"  # podman's own failure: no image, no registry, no network yet
_START_TIMEOUT: Final = 900  # a slow pull, or a database that upgrades itself before it is healthy
_STOP_MARGIN: Final = 30


def _service_section(stack: Stack, service: Service, podman: Podman, entries: tuple[Entry, ...]) -> Iterator[Entry]:
    job = "service_completed_successfully" in _conditions(stack, service)
    if job:
        yield from (("Type", "oneshot"), ("RemainAfterExit", "yes"))
    yield from _restart(service, job=job, woken=service.kind == "web" and _sleeps(stack, service))
    yield "TimeoutStartSec", "infinity" if job else str(_START_TIMEOUT)
    if _sleeps(stack, service):
        # Who does not heed SIGTERM, as a first process that has no handler for it, is killed, and asleep all the same.
        yield "SuccessExitStatus", "137 143"
    if service.stop_grace_period is not None:
        yield "TimeoutStopSec", str(math.ceil(service.stop_grace_period) + _STOP_MARGIN)
    if service.stop_first:
        yield STOP_FIRST
    yield from _limits(service)
    yield from _keeps_address(stack, service)
    yield from _owns_directories(stack, service)
    for secret in service.env_secrets:
        if secret.built is not None:
            # When the service starts: so it follows a secret that was set anew, a changed text, and one taken back.
            yield "ExecStartPre", words(names.BUILD_SECRET, ",".join((secret.name, *secret.sources)), secret.built)
    yield from _ends(stack, service)
    yield from _listens(stack, service)
    if _others_wait_for_health(stack, service) and not podman.notify_healthy:
        yield "ExecStartPost", f"/usr/bin/podman wait --condition=healthy {service.name}"
    for variable, value in VARIABLES.items():
        if any(f"${{{variable}}}" in text for _, text in entries):
            yield "Environment", f'"{variable}={value}"'


def _listens(stack: Stack, service: Service) -> Iterator[Entry]:
    """How an app comes by a socket of its own: systemd passes one, or it makes one that is then shown to the proxy."""
    if service.listen is None:
        return
    yield LISTEN, service.listen
    if service.own_socket:
        yield "ExecStartPre", f"{names.LISTEN_PROGRAM} new {service.name}"
    else:
        # Of one that sleeps the proxy's socket is its ingress's, which wakes it.
        is_woken = _sleeps(stack, service)
        yield "Sockets", f"er-{'passed' if is_woken else 'ingress'}-{service.name}.socket"
        if is_woken:
            return
        yield "ExecStartPost", f"{names.LISTEN_PROGRAM} up {service.name}"
    yield "ExecStopPost", f"-{names.LISTEN_PROGRAM} gone {service.name}"


def _ends(stack: Stack, service: Service) -> Iterator[Entry]:
    """What the end of a public service is to the ingress before it."""
    if service.kind != "web":
        return
    if _sleeps(stack, service):
        # An ingress that is woken while this one stops must not take its network for that of the next.
        yield "ExecStop", f"-/usr/bin/rm -f {names.pidfile(stack.name, service.name)}"
    else:
        # A crash restarts the app and tells nobody; the ingress would still sit in the dead container's network.
        # There is one as well where the app had a port until now.
        yield "ExecStopPost", f"-systemctl --user --no-block stop er-ingress-{service.name}.service"


def _keeps_address(stack: Stack, service: Service) -> Iterator[Entry]:
    """The service has the same addresses after each start: a neighbour may have asked for them only once."""
    if service.networks:
        file = names.address_file(stack.name, service.name)
        number = names.host_numbers([other.name for other in stack.services])[service.name]
        networks = words(*(names.network(stack.name, attachment.network) for attachment in service.networks))
        yield "ExecStartPre", f"{facts.LIB}/address {file} {word(service.name)} {number} {networks}"
        # Read again before each command; before the first one it is not there yet.
        yield "EnvironmentFile", f"-{file}"
        yield "ExecStartPost", f"/usr/bin/rm -f {file}"


def _owns_directories(stack: Stack, service: Service) -> Iterator[Entry]:
    """The directories that the app fills are made, and their mounts get the option that gives them to its user."""
    if directories := names.data_directories(stack, service):
        owners = names.owners_file(stack.name, service.name)
        yield "ExecStartPre", f"{facts.LIB}/data {owners} {words(*directories)}"
        yield "EnvironmentFile", f"-{owners}"


def _restart(service: Service, *, job: bool, woken: bool) -> Iterator[Entry]:
    """A start that fails for want of an image is tried again whatever the policy; the pauses grow to a minute.

    What visitors wake is not tried again before the next one comes: those of now are told at once.
    """
    if woken:
        yield "Restart", "no"
        return
    policy = _RESTART[service.restart]
    yield "Restart", "on-failure" if job and policy == "always" else policy
    # The unit counts as still starting between attempts, so whatever comes after it waits on.
    yield "RestartMode", "direct"
    yield "RestartForceExitStatus", _PODMAN_FAILED
    yield "RestartSec", "1"
    yield "RestartSteps", "6"
    yield "RestartMaxDelaySec", "60"


def _limits(service: Service) -> Iterator[Entry]:
    """Limits on the unit's control group, in which the container lives: those that the user set, and no others.

    systemd sets them as far as the kernel has been given the controllers, and the service starts in any case; the same
    limits as arguments of podman make the start fail where one controller is missing.
    """
    limits = service.limits
    if limits.memory is not None:
        yield "MemoryMax", str(limits.memory)
    if limits.swap is not None:
        yield "MemorySwapMax", str(limits.swap)
    if limits.reserved is not None:
        yield "MemoryLow", str(limits.reserved)
    if limits.cpus is not None:
        yield "CPUQuota", f"{max(round(limits.cpus * 100), 1)}%"
    if limits.pids is not None:
        yield "TasksMax", str(limits.pids)


def _volume_unit(stack: Stack, volume: Volume, podman: Podman) -> Unit:
    entries = [("VolumeName", names.volume(stack.name, volume.name))]
    entries += [("Label", word(f"{key}={value}")) for key, value in volume.labels]
    filename = names.volume_unit(stack.name, volume.name)
    return _plain_unit(filename, f"{stack.name}: volume {volume.name}", Section("Volume", tuple(entries)), podman)


def _network_unit(stack: Stack, network: Network, podman: Podman) -> Unit:
    entries = [("NetworkName", names.network(stack.name, network.name))]
    entries += [(key, "true") for key in ("Internal", "IPv6") if getattr(network, key.lower())]
    filename = names.network_unit(stack.name, network.name)
    return _plain_unit(filename, f"{stack.name}: network {network.name}", Section("Network", tuple(entries)), podman)


def _plain_unit(filename: str, title: str, section: Section, podman: Podman) -> Unit:
    head = Section("Unit", (("Description", title),))
    return Unit(filename, (head, Section("Quadlet", defaults(podman)), section))
