"""What a build may have left at a provider, known from what the builder says while it works and cleans up.

A plugin says what it creates and what it deletes, and ends with success though it could not. So each resource of a
target is followed by its two headlines, and an error said while it is deleted stays with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from builder.packer.steps import UiLine


# "asked": being created, "made": there, "going": being deleted, "kept": could not be deleted.
State = Literal["", "asked", "made", "going", "kept"]

# Some plugins say in the tone of a headline what has to be done by hand.
_BY_HAND: Final = re.compile(r"\b(manually|by hand|may still be around)\b", re.IGNORECASE)
# Further lines of such a headline, as Azure's.
_CONTINUED: Final = re.compile(r"(Name|Error): ")
# Packer's own words for an end that was asked for; no complaint.
_OWN_WORDS: Final = re.compile(r"Cancelling build|Interrupted, aborting|aborted: skipping|Build was cancelled|Step \"")


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a builder creates at its provider.

    `begins` and `ends` match the headlines before it is created and before it is deleted; a group in `begins` is its
    name, else that is `name`, with {name} for the image's. `made` matches a headline that is said only once it is
    there. `costs`: it is paid for as long as it stays. `result`: it is what the build is for, and stays when all went
    well. `silent`: it is deleted without a headline.
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
class Leftover:
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
class _Tracked:
    resource: Resource
    name: str
    state: State = ""
    why: str = ""


class Tracker:
    """Follows the resources of a build; is fed, in order, with what the builder itself says, not what a step says."""

    def __init__(self, resources: Sequence[Resource] = (), name: str = "") -> None:
        self._all = [_Tracked(one, one.name.format(name=name)) for one in resources]
        self._going: _Tracked | None = None
        self._complaints: list[Leftover] = []

    def feed(self, event: UiLine, *, cleaning: bool) -> None:
        """`cleaning`: the build is over, well or not, and what it created is being deleted."""
        if event.tone != "error":
            self._follow(event.text)
        if _OWN_WORDS.match(event.text):
            return
        by_hand = bool(_BY_HAND.search(event.text))
        if by_hand or (event.tone == "error" and cleaning):
            self._complain(event.text)

    def left(self, *, done: bool, ended: bool, asked: bool, reasons: Collection[str] = ()) -> tuple[Leftover, ...]:
        """What may be there when Packer is gone.

        `done`: the build came to its end and made its image; `ended`: Packer ended by itself, not killed;
        `asked`: it was asked to. `reasons` are the lines of its final word, which are no complaints.
        """
        found = [one for one in self._all if _may_stay(one, done=done, ended=ended, asked=asked)]
        kept = [Leftover(one.resource.noun, one.name, _without(one.why, reasons), one.resource.costs) for one in found]
        rest = [one for one in self._complaints if one.why not in reasons]
        return tuple(dict.fromkeys([*kept, *rest]))

    def _follow(self, text: str) -> None:
        if self._complaints and _CONTINUED.match(text):
            last = self._complaints.pop()
            self._complaints.append(replace(last, why=f"{last.why} {text.strip()}"))
            return
        for one in self._all:
            if one.resource.ends and re.match(one.resource.ends, text):
                one.state, self._going = "going", one
                return
            if one.resource.made and re.match(one.resource.made, text):
                one.state = "made"
            elif found := re.match(one.resource.begins, text):
                one.state = one.state or ("asked" if one.resource.made or not one.resource.silent else "made")
                one.name = next(filter(None, found.groups()), one.name)
        self._going = None

    def _complain(self, text: str) -> None:
        if self._going is None:
            self._complaints.append(Leftover("", "", text.strip(), costs=True))
            return
        going = self._going
        going.state, going.why = "kept", " ".join(filter(None, (going.why, text.strip())))


def _may_stay(one: _Tracked, *, done: bool, ended: bool, asked: bool) -> bool:
    """A result stays unless it was deleted; anything else is gone once Packer has ended in order."""
    if one.state in ("", "kept"):
        return one.state == "kept"
    if not ended:
        return not (done and one.resource.result)
    if one.state == "going" or done:
        return False
    if one.resource.silent:
        return False
    return one.resource.result or one.state == "made" or asked


def _without(why: str, reasons: Collection[str]) -> str:
    return "" if why in reasons else why


def lines(left: Sequence[Leftover]) -> Iterator[str]:
    """The lines that tell the user."""
    for one in left:
        yield f"may have stayed: {one.text}" if one.noun else f"said while cleaning up: {one.text}"


def costly(left: Sequence[Leftover]) -> bool:
    """Whether something among it is paid for."""
    return any(one.costs for one in left)


_BUILD: Final = "{name}-build"
_KEY: Final = "packer-…"


def _key(begins: str, ends: str, name: str = _KEY) -> Resource:
    """A temporary key: it costs nothing, and opens nothing once the machine is gone."""
    return Resource("SSH key", name, begins, ends, costs=False)


RESOURCES: Final[Mapping[str, tuple[Resource, ...]]] = {
    "aws": (
        _key(r"Creating temporary keypair: (\S+)", "Deleting temporary keypair"),
        Resource(
            "security group",
            "packer_…",
            r"Creating temporary security group for this instance: (\S+)",
            "Deleting temporary security group",
            costs=False,
        ),
        Resource("instance", _BUILD, "Launching a source AWS instance", "Terminating the source AWS instance"),
        Resource("AMI", "{name}", "Creating (?:unencrypted )?AMI", "Deregistering the AMI", result=True),
    ),
    "digitalocean": (
        _key("Importing SSH public key|Creating temporary ssh key for droplet", "Deleting temporary ssh key"),
        Resource("droplet", _BUILD, "Creating droplet", "Destroying droplet"),
        Resource("snapshot", "{name}", "Creating snapshot", result=True),
    ),
    "hetzner": (
        _key("Uploading temporary SSH key|Creating temporary ssh key for", "Deleting temporary (SSH|ssh) key"),
        Resource("server", _BUILD, "Creating server", "Destroying server"),
        Resource("snapshot", "{name}", "Creating snapshot", result=True),
    ),
    "linode": (
        Resource("Linode", _BUILD, "Creating Linode", silent=True),
        Resource("image", "{name}", "Creating image", result=True),
    ),
    "vultr": (
        _key("Creating temporary SSH key", "Deleting temporary SSH key"),
        # It is deleted only once it has been seen running.
        Resource("instance", _BUILD, "Creating Vultr instance", "Destroying server", made=r"Waiting \d+s for server"),
        Resource(
            "snapshot", "{name}", r"Server successfully shutdown|Sleeping to ensure|Waiting \d+s for snap", result=True
        ),
    ),
    "scaleway": (
        Resource("server", "easyrunner-" + _BUILD, "Creating server", "Destroying server"),
        Resource("volume", "of easyrunner-" + _BUILD, "Creating server", "Removing Volumes"),
        Resource("snapshot", "easyrunner-{name}", "Creating snapshot(?: for volume)?: ", result=True),
        Resource("image", "easyrunner-{name}", "Creating image(?: from snapshots)?: ", result=True),
    ),
    "openstack": (
        _key(r"Creating temporary keypair: (\S+)", "Deleting temporary keypair"),
        Resource("volume", "packer_…", "Creating volume", "Deleting volume"),
        Resource("server", _BUILD, "Launching server", "Terminating the source server"),
        Resource("floating IP", "of " + _BUILD, "Creating floating IP", "Deleted temporary floating IP"),
        Resource("image", "{name}", "Creating the image", result=True),
    ),
    "gcp": (
        Resource("instance", _BUILD, "Creating instance", "Deleting instance"),
        Resource("disk", _BUILD, "Creating instance", "Deleting disk"),
        Resource("image", "{name}", "Creating image", result=True),
    ),
    "azure": (
        Resource(
            "resource group",
            "pkr-Resource-Group-…",
            "Creating resource group",
            r"Cleanup requested, deleting resource group|Deleting resource group",
        ),
        Resource("image", "{name}", "Capturing image", result=True),
    ),
    "upcloud": (
        Resource("server", "packer-…", r'Creating server based on storage|Server "(\S+)" created', "Deleting server"),
        Resource("storage", "packer-…", "Cloning storage", "Delete storage"),
        Resource("template", "{name}", "Creating template for storage", result=True),
    ),
    "exoscale": (
        _key("Creating SSH key", "Cleanup: deleting SSH key"),
        Resource("instance", _BUILD, "Creating compute instance$", "Cleanup: destroying compute instance"),
        Resource("snapshot", "of " + _BUILD, "Creating compute instance snapshot", result=True),
        Resource("template", "{name}", "Registering compute instance template", result=True),
    ),
    "proxmox": (
        Resource("virtual machine", _BUILD, "Creating VM", "Deleting VM"),
        Resource("template", "{name}", "Converting VM to template", result=True),
    ),
}
