"""`er diagram`: what is in the picture of a host is true, readable, and nothing else than a picture."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from builder import diagram, facts
from builder import host as hosts
from builder import spec as specs
from builder.diagram import content, drawing, placing
from builder.diagram.scene import LOOKS, width, wrapped
from builder.host import firewall
from builder.spec.model import Backup, Data, Edge, Spec, Ssh, Tls
from builder.stack.model import Attachment, Build, Deploy, EgressRule, Mount, Network, Service, Stack, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.diagram.scene import Box, Line, Scene, Text

ROOT = Path(__file__).parents[2]
HOST_SVG = ROOT / "docs/host.svg"
SVG = "{http://www.w3.org/2000/svg}"


@cache
def web() -> Spec:
    return specs.load(ROOT / "examples/web.yaml")[0]


def stack(number: int, count: int, **values: object) -> Stack:
    """A stack with so many services, of which every other one is public, on two networks, with a volume each."""
    every = tuple(
        Service(
            f"service-{one}",
            f"registry.example.org/team/app{number}:{one}",
            kind="worker" if one % 2 else "web",
            domains=() if one % 2 else (f"s{one}.app{number}.example.org",),
            port=3000 + one,
            mounts=(Mount("volume", f"volume-{one}", f"/srv/{one}"),),
            networks=(Attachment("front"), *((Attachment("back"),) if one % 3 else ())),
        )
        for one in range(count)
    )
    volumes = tuple(Volume(f"volume-{one}") for one in range(count))
    networks = (Network("front"), Network("back", internal=True))
    return replace(Stack(f"app{number}", 30_000 + number, every, volumes, networks), **values)  # type: ignore[arg-type]


LONG = "a-name-that-does-not-end-" * 9
FOREIGN = (
    "<script>alert(1)</script>", '"/><svg onload="x()">', "]]>&amp;&lt;", "a\x1b[31mred", "left\u202eright", "a\nb\0c",
    "\ud800", "名前" * 30, "e\u0301" * 60, LONG, "x" * 300, "a b " * 80,
)  # fmt: skip


def hostile(text: str) -> Spec:
    """A host of whose values none has been checked."""
    service = Service(
        text, text, "web", (text, text), paths=(f"/{text}",), redirect_from=(text,), framework=text,
        networks=(Attachment(text),), network_mode=f"service:{text}", mounts=(Mount("volume", text, f"/{text}"),),
    )  # fmt: skip
    egress = (EgressRule(text, "udp", (1, 65535)),)
    one = Stack(text, 30_001, (service, service), (Volume(text),), (Network(text), Network("other")), egress=egress)
    spec = replace(web(), server=replace(web().server, name=text), admin=replace(web().admin, name=text))
    proxy, backup, data = replace(spec.proxy, image=text), Backup(f"s3://{text}", text), Data(text)
    return replace(spec, tls=Tls(None, text), proxy=proxy, backup=backup, data=data, stacks=(one,))


def with_everything() -> Spec:
    """Each thing that a picture can have beside those of the example."""
    built = replace(stack(1, 3).services[0], build=Build(Path("/here")), hardening="off")
    no_network = replace(stack(1, 3).services[1], network_mode="none", networks=())
    one = stack(1, 3, services=(built, no_network), deploy=Deploy(("a key", "another"), "main"))
    egress = tuple(EgressRule(f"host{port}.example.org", "tcp", (port,)) for port in range(5000, 5020))
    two = stack(2, 4, egress=egress, backup=None)
    three = stack(3, 2, no_egress=True)
    networks = tuple(f"2001:db8:{number:x}::/48" for number in range(20))
    spec = replace(web(), stacks=(one, two, three), ssh=Ssh(("0.0.0.0/0", *networks)), data=Data("auto"))
    ignore = replace(spec.fail2ban, ignore=("203.0.113.0/24", "2001:db8::/32"), disable=("web-scan",))
    return replace(spec, fail2ban=ignore, backup=Backup("sftp:backup@example.org:/srv"), tls=Tls(None, "internal"))


def behind(edge: Edge) -> Spec:
    return replace(web(), proxy=replace(web().proxy, edge=edge))


SPECS: dict[str, Callable[[], Spec]] = {
    "web": web,
    "one": lambda: replace(web(), stacks=web().stacks[1:], ssh=Ssh(("::/0",))),
    "ten": lambda: replace(web(), stacks=tuple(stack(number, 1 + number) for number in range(10))),
    "workers": lambda: replace(web(), stacks=(stack(1, 2, services=stack(1, 2).services[1:]),)),
    "no-way-out": lambda: replace(web(), stacks=(stack(1, 1, no_egress=True),)),
    "networks": lambda: replace(web(), stacks=(stack(1, 2, networks=tuple(Network(f"n{n}") for n in range(25))),)),
    "everything": with_everything,
    "edge": lambda: behind(Edge("digitalocean-lb", ("10.0.0.0/24",))),
    "edge-only": lambda: behind(
        Edge("cloudflare", tuple(f"203.0.{n}.0/24" for n in range(22)), "CF-Connecting-IP", True)
    ),
    "edge-own": lambda: behind(Edge(None, ("2001:db8:1:2::/64",), "X-Address-Of-A-Visitor-As-Our-Own-Proxy-Has-It")),
    "backup-here": lambda: replace(web(), backup=Backup("/mnt/backup")),
    **{f"hostile-{number}": partial(hostile, text) for number, text in enumerate(FOREIGN)},
}
each_spec = pytest.mark.parametrize("name", SPECS)


@cache
def scene(name: str) -> Scene:
    return placing.scene(content.of(SPECS[name]()))


@cache
def places(name: str) -> list[tuple[Text, Box]]:
    return [(text, text.box) for text in scene(name).texts]


@cache
def picture(name: str) -> ET.Element:
    return ET.fromstring(diagram.svg(SPECS[name]()))


def words(name: str) -> list[str]:
    """Every text as a reader can have it: as it is drawn, or whole where it was cut."""
    texts = picture(name).iter(f"{SVG}text")
    return [one.findtext(f"{SVG}title") or "".join(one.itertext()) for one in texts]


# ---- readable


@each_spec
def test_every_box_is_in_the_picture_and_overlaps_no_other(name: str) -> None:
    drawn = scene(name)
    page = replace(drawn.boxes[0], x=0, y=0, width=drawn.width, height=drawn.height)
    assert not [box for box in drawn.boxes if not inside(box, page) or box.width <= 0 or box.height <= 0]
    pairs = combinations(drawn.boxes, 2)
    assert not [(a, b) for a, b in pairs if overlap(a, b) and not inside(a, b) and not inside(b, a)]


def inside(one: Box, other: Box) -> bool:
    return one.x >= other.x and one.y >= other.y and one.right <= other.right and one.bottom <= other.bottom


def overlap(one: Box, other: Box, gap: float = 0.0) -> bool:
    beside = one.right + gap <= other.x or other.right + gap <= one.x
    return not beside and one.bottom + gap > other.y and other.bottom + gap > one.y


@each_spec
def test_every_text_fits_its_box(name: str) -> None:
    drawn = scene(name)
    for text, room in places(name):
        assert width(text.words, text.look) <= text.room, text
        around = [box for box in drawn.boxes if overlap(room, box)]
        assert not [box for box in around if not inside(room, box)], text


@each_spec
def test_no_text_is_over_another_or_crossed_by_a_line(name: str) -> None:
    pairs = combinations(places(name), 2)
    assert not [(a.words, b.words) for (a, room), (b, other) in pairs if overlap(room, other)]
    lines = scene(name).lines
    assert not [(text.words, line) for text, room in places(name) for line in lines if crosses(line, room)]


def crosses(line: Line, around: Box) -> bool:
    for (x, y), (to_x, to_y) in pairwise(line.points):
        assert x == to_x or y == to_y, "every line is straight"
        stretch = replace(around, x=min(x, to_x), y=min(y, to_y), width=abs(x - to_x), height=abs(y - to_y))
        if overlap(stretch, around, gap=0.5):
            return True
    return False


@each_spec
def test_no_line_runs_through_a_container(name: str) -> None:
    drawn = scene(name)
    closed = [box for box in drawn.boxes if box.look in {"service", "data", "gate", "socket"}]
    through = [
        (line, box)
        for line in drawn.lines
        for (x, y), (to_x, to_y) in pairwise(line.points)
        for box in closed
        if overlap(replace(box, x=min(x, to_x), y=min(y, to_y), width=abs(x - to_x), height=abs(y - to_y)), box)
        and line.look != "rule"
    ]
    assert not through


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_lines_stand_out_in_both_schemes(scheme: int) -> None:
    colours = rules(scheme)
    for name in SPECS:
        drawn = scene(name)
        for text, room in places(name):
            around = min((box for box in drawn.boxes if inside(room, box)), key=area, default=None)
            below = colours[around.look if around else "page"]["fill"]
            assert contrast(colours[f"t-{text.look}"]["fill"], below) >= 4.5, (text, around)
    for line, below in (("way", "frame"), ("way", "page"), ("out", "frame"), ("out", "wall"), ("network", "stack")):
        assert contrast(colours[line]["stroke"], colours[below]["fill"]) >= 3, (line, below)


def area(box: Box) -> float:
    return box.width * box.height


def rules(scheme: int) -> dict[str, dict[str, str]]:
    """By class the properties that are drawn, read from the file itself."""
    style = picture("web").findtext(f"{SVG}style") or ""
    light, dark = style.split("@media (prefers-color-scheme: dark) {")
    found: dict[str, dict[str, str]] = {}
    for selector, body in re.findall(r"^\.([\w-]+) \{ (.*?) \}$", light + (dark if scheme else ""), re.MULTILINE):
        found.setdefault(selector, {}).update(re.findall(r"(fill|stroke): (#\w{6});", body))
    return found


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_dark_scheme_has_every_colour_of_the_light_one() -> None:
    light, dark = rules(0), rules(1)
    assert light.keys() == dark.keys()
    assert not [role for role in light if light[role] and light[role] == dark[role]]


def test_a_text_is_broken_between_words_then_in_names_then_anywhere_and_cut_at_last() -> None:
    room = width("one two", "plain") + 1
    assert wrapped("one two three", "plain", room, 3) == ["one two", "three"]
    assert wrapped("one.example.org", "plain", width("example.", "plain"), 3) == ["one.", "example.", "org"]
    assert wrapped("w" * 6, "plain", width("wwww", "plain"), 2) == ["wwww", "ww"]
    assert wrapped("one two three", "plain", room, 1) == ["one t…"]
    assert wrapped("", "plain", room) == [""]
    assert all(width("…", look) < width("mmm", look) for look in LOOKS)


# ---- true


@pytest.mark.parametrize("name", ["web", "one"])
def test_the_picture_shows_what_the_files_of_the_host_say(name: str) -> None:
    files = {file.path: file.content.decode() for file in hosts.build(SPECS[name]()).files}
    shown = "".join(words(name))  # a long value goes on in the next line
    assert not [value for value in values(files) if value not in shown]
    assert len(list(values(files))) > 10


def values(files: dict[str, str]) -> Iterator[str]:
    """Ports, users, networks, volumes, sockets, domains and images, found in the host's own files."""
    joined = "\n".join(files.values())
    for public, local in re.findall(r"--dport (\d+) -j REDIRECT --to-ports (\d+)", joined):
        yield f"{public} → {local}"
    for name, uid in re.findall(r"^u (er-\S+) (\d+) ", joined, re.MULTILINE):
        yield name
        yield f"uid {uid}"
    yield from re.findall(rf"^ListenStream=({facts.PROXY_SOCKETS}/\S+)$", joined, re.MULTILINE)
    yield from re.findall(r"^(\S+\.example\.org) \{$", joined, re.MULTILINE)
    for path, text in files.items():
        if path.startswith(facts.QUADLETS):
            of_stack = Path(path).name.partition("-")[0]
            for kind, name in re.findall(rf"^(Volume|Network)Name={of_stack}_(\S+)$", text, re.MULTILINE):
                yield f"{name} → " if kind == "Volume" else f"network {name}"
            yield from re.findall(r"^Image=(\S+)$", text, re.MULTILINE)
    rate = re.search(r"--hashlimit-above (\d+)/sec", joined)
    assert rate
    yield f"{rate[1]} new a second"


