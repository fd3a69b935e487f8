"""A stand-in for DigitalOcean's API: what its builder asks for, after https://docs.digitalocean.com/reference/api."""

from __future__ import annotations

from tests.packer.fake_provider import Answer, Cloud, Json

_WHEN = "2026-01-01T00:00:00Z"


def error(status: int, code: str, message: str) -> Answer:
    """As the API says it."""
    return status, {"id": code, "message": message, "request_id": "5d1f"}


UNAUTHORIZED = error(401, "unauthorized", "Unable to authenticate you")
READ_ONLY = error(403, "forbidden", "You are not authorized to perform this operation")
NO_CAPACITY = error(422, "unprocessable_entity", "Size is not available in this region.")
QUOTA = error(422, "unprocessable_entity", "creating this/these droplet(s) will exceed your droplet limit")
UNKNOWN_IMAGE = error(422, "unprocessable_entity", "You specified an invalid image for Droplet creation.")


class DigitalOcean(Cloud):
    """`snapshots_fail`: their actions end with an error."""

    snapshots_fail = False

    def refusal(self) -> Answer:
        return UNAUTHORIZED

    def answer(  # noqa: C901 - a table of routes
        self, method: str, parts: list[str], query: dict[str, list[str]], body: Json
    ) -> Answer:
        match (method, *parts[1:]):
            case ("POST", "account", "keys"):
                return 201, {"ssh_key": self.add("keys", **body, fingerprint="aa:bb")}
            case ("GET", "account", "keys"):
                return 200, _page("ssh_keys", self.all("keys"))
            case ("DELETE", "account", "keys", number):
                self.things["keys"].pop(int(number), None)
                return 204, None
            case ("POST", "droplets"):
                return self._create(body)
            case ("GET", "droplets"):
                return 200, _page("droplets", self.all("droplets"))
            case ("GET", "droplets", number):
                droplet = self.things["droplets"][int(number)]
                return 200, {"droplet": droplet | ({"status": "new"} if self.starting.is_set() else {})}
            case ("DELETE", "droplets", number):
                self.things["droplets"].pop(int(number), None)
                return 204, None
            case ("POST", "droplets", number, "actions"):
                return 201, {"action": self._begin(int(number), body)}
            case ("GET", "droplets", _, "actions", number) | ("GET", "actions", number):
                return 200, {"action": self._shown(self.things["actions"][int(number)])}
            case ("GET", "droplets", number, "snapshots"):
                return 200, _page("snapshots", [one for one in self.all("snapshots") if one["droplet"] == int(number)])
            case ("GET", "snapshots"):
                return 200, _page("snapshots", self.all("snapshots"))
            case ("DELETE", "snapshots" | "images", number):
                self.things["snapshots"].pop(int(number), None)
                return 204, None
            case ("POST", "tags", name, "resources"):
                for one in body["resources"]:
                    self.things["snapshots"][int(one["resource_id"])]["tags"].append(name)
                return 204, None
        return error(404, "not_found", f"{method} {'/'.join(parts)}")

    def left(self) -> dict[str, list[str]]:
        return {kind: names for kind, names in super().left().items() if kind != "actions"}

    def _create(self, body: Json) -> Answer:
        for number in body["ssh_keys"]:
            self.authorize(self.things["keys"][number]["public_key"])
        made = self.add(
            "droplets", name=body["name"], status="active", locked=False, tags=body.get("tags") or [],
            networks={"v4": [{"ip_address": self.address, "type": "public"}], "v6": []}, created_at=_WHEN,
            size_slug=body["size"], region={"slug": body["region"]},
        )  # fmt: skip
        return 202, {"droplet": made, "links": {"actions": []}}

    def _begin(self, number: int, body: Json) -> Json:
        kind = body["type"]
        if kind in ("shutdown", "power_off"):
            self.things["droplets"][number]["status"] = "off"
        if kind == "snapshot":
            self.add("snapshots", name=body["name"], droplet=number, regions=["fra1"], tags=[], created_at=_WHEN)
        return self._shown(self.add("actions", name=kind, droplet=number))

    def _shown(self, action: Json) -> Json:
        imaging = action["name"] == "snapshot"
        failed = imaging and self.snapshots_fail
        status = "in-progress" if imaging and self.slow.is_set() else "errored" if failed else "completed"
        return {
            "id": action["id"], "type": action["name"], "status": status, "started_at": _WHEN,
            "resource_id": action["droplet"], "resource_type": "droplet",
        }  # fmt: skip


def _page(name: str, found: list[Json]) -> Json:
    return {name: found, "links": {}, "meta": {"total": len(found)}}
