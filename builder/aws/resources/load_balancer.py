"""The balancer of a fleet, a Network Load Balancer, with its target groups and listeners.

It passes TCP on, and tells who the visitor is by the PROXY protocol: an IPv6 visitor of an IPv4 host would have the
balancer's own address otherwise. So the hosts need not see visitors' addresses as their packets', and do not: then all
packets come from the balancer's security group, and a host can reach itself by the balancer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.aws import tags
from builder.aws.api import Deadline
from builder.aws.errors import AwsError, is_missing
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.aws.resources.security_group import BALANCED, BalancerGroup
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request

# It is answered by whatever host name, and says 503 while a host starts or drains.
READY_PATH: Final = "/.well-known/easyrunner/ready"
# Seconds that a host goes on with its connections once it is to go: the balancer itself needs 120 s and more to notice.
DRAIN: Final = 300
_BALANCER_ATTRIBUTES: Final = {"load_balancing.cross_zone.enabled": "true"}
_TARGET_ATTRIBUTES: Final = {
    "proxy_protocol_v2.enabled": "true",
    "preserve_client_ip.enabled": "false",
    "deregistration_delay.timeout_seconds": str(DRAIN),
    "deregistration_delay.connection_termination.enabled": "true",
}
# Two checks of ten seconds: what is not ready gets nothing new after some half a minute.
_HEALTH_CHECK: Final = {
    "HealthCheckProtocol": "HTTP",
    "HealthCheckPort": str(facts.HTTP),
    "HealthCheckPath": READY_PATH,
    "HealthCheckIntervalSeconds": 10,
    "HealthCheckTimeoutSeconds": 6,
    "HealthyThresholdCount": 2,
    "UnhealthyThresholdCount": 2,
    "Matcher": {"HttpCode": "200"},
}
_RELEASE_SECONDS: Final = 600.0


class _OfBalancer(Resource):
    """What all three have in common: they are found by name or by their balancer, and have tags of their own."""

    # The key of the description in the answer of the creation.
    answer_key: str
    dry_run = False

    def create_one(self, api: Api, **more: Any) -> Described:
        """One call; the description is in its answer."""
        answer: Described = api.call(self.creation, **self.parameters(), **more)[self.answer_key][0]
        self.created.add(answer[self.id_field])
        return answer

    @classmethod
    def line(cls, described: Described) -> str:
        """Its name: an ARN is long."""
        return str(described[cls.id_field]).rpartition(":")[2]


class LoadBalancer(_OfBalancer):
    """One for a fleet."""

    part = "balancer"
    title = "load balancer"
    json_key = "load_balancers"
    id_field = "LoadBalancerArn"
    answer_key = "LoadBalancers"
    listing, creation, removal = "DescribeLoadBalancers", "CreateLoadBalancer", "DeleteLoadBalancer"

    @classmethod
    def count(cls, request: Request) -> int:
        """One, for a fleet."""
        return 1 if request.spec.fleet else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """Of which kind, and for which addresses."""
        families = "" if prerequisites is None else f", {_families(prerequisites)}"
        return f"network, internet-facing{families}, TCP with PROXY v2"

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """The one of the fleet's name. Raises UserError where it is not er's."""
        del filters
        return _named(api, cls, f"er-{name}", name)

    def parameters(self) -> dict[str, Any]:
        """Of CreateLoadBalancer."""
        zone_ids = self.prerequisites.zone_ids
        return {
            "Name": f"er-{self.request.name}",
            "Type": "network",
            "Scheme": "internet-facing",
            "IpAddressType": _families(self.prerequisites),
            "Subnets": [subnet.id for subnet in self.prerequisites.subnets],
            "SecurityGroups": [*self.ids[BalancerGroup.part]],
            "Tags": self.own_tags(**({tags.ZONES: " ".join(zone_ids)} if zone_ids else {})),
        }

    def create(self, api: Api) -> Ids:
        """Create it if need be, then make its attributes what they should be."""
        (balancer,) = super().create(api)
        _set_attributes(api, "LoadBalancer", balancer, _BALANCER_ATTRIBUTES)
        return (balancer,)

    @classmethod
    def wait_until_gone(cls, api: Api, described: Sequence[Described]) -> None:
        """Its network interfaces have its security group until they are gone."""
        groups = sorted({group for one in described for group in one.get("SecurityGroups", ())})
        if groups:
            filters = [{"Name": "group-id", "Values": groups}]
            gone = lambda: not api.items("DescribeNetworkInterfaces", Filters=filters)  # noqa: E731
            Deadline(_RELEASE_SECONDS, api.backoff).until(gone, "the balancer to let go of its addresses")


def _families(prerequisites: Prerequisites) -> str:
    """Where both subnets have IPv6 blocks, visitors come by both."""
    return "dualstack" if all(subnet.ipv6 for subnet in prerequisites.subnets) else "ipv4"


class TargetGroup(_OfBalancer):
    """One for each port: who is asked whether it is ready, and how connections are passed on."""

    part = "target-group"
    title = "target group"
    json_key = "target_groups"
    id_field = "TargetGroupArn"
    answer_key = "TargetGroups"
    listing, creation, removal = "DescribeTargetGroups", "CreateTargetGroup", "DeleteTargetGroup"

    @classmethod
    def count(cls, request: Request) -> int:
        """One for each port, in a fleet."""
        return len(BALANCED) if request.spec.fleet else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """The ports, and the check."""
        return f"TCP {' and '.join(map(str, BALANCED))}, checked by http://HOST{READY_PATH}"

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """Those of the fleet's name, in the order of their ports. Raises UserError where one is not er's."""
        del filters
        return [one for port in BALANCED for one in _named(api, cls, f"er-{name}-{port}", name)]

    def parameters(self) -> dict[str, Any]:
        """Of CreateTargetGroup, but for name and port."""
        return {
            "Protocol": "TCP",
            "VpcId": self.prerequisites.subnet.vpc,
            "TargetType": "instance",
            **_HEALTH_CHECK,
            "Tags": self.own_tags(),
        }

    def create(self, api: Api) -> Ids:
        """Create those that are missing, then make their attributes what they should be; by port."""
        by_port = {one["Port"]: one for one in self.found}
        for port in BALANCED:
            if port not in by_port:
                by_port[port] = self.create_one(api, Name=f"er-{self.request.name}-{port}", Port=port)
        groups = self.usable(by_port[port] for port in BALANCED)
        for group in groups:
            _set_attributes(api, "TargetGroup", group, _TARGET_ATTRIBUTES)
        return groups


class Listener(_OfBalancer):
    """One for each port. They go with their balancer."""

    part = "listener"
    title = "listener"
    json_key = "listeners"
    id_field = "ListenerArn"
    answer_key = "Listeners"
    listing, creation, removal = "DescribeListeners", "CreateListener", "DeleteListener"

    @classmethod
    def count(cls, request: Request) -> int:
        """One for each port, in a fleet."""
        return len(BALANCED) if request.spec.fleet else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """The ports."""
        return f"TCP {' and '.join(map(str, BALANCED))}"

    def find_existing(self, api: Api) -> list[Described]:
        """Those of this balancer."""
        balancers = self.ids.get(LoadBalancer.part, ())
        found = [one for balancer in balancers for one in api.items(self.listing, LoadBalancerArn=balancer)]
        return _with_tags(api, self.id_field, found)

    def parameters(self) -> dict[str, Any]:
        """Of CreateListener, but for port and target group."""
        (balancer,) = self.ids[LoadBalancer.part]
        return {"LoadBalancerArn": balancer, "Protocol": "TCP", "Tags": self.own_tags()}

    def create(self, api: Api) -> Ids:
        """Create those that are missing."""
        by_port = {one["Port"]: one for one in self.found}
        for port, group in zip(BALANCED, self.ids[TargetGroup.part], strict=True):
            if port not in by_port:
                actions = [{"Type": "forward", "TargetGroupArn": group}]
                by_port[port] = self.create_one(api, Port=port, DefaultActions=actions)
        return self.usable(by_port.values())


def _named(api: Api, kind: type[_OfBalancer], name: str, server: str) -> list[Described]:
    """The balancer or target group of this name; none where there is none."""
    try:
        found = _with_tags(api, kind.id_field, api.items(kind.listing, Names=[name]))
    except AwsError as error:
        if not is_missing(error):
            raise
        return []
    if any(not tags.is_of(one, server) for one in found):
        raise UserError(
            f"there is a {kind.title} {name}, and it is not er's", "remove it, or give the server another name"
        )
    return found


def _with_tags(api: Api, id_field: str, found: list[Described]) -> list[Described]:
    """Descriptions of balancers have no tags: they are asked for by themselves."""
    if not found:
        return []
    answers = api.items("DescribeTags", ResourceArns=[one[id_field] for one in found])
    by_arn = {one["ResourceArn"]: one["Tags"] for one in answers}
    return [{**one, "Tags": by_arn.get(one[id_field], [])} for one in found]


def _set_attributes(api: Api, kind: str, arn: str, wanted: dict[str, str]) -> None:
    """Of a LoadBalancer or a TargetGroup; those that are as they should be are left alone."""
    named = {f"{kind}Arn": arn}
    there = {one["Key"]: one["Value"] for one in api.items(f"Describe{kind}Attributes", **named)}
    if changed := {key: value for key, value in wanted.items() if there.get(key) != value}:
        api.call(f"Modify{kind}Attributes", **named, Attributes=tags.as_list(changed))


def unhealthy(api: Api, groups: Sequence[str], hosts: Sequence[str]) -> dict[str, str]:
    """Of these hosts those that a target group does not find healthy, each with its state there in words."""
    found: dict[str, str] = {}
    for group in groups:
        answers = api.items("DescribeTargetHealth", TargetGroupArn=group)
        states = {one["Target"]["Id"]: one.get("TargetHealth", {}) for one in answers}
        for host in hosts:
            health = states.get(host, {"State": "not registered"})
            if health.get("State") != "healthy":
                found[host] = " ".join(filter(None, (health.get("State"), health.get("Description"))))
    return found
