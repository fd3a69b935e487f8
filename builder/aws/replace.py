"""`er launch --replace`: a new instance takes over from the old one, with its data volume and its address.

Where a replacement stands is read from the account: who has the volume and the address, who runs, and the tag er:part
of both instances. So each step looks first, and the same command goes on after it was ended anywhere. When the new
instance does not serve, everything goes back; that decision is a tag as well (er:given-up).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from builder.aws import dns, existing, readiness, tags
from builder.aws.api import Deadline, NotInTimeError, retry
from builder.aws.launch import Launched, create
from builder.aws.request import look_up
from builder.aws.resources import RESOURCES, data_volume, instance
from builder.aws.resources.address import Address
from builder.aws.resources.data_volume import DataVolume
from builder.aws.resources.instance import Instance, Predecessor, Successor
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.aws.api import Api, Progress
    from builder.aws.request import Prerequisites, Request, Settings
    from builder.aws.resources.instance import Server
    from builder.aws.resources.lifecycle import Described, Resource


@dataclass(frozen=True, slots=True)
class Pair:
    """The two instances of a replacement, and what moves between them: volume and address. `new` may not exist yet.

    `ip` is the address itself.
    """

    old: Server
    new: Server | None
    given_up: bool
    volume: str
    address: str
    ip: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """A replacement that is done: `gap` is the seconds without service."""

    launched: Launched
    old: Server
    snapshot: str
    gap: float


class WentBackError(UserError):
    """The new instance does not serve; the old one does again, with its data and its address."""


def replace_server(api: Api, request: Request, settings: Settings, progress: Progress) -> Replaced:
    """Replace the server, or go on with it. Raises UserError: then the old one serves, or the hint says what to do."""
    with progress.step("look around"):
        prerequisites = existing.look(api, look_up(api, request), replacing=True)
        pair = _look(api, request)
    for text in prerequisites.warnings:
        progress.line(f"warning: {text}")
    run = _Run(api, prerequisites, settings, progress)
    if pair.given_up:
        progress.line("this replacement was given up: going back")
        run.go_back(pair)
        raise WentBackError(f"the replacement of {request.name} was given up", "the same command begins anew")
    pair, snapshot = run.ready(pair), ""
    try:
        since = _stopped_at(api, pair.old) or time.time()
        snapshot = run.switch(pair)
        launched = run.wait_until_it_serves(pair)
        gap = time.time() - since
    except (UserError, KeyboardInterrupt) as error:
        run.give_up(pair, error)
    try:
        run.finish(pair)
    except UserError as error:
        message = f"the new server serves, and is not marked as the server yet: {error.message}"
        raise UserError(message, "the same command goes on") from error
    return Replaced(launched, pair.old, snapshot, gap)


# What there is.


def _look(api: Api, request: Request) -> Pair:
    """Raises UserError for what cannot be replaced."""
    found: dict[str, list[Described]] = {}
    for one in Instance.find_all(api, request.name):
        if instance.read(one).state not in instance.GONE:
            found.setdefault(tags.read(one).get(tags.PART, ""), []).append(one)
    new = next(iter(found.get(Successor.part, ())), None)
    if found.get(Instance.part) and (former := found.get(Predecessor.part)):
        raise _is_replaced(request.name, instance.read(former[0]), api.region)
    # Between its last two steps a replacement has a predecessor already, and no server yet.
    old = found.get(Instance.part) or (found.get(Predecessor.part, [])[-1:] if new else [])
    volumes, addresses = DataVolume.find(api, request.name), Address.find(api, request.name)
    if refusal := _refusal(request, [instance.read(one) for one in old], volumes, addresses):
        raise UserError(*refusal)
    return Pair(
        instance.read(old[0]),
        instance.read(new) if new else None,
        bool(new and tags.GIVEN_UP in tags.read(new)),
        volumes[0]["VolumeId"],
        addresses[0]["AllocationId"],
        addresses[0]["PublicIp"],
    )


def _is_replaced(name: str, former: Server, region: str) -> UserError:
    """The same command once more may be meant to go on: it would make another server."""
    return UserError(
        f"{name} was replaced, and {former.id} is kept: nothing is left to do",
        f"`er destroy {name} --region {region} --old` removes it; after that --replace makes another one",
    )


def _refusal(
    request: Request, old: list[Server], volumes: list[Described], addresses: list[Described]
) -> tuple[str, str] | None:
    name = request.name
    if len(old) != 1:
        what = f"{len(old)} servers are called {name}" if old else f"there is no server {name} here"
        return f"{what}: --replace is for one", "er servers lists what there is; er launch without --replace makes one"
    if not request.has_data_volume or not volumes:
        return (
            f"{name} has no volume for its data that could move to another server",
            "`data: {disk: auto}` in the spec gives a new server one; what this one has is on its own disk",
        )
    if not addresses:
        return (
            f"{name} has no Elastic IP that could move to another server",
            "`er launch --eip` gives it one, which changes its address",
        )
    if old[0].spot:
        return f"{name} is a Spot server, which cannot be stopped and started again", "er destroy, then er launch"
    return None


_STOPPED_AT: Final = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


def _stopped_at(api: Api, server: Server) -> float | None:
    """When it was stopped, in seconds since 1970; None while it runs."""
    (described,) = instance.described(api, [server.id])
    if instance.read(described).state not in instance.STOPPED:
        return None
    found = _STOPPED_AT.search(described.get("StateTransitionReason", ""))
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() if found else None


# The steps. Each may be repeated at any time.

_STOP_SECONDS: Final = 180.0
_FORCED_SECONDS: Final = 300.0
# Everything that a server needs, but for what moves.
_KINDS: Final[tuple[type[Resource], ...]] = tuple(
    Successor if kind is Instance else kind for kind in RESOURCES if kind not in (DataVolume, Address)
)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the command."""

    api: Api
    prerequisites: Prerequisites
    settings: Settings
    progress: Progress

    @property
    def request(self) -> Request:
        return self.prerequisites.request

    def ready(self, pair: Pair) -> Pair:
        """Make the new instance, and wait until it lacks nothing but the volume; else it is taken away again."""
        new = pair.new
        if new is None:
            self._ask(pair)
            ids = create(self.api, self.prerequisites, self.settings.backoff, self.progress, _KINDS)
            (new,) = instance.describe(self.api, ids[Successor.part])
        pair = replace(pair, new=new)
        if data_volume.holder(self.api, pair.volume) == new.id:
            return pair
        try:
            with self.progress.step("first boot of the new one"):
                readiness.wait_for_disk(self.api, new, Deadline(self.settings.timeout, self.settings.backoff))
        except (UserError, KeyboardInterrupt) as error:
            self.give_up(pair, error)
        return pair

    def _ask(self, pair: Pair) -> None:
        """EC2, about every step: who may do the first ones only would leave the server half-way."""
        tagged = {"Resources": [pair.old.id], "Tags": [{"Key": tags.PART, "Value": Predecessor.part}]}
        asked = (
            ("CreateTags", tagged),
            ("StopInstances", {"InstanceIds": [pair.old.id]}),
            ("StartInstances", {"InstanceIds": [pair.old.id]}),
            ("CreateSnapshot", data_volume.snapshot_parameters(pair.volume, self.request.name, pair.old.id)),
            ("DetachVolume", {"VolumeId": pair.volume, "InstanceId": pair.old.id}),
            ("AttachVolume", data_volume.attach_parameters(pair.volume, pair.old.id)),
            ("AssociateAddress", {"AllocationId": pair.address, "InstanceId": pair.old.id}),
        )
        for name, parameters in asked:
            if refusal := self.api.permitted(name, **parameters):
                raise refusal

    def switch(self, pair: Pair) -> str:
        """Stop the old instance, which unmounts the volume; then volume and address move. The id of the snapshot."""
        with self.progress.step("stop the old one"):
            self._stop(pair.old)
        with self.progress.step("snapshot"):
            taken = partial(data_volume.take_snapshot, self.api, pair.volume, self.request.name, _new(pair).id)
            snapshot: str = self._again(taken)
        with self.progress.step("move the data"):
            self._move(pair.volume, pair.old, _new(pair))
        with self.progress.step("move the address"):
            self._again(partial(_associate, self.api, pair.address, _new(pair).id))
        return snapshot

    def wait_until_it_serves(self, pair: Pair) -> Launched:
        """First boot goes on once the volume is there."""
        return self._served(_new(pair), pair.ip, known=False)

    def finish(self, pair: Pair) -> None:
        """The new instance is the server. The old one first: of two servers nobody could tell which is which."""
        for server, kind in ((pair.old, Predecessor), (_new(pair), Instance)):
            tagged = {"Resources": [server.id], "Tags": [{"Key": tags.PART, "Value": kind.part}]}
            self._again(partial(self.api.call, "CreateTags", **tagged))

    def give_up(self, pair: Pair, error: UserError | KeyboardInterrupt) -> NoReturn:
        """Decide, and go back. Raises WentBackError; UserError where the way back fails, with what to do then."""
        message = error.message if isinstance(error, UserError) else "interrupted"
        hint = (error.hint if isinstance(error, UserError) else None) or "`er launch --replace` begins anew"
        self.progress.line(f"{message}: going back")
        try:
            self.go_back(pair)
        except (UserError, KeyboardInterrupt) as back:
            why = back.message if isinstance(back, UserError) else "interrupted"
            raise UserError(
                f"{message}; and on the way back: {why}", "the same command goes on with the way back"
            ) from back
        raise WentBackError(f"{message}; {pair.old.name} is back on {pair.old.id}", hint) from error

    def go_back(self, pair: Pair) -> None:
        """Volume and address to the old instance, which serves again; the new one goes."""
        new = _new(pair)
        given_up = {"Resources": [new.id], "Tags": [{"Key": tags.GIVEN_UP, "Value": "yes"}]}
        self._again(partial(self.api.call, "CreateTags", **given_up))
        if data_volume.holder(self.api, pair.volume) != pair.old.id:
            with self.progress.step("move the data back"):
                self._stop(new)
                self._stop(pair.old)
                self._move(pair.volume, new, pair.old)
        with self.progress.step("move the address back"):
            self._again(partial(_associate, self.api, pair.address, pair.old.id))
        with self.progress.step("start the old one"):
            self._start(pair.old)
        self._served(pair.old, pair.ip, known=True)
        self._terminate(new)

    def _served(self, server: Server, ip: str, *, known: bool) -> Launched:
        """Wait until an instance shows the address that it was given, for its boot, and for every domain."""
        deadline = Deadline(self.settings.timeout, self.settings.backoff)
        server = deadline.until(partial(_at, self.api, server, ip), f"{server.id} to have {ip}") or server
        boot = readiness.wait_for_first_boot(
            self.api, server, self.request, self.settings, existing=known, deadline=deadline, progress=self.progress
        )
        sites = readiness.wait_for_sites(self.request, (boot,), deadline, self.progress)
        records = dns.records(self.request.domains, server.addresses)
        return Launched(self.prerequisites, (server,), records, (), (boot,), sites)

    def _start(self, server: Server) -> None:
        if _state(self.api, server) in instance.STOPPED:
            Deadline(_STOP_SECONDS, self.settings.backoff).until(partial(_is_off, self.api, server), "the stop")
            self._again(partial(self.api.call, "StartInstances", InstanceIds=[server.id]))
        self._again(partial(instance.wait_until_running, self.api, [server.id], self.settings.backoff))

    def _stop(self, server: Server) -> None:
        """Stop it as one shuts down, else as one pulls the plug, and say so."""
        if _state(self.api, server) not in instance.STOPPED | instance.GONE:
            self._again(partial(self.api.call, "StopInstances", InstanceIds=[server.id]))
        stopped = partial(_is_off, self.api, server)
        try:
            Deadline(_STOP_SECONDS, self.settings.backoff).until(stopped, f"{server.id} to stop")
        except NotInTimeError:
            self.progress.line(f"{server.id} does not shut down: it is switched off, as after a cut of power")
            self._again(partial(self.api.call, "StopInstances", InstanceIds=[server.id], Force=True))
            Deadline(_FORCED_SECONDS, self.settings.backoff).until(stopped, f"{server.id} to stop")

    def _move(self, volume: str, giver: Server, taker: Server) -> None:
        self._again(partial(data_volume.detach, self.api, volume, giver.id))
        self._again(partial(data_volume.attach, self.api, volume, taker.id))

    def _terminate(self, server: Server) -> None:
        with self.progress.step("take the new one away"):
            if instance.is_protected(self.api, server.id):
                unprotected = {"InstanceId": server.id, "DisableApiTermination": {"Value": False}}
                self._again(partial(self.api.call, "ModifyInstanceAttribute", **unprotected))
            for operation, parameters in Successor.deletion([{"InstanceId": server.id}]):
                self._again(partial(self.api.delete, operation, **parameters))
            instance.wait_until_terminated(self.api, [server.id], self.settings.backoff)

    def _again(self, work: Callable[[], Any]) -> Any:
        return retry(work, self.settings.backoff, self.progress.line)


