"""What heavy images want, the server that has it, and what one stack may have of a server at most."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builder import data, host, spec
from builder.oci import known_images
from builder.spec import memory
from builder.stack import shares

ROOT = Path(__file__).parents[2]
GIB = 2**30
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
HEAD = f"server: {{name: web1}}\nadmin: {{name: er, ssh_keys: ['{KEY}']}}\n"


def stacks(*images: str, more: str = "") -> str:
    lines = [f"  - {{name: s{n}, image: {image}, domain: s{n}.example.org}}\n" for n, image in enumerate(images)]
    return HEAD + "stacks:\n" + "".join(lines) + more


def loaded(text: str) -> tuple[spec.Spec, list[str]]:
    found, problems = spec.loads(text, Path("easyrunner.yaml"))
    return found, [problem.message for problem in problems]


@pytest.mark.parametrize("number", range(1, 60))
def test_one_stack_that_takes_everything_leaves_the_others_their_share(number: int) -> None:
    """Its own ceiling is met before that of all stacks, where the kernel would choose among all of their processes."""
    assert shares.ceiling(number) < shares.TOGETHER
    assert shares.ceiling(number) + (number - 1) * shares.share(number) <= shares.TOGETHER
    assert number * shares.share(number) <= shares.LEFT_TOGETHER
    assert shares.share(number) > 0
    assert shares.ceiling(number) >= shares.TOGETHER - shares.LEFT_TOGETHER


def test_the_slice_has_what_the_shares_are_of() -> None:
    text = (data.tree("images") / "rootfs/usr/lib/systemd/system/stacks.slice").read_text()
    assert f"MemoryMax={shares.TOGETHER}%\nMemoryLow={shares.LEFT_TOGETHER}%\n" in text


@pytest.mark.parametrize(
    ("number", "lines"),
    [
        (1, "MemoryMax=70%\nMemoryLow=10%\n"),
        (3, "MemoryMax=60%\nMemoryLow=10%\n"),
        (6, "MemoryMax=46.7%\nMemoryLow=6.66%\n"),
    ],
)
def test_a_host_has_the_shares_of_its_number_of_stacks(number: int, lines: str) -> None:
    found, _ = loaded(stacks(*["docker.io/me/app:1"] * number))
    files = {file.path: file.content.decode() for file in host.build(found).files}
    assert files["/etc/systemd/system/user@.service.d/10-easyrunner.conf"] == f"[Service]\n{lines}"


def test_what_is_not_known_wants_nothing() -> None:
    found, problems = loaded(stacks("docker.io/me/app:1", more="aws: {type: t3.nano}\n"))
    assert memory.wanted(found.stacks) == ()
    assert memory.server_size(found) is None
    assert problems == []


def test_what_is_known_is_added_up(tmp_path: Path) -> None:
    """An image of many services counts once, any other as often as it is there, at most up to its limit."""
    services = {
        "web": "docker.io/getsentry/sentry:25.1.0", "worker": "docker.io/getsentry/sentry:25.1.0",
        "events": "docker.io/clickhouse/clickhouse-server:24.8", "queue": "docker.io/apache/kafka:3.8.0",
        "second": "docker.io/apache/kafka:3.8.0", "cache": "docker.io/library/redis:7",
    }  # fmt: skip
    lines = "".join(f"  {name}: {{image: '{image}'}}\n" for name, image in services.items())
    file = tmp_path / "compose.yaml"
    file.write_text(f"services:\n{lines}".replace("second: {", "second: {mem_limit: 1g, "))
    (tmp_path / "easyrunner.yaml").write_text(f"{HEAD}stacks: [{{name: s, compose: compose.yaml}}]\n")
    found, _ = spec.load(tmp_path / "easyrunner.yaml")
    [one] = memory.wanted(found.stacks)
    assert dict(one.services) == {
        "web": 12 * GIB, "events": 2 * GIB, "queue": 1.25 * GIB, "second": GIB
    }  # fmt: skip
    assert memory.server_size(found) == 32


@pytest.mark.parametrize(
    ("type_", "has"),
    [("t3.small", "2"), ("t4g.micro", "1"), ("c7g.large", "4"), ("m7i-flex.large", None), ("m6a.xlarge", None)],
)
def test_an_instance_type_that_is_too_small_is_told(type_: str, has: str | None) -> None:
    _, problems = loaded(
        stacks("quay.io/keycloak/keycloak:26.0", "elasticsearch:8.15.0", more=f"aws: {{type: {type_}}}\n")
    )
    least = "and what is known of the images here needs a server with 8 GB"
    told = [problem for problem in problems if "of memory" in problem]
    assert told == ([] if has is None else [f"{type_} has {has} GB of memory, {least}"])


def test_the_docs_say_what_each_image_wants() -> None:
    """With the reason of each number; both ways."""
    rows = re.findall(r"^\| (`.*`) \| (\d+) \| .+ \|$", (ROOT / "docs/apps.md").read_text(), re.MULTILINE)
    said = {name: int(size) for names, size in rows for name in re.findall("`([^`]+)`", names)}
    assert said == {name: want.mebibytes for name, want in known_images.MEMORY.items()}


@pytest.mark.parametrize(("number", "said"), [(1, "70"), (2, "70"), (3, "60"), (4, "50"), (5, "48")])
def test_the_docs_say_what_a_stack_may_have(number: int, said: str) -> None:
    assert f"{shares.ceiling(number):g}" == said
    assert f"{said} % " in (ROOT / "docs/apps.md").read_text()
