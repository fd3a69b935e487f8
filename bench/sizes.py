"""How large user-data is, by stacks, image and form: `python -m bench.sizes` writes docs/user-data-sizes.md."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.hosts import ROOT
from builder import host as hosts
from builder import providers
from builder import spec as specs
from builder.userdata.cloudconfig import PARTS
from builder.userdata.delivery import forms
from builder.userdata.encoding import packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

_COUNTS: Final = (1, 3, 10, 30, 100)
_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP7V7PMUCQ7VuHnrPtuVfWdQ7H4mhSr0x2kKyOhIVqYV ops@example.org"
_GOALS: Final[tuple[tuple[On, int, int], ...]] = (("baked", 3, 2_500), ("baked", 100, 16_384), ("stock", 3, 10_000))
_FORMS: Final = ("plain", "mime", "mime, shared", "packed", "gzip, shared", "packed-gzip")
_INTRODUCTION: Final = """# How large user-data is

Written by `make bench`; edit nothing here. Bytes as handed over, base64 included, for hosts whose stacks
are one service each, with names, images, domains and ports that have nothing in common; below that, three
services and twenty variables each. *plain* is readable, *mime* the same compressed, in ASCII; *shared* writes what the
stacks have in common once; *packed* is ASCII with the files as one block by context mixing,
*packed-gzip* such a one as bytes; both for up to 96 KiB of files.
`er user-data` takes the first that fits; with `--small` the smallest.

"""


def _word(*seed: object) -> str:
    return hashlib.sha256(repr(seed).encode()).hexdigest()[:7].translate(str.maketrans("0123456789", "ghijklmnop"))


def _service(stack: int, number: int, variables: int) -> dict[str, object]:
    return {
        "image": f"ghcr.io/{_word(stack, number, 'a')}/{_word(stack, number, 'b')}:{stack % 9}.{number}.{stack % 17}",
        "environment": {_word(one).upper(): f"{_word(stack, number, one)} value {one}" for one in range(variables)},
    }


def spec(count: int) -> Spec:
    """A spec of so many stacks of one service."""
    stacks = [
        {
            **_service(number, 0, 0),
            "name": _word(number),
            "domain": f"www.{_word(number, 'd')}.org",
            "port": 2000 + int(hashlib.sha256(b"%d" % number).hexdigest(), 16) % 60_000,
            "uid": 21_000 + number * 101,
        }
        for number in range(count)
    ]
    return _loaded(stacks)


def long_spec(count: int, folder: Path) -> Spec:
    """A spec of so many stacks of three services with twenty variables; its Compose files go into `folder`."""
    stacks = []
    for number in range(count):
        services = {name: _service(number, index, 20) for index, name in enumerate(("web", "worker", "cron"))}
        domain = f"xyz.easyrunner.service.domain=www.{_word(number, 'd')}.org"
        services["web"]["labels"] = ["xyz.easyrunner.service.type=web", domain]
        (folder / f"{number}.yaml").write_text(json.dumps({"services": services}))
        stacks.append({"name": _word(number), "compose": f"{number}.yaml", "uid": 21_000 + number * 101})
    return _loaded(stacks, folder)


def _loaded(stacks: list[dict[str, object]], folder: Path = Path()) -> Spec:
    document = {"server": {"name": "web1"}, "admin": {"name": "er", "ssh_keys": [_KEY]}, "stacks": stacks}
    return specs.loads(json.dumps(document), folder / "easyrunner.yaml")[0]


def measure(one: Spec, on: On) -> dict[str, int]:
    """Bytes by form."""
    host = hosts.build(one)
    found = forms(one, host, providers.get("nocloud"), on)
    sizes = {f"{form}{', shared' if shared else ''}": len(content) for form, shared, content in found}
    return {**sizes, **({"packed": len(content)} if (content := packed(one, host, on)) else {})}


def page(folder: Path) -> str:
    """The whole page; `folder` is for scratch."""
    cases = [("one service", count, spec(count)) for count in _COUNTS]
    cases += [("three services, twenty variables each", count, long_spec(count, folder)) for count in _COUNTS[:-1]]
    sizes = {(kind, count, on): measure(one, on) for kind, count, one in cases for on in PARTS}
    lines = [
        _INTRODUCTION,
        f"| stacks | image | {' | '.join(_FORMS)} | a stack more |\n",
        "|---|---|" + "---:|" * (len(_FORMS) + 1) + "\n",
    ]
    lines += _rows(sizes)
    lines += ["\n## Goals\n\nIn the smallest form that goes everywhere, which is ASCII.\n\n"]
    for on, count, goal in _GOALS:
        size = min(sizes["one service", count, on].get(form, 10**9) for form in ("mime, shared", "packed"))
        verdict = "met" if size <= goal else "**missed**"
        lines.append(f"* {on}, {count} stacks: {size:,}, wanted at most {goal:,}: {verdict}\n")
    return "".join(lines)


def _rows(sizes: dict[tuple[str, int, On], dict[str, int]]) -> Iterator[str]:
    before: dict[tuple[str, str], tuple[int, int]] = {}
    for (kind, count, on), found in sorted(sizes.items(), key=lambda item: (item[0][0], item[0][2], item[0][1])):
        small = found["mime, shared"]
        last = before.get((kind, on))
        more = f"{(small - last[1]) / (count - last[0]):.0f}" if last else ""
        before[kind, on] = (count, small)
        cells = " | ".join(f"{found[form]:,}" if form in found else "-" for form in _FORMS)
        yield f"| {count} of {kind} | {on} | {cells} | {more} |\n"


def main() -> int:
    """Write the page."""
    with tempfile.TemporaryDirectory(prefix="er-sizes-") as folder:
        text = page(Path(folder))
    (ROOT / "docs/user-data-sizes.md").write_text(text)
    sys.stdout.write(text[text.index("## Goals") :])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
