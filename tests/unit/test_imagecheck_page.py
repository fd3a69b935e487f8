"""docs/image-checks.md is made from the table of checks: UPDATE=1 writes it."""

from __future__ import annotations

import os
from pathlib import Path

from builder.imagecheck import CHECKS, IDS, Check
from builder.imagecheck.table import DIGITALOCEAN, IMAGE_BUILDER, OtherCheck

PAGE = Path(__file__).resolve().parents[2] / "docs/image-checks.md"
INTRODUCTION = """# What is looked for in an image

`er check-image IMAGE` looks into a disk image (qcow2, raw) or a directory, without booting or changing it. Findings go
to stdout as a table, or with `--json` for programs; the exit code is 0 for a clean image and 1 with findings. With
`--spec SPEC` the host's own files are compared with those of that spec, by mode, owner and content.

```console
$ er check-image web1.qcow2 --spec easyrunner.yaml
$ er check-image web1.qcow2 --json | jq '.findings[].check'
```

The same checks end every bake, inside the machine (`80-verify`), where they also see what only a running system shows.
They come after `70-clean`, which takes traces away. It does not hide mistakes: a private key, a setuid program or a
proxy of the build's network is for whoever made it to remove, so the bake fails and names it.

What could not be checked is said, never passed over in silence: `skipped` in JSON, `not checked` in the text.

Not looked at: what container images contain, which are another system's files. Tokens are found by the place that their
client keeps them in, or by a known form; a password in some other file is not.

## The checks

*when*: `both`, in the bake (`live`) or from outside (`offline`) only. *cleaned*: `70-clean` takes the finding away;
else it is told and left. This page is made from the rows in `builder/imagecheck/`; a test keeps them equal.

"""


def test_the_page_is_the_table() -> None:
    page = _page()
    if os.environ.get("UPDATE"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page


def test_other_lists_name_checks_that_there_are() -> None:
    for item in (*DIGITALOCEAN, *IMAGE_BUILDER):
        assert item.ours
        assert {*item.ours} <= {*IDS}, item


def test_what_a_row_says_of_other_lists_is_in_their_tables() -> None:
    for word, table in (("DO: ", DIGITALOCEAN), ("goss: ", IMAGE_BUILDER)):
        told = {check.id for check in CHECKS if word in check.source}
        mapped = {name for item in table for name in item.ours}
        assert told <= mapped, word


def _page() -> str:
    rows = [_row(check) for check in CHECKS]
    head = ["| id | what | why | when | cleaned, or what to do | also asked by |", "|---|---|---|---|---|---|"]
    table = "\n".join([*head, *rows])
    digitalocean = _mapping("DigitalOcean's image check (`99-img-check.sh` 1.8.1)", DIGITALOCEAN)
    goss = _mapping("The goss list of Kubernetes' image-builder", IMAGE_BUILDER)
    return f"{INTRODUCTION}{table}\n\n{digitalocean}\n{goss}"


def _row(check: Check) -> str:
    mended = "yes" if check.cleaned else check.remedy
    return f"| {' | '.join((f'`{check.id}`', check.title, check.why, check.when, mended, check.source))} |"


def _mapping(title: str, items: tuple[OtherCheck, ...]) -> str:
    rows = "".join(f"| {item.asks} | {', '.join(f'`{name}`' for name in item.ours)} |\n" for item in items)
    return f"## {title}\n\n| it asks | checks here |\n|---|---|\n{rows}"
