"""The client of the AWS API, and one way to try again, to wait and to report progress.

Only commands that need it import this module: boto3 takes a while to load.
"""

from __future__ import annotations

import copy
import os
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import boto3
import botocore.config
import botocore.exceptions
from botocore import xform_name

from builder.aws.errors import NO_REGION, AwsError, is_missing, no_access, translate
from builder.aws.permissions import OPERATIONS
from builder.problems import UserError
from builder.spec.rules import near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Result = TypeVar("Result")
# botocore's own retries are off. Reads are retried here; who writes looks at what exists before trying again.
CONFIG: Final = botocore.config.Config(
    connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1}
)
# The price list is served from here, for all regions.
_REGION_OF_SERVICE: Final = {"pricing": "us-east-1"}
_ANY_REGION: Final = "us-east-1"
# What boto3 calls a service, where that is not the name in its actions.
_CLIENTS: Final = {"elasticloadbalancing": "elbv2", "elasticfilesystem": "efs"}
# The error that says that EC2 would have done it, had it not been a dry run.
_PERMITTED: Final = "DryRunOperation"


class Api:
    """Calls the operations of the table, in one region, with the credentials that the AWS tools would use.

    `report` gets a line for each repetition of a call that reads.
    """

    def __init__(self, region: str | None, report: Callable[[str], object] = str) -> None:
        self.report = report
        # The AWS tools read this variable; boto3 by itself does not.
        region = region or os.environ.get("AWS_REGION")
        try:
            self._session = boto3.session.Session(region_name=region)
        except botocore.exceptions.BotoCoreError as error:
            raise self._translated(error, "", ()) from None
        self.region = self._checked_region(self._session.region_name)
        self._clients: dict[str, Any] = {}

    def _checked_region(self, name: str | None) -> str:
        if not name:
            hint = "say --region, `aws: {region: …}` in the spec, or AWS_REGION"
            raise AwsError("no AWS region", hint, code=NO_REGION)
        known = self._session.get_available_regions("ec2")
        if name not in known:
            meant = near(name, known)
            hint = (
                f"did you mean {meant}?" if meant else "as in eu-central-1; --region, the spec or AWS_REGION names it"
            )
            raise UserError(f"`{name}` is not a region of AWS", hint)
        return name

    def in_region(self, region: str) -> Api:
        """The same for another region, by the same session, which has read what boto3 knows of services and regions.

        Raises UserError for one that is not known here.
        """
        other = copy.copy(self)
        other.region, other._clients = self._checked_region(region), {}
        return other

    @property
    def backoff(self) -> Backoff:
        """How to wait for what AWS does not see yet."""
        return BACKOFF

    def call(self, name: str, **parameters: Any) -> dict[str, Any]:
        """One call of an operation; raises AwsError."""
        return self._do(name, lambda client: getattr(client, xform_name(name))(**parameters))

    def items(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """All items of a listing, of every page; raises AwsError."""
        key = OPERATIONS[name].items

        def listed(client: Any) -> list[dict[str, Any]]:
            method = xform_name(name)
            if not client.can_paginate(method):
                return list(getattr(client, method)(**parameters)[key])
            return [item for page in client.get_paginator(method).paginate(**parameters) for item in page[key]]

        return self._do(name, listed)

    def delete(self, name: str, **parameters: Any) -> None:
        """Call an operation that removes something; that it does not exist any more is no error."""
        try:
            self.call(name, **parameters)
        except AwsError as error:
            if not is_missing(error):
                raise

    def permitted(self, name: str, **parameters: Any) -> AwsError | None:
        """Ask EC2 whether a call would be allowed, without doing it; what it objects to, or None."""
        try:
            self.call(name, **parameters, DryRun=True)
        except AwsError as error:
            return None if error.code == _PERMITTED else error
        return None

    def _do(self, name: str, work: Callable[[Any], Result]) -> Result:
        operation = OPERATIONS[name]

        def tried() -> Result:
            try:
                return work(self._client(operation.service))
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                raise self._translated(error, name, operation.needs) from None

        return tried() if operation.writes else retry(tried, BACKOFF, self.report)

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            region = _REGION_OF_SERVICE.get(service, self.region)
            self._clients[service] = self._session.client(
                _CLIENTS.get(service, service), region_name=region, config=CONFIG
            )
        return self._clients[service]

    def _translated(
        self,
        error: botocore.exceptions.ClientError | botocore.exceptions.BotoCoreError,
        name: str,
        needs: tuple[str, ...],
    ) -> AwsError:
        region = getattr(self, "region", "")
        if isinstance(error, botocore.exceptions.ClientError):
            answer = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            # A gateway in between answers without a code of the API's.
            code = answer.get("Code") or ""
            code = f"HTTP{status}" if code in ("", str(status)) else code
            return translate(code, answer.get("Message") or "", operation=name, needs=needs, region=region)
        return translate(type(error).__name__, str(error), operation=name, needs=needs, region=region)

    def missing_credentials(self) -> AwsError | None:
        """The error for missing credentials, None where there are some. Makes no request."""
        try:
            if self._session.get_credentials() is not None:
                return None
            error: botocore.exceptions.BotoCoreError = botocore.exceptions.NoCredentialsError()
        except botocore.exceptions.BotoCoreError as found:
            error = found
        return self._translated(error, "", ())


def missing_access(region: str | None) -> tuple[AwsError, ...]:
    """What this machine lacks to ask AWS anything, found without asking. Raises UserError for an unknown region."""
    missing = []
    try:
        api = Api(region)
    except AwsError as error:
        if not no_access(error):
            raise
        missing.append(error)
        # Any will do to look for credentials.
        api = Api(_ANY_REGION)
    return (*missing, *filter(None, [api.missing_credentials()]))


def region_of(region: str | None) -> str | None:
    """The region that would be asked, where one is named anywhere."""
    try:
        return Api(region).region
    except AwsError:
        return None


@dataclass(frozen=True, slots=True)
class Backoff:
    """How to try again and to wait: `attempts` at most, `pause` seconds after the first, which grow up to `longest`."""

    attempts: int = 5
    pause: float = 0.5
    longest: float = 5.0


BACKOFF: Final = Backoff()


def retry(work: Callable[[], Result], backoff: Backoff, report: Callable[[str], object]) -> Result:
    """Call `work` again after an error that may pass; it must be safe to repeat. Raises its last error."""
    for attempt in range(1, backoff.attempts + 1):
        try:
            return work()
        except AwsError as error:
            if attempt == backoff.attempts:
                # All attempts are used up: an outer retry must not begin anew.
                error.transient = False
            if not error.transient:
                raise
            report(f"{error.message}; trying again ({attempt} of {backoff.attempts - 1})")
            time.sleep(backoff.pause * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311 - spreads the load
    raise AssertionError


class NotInTimeError(UserError):
    """Something did not come true in time; the server goes on by itself."""


class Deadline:
    """The end of the `timeout` seconds that a command has to wait in."""

    def __init__(self, timeout: float, backoff: Backoff) -> None:
        self._backoff = backoff
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds."""
        return max(self._end - time.monotonic(), 0.0)

    def until(self, condition: Callable[[], Result], what: str) -> Result:
        """What the condition returns once that is true; asked ever more slowly. Raises NotInTimeError."""
        pause = min(self._backoff.pause, self._backoff.longest)
        while not (result := condition()):
            if not self.left:
                raise NotInTimeError(f"waited {self._timeout:.0f} s in vain for {what}")
            time.sleep(min(pause, self.left))
            pause = min(pause * 1.5, self._backoff.longest)
        return result


class Steps(Protocol):
    """What shows the progress of a command; the command line has one."""

    def start(self, step: str) -> None:
        """A step has begun."""

    def end(self, step: str, seconds: float) -> None:
        """The step is over."""

    def line(self, text: str) -> None:
        """Something worth a line."""


class Progress:
    """Shows the steps of a command, and keeps how many `seconds` each took."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step; after an error its end is not shown."""
        self._steps.start(name)
        since = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - since
        self._steps.end(name, self.seconds[name])

    def line(self, text: str) -> None:
        """Something worth a line."""
        self._steps.line(text)
