"""What a build may have left at a provider: told from the builder's headlines and from its errors while it cleans up.

A plugin says what it makes and what it takes away, and ends well though it could not. So each thing of a target is
followed by its two headlines, and an error said while it is taken away stays with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from builder.packer.steps import Said


State = Literal["", "asked", "made", "going", "kept"]

# Some plugins say in the tone of a headline what has to be done by hand.
_BY_HAND: Final = re.compile(r"\b(manually|by hand|may still be around)\b", re.IGNORECASE)
# Further lines of such a headline, as Azure's.
_MORE: Final = re.compile(r"(Name|Error): ")
# Packer's own words for the end that was asked for.
_OWN: Final = re.compile(r"Cancelling build|Interrupted, aborting|aborted: skipping|Build was cancelled|Step \"")


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that a builder makes at its provider.

    `begins` and `ends` match the headlines before it is made and before it is taken away; a group in `begins` is its
    name, else that is `name`, with {name} for the image's. `made` matches a headline that is said only once it is
    there. `costs`: it is paid for as long as it stays. `result`: it is what the build is for, and stays when all went
    well. `silent`: it is taken away without a headline.
    """

    noun: str
    name: str
    begins: str
    ends: str = ""
    made: str = ""
    costs: bool = True
    result: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """Something that may have stayed: what, the name to look for, and what the builder said of it."""

    noun: str
    name: str
    why: str
    costs: bool

    @property
    def text(self) -> str:
        """In one line."""
        what = f"{self.noun} {self.name}".strip()
        return ": ".join(filter(None, (what, self.why)))


@dataclass(slots=True)
class _Followed:
    thing: Thing
    name: str
    state: State = ""
    why: str = ""


class Leftovers:
    """Fed with what a builder itself says, in order; never with what a step says."""

    def __init__(self, things: Sequence[Thing] = (), name: str = "") -> None:
        self._all = [_Followed(thing, thing.name.format(name=name)) for thing in things]
        self._going: _Followed | None = None
        self._complaints: list[Left] = []

    def feed(self, event: Said, *, cleaning: bool) -> None:
        """`cleaning`: the build is over, well or not, and what it made is being taken away."""
        if event.tone != "error":
            self._follow(event.text)
        if _OWN.match(event.text):
            return
        by_hand = bool(_BY_HAND.search(event.text))
        if by_hand or (event.tone == "error" and cleaning):
            self._complain(event.text)

    def left(self, *, done: bool, ended: bool, asked: bool, reasons: Collection[str] = ()) -> tuple[Left, ...]:
        """What may be there when Packer is gone.

        `done`: the build came to its end and made its image; `ended`: Packer ended by itself, not killed;
        `asked`: it was asked to. `reasons` are the lines of its final word, which are no complaints.
        """
        found = [one for one in self._all if _may_stay(one, done=done, ended=ended, asked=asked)]
        things = [Left(one.thing.noun, one.name, _without(one.why, reasons), one.thing.costs) for one in found]
        rest = [one for one in self._complaints if one.why not in reasons]
        return tuple(dict.fromkeys([*things, *rest]))

    def _follow(self, text: str) -> None:
        if self._complaints and _MORE.match(text):
            last = self._complaints.pop()
            self._complaints.append(replace(last, why=f"{last.why} {text.strip()}"))
            return
        for one in self._all:
            if one.thing.ends and re.match(one.thing.ends, text):
                one.state, self._going = "going", one
                return
            if one.thing.made and re.match(one.thing.made, text):
                one.state = "made"
            elif found := re.match(one.thing.begins, text):
                one.state = one.state or ("asked" if one.thing.made or not one.thing.silent else "made")
                one.name = next(filter(None, found.groups()), one.name)
        self._going = None

    def _complain(self, text: str) -> None:
        if self._going is None:
            self._complaints.append(Left("", "", text.strip(), costs=True))
            return
        going = self._going
        going.state, going.why = "kept", " ".join(filter(None, (going.why, text.strip())))


def _may_stay(one: _Followed, *, done: bool, ended: bool, asked: bool) -> bool:
    """A result stays unless it was taken away; anything else is gone once Packer has ended in order."""
    if one.state in ("", "kept"):
        return one.state == "kept"
    if not ended:
        return not (done and one.thing.result)
    if one.state == "going" or done:
        return False
    if one.thing.silent:
        return False
    return one.thing.result or one.state == "made" or asked


def _without(why: str, reasons: Collection[str]) -> str:
    return "" if why in reasons else why


