"""A failed build in one message: the step, its last output, what may be left, what to do, where the whole log is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.packer import leftovers
from builder.packer.steps import BOOT, EXPORT, START
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from builder.packer.leftovers import Leftover
    from builder.packer.steps import StepTracker


_LAST_LINES: Final = 12
# "er-bake: <step>: <what>" is the last word of a step in images/steps.
_STEP_FAILURE: Final = re.compile(r"^\s*er-bake: [\w-]+: (.*)$")
# What says no more than that there was a failure: the reason is what the builder complained of before.
_NO_REASON: Final = re.compile(
    r"build (was )?(halted|cancelled)|unexpected EOF|Script (exited|disconnected)|connection is shut"
)
_CRASH: Final = re.compile(r"PACKER CRASH|^panic: |^goroutine \d+ \[")
# Packer's note where it has no line of the template to show; left out.
_POINTLESS: Final = re.compile(r"\s*\(source code not available\)\s*")


class BakeError(UserError):
    """The build failed in `step`; `left` is what may have stayed at the provider."""

    def __init__(self, message: str, step: str, hint: str | None, left: tuple[Leftover, ...] = ()) -> None:
        super().__init__(message, hint)
        self.step = step
        self.left = left


def build_failed(
    tracker: StepTracker, seconds: float, code: int, log: Path, *, left: tuple[Leftover, ...] = (), target: str = ""
) -> BakeError:
    """What to say of a build that ended by itself."""
    # Hints for a provider are for its own steps: what apt says in one of ours is not the provider's.
    provider = target if tracker.step in (START, BOOT, EXPORT) else ""
    reasons = _lines(tracker.reasons)
    what = _reason(tracker, reasons, code)
    tail = _tail(tracker.output, "\n".join([what, *reasons]))
    message = f"baking failed in step {tracker.step} after {seconds:.0f} s: {what}"
    if tail:
        message += "\n  its last output:\n" + "\n".join(f"  | {line}" for line in tail)
    for line in leftovers.lines(left):
        message += f"\n  {line}"
    clean = f"er build-image --clean {target} shows and removes what stayed" if left else ""
    way = hint([what, *reasons, *tracker.output], log, provider, clean)
    return BakeError(message, tracker.step, way, left)


def hint(texts: Sequence[str], log: Path, target: str = "", more: str = "") -> str:
    """The way out when the texts tell it, and where to read on."""
    return "; ".join(filter(None, (find_hint(texts, target), more, f"the whole log: {log}")))


def exit_reason(code: int) -> str:
    """An exit code of Packer in words."""
    if code < 0:
        return f"Packer was killed by signal {-code}"
    # Packer's wrapper exits with 0 when its worker process was killed.
    return "Packer was killed" if code == 0 else f"Packer ended with exit code {code}"


def useful_lines(lines: Iterable[str]) -> list[str]:
    """What Packer says of a template, without what nobody can use."""
    return [line.rstrip() for line in lines if line.strip() and not _POINTLESS.fullmatch(line)]


def _reason(tracker: StepTracker, reasons: Sequence[str], code: int) -> str:
    """The reason, once: what the step says of itself, else Packer's final word, else the builder's last complaint."""
    telling = [line for line in reasons if not _NO_REASON.match(line)]
    crashed = any(_CRASH.search(line) for line in tracker.output) or any("unexpected EOF" in line for line in reasons)
    error = tracker.builder_error if not tracker.failed and (crashed or not telling) else ""
    what = _step_reason(tracker.output) or error or "; ".join(telling or reasons) or exit_reason(code)
    return f"{what} (and the plugin crashed)" if crashed else what


def _lines(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(line.strip() for text in texts for line in text.splitlines() if line.strip()))


def _step_reason(tail: Sequence[str]) -> str:
    """What a step of ours says of its own failure."""
    found = (_STEP_FAILURE.search(line) for line in reversed(tail))
    return next((match[1] for match in found if match), "")


def _tail(output: Sequence[str], message: str) -> list[str]:
    """The last lines that say something new, up to where a plugin's crash begins."""
    crash = next((number for number, line in enumerate(output) if _CRASH.search(line)), len(output))
    lines = (line.rstrip() for line in output[:crash] if line.strip("! ") and not _STEP_FAILURE.search(line))
    return [line for line in lines if line.strip() not in message][-_LAST_LINES:]


