"""Host -> one `#cloud-config` document, for a stock image or a baked one."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

import yaml

from builder import facts
from builder.host import File, Host, Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.spec import Admin, Spec

On = Literal["stock", "baked"]
"""What the server starts from: the image of its provider, or one that er baked."""

# The parts of a host that user-data brings.
PARTS: Final[Mapping[On, tuple[Part, ...]]] = {"stock": (Part.BAKED, Part.FIRST_BOOT), "baked": (Part.FIRST_BOOT,)}


def cloud_config(spec: Spec, host: Host, on: On, *, ascii_only: bool = False) -> bytes:
    """The readable user-data document: UTF-8 YAML that starts with `#cloud-config`.

    With `ascii_only` other characters are escaped. Whatever is packed needs that: cloud-init reads text from a packed
    part as Latin-1 (email's get_payload), and one "ü" makes it lose the whole document.
    """
    head, tail = head_and_tail(spec, ascii_only=ascii_only)
    entries = (entry_text(file, ascii_only=ascii_only) for file in host.only(*PARTS[on]))
    return "".join([head, *entries, tail]).encode()


_DEFAULT_TIMEZONE: Final = "UTC"
# cloud-init marks a module as done before it runs it, so a power cut in between would leave a host that is never
# finished. Until the file COMPLETE exists, each boot therefore removes
# * the marks, so that the modules run again;
# * lock files and files written aside in /etc: a lock left behind can shut everyone out of the user database;
# * the admin's file of sudo's rules, whose mode is set after its content;
# * an admin who is in some of the databases only, unless the home holds more than first boot puts there.
COMPLETE: Final = f"{facts.STATE}/complete"
_REPEAT: Final = (
    f"[ -e {COMPLETE} ]||(cd /etc;rm -f .#* *.lock *[a-z].[0-9]* *+ sudoers.d/90-c*;cd /var/lib/cloud/instance/sem;"
    "[ -e config_users* ]&&ls -A ~USER|sed -n 5q1&&(userdel -rf USER;groupdel USER);rm -f config_*)"
)


# A baked image has first boot enabled, and systemd has planned it before our files say that the data comes first: it is
# taken off the plan, and starts when the provisioning has had them read.
_DATA_FIRST: Final = f"[ -e {facts.FIRST_RESTORE} ]||systemctl --no-block stop er-first-boot||:"
# The same, of the secrets of a fleet's host.
_SECRETS_FIRST: Final = f"[ -e {COMPLETE} ]||systemctl --no-block stop er-first-boot||:"


def head_and_tail(spec: Spec, *, ascii_only: bool) -> tuple[str, str]:
    """The text before the items of write_files, and the text after them."""
    head = {
        "hostname": spec.server.name,
        "users": [_admin(spec.admin)],
        "disable_root": True,
        # Nothing about passwords: the host's own sshd policy refuses them before cloud-init's file is read, and this
        # would restart sshd. RSA costs a small server a second of first boot; what speaks to this sshd knows Ed25519.
        "ssh_genkeytypes": ["ed25519"],
        **({"timezone": spec.server.timezone} if spec.server.timezone != _DEFAULT_TIMEZONE else {}),
        "bootcmd": [
            _REPEAT.replace("USER", spec.admin.name),
            *([_DATA_FIRST] if spec.backup and spec.backup.restores else []),
            *([_SECRETS_FIRST] if spec.fleet else []),
        ],
    }
    tail = {"runcmd": [[f"{facts.LIB}/provision"]]}
    return f"#cloud-config\n{_dump(head, ascii_only)}write_files:\n", _dump(tail, ascii_only)


@lru_cache(maxsize=512)
def entry_text(file: File, *, ascii_only: bool) -> str:
    """A file as an item of write_files, in YAML. It comes up in every form."""
    return _dump([entry(file)], ascii_only)


def _dump(value: object, ascii_only: bool) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii_only, width=4096))


def _admin(admin: Admin) -> dict[str, object]:
    # cloud-init locks its password by default.
    return {
        "name": admin.name,
        "groups": "adm,sudo,systemd-journal",
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "ssh_authorized_keys": list(admin.ssh_keys),
    }


def entry(file: File) -> dict[str, object]:
    """A file as an item of write_files; the defaults of cloud-init (root:root, 0644) are left out."""
    item: dict[str, object] = {"path": file.path}
    if file.initial_mode != "0644":
        item["permissions"] = file.initial_mode
    text = _text(file.content)
    if text is None:
        return {**item, "encoding": "b64", "content": base64.b64encode(file.content).decode()}
    return {**item, "content": text}


def _text(content: bytes) -> str | None:
    """The content as text that YAML gives back byte for byte, else None."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return (
        text
        if all(char in "\n\t" or (char.isprintable() and char not in "\u2028\u2029\ufeff\x85") for char in text)
        else None
    )


class _Dumper(yaml.SafeDumper):
    """Files stand as literal blocks, so that a person can read the user-data; anchors would surprise that person."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
