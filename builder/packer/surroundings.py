"""What a target's template takes from the caller's environment, and from what other parts of er expect of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.packer import credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.packer.request import Order

# By target: a variable of the template, and what gives it a value, the first that is set. Packer's plugins read
# credentials themselves, but not these.
_FROM: Final[Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "aws": (
        ("region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
        ("custom_endpoint_ec2", ("AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL")),
    ),
    "gcp": (
        ("project_id", ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT")),
        ("zone", ("CLOUDSDK_COMPUTE_ZONE", "GOOGLE_ZONE")),
    ),
    "scaleway": (("zone", ("SCW_DEFAULT_ZONE",)),),
    "exoscale": (("zone", ("EXOSCALE_ZONE",)),),
    "linode": (("region", ("LINODE_CLI_REGION",)),),
}


def variables(order: Order) -> dict[str, Any]:
    """Values for the template's variables."""
    found: dict[str, Any] = {}
    environment = credentials.complete(order.target.name, order.environment)
    for variable, names in _FROM.get(order.target.name, ()):
        value = next((environment[name] for name in names if environment.get(name)), None)
        if value is not None:
            found[variable] = value
    if order.target.name == "aws":
        from builder.aws import tags  # noqa: PLC0415 - of no other target

        # By these `er launch` finds it.
        found["tags"] = tags.image(order.spec.server.base, order.spec.server.arch)
    return found
