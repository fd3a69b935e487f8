"""The key pair: the admin's public key. Its name has the key's digest, so another key is another pair."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from builder.aws.resources.lifecycle import Described, Resource

if TYPE_CHECKING:
    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request


class KeyPair(Resource):
    """The key pair of the admin; none where no key of the admin has a type that EC2 imports."""

    part = "key"
    title = "key pair"
    json_key = "key_pairs"
    id_field = "KeyName"
    listing, creation, removal = "DescribeKeyPairs", "ImportKeyPair", "DeleteKeyPair"

    @classmethod
    def count(cls, request: Request) -> int:
        """One or none."""
        return 1 if request.key else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None = None) -> str:  # noqa: ARG003
        """The name of the pair."""
        digest = hashlib.sha256(" ".join((request.key or "").split()[:2]).encode()).hexdigest()
        return f"er-{request.name}-{digest[:8]}"

    def find_existing(self, api: Api) -> list[Described]:
        """The pair of this key; former keys have others."""
        return self.find(api, self.request.name, key_name=self.summary(self.request))

    def parameters(self) -> dict[str, Any]:
        """Of ImportKeyPair."""
        return {
            "KeyName": self.summary(self.request),
            "PublicKeyMaterial": (self.request.key or "").encode(),
            "TagSpecifications": self.tag_specifications("key-pair"),
        }