def lines(left: Sequence[Left]) -> Iterator[str]:
    """What to tell people."""
    for one in left:
        yield f"may have stayed: {one.text}" if one.noun else f"said while cleaning up: {one.text}"


def costly(left: Sequence[Left]) -> bool:
    """Whether something among it is paid for."""
    return any(one.costs for one in left)


_BUILD: Final = "{name}-build"
_KEY: Final = "packer-…"


def _key(begins: str, ends: str, name: str = _KEY) -> Thing:
    """A temporary key: it costs nothing, and opens nothing once the machine is gone."""
    return Thing("SSH key", name, begins, ends, costs=False)


MADE: Final[Mapping[str, tuple[Thing, ...]]] = {
    "aws": (
        _key(r"Creating temporary keypair: (\S+)", "Deleting temporary keypair"),
        Thing(
            "security group",
            "packer_…",
            r"Creating temporary security group for this instance: (\S+)",
            "Deleting temporary security group",
            costs=False,
        ),
        Thing("instance", _BUILD, "Launching a source AWS instance", "Terminating the source AWS instance"),
        Thing("AMI", "{name}", "Creating (?:unencrypted )?AMI", "Deregistering the AMI", result=True),
    ),
    "digitalocean": (
        _key("Importing SSH public key|Creating temporary ssh key for droplet", "Deleting temporary ssh key"),
        Thing("droplet", _BUILD, "Creating droplet", "Destroying droplet"),
        Thing("snapshot", "{name}", "Creating snapshot", result=True),
    ),
    "hetzner": (
        _key("Uploading temporary SSH key|Creating temporary ssh key for", "Deleting temporary (SSH|ssh) key"),
        Thing("server", _BUILD, "Creating server", "Destroying server"),
        Thing("snapshot", "{name}", "Creating snapshot", result=True),
    ),
    "linode": (
        Thing("Linode", _BUILD, "Creating Linode", silent=True),
        Thing("image", "{name}", "Creating image", result=True),
    ),
    "vultr": (
        _key("Creating temporary SSH key", "Deleting temporary SSH key"),
        # It is taken away only once it has been seen running.
        Thing("instance", _BUILD, "Creating Vultr instance", "Destroying server", made=r"Waiting \d+s for server"),
        Thing(
            "snapshot", "{name}", r"Server successfully shutdown|Sleeping to ensure|Waiting \d+s for snap", result=True
        ),
    ),
    "scaleway": (
        Thing("server", "easyrunner-" + _BUILD, "Creating server", "Destroying server"),
        Thing("volume", "of easyrunner-" + _BUILD, "Creating server", "Removing Volumes"),
        Thing("snapshot", "easyrunner-{name}", "Creating snapshot(?: for volume)?: ", result=True),
        Thing("image", "easyrunner-{name}", "Creating image(?: from snapshots)?: ", result=True),
    ),
    "openstack": (
        _key(r"Creating temporary keypair: (\S+)", "Deleting temporary keypair"),
        Thing("volume", "packer_…", "Creating volume", "Deleting volume"),
        Thing("server", _BUILD, "Launching server", "Terminating the source server"),
        Thing("floating IP", "of " + _BUILD, "Creating floating IP", "Deleted temporary floating IP"),
        Thing("image", "{name}", "Creating the image", result=True),
    ),
    "gcp": (
        Thing("instance", _BUILD, "Creating instance", "Deleting instance"),
        Thing("disk", _BUILD, "Creating instance", "Deleting disk"),
        Thing("image", "{name}", "Creating image", result=True),
    ),
    "azure": (
        Thing(
            "resource group",
            "pkr-Resource-Group-…",
            "Creating resource group",
            r"Cleanup requested, deleting resource group|Deleting resource group",
        ),
        Thing("image", "{name}", "Capturing image", result=True),
    ),
    "upcloud": (
        Thing("server", "packer-…", r'Creating server based on storage|Server "(\S+)" created', "Deleting server"),
        Thing("storage", "packer-…", "Cloning storage", "Delete storage"),
        Thing("template", "{name}", "Creating template for storage", result=True),
    ),
    "exoscale": (
        _key("Creating SSH key", "Cleanup: deleting SSH key"),
        Thing("instance", _BUILD, "Creating compute instance$", "Cleanup: destroying compute instance"),
        Thing("snapshot", "of " + _BUILD, "Creating compute instance snapshot", result=True),
        Thing("template", "{name}", "Registering compute instance template", result=True),
    ),
    "proxmox": (
        Thing("virtual machine", _BUILD, "Creating VM", "Deleting VM"),
        Thing("template", "{name}", "Converting VM to template", result=True),
    ),
}
