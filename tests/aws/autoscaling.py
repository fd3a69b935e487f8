"""A model of Amazon EC2 Auto Scaling and of a balancer's health checks, which moto lacks: the wire answers by it.

From AWS's documentation: a host waits at its hook until somebody completes it or its time-out does; it is registered
with the target groups when it comes into service, is `initial` there for minutes, and goes on getting connections for
two minutes after it was taken out. A refresh makes as many hosts beside those that are there as it may, lets each warm
up, and then takes the old ones away; one that is rolled back makes hosts of the version before. A launch whose hook
says ABANDON is made anew, for ever. An instance is one of moto's.

Time is AWS's seconds, by `clock`. The clock of most tests goes on by `TICK` with each call that asks how things are,
so that a run of minutes takes a blink and has the same calls every time. `Sped` is a clock for hosts that are booted.
"""

from __future__ import annotations

import base64
import copy
import itertools
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.exceptions
from botocore import xform_name
from moto.core.parse import QueryParser
from moto.core.serialize import QuerySerializer
from moto.core.utils import get_service_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGION: Final = "eu-central-1"
TICK: Final = 20.0
# A first boot, and a drain, of a host that is not really booted.
BOOT: Final = 60.0
DRAIN: Final = 300.0
# Seconds from the registration of a target to its first check, in turn; and from the end of one to when connections
# really cease (aws-load-balancer-controller#1834, containers-roadmap#470).
REGISTRATION: Final = (180.0, 300.0)
DEREGISTRATION: Final = 120.0
# A refresh that gets nowhere fails after an hour.
REFRESH_LIMIT: Final = 3600.0
_WAITS: Final = frozenset({"Pending:Wait", "Terminating:Wait"})


class ApiError(Exception):
    """What the service answers instead."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


class Sped:
    """A clock that runs `factor` times as fast as the wall's."""

    def __init__(self, factor: float) -> None:
        self._factor, self._since = factor, time.monotonic()

    def __call__(self) -> float:
        return (time.monotonic() - self._since) * self._factor


@dataclass
class Member:
    """A host of the group."""

    instance: str
    version: str
    zone: str
    state: str
    since: float
    activity: dict[str, Any]
    number: int
    in_service: float | None = None
    deregistered: float | None = None
    result: str | None = None

    @property
    def leaves(self) -> bool:
        return self.state.startswith("Terminating")


@dataclass
class Refresh:
    identity: str
    version: str
    before: str
    since: float
    status: str = "InProgress"
    percent: int = 0

    @property
    def target(self) -> str:
        return self.before if self.status == "RollbackInProgress" else self.version

    @property
    def active(self) -> bool:
        return self.status in {"InProgress", "RollbackInProgress"}


@dataclass
class Group:
    """As it was asked for, and its hosts."""

    parameters: dict[str, Any]
    hooks: dict[str, dict[str, Any]]
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    activities: list[dict[str, Any]] = field(default_factory=list)
    refreshes: list[Refresh] = field(default_factory=list)
    deleted: float | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def name(self) -> str:
        return str(self.parameters["AutoScalingGroupName"])

    @property
    def refresh(self) -> Refresh | None:
        return next((one for one in self.refreshes if one.active), None)

    @property
    def version(self) -> str:
        """What the next host is made by."""
        return self.refresh.target if self.refresh else str(self.parameters["LaunchTemplate"]["Version"])

    @property
    def staying(self) -> list[Member]:
        return [one for one in self.members if not one.leaves]