def test_what_a_stack_may_reach_is_in_the_picture() -> None:
    shown = " ".join(words("everything"))
    assert all(f"+ host{port}.example.org, tcp {port}" in shown for port in range(5000, 5020))
    assert "out: nothing at all" in shown
    assert {port for _, ports in firewall.WAYS_OUT for port in ports} == {53, 80, 443}
    assert "out: DNS, HTTP, HTTPS" in shown


def test_only_a_stack_with_a_way_out_has_a_line_to_it() -> None:
    def lines(name: str) -> int:
        return len([dot for dot in scene(name).dots if dot.look == "leaves"])

    assert (lines("web"), lines("one"), lines("no-way-out")) == (3, 2, 1)
    assert (lines("everything"), lines("backup-here")) == (4, lines("web"))
    assert "backup" in " ".join(words("everything"))


def test_only_a_public_service_has_a_socket() -> None:
    assert not [box for box in scene("workers").boxes if box.look == "socket"]
    assert len([box for box in scene("web").boxes if box.look == "socket"]) == 2


def test_who_may_come_in_by_ssh_is_said() -> None:
    assert "from anywhere" in words("web")
    assert "any IPv6 address" in words("one")
    shown = words("everything")
    assert "any IPv4 address" in shown
    assert "2001:db8:3::/48" in shown
    assert "and 8 more" in shown
    assert "deploy, 2 keys" in shown


