"""The short form: a stack of one public service, described in the spec itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.stack.model import Healthcheck, Limits, Mount, Secret, Service, Tmpfs, Volume

if TYPE_CHECKING:
    from typing import Any

    from builder.problems import Mark
    from builder.spec.stack_inputs import HealthcheckInput, StackInput

# The one service of such a stack.
SERVICE: Final = "web"


def service(given: StackInput, image: str, mark: Mark) -> Service:
    """The stack's only service. `image` is the normalised one."""
    return Service(
        name=SERVICE,
        image=image,
        kind="web",
        domains=tuple(given.domains or ([given.domain] if given.domain else [])),
        port=given.port,
        hardening=given.hardening,
        command=tuple(given.command) if given.command else None,
        environment=tuple(given.environment.items()),
        mounts=tuple(_mount(text) for text in given.volumes),
        tmpfs=tuple(_tmpfs(text) for text in given.tmpfs),
        healthcheck=_healthcheck(given.healthcheck),
        cap_add=tuple(given.cap_add),
        read_only=given.read_only,
        secrets=tuple(Secret(name) for name in given.secrets),
        limits=Limits(_number(given.memory), given.cpus, given.pids),
        max_body=_number(given.max_body),
        response_timeout=_number(given.response_timeout),
        mark=mark,
    )


def volumes(given: StackInput) -> tuple[Volume, ...]:
    """The volumes it names, each once."""
    return tuple(Volume(name) for name in dict.fromkeys(text.partition(":")[0] for text in given.volumes))


def _mount(text: str) -> Mount:
    source, target, *mode = text.split(":")
    return Mount("volume", source, target, read_only=mode == ["ro"])


def _tmpfs(text: str) -> Tmpfs:
    target, _, options = text.partition(":")
    return Tmpfs(target, tuple(options.split(",")) if options else ())


def _healthcheck(given: HealthcheckInput | None) -> Healthcheck | None:
    if given is None:
        return None
    shell = given.test[0] == "CMD-SHELL"
    return Healthcheck(
        test=tuple(given.test[1:] if given.test[0] in ("CMD", "CMD-SHELL") else given.test),
        shell=shell,
        interval=_number(given.interval),
        timeout=_number(given.timeout),
        retries=given.retries,
        start_period=_number(given.start_period),
    )


def _number(value: Any) -> Any:
    """A value whose rule made a number of it: pydantic's annotation still says text."""
    return value