class AutoScaling:
    """`first_boot` says of a new host what it would tell its hook; None where a really booted host does that itself.

    `launched` and `ended` are told of each host, with its user-data; for whoever boots it.
    """

    def __init__(self, port_of_moto: int) -> None:
        self._url = f"http://127.0.0.1:{port_of_moto}"
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        self.groups: dict[str, Group] = {}
        self.first_boot: Callable[[str], str | None] = lambda _: "CONTINUE"
        self.drains = True
        self.sick: Callable[[str], bool] = lambda _: False
        self.launched: Callable[[str, bytes], None] = lambda *_: None
        self.ended: Callable[[str], None] = lambda _: None
        self._asked = 0.0
        self.clock: Callable[[], float] = lambda: self._asked

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """After the block all groups, and the time, are as they were before."""
        before, asked = copy.deepcopy(self.groups), self._asked
        try:
            yield
        finally:
            self.groups, self._asked = before, asked

    @property
    def _ec2(self) -> Any:
        return _client("ec2", self._url)

    # What is asked over the wire.

    def answers(self, service: str, operation: str) -> bool:
        """Whether the model answers it, and not moto."""
        return service == "autoscaling" or operation == "DescribeTargetHealth"

    def answer(self, service: str, operation: str, form: dict[str, str]) -> bytes:
        """The body of the answer; raises ApiError."""
        shape = _model("autoscaling" if service == "autoscaling" else "elbv2").operation_model(operation)
        said = QueryParser(shape).parse({"values": form})  # type: ignore[typeddict-item]
        with self._lock:
            if operation.startswith("Describe"):
                self._asked += TICK
            self.advance()
            result = getattr(self, f"_{xform_name(operation)}")(said)
        body = QuerySerializer(shape).serialize(result or {})["body"]
        return body.encode() if isinstance(body, str) else body

    def _group(self, said: dict[str, Any]) -> Group:
        name = said["AutoScalingGroupName"]
        if name not in self.groups:
            raise ApiError("ValidationError", f"AutoScalingGroup name not found - {name}")
        return self.groups[name]

    def _create_auto_scaling_group(self, said: dict[str, Any]) -> None:
        if said["AutoScalingGroupName"] in self.groups:
            raise ApiError("AlreadyExists", "AutoScalingGroup by this name already exists")
        template = said["LaunchTemplate"]
        self._template(template["LaunchTemplateId"], template["Version"])
        elb = _client("elbv2", self._url)
        elb.describe_target_groups(TargetGroupArns=said["TargetGroupARNs"])
        hooks = {one["LifecycleHookName"]: one for one in said.pop("LifecycleHookSpecificationList", ())}
        self.groups[said["AutoScalingGroupName"]] = Group({"DesiredCapacity": said["MinSize"], **said}, hooks)
        self.advance()

    def _update_auto_scaling_group(self, said: dict[str, Any]) -> None:
        group = self._group(said)
        if "LaunchTemplate" in said and group.refresh:
            raise ApiError("ResourceContention", "An instance refresh is in progress")
        new = {**group.parameters, **said}
        if not new["MinSize"] <= new["DesiredCapacity"] <= new["MaxSize"]:
            raise ApiError("ValidationError", "Desired capacity must be between the minimum and the maximum")
        group.parameters = new

    def _delete_auto_scaling_group(self, said: dict[str, Any]) -> None:
        group = self._group(said)
        if group.members and not said.get("ForceDelete"):
            raise ApiError("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances")
        if group.deleted is None:
            group.deleted = self.clock()

    def _describe_auto_scaling_groups(self, said: dict[str, Any]) -> dict[str, Any]:
        names = said.get("AutoScalingGroupNames") or list(self.groups)
        return {"AutoScalingGroups": [_shown(self.groups[name]) for name in names if name in self.groups]}

    def _put_lifecycle_hook(self, said: dict[str, Any]) -> None:
        group = self._group(said)
        group.hooks[said["LifecycleHookName"]] = {
            key: value for key, value in said.items() if key != "AutoScalingGroupName"
        }

    def _describe_lifecycle_hooks(self, said: dict[str, Any]) -> dict[str, Any]:
        group = self._group(said)
        return {"LifecycleHooks": [{**hook, "AutoScalingGroupName": group.name} for hook in group.hooks.values()]}

    def _complete_lifecycle_action(self, said: dict[str, Any]) -> None:
        group = self._group(said)
        waiting = [one for one in group.members if one.instance == said.get("InstanceId") and one.state in _WAITS]
        if not waiting or said["LifecycleHookName"] not in group.hooks:
            raise ApiError("ValidationError", "No active Lifecycle Action found")
        waiting[0].result = said["LifecycleActionResult"]
        self.advance()

    def _record_lifecycle_action_heartbeat(self, said: dict[str, Any]) -> None:
        for one in self._group(said).members:
            if one.instance == said.get("InstanceId") and one.state in _WAITS:
                one.since = self.clock()

    def _put_scaling_policy(self, said: dict[str, Any]) -> dict[str, Any]:
        self._group(said).policies[said["PolicyName"]] = said
        return {"PolicyARN": f"arn:aws:autoscaling:{REGION}:123456789012:scalingPolicy:{said['PolicyName']}"}

    def _describe_policies(self, said: dict[str, Any]) -> dict[str, Any]:
        names = said.get("PolicyNames")
        return {
            "ScalingPolicies": [
                one for one in self._group(said).policies.values() if not names or one["PolicyName"] in names
            ]
        }

    def _describe_scaling_activities(self, said: dict[str, Any]) -> dict[str, Any]:
        return {"Activities": list(reversed(self._group(said).activities))}

    def _start_instance_refresh(self, said: dict[str, Any]) -> dict[str, Any]:
        group = self._group(said)
        if group.refresh:
            raise ApiError("InstanceRefreshInProgress", "An Instance Refresh is already in progress")
        template = said["DesiredConfiguration"]["LaunchTemplate"]
        self._template(template["LaunchTemplateId"], template["Version"])
        before = str(group.parameters["LaunchTemplate"]["Version"])
        made = Refresh(str(uuid.uuid4()), str(template["Version"]), before, self.clock())
        group.refreshes.append(made)
        return {"InstanceRefreshId": made.identity}

    def _describe_instance_refreshes(self, said: dict[str, Any]) -> dict[str, Any]:
        group = self._group(said)
        wanted = said.get("InstanceRefreshIds")
        found = [one for one in reversed(group.refreshes) if not wanted or one.identity in wanted]
        return {"InstanceRefreshes": [_shown_refresh(group, one) for one in found]}

    def _rollback_instance_refresh(self, said: dict[str, Any]) -> dict[str, Any]:
        refresh = self._group(said).refresh
        if refresh is None or refresh.status != "InProgress":
            raise ApiError("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found")
        refresh.status = "RollbackInProgress"
        return {"InstanceRefreshId": refresh.identity}

    def _set_desired_capacity(self, said: dict[str, Any]) -> None:
        self._group(said).parameters["DesiredCapacity"] = said["DesiredCapacity"]

    def _describe_target_health(self, said: dict[str, Any]) -> dict[str, Any]:
        found = []
        for group in self.groups.values():
            if said["TargetGroupArn"] in group.parameters["TargetGroupARNs"]:
                found += [(one, self.health(one)) for one in group.members if one.in_service is not None]
        shown = [{"Target": {"Id": one.instance, "Port": 80}, "TargetHealth": {"State": state}} for one, state in found]
        return {"TargetHealthDescriptions": shown}

    # What goes on at AWS.

    def health(self, one: Member) -> str:
        """As the balancer finds it."""
        now = self.clock()
        if one.deregistered is not None:
            return "draining"
        registered = one.in_service if one.in_service is not None else now
        if now - registered < REGISTRATION[one.number % len(REGISTRATION)]:
            return "initial"
        return "unhealthy" if self.sick(one.instance) else "healthy"

    def gets_connections(self, group: str) -> list[str]:
        """The hosts that the balancer passes new connections on to; all that are registered where none is healthy."""
        now, members = self.clock(), self.groups[group].members
        late = [one for one in members if one.deregistered is not None and now - one.deregistered < DEREGISTRATION]
        healthy = [one for one in members if one.in_service is not None and self.health(one) == "healthy"]
        registered = [one for one in members if one.in_service is not None and one.deregistered is None]
        return [one.instance for one in (*(healthy or registered), *late)]

    def target_lifecycle_state(self, instance: str) -> str:
        """As the host's metadata has it: where it is to go."""
        for one in (one for group in self.groups.values() for one in group.members):
            if one.instance == instance:
                return "Terminated" if one.leaves else "InService"
        return "Terminated"

    def advance(self) -> None:
        """Let happen what has happened by now."""
        with self._lock:
            for group in list(self.groups.values()):
                # One thing leads to the next.
                for _ in range(100):
                    if not self._step(group):
                        break

    def _step(self, group: Group) -> bool:
        if group.deleted is not None:
            return self._delete(group)
        moved = sum(self._move(group, one) for one in list(group.members)) > 0
        return self._refresh(group) or self._size(group) or moved

    def _delete(self, group: Group) -> bool:
        for one in list(group.members):
            self._end(group, one)
        if group.deleted is not None and self.clock() - group.deleted >= TICK:
            del self.groups[group.name]
        return False

    def _hook(self, group: Group, transition: str) -> dict[str, Any] | None:
        wanted = f"autoscaling:EC2_INSTANCE_{transition}"
        return next((one for one in group.hooks.values() if one["LifecycleTransition"] == wanted), None)

    def _move(self, group: Group, one: Member) -> bool:
        waited, before = self.clock() - one.since, one.state
        if one.state == "Pending" and waited >= 10:
            self._set(one, "Pending:Wait" if self._hook(group, "LAUNCHING") else "InService")
        elif one.state == "Pending:Wait":
            self._boot(group, one, waited)
        elif one.state == "Terminating:Wait":
            hook = self._hook(group, "TERMINATING") or {}
            done = one.result or (self.drains and waited >= DRAIN)
            if done or waited >= hook.get("HeartbeatTimeout", 3600):
                self._end(group, one)
                return True
        elif one.state == "InService" and self.health(one) == "unhealthy":
            grace = group.parameters.get("HealthCheckGracePeriod", 0)
            if one.in_service is not None and self.clock() - one.in_service > grace:
                self._take_out(group, one)
        return one.state != before

    def _boot(self, group: Group, one: Member, waited: float) -> None:
        hook = self._hook(group, "LAUNCHING") or {}
        if one.result is None and waited >= BOOT:
            one.result = self.first_boot(one.instance)
        why = "Completed"
        if one.result is None and waited >= hook.get("HeartbeatTimeout", 3600):
            one.result, why = hook.get("DefaultResult", "ABANDON"), "Timed Out"
        if one.result == "CONTINUE":
            self._set(one, "InService")
            one.in_service = self.clock()
            one.activity |= {"StatusCode": "Successful", "EndTime": _date(self.clock()), "Progress": 100}
        elif one.result is not None:
            said = f"Instance failed to complete user's Lifecycle Action: Lifecycle Action {why} with ABANDON Result"
            one.activity |= {"StatusCode": "Cancelled", "StatusMessage": said, "EndTime": _date(self.clock())}
            self._end(group, one)

    def _set(self, one: Member, state: str) -> None:
        one.state, one.since, one.result = state, self.clock(), None

    def _take_out(self, group: Group, one: Member) -> None:
        """It is no target any more, and then has the time of its hook."""
        one.deregistered = self.clock() if one.in_service is not None else None
        self._set(one, "Terminating:Wait" if self._hook(group, "TERMINATING") and one.in_service is not None else "")
        if not one.state:
            self._end(group, one)

    def _end(self, group: Group, one: Member) -> None:
        group.members.remove(one)
        self._ec2.terminate_instances(InstanceIds=[one.instance])
        self.ended(one.instance)

    def _refresh(self, group: Group) -> bool:
        """The number of hosts beside those that are there, and those that go once others are warm."""
        refresh, desired = group.refresh, group.parameters["DesiredCapacity"]
        if refresh is None:
            return False
        if refresh.status == "InProgress" and self.clock() - refresh.since > REFRESH_LIMIT:
            refresh.status = "RollbackInProgress"
        new = [one for one in group.staying if one.version == refresh.target]
        old = [one for one in group.staying if one.version != refresh.target]
        if len(new) < desired:
            self._launch(group)
            return True
        warm = [one for one in new if self._is_warm(group, one)]
        refresh.percent = min(len(warm) * 100 // desired, 100) if desired else 100
        if len(warm) < desired:
            return False
        for one in old:
            self._take_out(group, one)
        if not any(one.version != refresh.target for one in group.members):
            refresh.percent, reached = 100, refresh.target
            refresh.status = "Successful" if refresh.status == "InProgress" else "RollbackSuccessful"
            group.parameters["LaunchTemplate"] = {**group.parameters["LaunchTemplate"], "Version": reached}
        return bool(old)

    def _is_warm(self, group: Group, one: Member) -> bool:
        warmup = group.parameters.get("DefaultInstanceWarmup", 0)
        return one.in_service is not None and self.clock() - one.in_service >= warmup

    def _size(self, group: Group) -> bool:
        if group.refresh:
            return False
        surplus = len(group.staying) - group.parameters["DesiredCapacity"]
        if surplus > 0:
            for one in sorted(group.staying, key=lambda one: one.number)[:surplus]:
                self._take_out(group, one)
        elif surplus < 0:
            self._launch(group)
        return bool(surplus)

    def _launch(self, group: Group) -> None:
        number = next(group.numbers)
        subnets = group.parameters["VPCZoneIdentifier"].split(",")
        subnet = self._ec2.describe_subnets(SubnetIds=[subnets[number % len(subnets)]])["Subnets"][0]
        template = group.parameters["LaunchTemplate"]
        data = self._template(template["LaunchTemplateId"], group.version)
        instance = self._run(data, subnet["SubnetId"])
        activity = {
            "ActivityId": str(uuid.uuid4()),
            "AutoScalingGroupName": group.name,
            "Description": f"Launching a new EC2 instance: {instance}",
            "Cause": "a difference between desired and actual capacity",
            "StartTime": _date(self.clock()),
            "StatusCode": "InProgress",
        }
        group.activities.append(activity)
        made = Member(instance, group.version, subnet["AvailabilityZone"], "Pending", self.clock(), activity, number)
        group.members.append(made)
        self.launched(instance, base64.b64decode(data["UserData"]))

    def _run(self, data: dict[str, Any], subnet: str) -> str:
        interface = {**data["NetworkInterfaces"][0], "SubnetId": subnet}
        given = {key: data[key] for key in ("ImageId", "InstanceType", "KeyName", "IamInstanceProfile") if key in data}
        made = self._ec2.run_instances(
            **given,
            MinCount=1,
            MaxCount=1,
            UserData=base64.b64decode(data["UserData"]),
            NetworkInterfaces=[interface],
            TagSpecifications=data["TagSpecifications"],
        )
        return str(made["Instances"][0]["InstanceId"])

    def _template(self, template: str, version: str) -> dict[str, Any]:
        try:
            found = self._ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[str(version)])
            return dict(found["LaunchTemplateVersions"][0]["LaunchTemplateData"])
        except (botocore.exceptions.ClientError, IndexError):
            raise ApiError("ValidationError", f"You must use a valid launch template version: {version}") from None


