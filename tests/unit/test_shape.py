"""What `make shape` measures, and the picture that is drawn from the imports."""

from __future__ import annotations

import io
import tarfile
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from tests.shape import layers, layout, measures, modules, picture, source

FILES = {
    "builder/__init__.py": '"""Nothing."""\n',
    "builder/facts.py": "PORT = 1\n",
    "builder/cli/__init__.py": "",
    "builder/cli/launch.py": "def command():\n    from builder.aws import launch\n    return launch\n" + "\n" * 4,
    "builder/aws/__init__.py": "",
    "builder/aws/launch.py": "import builder.facts\nfrom builder.aws.api import Api\n",
    "builder/aws/api.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from builder.aws.launch import x\n"
        "class Api:\n    def a(self):\n        pass\n    async def b(self):\n        return 1\n"
    ),
}


def test_imports_are_found_wherever_they_stand() -> None:
    tree = modules.read(FILES)
    assert tree["builder.cli.launch"].imports == {"builder.aws.launch"}
    assert tree["builder.aws.launch"].imports == {"builder.facts", "builder.aws.api"}
    assert tree["builder.aws.api"].imports == {"builder.aws.launch"}


def test_a_package_is_named_by_its_folder() -> None:
    tree = modules.read({**FILES, "builder/__main__.py": "", "builder/server/remote/main.py": ""})
    found = {name: module.package for name, module in tree.items()}
    assert found["builder.aws"] == found["builder.aws.api"] == "aws"
    assert found["builder.server.remote.main"] == "server"
    assert found["builder.__main__"] == "cli"
    assert found["builder"] == found["builder.facts"] == "loose"


def test_the_numbers_of_a_tree() -> None:
    found = measures.numbers(modules.read(FILES))
    assert found["modules"] == "7"
    assert found["modules over 5 lines"] == "2"
    assert found["functions"] == "3"
    assert found["lines a function: median / p90 / max"] == "2 / 3 / 3"
    assert found["circles of imports"] == "1"
    assert found["module names that occur twice or more"] == "1"
    assert found["modules with exactly one importer"] == "2"
    assert found["modules that `er launch` pulls in"] == "4"
    assert found["modules that `er try` pulls in"] == "-"


def test_two_trees_stand_beside_each_other() -> None:
    less = {path: text for path, text in FILES.items() if "cli" not in path}
    lines = measures.table({"before": modules.read(FILES), "now": modules.read(less)}).splitlines()
    assert lines[0].split() == ["before", "now"]
    assert lines[1].split() == ["modules", "7", "5"]
    assert len({len(line) for line in lines}) == 1


def test_what_there_should_be_none_of_is_named() -> None:
    text = measures.details(modules.read({**FILES, "builder/fact.py": ""}))
    assert "  builder.aws.api - builder.aws.launch\n" in text
    assert "  launch: builder/aws/launch.py, builder/cli/launch.py\n" in text
    assert "  fact - facts\n" in text
    assert measures.details({}).count("  none\n") == 3


def test_a_revision_comes_as_an_archive() -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, text in {**FILES, "builder/note.txt": "no Python"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    assert source.from_tar(target.getvalue()) == FILES


def test_every_command_is_measured() -> None:
    """A command whose module is renamed would have no number."""
    assert {*measures.COMMANDS.values()} <= {*modules.read(source.working_tree())}


ARROWS = [("a", "b"), ("a", "e"), ("b", "d"), ("c", "d"), ("c", "e"), ("a", "d")]


def test_no_box_overlaps_another_or_a_line() -> None:
    floors = [{"a": 100.0}, {"b": 100.0, "c": 100.0}, {"d": 100.0, "e": 100.0}]
    plan = layout.lay_out(floors, ARROWS, 6.0)
    assert {name for floor in plan.floors for place in floor if (name := place.name)} == {*"abcde"}
    for floor in plan.floors:
        for one, other in pairwise(floor):
            assert other.x - one.x >= (one.width + other.width) / 2 + layout.GAP - 0.2
    assert len(plan.routes["a", "d"]) == 3


@pytest.mark.parametrize("arrows", [[("a", "d"), ("b", "c")], [("a", "c"), ("b", "d")]])
def test_boxes_are_put_where_lines_do_not_cross(arrows: list[tuple[str, str]]) -> None:
    plan = layout.lay_out([{"a": 10.0, "b": 10.0}, {"c": 10.0, "d": 10.0}], arrows, 6.0)
    assert layout.crossings(plan.floors) == 0


def test_the_picture_shows_every_package_once() -> None:
    drawn = ET.fromstring(picture.svg(modules.read(source.working_tree())))
    names = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "name"]
    assert sorted(map(str, names)) == sorted(layers.PACKAGES)
