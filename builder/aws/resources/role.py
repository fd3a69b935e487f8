"""The role of the servers, and the instance profile that gives it to them: where images come from Amazon ECR.

IAM knows no regions and no filters by tag: both are found by their name, and are er's when they carry its tags.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from builder import spec as specs
from builder.aws import tags
from builder.aws.errors import AwsError, is_denied, is_missing
from builder.aws.resources.lifecycle import Described, Ids, Resource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request

_POLICY_NAME: Final = "pull"
# Who takes the role.
_TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def name_of(server: str, region: str) -> str:
    """What role and profile are called: servers of one name in two regions have one each. At most 64 characters."""
    digest = hashlib.sha256(f"{server} {region}".encode()).hexdigest()[:8]
    return f"er-{server[:50]}-{digest}"


class _OfIam(Resource):
    """What role and profile have in common."""

    # The key of the description in the answers of IAM.
    answer_key: str
    dry_run = False

    @classmethod
    def count(cls, request: Request) -> int:
        """One, unless no role has anything to do, or the user has a profile."""
        needed = specs.role_policy(request.spec) or request.spec.fleet
        return 1 if needed and not request.options.profile_arn else 0

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """The one of this server. Who may not look for it is told so, and has none."""
        del filters
        try:
            return cls._find(api, name)
        except AwsError as error:
            if not is_denied(error):
                raise
            api.report(f"{error.message}: if {name} has a {cls.title} of er's, it is not seen, and stays")
            return []

    @classmethod
    def find_surely(cls, api: Api, name: str) -> list[Described]:
        """A fleet has one."""
        return cls._find(api, name)

    @classmethod
    def _find(cls, api: Api, server: str) -> list[Described]:
        try:
            found = api.call(cls.listing, **{cls.id_field: name_of(server, api.region)})[cls.answer_key]
        except AwsError as error:
            if not is_missing(error):
                raise
            return []
        ours = tags.read(found)
        return [found] if (ours.get(tags.PROJECT), ours.get(tags.SERVER)) == (tags.OURS, server) else []

    def find_existing(self, api: Api) -> list[Described]:
        """A launch has to know."""
        return self._find(api, self.request.name)

    @property
    def name(self) -> str:
        """The name of both."""
        return name_of(self.request.name, self.prerequisites.region)

    def _tags(self) -> list[dict[str, str]]:
        (found,) = self.tag_specifications(self.part)
        return list(found["Tags"])

    def create_one(self, api: Api) -> Described:
        """One call; the description is in its answer."""
        answer: Described = api.call(self.creation, **self.parameters())[self.answer_key]
        self.created.add(answer[self.id_field])
        return answer


class Role(_OfIam):
    """The role, which may fetch the images of the spec, and back up to its bucket, and nothing else.

    A host of a fleet may fetch its own fleet's secrets, too, and say to its own group that it is ready.
    """

    part = "role"
    title = "role"
    json_key = "roles"
    id_field = "RoleName"
    answer_key = "Role"
    listing, creation, removal = "GetRole", "CreateRole", "DeleteRole"

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """The repositories that it may pull from, and the bucket that it may back up to."""
        policy = specs.role_policy(request.spec) or {"Statement": []}
        resources = {one["Sid"]: one["Resource"] for one in policy["Statement"]}
        pulls = ", ".join(arn.partition("repository/")[2] for arn in resources.get("Pull", ()))
        stores = resources.get("Store", "").removeprefix("arn:aws:s3:::")
        fleet = ["may read the fleet's secrets and answer its lifecycle hooks"] if request.spec.fleet else []
        return " and ".join(
            [*[f"may pull {pulls}"] * bool(pulls), *[f"may back up to {stores}"] * bool(stores), *fleet]
        )

    def parameters(self) -> dict[str, Any]:
        """Of CreateRole."""
        return {
            "RoleName": self.name,
            "AssumeRolePolicyDocument": json.dumps(_TRUST),
            "Description": f"EasyRunner server {self.request.name}",
            "Tags": self._tags(),
        }

    def create(self, api: Api) -> Ids:
        """Create the role if need be, then make what it may do what it should be."""
        role = self.found[0] if self.found else self.create_one(api)
        wanted = self._wanted_policy()
        if self._policy(api) != wanted:
            api.call(
                "PutRolePolicy",
                RoleName=role["RoleName"],
                PolicyName=_POLICY_NAME,
                PolicyDocument=json.dumps(wanted),
            )
        return (role["RoleName"],)

    def _wanted_policy(self) -> dict[str, Any]:
        policy = specs.role_policy(self.request.spec) or {"Version": "2012-10-17", "Statement": []}
        fleet = _fleet_statements(self.request.name, self.prerequisites) if self.request.spec.fleet else []
        return {**policy, "Statement": [*policy["Statement"], *fleet]}

    def _policy(self, api: Api) -> object:
        if not self.found:
            return None
        try:
            answer = api.call("GetRolePolicy", RoleName=self.name, PolicyName=_POLICY_NAME)["PolicyDocument"]
        except AwsError as error:
            if not is_missing(error):
                raise
            return None
        return json.loads(unquote(answer)) if isinstance(answer, str) else answer

    @classmethod
    def deletion(cls, described: Sequence[Described]) -> list[tuple[str, dict[str, Any]]]:
        """Its policy, then the role."""
        names = [{"RoleName": one["RoleName"]} for one in described]
        policies = [("DeleteRolePolicy", {**name, "PolicyName": _POLICY_NAME}) for name in names]
        return [*policies, *((cls.removal, name) for name in names)]


def _fleet_statements(name: str, prerequisites: Prerequisites) -> list[dict[str, Any]]:
    """Two actions, each on what is this fleet's own."""
    place = f"{prerequisites.region}:{prerequisites.account}"
    secrets = f"arn:aws:ssm:{place}:parameter/er/{name}"
    group = f"arn:aws:autoscaling:{place}:autoScalingGroup:*:autoScalingGroupName/er-{name}"
    pairs = (
        ("Secrets", "ssm:GetParametersByPath", [secrets, f"{secrets}/*"]),
        ("Hook", "autoscaling:CompleteLifecycleAction", group),
    )
    return [{"Sid": sid, "Effect": "Allow", "Action": action, "Resource": where} for sid, action, where in pairs]