def test_what_stands_before_the_host_is_said() -> None:
    assert "by cloudflare," in words("edge-only")
    shown = " ".join(words("edge-only"))
    assert "CF-Connecting- IP nobody else" in shown
    assert "203.0.0.0/24" in shown
    assert "at a time" not in shown
    shown = " ".join(words("edge"))
    assert "PROXY protocol or straight" in shown
    assert "Who comes straight 50 new a second" in shown
    assert "HTTP/3" in " ".join(words("web"))
    assert not [name for name in SPECS if name.startswith("edge") and "HTTP/3" in " ".join(words(name))]


def test_data_and_backups_are_said() -> None:
    assert "on the machine's own disk" in words("web")
    assert not any(one == "Backup" for one in words("web"))
    shown = " ".join(words("everything"))
    assert "Backup each day at 03:30, encrypted sftp:backup@example.org:/srv without app2" in shown
    assert "LABEL=er-data" in shown


def test_no_path_of_this_machine_and_no_login_is_in_the_picture() -> None:
    one = stack(1, 1)
    service = replace(one.services[0], image="oci-archive:/home/me/secret-project/app.tar")
    spec = replace(web(), stacks=(replace(one, services=(service,)),), backup=Backup("rest:https://me:pass@b.org/r"))
    drawn = diagram.svg(spec).decode()
    assert "app.tar (archive)" in drawn
    assert "rest:https://b.org/r" in drawn
    assert not [word for word in ("secret-project", "/home", "pass@") if word in drawn]
    assert "/here" not in diagram.svg(with_everything()).decode()


