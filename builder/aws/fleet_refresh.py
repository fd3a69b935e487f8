"""The hosts of a fleet come up, or are replaced by others, by AWS's own engine: this follows it and ends what fails.

AWS would try for ever: a host whose first boot fails is taken away and made anew. So the first such host ends it: where
nothing served before the group is set to no hosts, and where something did, that stays (rollback).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from builder.aws import console
from builder.aws.api import retry
from builder.aws.errors import AwsError
from builder.aws.resources.auto_scaling_group import AutoScalingGroup, in_service, version_of, with_version
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.aws.api import Api, Deadline, Progress
    from builder.aws.resources.lifecycle import Described

_PREFERENCES: Final = {
    "MinHealthyPercentage": 100,
    "MaxHealthyPercentage": 200,
    "SkipMatching": True,
    "AutoRollback": True,
    "ScaleInProtectedInstances": "Refresh",
    "StandbyInstances": "Terminate",
}
_ROLLING: Final = frozenset({"Pending", "InProgress", "Baking"})
_ENDED: Final = frozenset({"Successful", "Failed", "Cancelled", "RollbackFailed", "RollbackSuccessful"})
_IN_PROGRESS: Final = "InstanceRefreshInProgress"
# As Amazon EC2 Auto Scaling words an activity that makes a host.
_LAUNCHED: Final = re.compile(r"Launching a new EC2 instance: (i-[0-9a-f]+)")
_NOT_LAUNCHED: Final = frozenset({"Failed", "Cancelled"})
# Another's refresh, this one, and what is left after one that was started by somebody meanwhile.
_ROUNDS: Final = 4


def describe(api: Api, name: str) -> Described:
    """The group. Raises UserError where it is gone."""
    found = AutoScalingGroup.find(api, name)
    if not found:
        raise UserError(f"the Auto Scaling group of {name} is gone", "er launch makes it anew")
    return found[0]


class _Failures:
    """Watches for hosts that did not come up since it was made; those that another version made do not count."""

    def __init__(self, api: Api, name: str, version: str, progress: Progress) -> None:
        self._api, self._progress = api, progress
        self._group = f"er-{name}"
        others = (one for one in describe(api, name).get("Instances", ()) if version_of(one) != version)
        self._old = {one["InstanceId"] for one in others}
        self._known = {one["ActivityId"] for one in self._failed()}

    def _failed(self) -> list[Described]:
        found = self._api.items("DescribeScalingActivities", AutoScalingGroupName=self._group)
        return [one for one in found if one["StatusCode"] in _NOT_LAUNCHED]

    def new(self) -> str | None:
        """The id of the first; what AWS could not even begin is a line, as it goes on trying."""
        for one in sorted(self._failed(), key=lambda one: str(one.get("StartTime", ""))):
            if one["ActivityId"] in self._known:
                continue
            self._known.add(one["ActivityId"])
            launched = _LAUNCHED.match(one.get("Description", ""))
            if launched and launched[1] not in self._old:
                return launched[1]
            if not launched:
                self._progress.line(f"AWS could not make a host: {one.get('StatusMessage') or one.get('Cause', '')}")
        return None


def first_boot_failed(api: Api, instance_id: str, remains: str) -> UserError:
    """Of a host that did not come up, with the end of its console."""
    try:
        text = console.output(api, instance_id)
    except AwsError as error:
        text = f"(it cannot be read: {error.message})"
    failure = console.read(text).failure or "it did not say that it is ready in time"
    return UserError(
        f"the first boot of {instance_id} has failed: {failure}; {remains}",
        f"its console ends with:\n  {console.tail(text)}" if text else "its console says nothing",
    )


@dataclass(frozen=True, slots=True)
class Goal:
    """What all hosts of a fleet are to be made by: a version of its launch template."""

    fleet: str
    template: str
    version: str


def wait_until_up(api: Api, goal: Goal, deadline: Deadline, progress: Progress) -> tuple[str, ...]:
    """Wait until as many hosts of this version as are wanted are in service; their ids.

    Raises UserError for the first one that fails, where none is in service: then the group is set to no hosts.
    """
    failures = _Failures(api, goal.fleet, goal.version, progress)

    def up() -> tuple[str, ...] | None:
        group = describe(api, goal.fleet)
        serving = with_version(group, goal.version)
        if len(serving) >= group["DesiredCapacity"]:
            return serving
        if failed := failures.new():
            if not in_service(group):
                retry(partial(_stop, api, goal.fleet), api.backoff, progress.line)
                raise first_boot_failed(api, failed, "the group is set to 0 hosts, as AWS would try for ever")
            progress.line(f"{failed} did not come up, AWS tries another")
        return None

    return deadline.until(up, "the hosts to be in service") or ()


def _stop(api: Api, name: str) -> None:
    api.call("UpdateAutoScalingGroup", AutoScalingGroupName=f"er-{name}", MinSize=0, DesiredCapacity=0)


def needed(group: Mapping[str, Any], version: str) -> bool:
    """Whether hosts serve that another version made, or would make."""
    serving = in_service(group)
    return bool(serving) and (version_of(group) != version or {*serving} != {*with_version(group, version)})


def start(api: Api, goal: Goal) -> None:
    """Begin to replace all hosts that another version made, unless that is under way."""
    if in_progress(api, goal.fleet):
        return
    wanted = {"LaunchTemplate": {"LaunchTemplateId": goal.template, "Version": goal.version}}
    try:
        api.call(
            "StartInstanceRefresh",
            AutoScalingGroupName=f"er-{goal.fleet}",
            Strategy="Rolling",
            DesiredConfiguration=wanted,
            Preferences=_PREFERENCES,
        )
    except AwsError as error:
        if error.code != _IN_PROGRESS:
            raise


def in_progress(api: Api, name: str) -> Described | None:
    """The refresh that is under way."""
    found = api.items("DescribeInstanceRefreshes", AutoScalingGroupName=f"er-{name}")
    return next((one for one in found if one["Status"] not in _ENDED), None)


def roll(api: Api, goal: Goal, deadline: Deadline, progress: Progress) -> None:
    """Replace hosts until all are made by this version; one that is under way is followed first.

    Raises UserError when a host of the new version does not come up: then those of before serve on.
    """
    for _ in range(_ROUNDS):
        if not in_progress(api, goal.fleet):
            if not needed(describe(api, goal.fleet), goal.version):
                return
            retry(partial(start, api, goal), api.backoff, progress.line)
        if (current := in_progress(api, goal.fleet)) is not None:
            _follow(api, goal, current, deadline, progress)
    message = f"the hosts of {goal.fleet} are still not made by version {goal.version}"
    raise UserError(message, "the same command goes on")


def version_of_refresh(refresh: Mapping[str, Any]) -> str:
    """The number of the version that it is to bring hosts to."""
    return version_of(refresh.get("DesiredConfiguration", {}))


def status(refresh: Mapping[str, Any]) -> str:
    """How far it is, for a person."""
    how = f"{refresh['Status']}, {refresh.get('PercentageComplete', 0)} %"
    return f"refresh to version {version_of_refresh(refresh) or '?'}: {how}"


def _follow(api: Api, goal: Goal, current: Described, deadline: Deadline, progress: Progress) -> None:
    """Until it has ended. Raises UserError when it was for this version and has not done it."""
    name, identity = goal.fleet, current["InstanceRefreshId"]
    ours = version_of_refresh(current) == goal.version
    if not ours:
        progress.line(f"a refresh to version {version_of_refresh(current) or '?'} is under way: it is followed first")
    failures = _Failures(api, name, version_of_refresh(current), progress)
    failed: str | None = None
    said = ""

    def ended() -> Described | None:
        nonlocal failed, said
        refresh = _described(api, name, identity)
        if status(refresh) != said:
            said = status(refresh)
            progress.line(said)
        if failed is None and refresh["Status"] in _ROLLING and (failed := failures.new()):
            progress.line(f"{failed} did not come up: back to the version before")
            back = partial(api.delete, "RollbackInstanceRefresh", AutoScalingGroupName=f"er-{name}")
            retry(back, api.backoff, progress.line)
        return refresh if refresh["Status"] in _ENDED else None

    end = deadline.until(ended, "the refresh of the hosts") or {}
    if not ours or end.get("Status") == "Successful":
        return
    remains = _remains(describe(api, name))
    if failed:
        raise first_boot_failed(api, failed, remains)
    raise UserError(f"the refresh ended as {end['Status']}: {end.get('StatusReason') or 'no reason given'}; {remains}")


def _remains(group: Mapping[str, Any]) -> str:
    serving = len(in_service(group))
    hosts = "1 host" if serving == 1 else f"{serving} hosts"
    return f"{hosts} of version {version_of(group)} serve{'s' * (serving == 1)} on"


def _described(api: Api, name: str, identity: str) -> Described:
    (found,) = api.items("DescribeInstanceRefreshes", AutoScalingGroupName=f"er-{name}", InstanceRefreshIds=[identity])
    return found