class InstanceProfile(_OfIam):
    """The instance profile: by it EC2 gives the role to a server."""

    part = "profile"
    title = "instance profile"
    json_key = "instance_profiles"
    id_field = "InstanceProfileName"
    answer_key = "InstanceProfile"
    listing, creation, removal = "GetInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile"

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """Always the same."""
        return "gives the servers that role"

    def parameters(self) -> dict[str, Any]:
        """Of CreateInstanceProfile."""
        return {"InstanceProfileName": self.name, "Tags": self._tags()}

    def create(self, api: Api) -> Ids:
        """Create the profile if need be, with the role in it."""
        profile = self.found[0] if self.found else self.create_one(api)
        if not profile.get("Roles"):
            api.call("AddRoleToInstanceProfile", InstanceProfileName=self.name, RoleName=self.ids[Role.part][0])
        return (profile["InstanceProfileName"],)

    @classmethod
    def deletion(cls, described: Sequence[Described]) -> list[tuple[str, dict[str, Any]]]:
        """Take the role out, then delete. What is only known by its name had its role put in by er, or none."""
        calls: list[tuple[str, dict[str, Any]]] = []
        for one in described:
            name = one["InstanceProfileName"]
            roles = [role["RoleName"] for role in one.get("Roles", [{"RoleName": name}])]
            taken = {"InstanceProfileName": name}
            calls += [("RemoveRoleFromInstanceProfile", {**taken, "RoleName": role}) for role in roles]
            calls.append((cls.removal, taken))
        return calls