Row = tuple[str, str]

_LIMITED: Final = (
    "the provider counts too many requests: wait some minutes, and run fewer things with this login at once"
)


def _refused(where: str) -> str:
    return f"the provider refused the login: check {where}, and that it has not expired or been revoked"


def _rights(what: str) -> str:
    return f"the login is known, and may not do this: {what}"


def _full(what: str) -> str:
    return f"no room there just now: another {what} with --var-file, or later"


def _quota(where: str) -> str:
    return f"the account's limit is reached: remove what is not needed, or ask for more {where}"


def _unknown(what: str) -> str:
    return f"not known there, or not in this place: name another {what} with --var-file"


# By target: what its plugin says, as a pattern, and what to do. The first row that fits is shown.
BY_TARGET: Final[Mapping[str, tuple[Row, ...]]] = {
    "hetzner": (
        (r"\(unauthorized\b", _refused("HCLOUD_TOKEN")),
        (r"\((forbidden|token_readonly)\b", _rights("make a token that may read and write")),
        (r"\(rate_limit_exceeded\b", _LIMITED),
        (r"\(resource_limit_exceeded\b|limit reached", _quota("in the console, under Limits")),
        (r"\((resource_unavailable|placement_error|unavailable)\b", _full("location or server_type")),
        (
            r"Could not find server type|server type \S+ not found|unsupported location|server location disabled",
            _unknown("server_type or location"),
        ),
        (r"Could not find image|image \S* ?not found", _unknown("image")),
        (r"\(locked\b", "something is still at work on it: wait, then try again"),
    ),
    "digitalocean": (
        (r"\b401\b.*", _refused("DIGITALOCEAN_TOKEN")),
        (r"\b403\b", _rights("give the token write scopes for droplets, images, SSH keys and tags")),
        (r"\b429\b", _LIMITED),
        (r"\b422\b.*(limit|exceed)", _quota("in the control panel, under Settings")),
        (r"\b422\b.*(available|capacity|sold out)", _full("region or size")),
        (r"\b(404|422)\b", _unknown("image, size or region")),
    ),
    "linode": (
        (r"\[401\]", _refused("LINODE_TOKEN")),
        (r"\[403\]", _rights("give the token read and write access to Linodes, Images and Events")),
        (r"\[429\]", _LIMITED),
        (r"\[400\].*([Ll]imit|exceed)", _quota("from Support")),
        (r"[Nn]o (open|available) (slots|hosts)|capacity", _full("region")),
        (r"\[(400|404)\]", _unknown("region, instance_type or image")),
    ),
    "vultr": (
        (r"[Uu]nauthorized IP", "the key is for other addresses only: add this machine's to the key's access control"),
        (r"\b401\b|[Ii]nvalid API", _refused("VULTR_API_KEY")),
        (r"\b403\b", _rights("the key's user needs the right to manage servers and snapshots")),
        (r"\b429\b|[Rr]ate limit", _LIMITED),
        (r"maximum|limit", _quota("from Support")),
        (r"not available in the selected|[Uu]navailable|sold out", _full("region_id or plan_id")),
        (r"[Ii]nvalid (plan|region|os|OS)", _unknown("plan_id, region_id or os_id")),
    ),
    "scaleway": (
        (r"denied authentication|http error 401", _refused("SCW_ACCESS_KEY and SCW_SECRET_KEY, or the profile")),
        (
            r"insufficient permissions|http error 403",
            _rights("give its application InstancesFullAccess in this project"),
        ),
        (r"too many requests|http error 429", _LIMITED),
        (r"quota\(?s?\)? exceeded|quotas? exceeded", _quota("in the console, under Organization > Quotas")),
        (r"out of stock", _full("zone or commercial_type")),
        (r"is not found|not found|unknown (zone|region|commercial)", _unknown("image, commercial_type or zone")),
    ),
    "openstack": (
        (
            r"[Aa]uthentication failed|[Uu]nauthorized|\bgot 401\b|You must provide",
            _refused("OS_CLOUD or the OS_* variables"),
        ),
        (r"[Ff]orbidden|\bgot 403\b(?!.*[Qq]uota)", _rights("ask for a role that may make servers and images")),
        (r"[Qq]uota|\bgot 413\b", _quota("from the cloud")),
        (r"\bgot 429\b", _LIMITED),
        (r"No valid host", _full("flavor")),
        (r"[Nn]o suitable endpoint|No entry for|cloud .* does not exist", _unknown("cloud or region (OS_REGION_NAME)")),
        (
            r"[Uu]nable to find (flavor|image)|No image was found|\bgot 404\b|could not be found",
            _unknown("flavor or image"),
        ),
    ),
    "upcloud": (
        (r"AUTHENTICATION_FAILED|\b401\b", _refused("UPCLOUD_TOKEN, or the user and its right to use the API")),
        (r"TRIAL|FORBIDDEN|\b403\b", _rights("an account on trial may not, and a subaccount needs the permission")),
        (r"INSUFFICIENT_CREDITS|_LIMIT_REACHED|LIMIT", _quota("from Support")),
        (r"TOO_MANY_REQUESTS|\b429\b", _LIMITED),
        (r"RESOURCES_UNAVAILABLE|UNAVAILABLE", _full("zone or server_plan")),
        (r"_NOT_FOUND|_INVALID|failed to get storage", _unknown("zone, server_plan or image")),
    ),
    "exoscale": (
        (
            r"\b(401|403)\b|[Ff]orbidden|[Uu]nauthorized|[Ii]nvalid (API )?(key|request signature)",
            _refused("EXOSCALE_API_KEY and EXOSCALE_API_SECRET"),
        ),
        (r"\b429\b|[Tt]oo many", _LIMITED),
        (r"[Qq]uota|[Ll]imit", _quota("in the portal, under Organization > Quotas")),
        (r"capacity|[Nn]ot enough", _full("zone or instance_type")),
        (r"[Nn]ot found|[Nn]o template", _unknown("zone, image, instance_type or security_groups")),
        (
            r"Timeout waiting for SSH",
            "the security group lets no SSH in: name one that does, security_groups in a --var-file",
        ),
    ),
    "gcp": (
        (
            r"could not find default credentials",
            "log in with gcloud auth application-default login, or name a key's file in GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (
            r"invalid_grant|Error 401|invalid_rapt|cannot fetch token",
            _refused("gcloud's login, or the service account's key"),
        ),
        (
            r"has not been used in project|SERVICE_DISABLED",
            "switch the Compute Engine API on: gcloud services enable compute.googleapis.com",
        ),
        (r"rateLimitExceeded|Error 429", _LIMITED),
        (r"[Qq]uota '?|QUOTA_EXCEEDED", _quota("in the console, under IAM > Quotas")),
        (r"RESOURCE_POOL_EXHAUSTED|does not have enough resources", _full("zone or machine_type")),
        (r"Error 403|Required '.*' permission", _rights("give it roles/compute.instanceAdmin.v1 in the project")),
        (
            r"Error 404|was not found|[Cc]ould not find image|Unknown zone",
            _unknown("project_id, zone, machine_type or image_family"),
        ),
    ),
    "azure": (
        (
            r"AADSTS|invalid_client|unauthorized_client|az login",
            _refused("ARM_CLIENT_ID and ARM_CLIENT_SECRET, or az login"),
        ),
        (
            r"AuthorizationFailed|does not have authorization",
            _rights("give it the role Contributor in the subscription"),
        ),
        (r"ResourceGroupNotFound", "resource_group names a resource group that is not there: az group create"),
        (r"[Qq]uota", _quota("in the portal, under Quotas")),
        (r"SkuNotAvailable|AllocationFailed|OverconstrainedAllocation", _full("location or vm_size")),
        (r"TooManyRequests|\b429\b", _LIMITED),
        (
            r"PlatformImageNotFound|LocationNotAvailable|InvalidParameter|SubscriptionNotFound",
            _unknown("location, vm_size, image or subscription"),
        ),
    ),
    "proxmox": (
        (
            r"\b401\b|authentication failure|invalid token",
            _refused("PROXMOX_USERNAME with PROXMOX_TOKEN or PROXMOX_PASSWORD"),
        ),
        (
            r"\b403\b|Permission check failed",
            _rights("give it VM.Clone, VM.Config.*, VM.PowerMgmt and Datastore.AllocateSpace"),
        ),
        (
            r"x509|certificate",
            "its certificate is not one that this machine trusts: insecure_skip_tls_verify in a --var-file",
        ),
        (r"not enough|no space|out of space", _full("node or storage")),
        (r"not found|does not exist|no such|[Cc]an't find", _unknown("node, clone_vm or cloud_init_storage_pool")),
        (r"[Tt]imeout.*task|task.*timeout", "the clone took longer than task_timeout: give it more with --var-file"),
    ),
    "aws": (
        (
            r"failed to get shared config profile|profile .* (could not be found|not found)",
            "AWS_PROFILE names a profile that ~/.aws has not: aws configure list-profiles",
        ),
        (
            r"NoCredentialProviders|[Nn]o valid credential|no EC2 IMDS role|cached credentials|get credentials",
            "no usable credentials: aws configure, aws sso login, or AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY",
        ),
        (
            r"ExpiredToken|RequestExpired|token .* expired",
            "the login has expired: aws sso login, or new temporary credentials",
        ),
        (
            r"AuthFailure|InvalidClientTokenId|UnrecognizedClient|SignatureDoesNotMatch|\b401\b",
            _refused("the credentials (aws sts get-caller-identity)"),
        ),
        (r"UnauthorizedOperation|AccessDenied|\b403\b", _rights("the error names the action; a policy must allow it")),
        (r"RequestLimitExceeded|Throttling", _LIMITED),
        (r"VcpuLimitExceeded|(Instance|Resource)\w*LimitExceeded", _quota("in the console, under Service Quotas")),
        (
            r"InsufficientInstanceCapacity|Unsupported.*(Availability Zone|instance type)",
            _full("instance_type or subnet_id"),
        ),
        (r"VPCIdNotSpecified|No default (?:VPC|subnet)", "name a subnet of yours: --var-file with subnet_id"),
        (
            r"InvalidAMI|No AMI was found|InvalidSubnetID|InvalidParameterValue",
            _unknown("instance_type, subnet_id or region"),
        ),
        (
            r"no such host|dial tcp|connection refused|RequestError|i/o timeout",
            "no way to AWS from here: check the network, a proxy, and AWS_REGION",
        ),
    ),
}

# What happens with any target.
ANY_TARGET: Final[tuple[Row, ...]] = (
    (r"No space left on device", "the disk of the image is full: give it more with --size"),
    # Go's words, so Packer's own: it may meet the end of the disk before the watch over it does.
    (r"no space left on device", "the disk is full here: free some space there, or name another place with -o"),
    (
        r"Timeout waiting for SSH|ssh: .*unable to authenticate|ssh: handshake failed",
        "the machine never let Packer in: its boot takes too long, or its image does not take the key",
    ),
    (
        r"no such host|network is unreachable|dial tcp|i/o timeout",
        "no way there from here: check the network and a proxy",
    ),
    (
        r"Could not resolve|Temporary failure resolving|Failed to fetch|[Cc]ould not connect|Unable to connect",
        "the package mirror cannot be reached from the machine being baked: check its network and the mirror",
    ),
    (r"accelerator|KVM|/dev/kvm", "without a working KVM: --accelerator tcg"),
)


def find_hint(texts: Sequence[str], target: str = "") -> str | None:
    """The first row that fits one of the texts, the target's before those of all."""
    for pattern, hint in (*BY_TARGET.get(target, ()), *ANY_TARGET):
        if any(re.search(pattern, text) for text in texts):
            return hint
    return None