_model = cache(get_service_model)


@cache
def _client(service: str, url: str) -> Any:
    return boto3.session.Session("testing", "testing", region_name=REGION).client(service, endpoint_url=url)


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(1_800_000_000 + seconds, UTC)


def _shown(group: Group) -> dict[str, Any]:
    template = group.parameters["LaunchTemplate"]
    members = [
        {
            "InstanceId": one.instance,
            "AvailabilityZone": one.zone,
            "LifecycleState": one.state,
            "HealthStatus": "Healthy",
            "LaunchTemplate": {"LaunchTemplateId": template["LaunchTemplateId"], "Version": one.version},
            "ProtectedFromScaleIn": False,
        }
        for one in group.members
    ]
    deleting = {"Status": "Delete in progress"} if group.deleted is not None else {}
    return {**group.parameters, "Instances": members, "CreatedTime": _date(0), **deleting}


def _shown_refresh(group: Group, one: Refresh) -> dict[str, Any]:
    template = {"LaunchTemplateId": group.parameters["LaunchTemplate"]["LaunchTemplateId"], "Version": one.version}
    return {
        "InstanceRefreshId": one.identity,
        "AutoScalingGroupName": group.name,
        "Status": one.status,
        "PercentageComplete": one.percent,
        "DesiredConfiguration": {"LaunchTemplate": template},
    }