def _new(pair: Pair) -> Server:
    if pair.new is None:
        raise ValueError("there is no new instance yet")
    return pair.new


def _associate(api: Api, allocation: str, instance_id: str) -> None:
    """An address that has it already stays as it is."""
    (found,) = api.items("DescribeAddresses", AllocationIds=[allocation])
    if found.get("InstanceId") != instance_id:
        api.call("AssociateAddress", AllocationId=allocation, InstanceId=instance_id, AllowReassociation=True)


def _at(api: Api, server: Server, ip: str) -> Server | None:
    """The instance as it is now, once it has this address."""
    return next((now for now in instance.describe(api, [server.id]) if now.ipv4 == ip), None)


def _state(api: Api, server: Server) -> str:
    return next((now.state for now in instance.describe(api, [server.id])), "")


def _is_off(api: Api, server: Server) -> bool:
    """Somebody may have terminated it meanwhile; then it is not listed after a while."""
    return _state(api, server) in {"stopped", "terminated", ""}


# What is told.


def plan_lines(api: Api, request: Request) -> Iterator[str]:
    """What a replacement would do, for a dry run; nothing is changed. Raises UserError for what cannot be replaced."""
    prerequisites = existing.look(api, look_up(api, request), replacing=True)
    pair = _look(api, request)
    verb = "would go back" if pair.given_up else "would go on" if pair.new else "would replace"
    yield f"  {verb}  {pair.old.id} by {pair.new.id if pair.new else 'a new server'}"
    yield f"  new server     {Successor.summary(prerequisites.request, prerequisites)}"
    yield f"  would move     {pair.volume} and {pair.address}"
    for text in prerequisites.warnings:
        yield f"  warning        {text}"


def replaced_lines(done: Replaced) -> Iterator[str]:
    """What has changed, for a person."""
    yield f"  without service for {done.gap:.0f} s"
    for boot in done.launched.first_boots:
        for fingerprint in sorted(boot.fingerprints):
            yield f"  the host key of {boot.server.address} is new: {fingerprint}"
    yield f"  {done.old.id} is stopped and kept, the data before the move is {done.snapshot}"
    yield f"  once you are content: er destroy {done.old.name} --region {done.launched.prerequisites.region} --old"


def replaced_json(done: Replaced) -> dict[str, Any]:
    """The same for --json."""
    return {"replaced": done.old.id, "snapshot": done.snapshot, "seconds_without_service": round(done.gap, 3)}
