"""Images that many stacks use and that start as root to become another user: they need to say so here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.compose import messages
from builder.oci import image_reference

if TYPE_CHECKING:
    from builder.compose.draft import Draft

_DATABASE: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
_SERVER: Final = ("CHOWN", "SETGID", "SETUID")
_NEEDS: Final = {
    **dict.fromkeys(("postgres", "mariadb", "mysql", "mongo", "redis", "valkey", "rabbitmq"), _DATABASE),
    **dict.fromkeys(("nextcloud", "ghost", "elasticsearch", "influxdb", "couchdb"), _DATABASE),
    **dict.fromkeys(("nginx", "httpd", "wordpress", "drupal", "joomla", "phpmyadmin"), _SERVER),
}


def warn(draft: Draft) -> None:
    """Say which capabilities a well-known image needs, when it neither has them nor another user."""
    image = draft.fields.get("image")
    if image is None or image_reference.is_archive(image) or draft.fields.get("hardening") == "off":
        return
    reference = image_reference.split(image)
    name = reference.path.removeprefix("library/")
    needs = _NEEDS.get(name, ()) if reference.registry == "docker.io" else ()
    user = draft.fields.get("user", "root").partition(":")[0]
    if needs and user in ("root", "0") and not set(draft.fields.get("cap_add", ())) >= {"SETGID", "SETUID"}:
        draft.places["image"].put(messages.IMAGE_CAPABILITIES, capabilities=", ".join(needs), name=draft.name)
