"""The one door to AWS. Only commands that need it import this module: boto3 takes a while to load."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
import botocore.config
import botocore.exceptions
from botocore import xform_name

from builder.aws.errors import NO_REGION, AwsError, blind, translate
from builder.aws.permissions import OPERATIONS
from builder.problems import UserError
from builder.spec.rules import near

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")
# botocore repeats nothing: what reads is repeated here, and what writes by those who look before they try again.
CONFIG: Final = botocore.config.Config(
    connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1}
)
# The price list is served from here, for all regions.
_HOME: Final = {"pricing": "us-east-1"}
_ANY: Final = "us-east-1"
# Says that EC2 would have done it, had it not been a dry run.
PERMITTED: Final = "DryRunOperation"


def region_of(region: str | None) -> str | None:
    """The region that would be asked, where one is named anywhere."""
    try:
        return Api(region).region
    except AwsError:
        return None


def lacking(region: str | None) -> tuple[AwsError, ...]:
    """All that keeps this machine from asking AWS anything, found without asking. Raises UserError for a wrong name."""
    missing = []
    try:
        door = Api(region)
    except AwsError as error:
        if not blind(error):
            raise
        missing.append(error)
        # Any will do to look for credentials.
        door = Api(_ANY)
    return (*missing, *filter(None, [door.without_credentials()]))


class Api:
    """Calls operations of the table, in one region, with the credentials that the AWS tools would use."""

    def __init__(self, region: str | None, tell: Callable[[str], object] = str) -> None:
        self._tell = tell
        # The AWS tools read this variable; boto3 by itself does not.
        region = region or os.environ.get("AWS_REGION")
        try:
            self._session = boto3.session.Session(region_name=region)
        except botocore.exceptions.BotoCoreError as error:
            raise self._translated(error, "", ()) from None
        self.region = self._region(self._session.region_name)
        self._clients: dict[str, Any] = {}

    def _region(self, name: str | None) -> str:
        if not name:
            way = "say --region, `aws: {region: …}` in the spec, or AWS_REGION"
            raise AwsError("no AWS region", way, code=NO_REGION)
        known = self._session.get_available_regions("ec2")
        if name not in known:
            meant = near(name, known)
            way = f"did you mean {meant}?" if meant else "as in eu-central-1; --region, the spec or AWS_REGION names it"
            raise UserError(f"`{name}` is not a region of AWS", way)
        return name

    def without_credentials(self) -> AwsError | None:
        """The error of every call, where there are no credentials; AWS is not asked."""
        try:
            if self._session.get_credentials() is not None:
                return None
            error: botocore.exceptions.BotoCoreError = botocore.exceptions.NoCredentialsError()
        except botocore.exceptions.BotoCoreError as found:
            error = found
        return self._translated(error, "", ())

    def call(self, name: str, **parameters: Any) -> dict[str, Any]:
        """One call of an operation; raises AwsError."""
        return self._done(name, lambda client: getattr(client, xform_name(name))(**parameters))

    def items(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """All items of a listing, page after page; raises AwsError."""
        of = OPERATIONS[name].items

        def listed(client: Any) -> list[dict[str, Any]]:
            pages = client.get_paginator(xform_name(name)).paginate(**parameters)
            return [item for page in pages for item in page[of]]

        return self._done(name, listed)

    def _done(self, name: str, work: Callable[[Any], T]) -> T:
        operation = OPERATIONS[name]

        def tried() -> T:
            try:
                return work(self._client(operation.service))
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                raise self._translated(error, name, operation.needs) from None

        return tried() if operation.writes else persist(tried, PACE, self._tell)

    def permitted(self, name: str, **parameters: Any) -> AwsError | None:
        """Ask EC2 itself whether a call would be allowed, without doing it; what it objects to, or None."""
        try:
            self.call(name, **parameters, DryRun=True)
        except AwsError as error:
            return None if error.code == PERMITTED else error
        return None

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            region = _HOME.get(service, self.region)
            self._clients[service] = self._session.client(service, region_name=region, config=CONFIG)
        return self._clients[service]

    def _translated(
        self,
        error: botocore.exceptions.ClientError | botocore.exceptions.BotoCoreError,
        name: str,
        needs: tuple[str, ...],
    ) -> AwsError:
        region = getattr(self, "region", "")
        if isinstance(error, botocore.exceptions.ClientError):
            told = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            # A gateway in between answers without a code of the API's.
            code = told.get("Code") or ""
            code = f"HTTP{status}" if code in ("", str(status)) else code
            return translate(code, told.get("Message") or "", operation=name, needs=needs, region=region)
        return translate(type(error).__name__, str(error), operation=name, needs=needs, region=region)


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pace:
    """`attempts` of what may pass when repeated, `pause` seconds before the second; `longest` between two looks."""

    attempts: int = 5
    pause: float = 0.5
    longest: float = 5.0


PACE: Final = Pace()


class NotInTimeError(UserError):
    """Something did not come true in time; the server goes on by itself."""


class Clock:
    """The time that a command has."""

    def __init__(self, timeout: float, pace: Pace) -> None:
        self.pace = pace
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds."""
        return max(self._deadline - time.monotonic(), 0.0)

    def until(self, condition: Callable[[], Result], what: str) -> Result:
        """What the condition returns once that is true; asked ever more slowly. Raises NotInTimeError."""
        pause = min(self.pace.pause, self.pace.longest)
        while not (result := condition()):
            if not self.left:
                raise NotInTimeError(f"waited {self._timeout:.0f} s in vain for {what}")
            time.sleep(min(pause, self.left))
            pause = min(pause * 1.5, self.pace.longest)
        return result


def persist(work: Callable[[], Result], pace: Pace, tell: Callable[[str], object]) -> Result:
    """Do `work`, which looks before it makes anything, again while its failure may pass."""
    for attempt in range(1, pace.attempts + 1):
        try:
            return work()
        except AwsError as error:
            if attempt == pace.attempts:
                # Whoever repeats what this was a part of need not begin again.
                error.transient = False
            if not error.transient:
                raise
            tell(f"{error.message}; trying again ({attempt} of {pace.attempts - 1})")
            time.sleep(pace.pause * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311 - spreads the load
    raise AssertionError


def take(door: Api, name: str, **parameters: Any) -> None:
    """Call an operation that removes something; that it does not exist any more is no error."""
    try:
        door.call(name, **parameters)
    except AwsError as error:
        if not error.code.endswith(".NotFound"):
            raise
