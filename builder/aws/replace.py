"""`er launch --replace`: a new instance takes over from the old one, with its data volume and its address.

Where a replacement stands is read from the account: who has the volume and the address, who runs, and the tag er:part
of both instances. So each step looks first, and the same command goes on after it was ended anywhere. When the new
instance does not serve, everything goes back; that decision is a tag as well (er:given-up).

A new instance in another zone gets a copy of the volume, made from a snapshot: the old one keeps its own, so the way
back needs no data.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from builder.aws import dns, existing, readiness, tags
from builder.aws.api import Deadline, NotInTimeError, retry
from builder.aws.errors import AwsError, lacks_capacity
from builder.aws.launch import Launched, create
from builder.aws.request import look_up
from builder.aws.resources import RESOURCES, address, data_volume, instance
from builder.aws.resources.address import Address
from builder.aws.resources.data_volume import DataVolume
from builder.aws.resources.instance import Instance, Predecessor, Successor
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.aws.api import Api, Progress
    from builder.aws.existing import Pair
    from builder.aws.request import Prerequisites, Request, Settings
    from builder.aws.resources.instance import Server
    from builder.aws.resources.lifecycle import Ids, Resource


@dataclass(frozen=True, slots=True)
class Replaced:
    """A replacement that is done: `gap` is the seconds without service, `volume` has the data now."""

    launched: Launched
    pair: Pair
    snapshot: str
    gap: float
    volume: str


class WentBackError(UserError):
    """The new instance does not serve; the old one does again, with its data and its address."""


def replace_server(api: Api, request: Request, settings: Settings, progress: Progress) -> Replaced:
    """Replace the server, or go on with it. Raises UserError: then the old one serves, or the hint says what to do."""
    with progress.step("look around"):
        prerequisites = existing.look(api, look_up(api, request), replacing=True)
        pair = existing.find_pair(api, request)
    for text in prerequisites.warnings:
        progress.line(f"warning: {text}")
    run = _Run(api, prerequisites, settings, progress)
    if pair.given_up:
        progress.line("this replacement was given up: going back")
        run.go_back(pair)
        raise WentBackError(f"the replacement of {request.name} was given up", "the same command begins anew")
    if existing.has_run_since(api, pair):
        message = f"{pair.old.id} has run since its data was copied, and has newer data"
        run.give_up(pair, UserError(message, "the same command copies it anew"))
    pair, snapshot = run.ready(pair), ""
    try:
        since = existing.stopped_at(api, pair.old) or time.time()
        snapshot = run.switch(pair)
        launched = run.wait_until_it_serves(pair)
        gap = time.time() - since
    except (UserError, KeyboardInterrupt) as error:
        run.give_up(pair, error)
    try:
        volume = run.finish(pair)
    except UserError as error:
        message = f"the new server serves, and is not marked as the server yet: {error.message}"
        raise UserError(message, "the same command goes on") from error
    return Replaced(launched, pair, snapshot, gap, volume)


# The steps. Each may be repeated at any time.

_STOP_SECONDS: Final = 180.0
_FORCED_SECONDS: Final = 300.0
# Of a whole volume; the old instance serves meanwhile.
_AHEAD_SECONDS: Final = 24 * 3600.0
# Of the tag er:given-up, where visitors may have written to a copy.
_VISITED: Final = "visited"
_OTHER_ZONE: Final = (
    "try again, or another --type; `er launch --replace --other-zone` makes the server in another zone, with a copy of "
    "the volume, and is without service until a snapshot of what changed meanwhile is stored: minutes, not seconds"
)
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
            ids = self._create(pair)
            (new,) = instance.describe(self.api, ids[Successor.part])
        pair = replace(pair, new=new)
        if self._has_data(pair):
            return pair
        try:
            ahead = self._snapshot_ahead(pair) if pair.apart else ""
            with self.progress.step("first boot of the new one"):
                readiness.wait_for_disk(self.api, new, Deadline(self.settings.timeout, self.settings.backoff))
            if ahead:
                self._wait_until_stored(ahead, _AHEAD_SECONDS, "snapshot while the old one serves")
        except (UserError, KeyboardInterrupt) as error:
            self.give_up(pair, error)
        return pair

    def _create(self, pair: Pair) -> dict[str, Ids]:
        try:
            return create(self.api, self.prerequisites, self.settings.backoff, self.progress, _KINDS)
        except AwsError as error:
            if not lacks_capacity(error) or self.request.options.other_zone:
                raise
            raise UserError(f"{error.message}; the data is in {pair.zone}", _OTHER_ZONE) from error

    def _has_data(self, pair: Pair) -> bool:
        copy = data_volume.copy_for(self.api, self.request.name, _new(pair).id) if pair.apart else None
        volume = copy["VolumeId"] if copy else pair.volume
        return data_volume.holder(self.api, volume) == _new(pair).id

    def _snapshot_ahead(self, pair: Pair) -> str:
        """EBS stores what has changed since the last one: so the next one, after the stop, is small. Its id."""
        self.progress.line(
            f"{_new(pair).id} is in {_new(pair).zone}, the data is in {pair.zone}: it is copied by two snapshots, one "
            f"while {pair.old.id} serves, and one of what has changed since then, once it has stopped"
        )
        return self._snapshot(pair, tags.AHEAD)

    def _snapshot(self, pair: Pair, key: str) -> str:
        taken: str = self._again(
            partial(data_volume.take_snapshot, self.api, pair.volume, self.request.name, _new(pair).id, key)
        )
        return taken

    def _wait_until_stored(self, snapshot: str, seconds: float, step: str) -> None:
        deadline = Deadline(seconds, self.settings.backoff)
        with self.progress.step(step):
            data_volume.wait_until_stored(self.api, snapshot, deadline, self.progress.line)

    def _ask(self, pair: Pair) -> None:
        """EC2, about every step: who may do the first ones only would leave the server half-way."""
        tagged: dict[str, Any] = {
            "Resources": [pair.old.id],
            "Tags": [{"Key": tags.PART, "Value": Predecessor.part}],
        }
        asked = (
            ("CreateTags", tagged),
            ("StopInstances", {"InstanceIds": [pair.old.id]}),
            ("StartInstances", {"InstanceIds": [pair.old.id]}),
            ("CreateSnapshot", data_volume.snapshot_parameters(pair.volume, self.request.name, pair.old.id)),
            ("DetachVolume", {"VolumeId": pair.volume, "InstanceId": pair.old.id}),
            ("AttachVolume", data_volume.attach_parameters(pair.volume, pair.old.id)),
            ("AssociateAddress", {"AllocationId": pair.address, "InstanceId": pair.old.id}),
        )
        zones = [subnet.zone for subnet in self.prerequisites.subnets if subnet.zone != pair.zone]
        copy = partial(data_volume.copy_parameters, self.api, pair.volume, self.request.name)
        copied = [("CreateVolume", copy(zones[0], pair.old.id))] if zones else []
        copied += [("CreateTags", tagged | {"Resources": [pair.volume]})] if zones else []
        for name, parameters in (*asked, *copied):
            if refusal := self.api.permitted(name, **parameters):
                raise refusal

    def switch(self, pair: Pair) -> str:
        """Stop the old instance, which unmounts the volume; then volume and address move. The id of the snapshot."""
        with self.progress.step("stop the old one"):
            self._stop(pair.old)
        with self.progress.step("snapshot"):
            snapshot = self._snapshot(pair, tags.TAKER)
        if pair.apart:
            self._copy(pair, snapshot)
        else:
            with self.progress.step("move the data"):
                self._move(pair.volume, pair.old, _new(pair))
        with self.progress.step("move the address"):
            self._again(partial(address.associate, self.api, pair.address, _new(pair).id))
        return snapshot

    def _copy(self, pair: Pair, snapshot: str) -> None:
        """Give the new instance its copy, and wait for its first boot: what visitors write there cannot go back."""
        new, name = _new(pair), self.request.name
        self._wait_until_stored(snapshot, self.settings.timeout, "snapshot of what has changed")
        with self.progress.step("copy the data"):
            volume = self._again(partial(data_volume.create_copy, self.api, pair.volume, snapshot, name, new))
            self._again(partial(data_volume.attach, self.api, volume, new.id))
        with self.progress.step("first boot with the copy"):
            readiness.wait_for_console(self.api, new, Deadline(self.settings.timeout, self.settings.backoff))

    def wait_until_it_serves(self, pair: Pair) -> Launched:
        """First boot goes on once the volume is there."""
        return self._served(_new(pair), pair.ip, known=False)

    def finish(self, pair: Pair) -> str:
        """The new instance is the server. The old one first: of two servers nobody could tell which is which.

        The id of the volume that has the data.
        """
        volume = pair.volume
        if pair.apart and (copy := data_volume.copy_for(self.api, self.request.name, _new(pair).id)):
            volume = copy["VolumeId"]
            self._mark(pair.volume, data_volume.FORMER)
            self._mark(volume, DataVolume.part)
        for server, kind in ((pair.old, Predecessor), (_new(pair), Instance)):
            tagged = {"Resources": [server.id], "Tags": [{"Key": tags.PART, "Value": kind.part}]}
            self._again(partial(self.api.call, "CreateTags", **tagged))
        return volume

    def _is_server(self, old: Server) -> None:
        """It is one no more, where the replacement was nearly done."""
        if old.part != Instance.part:
            tagged = {"Resources": [old.id], "Tags": [{"Key": tags.PART, "Value": Instance.part}]}
            self._again(partial(self.api.call, "CreateTags", **tagged))

    def _mark(self, volume: str, part: str) -> None:
        self._again(partial(data_volume.mark, self.api, volume, part))

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
        new, value = _new(pair), pair.given_up or self._how_given_up(pair)
        given_up = {"Resources": [new.id], "Tags": [{"Key": tags.GIVEN_UP, "Value": value}]}
        self._again(partial(self.api.call, "CreateTags", **given_up))
        if pair.apart:
            # Never do both servers work at the same time: an app may send mail, or take from a queue.
            if self._has_data(pair):
                self._stop(new)
        elif data_volume.holder(self.api, pair.volume) != pair.old.id:
            with self.progress.step("move the data back"):
                self._stop(new)
                self._stop(pair.old)
                self._move(pair.volume, new, pair.old)
        with self.progress.step("move the address back"):
            self._again(partial(address.associate, self.api, pair.address, pair.old.id))
        with self.progress.step("start the old one"):
            self._start(pair.old)
        self._served(pair.old, pair.ip, known=True)
        self._is_server(pair.old)
        if pair.apart:
            self._drop_copy(pair, kept=value == _VISITED)
        self._terminate(new)

    def _how_given_up(self, pair: Pair) -> str:
        return _VISITED if pair.apart and address.holder(self.api, pair.address) == _new(pair).id else "yes"

    def _drop_copy(self, pair: Pair, *, kept: bool) -> None:
        """Delete it; but where visitors have written to it, it is kept, as nothing else has that."""
        new, name = _new(pair), self.request.name
        copy = data_volume.copy_for(self.api, name, new.id)
        if kept and copy:
            self._mark(copy["VolumeId"], data_volume.FORMER)
            self.progress.line(
                f"what was written on {new.id} is on {copy['VolumeId']} alone, which is kept: "
                f"er destroy {name} --region {self.api.region} --old removes it"
            )
        elif copy:
            with self.progress.step("delete the copy"):
                self._again(partial(data_volume.delete_copy, self.api, name, new.id))
        # A replacement that was nearly done had told them apart already.
        self._mark(pair.volume, DataVolume.part)

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


def _at(api: Api, server: Server, ip: str) -> Server | None:
    """The instance as it is now, once it has this address."""
    return next((now for now in instance.describe(api, [server.id]) if now.ipv4 == ip), None)


def _state(api: Api, server: Server) -> str:
    return next((now.state for now in instance.describe(api, [server.id])), "")


def _is_off(api: Api, server: Server) -> bool:
    """Somebody may have terminated it meanwhile; then it is not listed after a while."""
    return _state(api, server) in {"stopped", "terminated", ""}


# What is told.


def replaced_rows(done: Replaced) -> Iterator[tuple[str, str]]:
    """What has changed, each with a word for what it is; for a person."""
    yield "gap", f"without service for {done.gap:.0f} s"
    for boot in done.launched.first_boots:
        for fingerprint in sorted(boot.fingerprints):
            yield "host key", f"the host key of {boot.server.address} is new: {fingerprint}"
    pair = done.pair
    if done.volume != pair.volume:
        stays = f"{done.volume}, a copy of {pair.volume}, which stays as it was with {pair.old.id};"
        yield "data", f"{stays}\neach of its blocks is slow when it is read for the first time"
    yield "before", f"{pair.old.id} is stopped and kept, the data before the move is {done.snapshot}"
    yield (
        "next",
        f"once you are content: er destroy {pair.old.name} --region {done.launched.prerequisites.region} --old",
    )


def replaced_json(done: Replaced) -> dict[str, Any]:
    """The same for --json."""
    return {
        "replaced": done.pair.old.id,
        "snapshot": done.snapshot,
        "data_volume": done.volume,
        "copied_from": done.pair.volume if done.volume != done.pair.volume else None,
        "seconds_without_service": round(done.gap, 3),
    }
