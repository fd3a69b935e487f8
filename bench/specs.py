"""Generated specs: so many stacks of one service, each with an own uid and domain."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FIRST_UID: Final = 30_000
_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP7V7PMUCQ7VuHnrPtuVfWdQ7H4mhSr0x2kKyOhIVqYV bench"


def head(proxy: str) -> str:
    """All but the stacks; JSON is YAML, but the lines are a person's YAML, as that is what gets parsed."""
    return f"""\
server: {{name: bench, base: debian-13, arch: amd64}}
admin: {{name: er, ssh_keys: [{json.dumps(_KEY)}]}}
tls: {{ca: internal}}
proxy: {{image: {json.dumps(proxy)}}}
stacks:
"""


def stack(number: int, image: str, *, more: str = "") -> str:
    """A stack of one service; `more` is a line of its own for each of its further keys."""
    lines = "".join(f"    {line}\n" for line in more.splitlines())
    return f"""\
  - name: app{number}
    uid: {FIRST_UID + number}
    image: {json.dumps(image)}
    domain: {domain(number)}
    port: 3000
    environment: {{GREETING: "hello from app {number}"}}
{lines}"""


def domain(number: int) -> str:
    """The domain of a stack."""
    return f"app{number}.example.com"


def write(path: Path, stacks: int, *, image: str, proxy: str, asleep: int = 0) -> Path:
    """Write a spec of so many stacks, the last of which sleep, and return where it is."""
    awake = stacks - asleep
    more = ["sleep: 15m" if number >= awake else "" for number in range(stacks)]
    path.write_text(head(proxy) + "".join(stack(number, image, more=more[number]) for number in range(stacks)))
    return path