def test_a_digest_is_shown_by_its_beginning() -> None:
    one = stack(1, 1)
    service = replace(one.services[0], image=f"docker.io/x@sha256:{'a1' * 32}")
    spec = replace(web(), stacks=(replace(one, services=(service,)),))
    assert f"docker.io/x@sha256:{'a1' * 6}…" in diagram.svg(spec).decode()


# ---- nothing else than a picture

SHAPES = {
    "svg", "title", "desc", "style", "defs", "marker", "polygon", "rect", "path", "g", "circle", "ellipse", "text",
}  # fmt: skip


@each_spec
def test_the_file_is_shapes_and_texts_alone(name: str) -> None:
    drawn = picture(name)
    assert {element.tag.removeprefix(SVG) for element in drawn.iter()} <= SHAPES
    attributes = {(key, value) for element in drawn.iter() for key, value in element.attrib.items()}
    assert not [one for one in attributes if one[0].startswith("on") or "href" in one[0] or one[0] == "style"]
    assert not [value for _, value in attributes if re.search(r"url\((?!#to-)", value)]
    assert all(text.isprintable() for element in drawn.iter() if element.tag != f"{SVG}style" and (text := element.text)
               and text.strip())  # fmt: skip


@each_spec
def test_who_hears_it_gets_title_and_description(name: str) -> None:
    drawn = picture(name)
    assert drawn.get("role") == "img"
    labels = [drawn.find(f"*[@id='{label}']") for label in (drawn.get("aria-labelledby") or "").split()]
    assert [label.tag for label in labels if label is not None and label.text] == [f"{SVG}title", f"{SVG}desc"]


def test_the_description_tells_the_whole_way() -> None:
    told = picture("web").findtext(f"{SVG}desc") or ""
    for word in ("443 → 8443 tcp, HTTPS", "22 tcp, SSH", "Stack blog", "web at blog.example.org", "DNS, HTTP, HTTPS"):
        assert word in told


def test_no_mark_of_a_foreign_text_is_left() -> None:
    for number, text in enumerate(FOREIGN[:3]):
        raw = diagram.svg(hostile(text)).decode()
        assert text not in raw
        assert any(text in one for one in words(f"hostile-{number}"))


def test_the_picture_in_the_docs_is_that_of_the_example() -> None:
    drawn = diagram.svg(web())
    if os.environ.get("UPDATE"):
        HOST_SVG.write_bytes(drawn)
    assert HOST_SVG.read_bytes() == drawn
    assert "](docs/host.svg)" in (ROOT / "README.md").read_text()
    assert drawing.draw(scene("web")) == drawn
