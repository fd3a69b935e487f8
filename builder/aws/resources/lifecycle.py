"""How every kind of resource is found by its tags, created and deleted; each kind says what is different about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from builder.aws import tags
from builder.aws.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request

Ids = tuple[str, ...]
# As the API describes a resource.
Described = dict[str, Any]


class Resource(ABC):
    """A kind of resource; an object of it is for one launch, or one dry run.

    `ids` are those of the kinds before it in the table, by their `part`. After a look, `found` is what exists, and
    `missing` how many are to be created; `created` has the ids that AWS has answered.
    """

    # The value of its tag er:part, its name for people, and its key in the JSON of `er destroy`.
    part: ClassVar[str]
    title: ClassVar[str]
    json_key: ClassVar[str]
    # The field of a description that identifies it.
    id_field: ClassVar[str]
    # AWS tells, asked with DryRun, whether it would create it.
    dry_run: ClassVar[bool] = True
    # All servers of the name have the one.
    shared: ClassVar[bool] = True
    # The operations that list, create and remove it.
    listing: ClassVar[str]
    creation: ClassVar[str]
    removal: ClassVar[str]

    def __init__(self, prerequisites: Prerequisites, ids: Mapping[str, Ids]) -> None:
        self.prerequisites, self.request = prerequisites, prerequisites.request
        self.ids = ids
        self.found: list[Described] = []
        self.missing = 0
        self.created: set[str] = set()
        self._looked = False

    @classmethod
    @abstractmethod
    def count(cls, request: Request) -> int:
        """How many the request needs."""

    @classmethod
    @abstractmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:
        """What it needs, in words; without prerequisites as far as the request tells."""

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """All that belong to the server of this name, whatever run has created them."""
        return api.items(cls.listing, Filters=tags.filters(name, cls.part, **filters))

    @classmethod
    def find_all(cls, api: Api, name: str) -> list[Described]:
        """With those that are about to take its place, and those that had it."""
        return cls.find(api, name)

    @classmethod
    def find_surely(cls, api: Api, name: str) -> list[Described]:
        """All, where there must be some: who may not look is refused."""
        return cls.find_all(api, name)

    @classmethod
    def usable(cls, described: Iterable[Described]) -> Ids:
        """The ids of those that can be taken up."""
        return tuple(one[cls.id_field] for one in described)

    def find_existing(self, api: Api) -> list[Described]:
        """Those that this launch may take up."""
        return self.find(api, self.request.name)

    def look(self, api: Api) -> Ids:
        """See what exists and what is missing; the ids that can be taken up."""
        self.found = self.find_existing(api)
        ids = self.usable(self.found)
        self.missing = max(self.count(self.request) - len(ids), 0)
        self._looked = True
        return ids

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Of the call that creates what is missing."""

    def create(self, api: Api) -> Ids:
        """Create what the last look found missing; the ids of all. Both may be repeated at any time."""
        return self.usable(self.found or [self.create_one(api)])

    def create_one(self, api: Api) -> Described:
        """One call; its id is noted as soon as AWS answers."""
        answer = api.call(self.creation, **self.parameters())
        self.created.add(answer[self.id_field])
        return answer

    @property
    def touched(self) -> bool:
        """Whether this resource was looked for, so that some of it may have been created since."""
        return self._looked

    def find_new(self, api: Api) -> dict[str, Described]:
        """What this run has created, by id: as AWS lists it now, or only its id, as AWS answered.

        Somebody may launch the same server at the same time: what has not the tag of this run is not ours to take away.
        """
        try:
            found = self.find_existing(api)
        except AwsError:
            if not self.created:
                raise
            found = []
        described = {one[self.id_field]: one for one in found}
        ours = [one for one in found if tags.read(one).get(tags.RUN) == self.prerequisites.run]
        new = {*self.usable(ours)} | self.created
        return {one: described.get(one, {self.id_field: one}) for one in sorted(new)}

    @classmethod
    def deletion(cls, described: Sequence[Described]) -> list[tuple[str, dict[str, Any]]]:
        """The calls that remove these, in order: operations and their parameters."""
        return [(cls.removal, {cls.id_field: one[cls.id_field]}) for one in described]

    @classmethod
    def wait_until_gone(cls, api: Api, described: Sequence[Described]) -> None:
        """Wait for the end of what goes on after its deletion, where others are in use by it until then."""
        del api, described

    @classmethod
    def line(cls, described: Described) -> str:
        """Which one it is, for a person."""
        return str(described[cls.id_field])

    def own_tags(self, **more: str) -> list[dict[str, str]]:
        """What it is found by, and the run that makes it; as services other than EC2 take them."""
        return tags.as_list(tags.of(self.request.name, self.part, **{tags.RUN: self.prerequisites.run}, **more))

    def tag_specifications(self, *types: str, **more: str) -> list[dict[str, Any]]:
        """For the resource types that the call creates."""
        run = {tags.RUN: self.prerequisites.run}
        return tags.specification(types, tags.of(self.request.name, self.part, **run, **more))
