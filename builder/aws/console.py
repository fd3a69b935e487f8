"""The serial console of a server: what EC2 keeps of it, and what first boot says there.

Nobody on the network can forge it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.aws import known_hosts
from builder.aws.errors import AwsError

if TYPE_CHECKING:
    from builder.aws.api import Api
    from builder.aws.known_hosts import HostKey

# What EC2 says when it is asked for the newest output, and the hypervisor keeps none.
_NO_LATEST: Final = frozenset({"UnsupportedOperation", "InvalidParameterCombination", "InvalidParameterValue"})


def output(api: Api, instance_id: str) -> str:
    """The console so far: the newest output, where EC2 has it."""
    try:
        answer = api.call("GetConsoleOutput", InstanceId=instance_id, Latest=True)
    except AwsError as error:
        if error.code not in _NO_LATEST:
            raise
        answer = api.call("GetConsoleOutput", InstanceId=instance_id)
    return str(answer.get("Output") or "")


def tail(text: str, lines: int = 12) -> str:
    """The end of it, for a person."""
    return "\n  ".join(line for line in text.replace("\r", "").strip().splitlines()[-lines:] if line.strip())


@dataclass(frozen=True, slots=True)
class Console:
    """What a console says. `ready` is the name in the ready line, `failure` why there will be none.

    With `by_ssh` the server itself has said it, whose `keys` were known.
    """

    ready: str | None = None
    failure: str | None = None
    fingerprints: frozenset[str] = frozenset()
    keys: frozenset[HostKey] = frozenset()
    by_ssh: bool = False

    @property
    def trusted(self) -> frozenset[HostKey]:
        """Printed keys whose fingerprints the host itself has printed too."""
        return frozenset(key for key in self.keys if key.fingerprint in self.fingerprints)


# Printed by /usr/lib/easyrunner/first-boot; the kernel may cut into lines of the console, never inside one of ours.
_READY: Final = re.compile(r"easyrunner: ready name=(\S+)(.*)")
_NOT_READY: Final = re.compile(r"easyrunner: (not ready: .*)")
_FINGERPRINT: Final = re.compile(r"easyrunner: ssh \d+ (SHA256:[A-Za-z0-9+/]{43}) ")
# Of a host whose disk for data is not attached yet.
WAITS_FOR_DISK: Final = re.compile(r"data: no disk for ")
# Of a host whose data comes from the backup: the name of each secret that is missing for that.
WAITS_FOR_SECRET: Final = re.compile(r"waits for its data: er server secret set HOST --host ([\w-]+)")
# Printed by cloud-init.
_KEYS: Final = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)


def read(text: str) -> Console:
    """The state of the last boot that the text shows."""
    ready, failed = list(_READY.finditer(text)), list(_NOT_READY.finditer(text))
    last = max((*ready, *failed), key=lambda match: match.start(), default=None)
    return Console(
        ready=last[1] if last in ready and last else None,
        failure=last[1].strip() if last in failed and last else None,
        fingerprints=frozenset(_FINGERPRINT.findall(text)),
        keys=known_hosts.parse_keys("\n".join(_KEYS.findall(text))),
    )
