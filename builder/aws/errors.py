"""The errors of AWS: a table by the code of the API's error, with a message and a hint for each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from builder.problems import UserError


class AwsError(UserError):
    """A call failed. `transient` ones may pass when repeated; of an `unsure` one nobody knows whether it was done."""

    def __init__(
        self, message: str, hint: str | None, *, code: str = "", transient: bool = False, unsure: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.code = code
        self.transient = transient
        self.unsure = unsure


@dataclass(frozen=True, slots=True)
class Row:
    """The texts for codes that match `codes`. Fields: operation, region, code, action, said (the API's own words)."""

    codes: str
    message: str
    hint: str | None = None
    transient: bool = False
    unsure: bool = False


_DENIED: Final = r"UnauthorizedOperation|AccessDenied(Exception)?|.*\.AccessDenied"
# One zone has none, others may. A subnet may be out of addresses, and a type is not in every zone.
_NO_CAPACITY: Final = r"Insufficient(Instance|Host|Free|Reserved).*|Unsupported"
# er's own: EC2 says InvalidParameterValue of an instance profile that it does not know, or not yet.
UNKNOWN_PROFILE: Final = "InvalidParameterValue.IamInstanceProfile"
# er's own: Amazon EC2 Auto Scaling says ValidationError of a group that it does not know.
_NO_GROUP: Final = "AutoScalingGroup.NotFound"
_CREDENTIALS_HINT: Final = "`aws sts get-caller-identity` tells whether they work; AWS_PROFILE chooses others"
_QUOTA_HINT: Final = (
    "`er servers` shows what runs; ask for more in the console under Service Quotas, or take another region"
)
ROWS: Final = (
    Row(
        _DENIED,
        "these credentials may not do {action}",
        "the policy in docs/aws.md allows all that er does; a limit set by your organisation may refuse it too",
    ),
    Row(
        r"RequestExpired|ExpiredToken(Exception)?|ExpiredTokenException|SSOTokenExpired|UnauthorizedSSOTokenError"
        r"|SSOTokenLoadError|TokenRetrievalError",
        "the AWS credentials have expired",
        "log in again, as with `aws sso login`, or renew the keys in the environment; is this machine's clock right?",
    ),
    Row(
        r"AuthFailure|InvalidClientTokenId|UnrecognizedClientException|SignatureDoesNotMatch|IncompleteSignature",
        "AWS does not accept these credentials in {region}",
        f"{_CREDENTIALS_HINT}; a region that is off by default has to be enabled for the account first",
    ),
    Row(
        r"OptInRequired|Blocked|PendingVerification",
        "the AWS account may not be used here yet: {said}",
        "look into the account's console: a region to enable, terms to accept, or a verification that is under way",
    ),
    Row(
        r"NoCredentialsError|PartialCredentialsError|CredentialRetrievalError",
        "no AWS credentials",
        "`aws configure`, `aws sso login`, or AWS_PROFILE: er takes what the AWS tools take",
    ),
    Row(r"ProfileNotFound", "there is no such AWS profile: {said}", "`aws configure list-profiles` lists them"),
    Row(
        r"VcpuLimitExceeded|InstanceLimitExceeded|MaxSpotInstanceCountExceeded",
        "the account's quota of servers in {region} is reached",
        _QUOTA_HINT,
    ),
    Row(
        r"AddressLimitExceeded|(Security|Rules|VPC|Network|Volume).*LimitExceeded|.*QuotaExceeded",
        "a quota of the account in {region} is reached: {said}",
        "remove what is not needed, or ask for more in the console under Service Quotas",
    ),
    Row(
        rf"{_NO_CAPACITY}|SpotMaxPriceTooLow",
        "AWS has no such server free now: {said}",
        "try again, another --type, another --subnet (zone) or --region; without --spot the chances are better",
    ),
    Row(
        r"InvalidInstanceType|InvalidInstanceType\..*",
        "there is no such instance type in {region}: {said}",
        "as in t3.small for amd64 and t4g.small for arm64",
    ),
    Row(
        r"InvalidAMIID\..*",
        "there is no such image in {region}: {said}",
        "images belong to one region; without --image er takes the newest one that it baked, or the distribution's",
    ),
    Row(
        r"InvalidSubnetID\.NotFound|InvalidVpcID\.NotFound|InvalidSubnet",
        "there is no such network in {region}: {said}",
        "`aws ec2 describe-subnets` lists what there is",
    ),
    Row(r"VPCIdNotSpecified|DefaultVpcDoesNotExist", "{region} has no default VPC", "name a subnet: --subnet subnet-…"),
    Row(
        # Two runs of a launch have one client token; what they ask for differs in the tag of the run.
        r"IdempotentParameterMismatch|InvalidClientToken",
        "another launch of this server has made it, and AWS does not list it yet",
        "run the same command again in a minute: it takes up what is there",
        transient=True,
    ),
    Row(
        r"OperationNotPermitted",
        "refused: the server is protected from termination",
        "if you mean it: er destroy NAME --unprotect",
    ),
    Row(rf"InvalidIamInstanceProfile.*|{UNKNOWN_PROFILE}", "{said}", "is the ARN of --profile-arn right?"),
    Row(
        r"DeleteConflict|ConcurrentModification.*|EntityTemporarilyUnmodifiable",
        "IAM has not noticed yet what a step before has changed: {said}",
        "run the same command again in a minute: it takes up what is there",
        transient=True,
    ),
    Row(
        r"InvalidChangeBatch",
        "a DNS record has changed meanwhile: {said}",
        "run the same command again: it looks at what is there now",
        transient=True,
    ),
    Row(
        r"InvalidGroup\.Duplicate|InvalidKeyPair\.Duplicate|InvalidPermission\.Duplicate|EntityAlreadyExists"
        r"|InvalidLaunchTemplateName\.AlreadyExistsException|Duplicate(LoadBalancer|TargetGroup)Name|DuplicateListener"
        r"|AlreadyExists|FileSystemAlreadyExists|MountTargetConflict",
        "something of that name is there and is not er's: {said}",
        "remove it or rename the server; if a launch was just interrupted, run it again in a minute",
        transient=True,
    ),
    Row(
        r"DependencyViolation|IncorrectInstanceState|IncorrectState|InvalidGroup\.InUse|InvalidIPAddress\.InUse|VolumeInUse"
        r"|Invalid(Group|GroupId|KeyPair|AllocationID|InstanceID|NetworkInterfaceID|Volume|Snapshot|LaunchTemplateId)\.NotFound"
        r"|InvalidLaunchTemplateName\.NotFoundException"
        r"|InvalidInstanceID|ResourceInUse|ResourceContention|ScalingActivityInProgress|FileSystemInUse"
        r"|IncorrectFileSystemLifeCycleState|IncorrectMountTargetState",
        "AWS does not let go of, or does not see yet, what a step before has changed: {said}",
        "run the same command again in a minute: it takes up what is there",
        transient=True,
    ),
    Row(
        r"RequestLimitExceeded|Throttl.*|TooManyRequests.*|RequestThrottl.*|PriorRequestNotComplete|BandwidthLimit.*",
        "AWS limits the requests of this account, and went on to do so",
        "wait a minute and run the same command again: it takes up what is there",
        transient=True,
    ),
    Row(
        r"InternalError|InternalFailure|InternalServerError|ServiceUnavailable|Unavailable|HTTP5\d\d",
        "AWS itself failed ({code}) at {operation}",
        "run the same command again: it takes up what is there; health.aws.amazon.com tells about the region",
        transient=True,
        unsure=True,
    ),
    Row(
        r"EndpointConnectionError|ConnectTimeoutError|ProxyConnectionError|SSLError",
        "AWS cannot be reached: {said}",
        "is there a network, and is {region} the region you mean?",
        transient=True,
    ),
    Row(
        r"ReadTimeoutError|ConnectionClosedError|HTTPClientError|ConnectionError|ResponseParserError|ResponseStreamingError"
        r"|IncompleteReadError",
        "the connection to AWS broke off at {operation}",
        "run the same command again: it takes up what is there",
        transient=True,
        unsure=True,
    ),
)
_ACTION: Final = re.compile(r"perform: ?([a-z0-9-]+:[A-Za-z]+)")


def translate(code: str, said: str, *, operation: str, needs: tuple[str, ...], region: str) -> AwsError:
    """The error to raise for an error of the API or of the way to it.

    `needs` are the permissions of the operation; which of them is missing, AWS often says itself.
    """
    if code == "InvalidParameterValue" and "iam instance profile" in said.lower():
        code = UNKNOWN_PROFILE
    if code == "ValidationError" and "not found" in said.lower():
        code = _NO_GROUP
    named = _ACTION.search(said)
    fields = {
        "code": code,
        "said": said.strip().rstrip("."),
        "operation": operation,
        "region": region,
        "action": named[1] if named else (needs or (operation,))[0],
    }
    for row in ROWS:
        if re.fullmatch(row.codes, code):
            hint = row.hint and row.hint.format(**fields)
            return AwsError(row.message.format(**fields), hint, code=code, transient=row.transient, unsure=row.unsure)
    return AwsError(f"{operation} failed: {fields['said']} ({code})", None, code=code)


# The code of er's own for an unknown region; and the codes of all that kept AWS from being asked from this machine.
NO_REGION: Final = "NoRegion"
_NO_ACCESS: Final = re.compile(
    r"NoRegion|NoCredentialsError|PartialCredentialsError|CredentialRetrievalError|RequestExpired|ExpiredToken.*"
    r"|SSOTokenExpired|UnauthorizedSSOTokenError|SSOTokenLoadError|TokenRetrievalError"
    r"|EndpointConnectionError|ConnectTimeoutError|ProxyConnectionError"
)


def no_access(error: UserError) -> bool:
    """Whether AWS could not be asked from here at all: no region, no valid credentials, no network."""
    return isinstance(error, AwsError) and bool(_NO_ACCESS.fullmatch(error.code))


def is_denied(error: AwsError) -> bool:
    """Whether these credentials may not do it."""
    return bool(re.fullmatch(_DENIED, error.code))


def lacks_capacity(error: AwsError) -> bool:
    """Whether another zone may have what this one has not."""
    return bool(re.fullmatch(_NO_CAPACITY, error.code))


def is_missing(error: AwsError) -> bool:
    """Whether what was named does not exist (any more)."""
    return bool(re.search(r"NotFound(Exception)?$", error.code)) or error.code == "NoSuchEntity"
