"""Amazon ECR's private registries by their host names: account, region, and what may be fetched from them by IAM."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.oci import image_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

USERNAME: Final = "AWS"
"""Who logs in there, always."""
PUBLIC: Final = "public.ecr.aws"
"""Its other registry, whose images are anybody's."""

# With dots the name that there has always been, with hyphens the one that has IPv6 too.
_HOST: Final = re.compile(
    r"(?P<account>[0-9]{12})\.dkr(?:\.ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?P<china>\.cn)?"
    r"|-ecr(?P<fips6>-fips)?\.(?P<region6>[a-z0-9-]+)\.on\.(?:aws|(?P<china6>amazonwebservices\.com\.cn)))"
)


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry of an account in a region; `fips`: by its endpoint with validated cryptography."""

    account: str
    region: str
    fips: bool
    partition: str

    @property
    def name(self) -> str:
        """The host name with dots, which every program for ECR knows; a password is good for all its names."""
        china = ".cn" if self.partition == "aws-cn" else ""
        return f"{self.account}.dkr.ecr{'-fips' if self.fips else ''}.{self.region}.amazonaws.com{china}"

    def arn(self, repository: str) -> str:
        """Of one of its repositories."""
        return f"arn:{self.partition}:ecr:{self.region}:{self.account}:repository/{repository}"


def registry(host: str) -> Registry | None:
    """The registry of this host name; None for all others."""
    found = _HOST.fullmatch(host)
    if found is None:
        return None
    region = found["region"] or found["region6"]
    china = found["china"] or found["china6"]
    partition = "aws-cn" if china else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    return Registry(found["account"], region, bool(found["fips"] or found["fips6"]), partition)


# What a pull takes; the login itself cannot be limited to a repository.
_PULL: Final = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


def pull_statements(images: Iterable[str]) -> list[dict[str, Any]]:
    """Of an IAM policy, what lets a role fetch these images of ECR, and nothing else; images are normalised."""
    references = [image_reference.split(image) for image in images]
    arns = {found.arn(one.path) for one in references if (found := registry(one.registry))}
    return [
        {"Sid": "LogIn", "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
        {"Sid": "Pull", "Effect": "Allow", "Action": list(_PULL), "Resource": sorted(arns)},
    ]
