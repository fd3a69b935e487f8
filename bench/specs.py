"""Generated specs: so many stacks of one service, each with an own uid and domain."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_UID: Final = 30_000
_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP7V7PMUCQ7VuHnrPtuVfWdQ7H4mhSr0x2kKyOhIVqYV bench"


def text(stacks: int, *, image: str, proxy: str) -> str:
    """A spec; JSON is YAML, but the lines are a person's YAML, as that is what gets parsed."""
    lines = [
        "server: {name: bench, base: debian-13, arch: amd64}",
        f"admin: {{name: er, ssh_keys: [{json.dumps(_KEY)}]}}",
        "tls: {ca: internal}",
        f"proxy: {{image: {json.dumps(proxy)}}}",
        "stacks:",
    ]
    return "\n".join([*lines, *(_stack(number, image) for number in range(stacks))]) + "\n"


def _stack(number: int, image: str) -> str:
    return f"""\
  - name: app{number}
    uid: {_FIRST_UID + number}
    image: {json.dumps(image)}
    domain: {domain(number)}
    port: 3000
    environment: {{GREETING: "hello from app {number}"}}"""


def domain(number: int) -> str:
    """The domain of a stack."""
    return f"app{number}.example.com"


def write(path: Path, stacks: int, *, image: str, proxy: str) -> Path:
    """Write such a spec and return where it is."""
    path.write_text(text(stacks, image=image, proxy=proxy))
    return path
