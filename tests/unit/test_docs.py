"""What README.md and docs/ name is there: links and their anchors, commands and options, targets of make, paths."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pytest
import typer.main
from typer.core import TyperArgument, TyperGroup

from builder.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"")
FOREIGN = re.compile(r"[a-z][a-z0-9+.-]*:")


# ---- links


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = [one or other for one, other in LINK.findall(INLINE.sub("", FENCE.sub("", page.read_text())))]
    assert not [fault for link in links if not FOREIGN.match(link) and (fault := wrong_link(page, link))]


def wrong_link(page: Path, link: str) -> str:
    """What is wrong with a relative link, or nothing."""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return f"{link}: there is no such file"
    if anchor and anchor not in anchors(target.read_text()):
        return f"{link}: no heading of that page has this anchor"
    return ""


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings as GitHub makes them: `## The proxy's release` is `the-proxys-release`."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def test_what_is_wrong_with_a_link_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text("# Here")
    other.write_text("# The proxy's release\n```\n# no heading\n```\n## `er` and [links](x.md)\n## Again\n## Again\n")
    right = ("other.md", "#here", "other.md#the-proxys-release", "other.md#er-and-links", "other.md#again-1")
    assert [wrong_link(page, link) for link in right] == [""] * len(right)
    assert wrong_link(page, "another.md") == "another.md: there is no such file"
    assert "has this anchor" in wrong_link(page, "other.md#no-heading")


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text()
    missing = [page.name for page in PAGES if page.parent.name == "docs" and f"({page.name}" not in index]
    assert missing == ["index.md"]


# ---- commands


@each_page
def test_commands_and_options_exist(page: Path) -> None:
    faults = [f"{line}: {fault}" for line in commands(page.read_text(), "er") if (fault := wrong_command(line))]
    assert not faults, "\n".join(faults)


@each_page
def test_options_without_their_command_exist(page: Path) -> None:
    """As in a table of options, `--keep N`."""
    known = set(every_option(whole()))
    code = INLINE.findall(FENCE.sub("", page.read_text()))
    assert {text.split()[0].partition("=")[0] for text in code if text.startswith("--")} <= known


@cache
def whole() -> Any:
    """The command line, which takes a tenth of a second to make."""
    return typer.main.get_command(app)


def every_option(command: Any) -> Iterator[str]:
    """The options of a command, and of those below it."""
    for option in command.params:
        yield from (*option.opts, *option.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from every_option(inner)


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands(page.read_text(), "make"):
        words = [word for word in line.split()[1:] if "=" not in word and not word.startswith("-")]
        assert {*words} <= known, line


def commands(text: str, program: str) -> Iterator[str]:
    """Calls of a program in blocks of code, without comment, prompt and sudo; and those in running text."""
    call = re.compile(rf"(?:\$ )?(?:sudo )?(?:\S*/)?({program} .+)")
    for language, block in FENCE.findall(text):
        if language not in {"yaml", "json", "python"}:
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r" [|&]+ |; ", re.sub(r"\s+#.*", "", line)):
                    if match := call.fullmatch(part.strip()):
                        yield match[1]
    for code in INLINE.findall(FENCE.sub("", text)):
        if match := call.fullmatch(code.replace("\\|", "|")):
            yield match[1]


def wrong_command(line: str) -> str:
    """What is wrong with a call of `er`, or nothing. `a|b` are alternatives, `[…]` may be left out, `…` ends it."""
    words = shlex.split(re.sub(r"[\[\]]", "", line).partition("…")[0])[1:]
    found: list[Any] = [whole()]
    while words and isinstance(group := found[0], TyperGroup) and not words[0].startswith("-"):
        names = words.pop(0).split("|")
        missing = [name for name in names if name not in group.commands]
        if missing:
            return f"there is no command {missing[0]}"
        found = [group.commands[name] for name in names]
    return next((fault for command in found if (fault := wrong_words(command, words))), "")


def wrong_words(command: Any, words: list[str]) -> str:
    """Options that a command has not, values that an option does not take, more words than arguments."""
    options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    free = [option for option in command.params if isinstance(option, TyperArgument)]
    rest, count = [*words], 0
    while rest:
        word, _, value = rest.pop(0).partition("=")
        if word == "--":
            count += len(rest)
            break
        if not word.startswith("-") or word == "-":
            count += 1
            continue
        names = [name for name in word.split("|") if name not in {"-h", "--help"}]
        missing = [name for name in names if name not in options]
        if missing:
            return f"{command.name} has no option {missing[0]}"
        if names and (option := options[names[0]]) and not getattr(option, "is_flag", False):
            value = value or (rest.pop(0) if rest else "")
            unknown = {*value.split("|")} - choices(command, option.name)
            if choices(command, option.name) and value.islower() and unknown:
                return f"{word} takes no {', '.join(sorted(unknown))}"
    several = any(argument.nargs < 0 for argument in free)
    return "" if count <= len(free) or several else f"{command.name} takes {len(free)} arguments, not {count}"


def choices(command: Any, name: str) -> set[str]:
    """The values that an option takes, where they are an enumeration."""
    hint = get_type_hints(command.callback)[name]
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, Enum)]
    return {str(member.value) for kind in kinds for member in kind}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("er check SPEC --json", ""),
        ("er server restart|stop HOST STACK [SERVICE]", ""),
        ("er server … HOST", ""),
        ("er server exec HOST STACK SERVICE -- ls --all", ""),
        ("er user-data SPEC --for hetzner --on stock|baked", ""),
        ("er chekc SPEC", "there is no command chekc"),
        ("er server restart|halt HOST", "there is no command halt"),
        ("er check SPEC --jsn", "check has no option --jsn"),
        ("er user-data SPEC --on stok", "--on takes no stok"),
        ("er check SPEC OTHER", "check takes 1 arguments, not 2"),
    ],
)
def test_what_is_wrong_with_a_command_is_found(line: str, fault: str) -> None:
    assert wrong_command(line) == fault


def test_commands_are_found_in_blocks_and_in_text() -> None:
    text = (
        "```console\n$ sudo .venv/bin/er try a.yaml --keep   # why\n$ er a | jq .\n```\nThen `er b \\| c`, and `er`.\n"
    )
    assert [*commands(text, "er")] == ["er try a.yaml --keep", "er a", "er b | c"]


# ---- paths


@each_page
def test_paths_of_this_repository_exist(page: Path) -> None:
    """Paths as code, as in `builder/facts.py`; `*` and `<target>` stand for any name."""
    paths = re.compile(r"(?:builder|tests|images|cloudinit|bench|examples|docs)/[^\s…]*")
    found = [code for code in INLINE.findall(FENCE.sub("", page.read_text())) if paths.fullmatch(code)]
    assert not [code for code in found if not exists(code)]


def exists(path: str) -> bool:
    pattern = re.sub(r"<\w+>", "*", path.rstrip("/"))
    return all(any(ROOT.glob(one)) for one in alternatives(pattern))


def alternatives(pattern: str) -> list[str]:
    """`a/{b,c}/d` as `a/b/d` and `a/c/d`."""
    match = re.search(r"\{([^}]*)\}", pattern)
    if not match:
        return [pattern]
    return [pattern[: match.start()] + one + pattern[match.end() :] for one in match[1].split(",")]
