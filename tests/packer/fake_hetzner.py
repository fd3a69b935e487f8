"""A stand-in for Hetzner Cloud's API: what its builder asks for, after https://docs.hetzner.cloud/reference/cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.packer.fake_provider import Answer, Cloud, Json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_WHEN = "2026-01-01T00:00:00+00:00"


def error(status: int, code: str, message: str) -> Answer:
    """As the API says it."""
    return status, {"error": {"code": code, "message": message, "details": {}}}


UNAUTHORIZED = error(401, "unauthorized", "unable to authenticate")
READ_ONLY = error(403, "forbidden", "insufficient permissions for this request")
NO_CAPACITY = error(412, "resource_unavailable", "error during placement")
QUOTA = error(403, "resource_limit_exceeded", "server limit reached")
LOCKED = error(423, "locked", "server is locked")


class Hetzner(Cloud):
    """`snapshots_fail`: their actions end with an error. `types` and `images` are what it offers."""

    snapshots_fail = False
    types: Mapping[str, str] = {"cx23": "x86", "cax11": "arm"}
    images: Collection[str] = ("debian-13", "ubuntu-24.04")

    def refusal(self) -> Answer:
        return UNAUTHORIZED

    def answer(  # noqa: C901 - a table of routes
        self, method: str, parts: list[str], query: dict[str, list[str]], body: Json
    ) -> Answer:
        match (method, *parts[1:]):
            case ("GET", "server_types"):
                return self._types(query.get("name", list(self.types)))
            case ("GET", "images"):
                return self._images(query)
            case ("GET", "images", number):
                return 200, {"image": self.things["images"][int(number)]}
            case ("POST", "ssh_keys"):
                made = self.add("ssh_keys", **body, fingerprint="aa:bb", created=_WHEN)
                return 201, {"ssh_key": made}
            case ("POST", "servers"):
                return self._create(body)
            case ("GET", "actions", number):
                return 200, {"action": self._action(int(number))}
            case ("GET", "actions") if "id" in query:
                return 200, _page("actions", [self._action(int(one)) for one in query["id"]])
            case ("GET", "firewalls" | "servers", "actions"):
                return 200, _page("actions", [])
            case ("POST", "servers", number, "actions", "create_image"):
                return self._snapshot(int(number), body)
            case ("POST", "servers", number, "actions", what):
                return 201, {"action": self._begin(what, int(number))}
            case ("GET", "servers", number):
                return 200, {"server": self.things["servers"][int(number)]}
            case ("GET", "servers" | "ssh_keys" as kind):
                return 200, _page(kind, self.all(kind))
            case ("DELETE", kind, number):
                self.things[kind].pop(int(number), None)
                return (200, {"action": self._begin("delete", 0)}) if kind == "servers" else (204, None)
        return error(404, "not_found", f"{method} {'/'.join(parts)}")

    def left(self) -> dict[str, list[str]]:
        return {kind: names for kind, names in super().left().items() if kind != "actions"}

    def _types(self, names: list[str]) -> Answer:
        sizes = {"cores": 2, "memory": 4.0, "disk": 40, "prices": [], "storage_type": "local", "cpu_type": "shared"}
        found = [
            {"id": number, "name": name, "description": name, "architecture": self.types[name], **sizes}
            for number, name in enumerate(names, 1)
            if name in self.types
        ]
        return 200, _page("server_types", found)

    def _images(self, query: dict[str, list[str]]) -> Answer:
        if "snapshot" in query.get("type", []):
            return 200, _page("images", self.all("images"))
        names = [name for name in query.get("name", self.images) if name in self.images]
        return 200, _page("images", [_image(number, name, "system") for number, name in enumerate(names, 1)])

    def _create(self, body: Json) -> Answer:
        if str(body["server_type"]) not in {*self.types, *map(str, range(1, 1 + len(self.types)))}:
            return error(422, "invalid_input", f"server type {body['server_type']} not found")
        if not self.images:
            return error(422, "invalid_input", f"image {body['image']} not found")
        for number in body["ssh_keys"]:
            self.authorize(self.things["ssh_keys"][number]["public_key"])
        network = {"ip": self.address, "blocked": False, "dns_ptr": "", "id": 1}
        made = self.add(
            "servers",
            name=body["name"],
            status="running",
            created=_WHEN,
            labels=body.get("labels") or {},
            public_net={"ipv4": network, "ipv6": {"ip": "fd00::/64", "blocked": False, "dns_ptr": [], "id": 2},
                        "floating_ips": [], "firewalls": []},
            private_net=[], volumes=[], locked=False, protection={"delete": False, "rebuild": False},
        )  # fmt: skip
        return 201, {"server": made, "action": self._begin("create_server", made["id"]), "next_actions": []}

    def _snapshot(self, number: int, body: Json) -> Answer:
        values = _image(0, body["description"], "snapshot") | {"labels": body.get("labels") or {}}
        del values["id"]
        image = self.add("images", **values)
        return 201, {"image": image, "action": self._begin("create_image", number)}

    def _begin(self, command: str, server: int) -> Json:
        return self._shown(self.add("actions", name=command, server=server))

    def _action(self, number: int) -> Json:
        return self._shown(self.things["actions"][number])

    def _shown(self, action: Json) -> Json:
        imaging = action["name"] == "create_image"
        failed = imaging and self.snapshots_fail
        under_way = self.slow if imaging else self.starting
        busy = action["name"] in ("create_image", "create_server") and under_way.is_set()
        status = "running" if busy else "error" if failed else "success"
        return {
            "id": action["id"], "command": action["name"], "status": status, "started": _WHEN,
            "progress": 50 if status == "running" else 100, "finished": None if status == "running" else _WHEN,
            "resources": [{"id": action["server"], "type": "server"}],
            "error": {"code": "action_failed", "message": "Action failed"} if status == "error" else None,
        }  # fmt: skip


def _image(number: int, name: str, kind: str) -> Json:
    return {
        "id": number, "type": kind, "status": "available", "name": name, "description": name, "image_size": 2.3,
        "disk_size": 40, "created": _WHEN, "os_flavor": "debian", "os_version": "13", "rapid_deploy": False,
        "protection": {"delete": False}, "labels": {}, "architecture": "x86", "deprecated": None,
    }  # fmt: skip


def _page(name: str, found: list[Any]) -> Json:
    pages = {"page": 1, "per_page": 50, "previous_page": None, "next_page": None, "last_page": 1}
    return {name: found, "meta": {"pagination": {**pages, "total_entries": len(found)}}}
