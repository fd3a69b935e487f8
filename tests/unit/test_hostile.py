"""No text of a spec or a Compose file becomes more than a value of the files of a host, whatever it is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import yaml

from builder import facts
from builder import host as hosts
from builder.host.rootfs import caddy, plain
from builder.quadlet.unit_file import EncodingError
from builder.stack.names import BUILD_SECRET
from tests import hostile_values
from tests.unit_file import sections

if TYPE_CHECKING:
    from pathlib import Path

    from builder.host import Host


def test_every_key_that_is_taken_stands_in_the_example() -> None:
    assert hostile_values.not_shown() == set()


def shape(host: Host) -> dict[str, object]:
    """What the files of the stack are without their values: of units the keys, of others how many lines they have."""
    found: dict[str, object] = {}
    for file in host.files:
        if file.part is hosts.Part.FIRST_BOOT and not file.path.startswith(f"{facts.STACKS}/{file.stack}/files/"):
            found[file.path] = _keys(file.content.decode()) if _is_unit(file.path) else file.content.count(b"\n")
    return found


def _is_unit(path: str) -> bool:
    return path.startswith((facts.QUADLETS, f"{facts.ETC}/units", "/etc/systemd"))


# A value that Quadlet's own key cannot carry goes as an argument, an empty one through a variable.
_OTHERWISE = frozenset({"PodmanArgs", "Environment"})


def _keys(text: str) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(key for key, _ in entries if key not in _OTHERWISE) for name, entries in sections(text).items()
    }


def check(host: Host, usual: dict[str, object]) -> None:
    """No file more or less than its name explains, no line more, no key that was not there."""
    found = shape(host)
    # A secret that is no longer made of others needs no program that makes it.
    unneeded = {BUILD_SECRET} & usual.keys() - found.keys()
    assert len(found) == len(usual) - len(unneeded)
    for path in found.keys() & usual.keys():
        mine, known = found[path], usual[path]
        if isinstance(mine, dict) and isinstance(known, dict):
            assert mine.keys() == known.keys(), path
            assert all(mine[name] <= known[name] for name in mine), (path, mine, known)
        elif path == facts.LOGINS and isinstance(mine, int) and isinstance(known, int):
            assert mine <= known, path  # an image of another registry needs no login
        else:
            assert mine == known, path


def test_no_text_of_a_spec_is_more_than_a_value(tmp_path: Path) -> None:
    example = hostile_values.spec_example()
    built = hostile_values.spec_host(hostile_values.Trial((), "", example), tmp_path)
    assert built
    counts: Counter[bool] = Counter()
    for trial in hostile_values.trials(example, hostile_values.SPEC_STRIDE):
        try:
            changed = hostile_values.spec_host(trial, tmp_path)
            if changed and trial.where[-1] != "name":
                check(changed[1], shape(built[1]))
        except Exception as error:
            error.add_note(trial.name)
            raise
        counts[changed is not None] += 1
    assert counts[True] > 20
    assert counts[False] > 100


def test_no_text_of_a_compose_file_is_more_than_a_value(tmp_path: Path) -> None:
    hostile_values.lay(tmp_path)
    example = yaml.safe_load(hostile_values.COMPOSE)
    assert hostile_values.compose_host(hostile_values.Trial((), "", example), tmp_path)
    counts: Counter[bool] = Counter()
    for trial in hostile_values.trials(example, hostile_values.COMPOSE_STRIDE):
        try:
            changed = hostile_values.compose_host(trial, tmp_path)
            if changed:
                shape(changed[1])
        except Exception as error:
            error.add_note(trial.name)
            raise
        counts[changed is not None] += 1
    assert counts[True] > 30
    assert counts[False] > 100


@pytest.mark.parametrize("value", hostile_values.VALUES)
def test_a_template_takes_plain_values_or_none(value: str) -> None:
    """What no encoder has seen is refused unless it means nothing anywhere."""
    try:
        assert plain(value) == value
    except EncodingError:
        return
    assert value.isascii()
    assert not set(value) & set(" \t\n\r'\"`$%\\#;&|<>(){}[]*?!~^\x00")


@pytest.mark.parametrize("value", hostile_values.VALUES)
def test_a_token_of_a_caddyfile_is_one_or_refused(value: str) -> None:
    try:
        token = caddy(value)
    except EncodingError:
        return
    assert "\n" not in token
    assert _caddys(token) == value


def _caddys(token: str) -> str:
    """As Caddy's lexer reads it."""
    if token[:1] == "`":
        assert token.count("`") == 2
        return token[1:-1]
    if token[:1] == '"':
        inner = token[1:-1]
        assert '"' not in inner.replace('\\"', "")
        return inner.replace('\\"', '"')
    assert not token.startswith("#")
    assert " " not in token
    return token
