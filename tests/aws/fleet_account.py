"""All that a fleet has at AWS, by names instead of ids, so that what two runs have made can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account


def inventory(er: Er, account: Account) -> dict[str, object]:
    """Equal for two accounts that have the same parts, each as often, as they are set and as they hang together."""
    return {
        "security groups": _security_groups(account),
        "key pairs": account.key_pairs(),
        "file systems": _file_systems(account),
        "roles": {role: account.iam.list_role_policies(RoleName=role)["PolicyNames"] for role in account.roles()},
        "profiles": {
            one["InstanceProfileName"]: [role["RoleName"] for role in one["Roles"]] for one in account.profiles()
        },
        "templates": _templates(account),
        "balancers": _balancers(account),
        "target groups": _target_groups(account),
        "groups": {name: _group(er, name) for name in er.wire.autoscaling.groups},
        "hosts": sorted(one["ImageId"] for one in account.instances()),
        "addresses": len(account.addresses()),
        "records": sorted(account.aliases()),
        "secrets": account.parameters(),
    }


def _security_groups(account: Account) -> Sequence[object]:
    names = {one["GroupId"]: one["GroupName"] for one in account.groups()}

    def rules(permissions: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
        rows = []
        for one in permissions:
            sources = [each["CidrIp"] for each in one["IpRanges"]]
            sources += [each["CidrIpv6"] for each in one["Ipv6Ranges"]]
            sources += [names[each["GroupId"]] for each in one["UserIdGroupPairs"]]
            rows += [(one["IpProtocol"], one["FromPort"], source) for source in sources]
        return sorted(rows)

    return sorted((one["GroupName"], rules(one["IpPermissions"])) for one in account.groups())


def _file_systems(account: Account) -> Sequence[object]:
    return [
        sorted(
            target["AvailabilityZoneName"]
            for target in account.efs.describe_mount_targets(FileSystemId=one["FileSystemId"])["MountTargets"]
        )
        for one in account.efs.describe_file_systems()["FileSystems"]
    ]


def _templates(account: Account) -> Sequence[object]:
    """The images of their versions."""
    return [
        [
            version["LaunchTemplateData"]["ImageId"]
            for version in account.ec2.describe_launch_template_versions(LaunchTemplateId=one["LaunchTemplateId"])[
                "LaunchTemplateVersions"
            ]
        ]
        for one in account.ec2.describe_launch_templates()["LaunchTemplates"]
    ]


def _pairs(found: list[dict[str, str]]) -> list[tuple[str, str]]:
    return sorted((one["Key"], one["Value"]) for one in found)


def _balancers(account: Account) -> Sequence[object]:
    """With their listeners, by the names of the target groups."""
    names = {
        one["TargetGroupArn"]: one["TargetGroupName"] for one in account.elb.describe_target_groups()["TargetGroups"]
    }
    found = []
    for one in account.elb.describe_load_balancers()["LoadBalancers"]:
        arn = one["LoadBalancerArn"]
        attributes = account.elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
        listeners = account.elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]
        to = sorted((each["Port"], names[each["DefaultActions"][0]["TargetGroupArn"]]) for each in listeners)
        found.append((one["LoadBalancerName"], len(one["AvailabilityZones"]), _pairs(attributes), to))
    return found


def _target_groups(account: Account) -> Sequence[object]:
    def attributes(arn: str) -> list[tuple[str, str]]:
        return _pairs(account.elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"])

    found = account.elb.describe_target_groups()["TargetGroups"]
    return sorted((one["TargetGroupName"], attributes(one["TargetGroupArn"])) for one in found)


def _group(er: Er, name: str) -> dict[str, object]:
    group = er.wire.autoscaling.groups[name]
    numbers = ("MinSize", "MaxSize", "DesiredCapacity")
    return {
        **{key: group.parameters[key] for key in numbers},
        "version": group.parameters["LaunchTemplate"]["Version"],
        "target groups": len(group.parameters["TargetGroupARNs"]),
        "hooks": sorted(group.hooks),
        "policies": sorted(group.policies),
        "versions of hosts": sorted(one.version for one in group.members),
    }
