"""The Auto Scaling group of a fleet: how many hosts there are, in which zones, and when one counts.

A host counts once its own first boot has said so, by the hook `er-launching`; one whose first boot fails, or says
nothing, is taken away again. One that is to go has the time of the hook `er-terminating` to finish its connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.api import Deadline
from builder.aws.resources.launch_template import LaunchTemplate, LaunchTemplateVersion
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.aws.resources.load_balancer import DRAIN, TargetGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request

IN_SERVICE: Final = "InService"
# Seconds that a balancer takes to pass visitors on to a new host: until then it does not count as one more.
WARMUP: Final = 300
# Seconds of a first boot, or of a drain, until the hook ends it.
_HOOK_SECONDS: Final = 900
# A hook that is not answered lets a host into service, unless it says ABANDON.
HOOKS: Final = (
    {
        "LifecycleHookName": "er-launching",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
        "HeartbeatTimeout": _HOOK_SECONDS,
        "DefaultResult": "ABANDON",
    },
    {
        "LifecycleHookName": "er-terminating",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "HeartbeatTimeout": max(_HOOK_SECONDS, DRAIN),
        "DefaultResult": "CONTINUE",
    },
)
POLICY: Final = "er-cpu"
_POLICY_TYPE: Final = "TargetTrackingScaling"
_ENDING_SECONDS: Final = 1800.0


class AutoScalingGroup(Resource):
    """One for a fleet."""

    part = "group"
    title = "Auto Scaling group"
    json_key = "auto_scaling_groups"
    id_field = "AutoScalingGroupName"
    dry_run = False
    shared = False
    listing, creation, removal = "DescribeAutoScalingGroups", "CreateAutoScalingGroup", "DeleteAutoScalingGroup"

    @classmethod
    def count(cls, request: Request) -> int:
        """One, for a fleet."""
        return 1 if request.spec.fleet else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:
        """How many hosts, and where."""
        fleet = request.spec.fleet
        if fleet is None:
            return ""
        zones = ", ".join(one.zone for one in prerequisites.subnets) if prerequisites else f"{request.zone_count} zones"
        return f"{fleet.min} to {fleet.max} hosts in {zones}, more above {fleet.cpu} % CPU"

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """The one of the fleet's name."""
        del filters
        found = api.items(cls.listing, AutoScalingGroupNames=[f"er-{name}"])
        return [one for one in found if tags.is_of(one, name)]

    @property
    def name(self) -> str:
        """As every part of the fleet is called."""
        return f"er-{self.request.name}"

    def _sizes(self) -> dict[str, int]:
        fleet = self.request.fleet
        return {"MinSize": fleet.min, "MaxSize": fleet.max}

    def _template(self) -> dict[str, str]:
        """The version by its number: only then a refresh can be rolled back."""
        (template,), (version,) = self.ids[LaunchTemplate.part], self.ids[LaunchTemplateVersion.part]
        return {"LaunchTemplateId": template, "Version": version}

    def parameters(self) -> dict[str, Any]:
        """Of CreateAutoScalingGroup."""
        return {
            "AutoScalingGroupName": self.name,
            "LaunchTemplate": self._template(),
            **self._sizes(),
            "DesiredCapacity": self.request.fleet.min,
            "VPCZoneIdentifier": ",".join(subnet.id for subnet in self.prerequisites.subnets),
            "TargetGroupARNs": [*self.ids[TargetGroup.part]],
            "HealthCheckType": "ELB",
            "HealthCheckGracePeriod": WARMUP,
            "DefaultInstanceWarmup": WARMUP,
            "InstanceMaintenancePolicy": {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200},
            "LifecycleHookSpecificationList": [*HOOKS],
            "Tags": [{**one, "PropagateAtLaunch": False} for one in self.own_tags()],
        }

    def create(self, api: Api) -> Ids:
        """Create the group if need be, else make its sizes and hooks what they should be; then its scaling policy."""
        if self.found:
            self._update(api, self.found[0])
            self._put_hooks(api)
        else:
            api.call(self.creation, **self.parameters())
            self.created.add(self.name)
        self._put_policy(api)
        return (self.name,)

    def _update(self, api: Api, group: Described) -> None:
        """Also its template, while no host is in service; else that is a refresh's to change, host by host."""
        wanted: dict[str, Any] = self._sizes()
        desired = min(max(group["DesiredCapacity"], wanted["MinSize"]), wanted["MaxSize"])
        wanted |= {"DesiredCapacity": desired, "VPCZoneIdentifier": self.parameters()["VPCZoneIdentifier"]}
        changed = {key: value for key, value in wanted.items() if group.get(key) != value}
        if not in_service(group) and version_of(group) != self._template()["Version"]:
            changed["LaunchTemplate"] = self._template()
        if changed:
            api.call("UpdateAutoScalingGroup", AutoScalingGroupName=self.name, **changed)

    def _put_hooks(self, api: Api) -> None:
        there = {
            one["LifecycleHookName"]: one for one in api.items("DescribeLifecycleHooks", AutoScalingGroupName=self.name)
        }
        for hook in HOOKS:
            found = there.get(str(hook["LifecycleHookName"]), {})
            if any(found.get(key) != value for key, value in hook.items()):
                api.call("PutLifecycleHook", AutoScalingGroupName=self.name, **hook)

    def _put_policy(self, api: Api) -> None:
        cpu = float(self.request.fleet.cpu)
        there = api.items("DescribePolicies", AutoScalingGroupName=self.name, PolicyNames=[POLICY])
        if [one.get("TargetTrackingConfiguration", {}).get("TargetValue") for one in there] != [cpu]:
            metric = {"PredefinedMetricType": "ASGAverageCPUUtilization"}
            tracked = {"PredefinedMetricSpecification": metric, "TargetValue": cpu}
            named = {"AutoScalingGroupName": self.name, "PolicyName": POLICY, "PolicyType": _POLICY_TYPE}
            api.call("PutScalingPolicy", **named, TargetTrackingConfiguration=tracked)

    @classmethod
    def deletion(cls, described: Sequence[Described]) -> list[tuple[str, dict[str, Any]]]:
        """With its hosts, which do not wait for their hooks."""
        return [(cls.removal, {cls.id_field: one[cls.id_field], "ForceDelete": True}) for one in described]

    @classmethod
    def wait_until_gone(cls, api: Api, described: Sequence[Described]) -> None:
        """It goes once its hosts have."""
        names = [one[cls.id_field] for one in described]
        gone = lambda: not api.items(cls.listing, AutoScalingGroupNames=names)  # noqa: E731
        Deadline(_ENDING_SECONDS, api.backoff).until(gone, "the hosts to end")

    @classmethod
    def line(cls, described: Described) -> str:
        """With the number of its hosts."""
        hosts = len(described.get("Instances", ()))
        return f"{described[cls.id_field]}, {hosts} host{'s' * (hosts != 1)}"


def in_service(group: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of its hosts that serve."""
    return tuple(one["InstanceId"] for one in group.get("Instances", ()) if one["LifecycleState"] == IN_SERVICE)


def version_of(made: Mapping[str, Any]) -> str:
    """The number of the template's version: of a group, or of one of its hosts."""
    return str(made.get("LaunchTemplate", {}).get("Version", ""))


def with_version(group: Mapping[str, Any], version: str) -> tuple[str, ...]:
    """The ids of its hosts that were made by this version, and serve."""
    return tuple(
        one["InstanceId"]
        for one in group.get("Instances", ())
        if one["LifecycleState"] == IN_SERVICE and version_of(one) == version
    )
