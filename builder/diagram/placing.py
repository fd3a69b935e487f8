"""Where everything of a picture stands: columns from the world to the stacks, and as many rows as there are.

Each service has one height from the proxy to its container, so every line of a request is straight. What leaves the
host runs along the right edge and below, back to the world; what enters by SSH, and what is kept, stands below that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder.diagram.model import Words
from builder.diagram.scene import LOOKS, Box, Dot, Line, Scene, Text, width, wrapped
from builder.problem_report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.diagram.model import Content, ServiceShown, StackShown


@dataclass(frozen=True, slots=True)
class _Column:
    """From where to where the boxes of a column stand."""

    left: float
    right: float

    @property
    def width(self) -> float:
        return self.right - self.left


# A README is some 830 pixels wide.
_WIDTH: Final = 860.0
_WORLD: Final = _Column(10, 124)
_FRAME: Final = _Column(142, 846)
_WALL: Final = _Column(158, 290)
_PROXY: Final = _Column(318, 464)
_SOCKETS: Final = _Column(482, 556)
_STACKS: Final = _Column(556, 814)
_WAY_OUT: Final = 830.0  # the line by which stacks leave the host

_EDGE: Final = 14.0
_TOP: Final = 66.0  # of the columns in the frame
_GAP: Final = 14.0  # between boxes of a column
_PAD: Final = 10.0  # from a box to what is in it
_ICON: Final = 15.0
_LANE: Final = 11.0  # from one network to the next
_MOST_LANES: Final = 110.0  # what all networks may take of a stack's width


@dataclass
class _Sheet:
    """What has been placed so far."""

    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def box(self, column: _Column, top: float, bottom: float, look: str) -> Box:
        """One more box."""
        placed = _box(column, top, bottom, look)
        self.boxes.append(placed)
        return placed

    def line(self, look: str, *points: tuple[float, float], arrow: bool = False) -> None:
        """One more line, with an arrow at its end or without."""
        self.lines.append(Line(points, look, arrow))

    def dot(self, look: str, x: float, y: float) -> None:
        """One more dot or sign around a point."""
        self.dots.append(Dot(x, y, look))

    def text(self, x: float, baseline: float, words: str, look: str, room: float, *, right: bool = False) -> None:
        """One line, cut where it is too long."""
        if not words:
            return
        whole = printable(words)
        shown = wrapped(whole, look, room)[0]
        self.texts.append(Text(x, baseline, shown, look, room, right, "" if shown == whole else whole))

    def write(self, x: float, y: float, room: float, words: Iterable[Words]) -> float:
        """Texts below each other from y on; gives the y below them."""
        for one in words:
            look, shift = LOOKS[one.look], _ICON if one.icon else 0.0
            if one.icon:
                self.dot(one.icon, x + 4.5, y + look.line / 2)
            lines = _lines(one, room)
            y += look.above
            for line in lines:
                y += look.line
                is_cut = line is lines[-1] and line.endswith("…")
                whole = printable(one.text) if is_cut else ""
                self.texts.append(Text(x + shift, y - look.drop, line, one.look, room - shift, whole=whole))
        return y


def _box(column: _Column, top: float, bottom: float, look: str) -> Box:
    return Box(column.left, top, column.width, bottom - top, look)


def _lines(words: Words, room: float) -> list[str]:
    return wrapped(printable(words.text), words.look, room - (_ICON if words.icon else 0.0), words.lines)


def _height(words: Iterable[Words], room: float) -> float:
    return sum(len(_lines(one, room)) * LOOKS[one.look].line + LOOKS[one.look].above for one in words)


def _inner(column: _Column, pad: float = _PAD) -> float:
    return column.width - 2 * pad


def scene(content: Content) -> Scene:
    """The picture of a host."""
    sheet = _Sheet()
    _titles(sheet, content)
    wall_end = _web_gates(sheet, content)
    below_stacks, sites_end = _stacks(sheet, content.stacks)
    high = _height(content.data, _inner(_STACKS)) + 18, _height(content.proxy_foot, _inner(_PROXY)) + 18
    end = max(wall_end + 6, below_stacks + high[0], sites_end + 14 + high[1])
    _data(sheet, content, below_stacks, end)
    _proxy(sheet, content, sites_end, end)
    lower = _way_out(sheet, content, end)
    bottom = _lower_row(sheet, content, lower)
    sheet.box(_WALL, _TOP, bottom, "wall")
    sheet.box(_FRAME, _EDGE, bottom + 16, "frame")
    return Scene(
        _WIDTH,
        bottom + 16 + _EDGE,
        f"The network architecture of {printable(content.name)}",
        printable(_description(content)),
        tuple(sorted(sheet.boxes, key=lambda box: -box.width * box.height)),
        tuple(sheet.lines),
        tuple(sheet.dots),
        tuple(sheet.texts),
    )


def _description(content: Content) -> str:
    """The picture in sentences, for who hears it."""
    gates = "; ".join(" ".join(one.text for one in gate) for gate in (*content.web_gates, content.ssh_gate))
    stacks = " ".join(_sentence(stack) for stack in content.stacks)
    return f"The firewall opens {gates}. Caddy reaches the stacks by unix sockets. {stacks}"


def _sentence(stack: StackShown) -> str:
    """A stack with its containers and their sites."""
    services = (
        " at ".join(filter(None, (service.name, ", ".join(one.text for one in service.sites))))
        for service in stack.services
    )
    head, out = (", ".join(one.text for one in words) for words in (stack.head, stack.out))
    return f"Stack {head}: {'; '.join(services)}; {out}."


def _titles(sheet: _Sheet, content: Content) -> None:
    left, room = _WALL.left, _FRAME.width - 32
    sheet.text(left, 47, content.name, "host", room - width(content.machine, "note") - 24)
    sheet.text(_FRAME.right - 16, 46, content.machine, "note", room * 0.4, right=True)
    sheet.text(_WORLD.left + 2, 47, "The world", "head", _WORLD.width - 2)


def _web_gates(sheet: _Sheet, content: Content) -> float:
    """The ports that are open to visitors; gives where the words of the firewall end."""
    top = y = sheet.write(_WALL.left + _PAD, _TOP + 8, _inner(_WALL), content.wall) + 14
    for words in content.web_gates:
        gate = _gate(sheet, words, y)
        sheet.line("way", (_WORLD.right, gate.middle), (gate.x, gate.middle), arrow=True)
        sheet.line("way", (gate.right, gate.middle), (_PROXY.left, gate.middle), arrow=True)
        y = gate.bottom + 8
    visitors = sheet.box(_WORLD, top, y - 8, "world")
    high = _height(content.visitors, _inner(_WORLD))
    sheet.write(_WORLD.left + _PAD, visitors.middle - high / 2, _inner(_WORLD), content.visitors)
    return sheet.write(_WALL.left + _PAD, y + 6, _inner(_WALL), content.limits)


_GATE: Final = _Column(_WALL.left + 8, _WALL.right - 8)


def _gate(sheet: _Sheet, words: Sequence[Words], top: float) -> Box:
    """A way through the firewall."""
    end = sheet.write(_GATE.left + 8, top + 4, _inner(_GATE, 8), words)
    return sheet.box(_GATE, top, end + 5, "gate")


def _stacks(sheet: _Sheet, stacks: Sequence[StackShown]) -> tuple[float, float]:
    """All stacks below each other; gives where the next box stands, and where the proxy's sites end."""
    top, served = _TOP, [_TOP + 60]
    for stack in stacks:
        bottom, sites_end = _stack(sheet, stack, top)
        served.append(sites_end)
        top = bottom + _GAP
    return top, max(served)


def _stack(sheet: _Sheet, stack: StackShown, top: float) -> tuple[float, float]:
    left, room = _STACKS.left + _PAD, _inner(_STACKS)
    y = sheet.write(left, top + 8, room, stack.head) + 8
    lanes = _lanes(len(stack.networks))
    container = _Column(left, lanes[0] - 11 if lanes else left + room)
    sites_end = top
    members: list[tuple[int, float]] = []
    for service in stack.services:
        box, end = _service(sheet, service, y, container)
        members += [(number, box.y + 16) for number in service.networks]
        sites_end = max(sites_end, end)
        y = max(box.bottom, end) + 8
    y = _networks(sheet, stack, lanes, members, y)
    out = y + 8
    y = sheet.write(left, y, room, stack.out) + 8
    if stack.has_way_out:
        sheet.line("out", (_STACKS.right, out), (_WAY_OUT, out))
        sheet.dot("leaves", _WAY_OUT, out)
    sheet.box(_STACKS, top, y, "stack")
    return y, sites_end


def _lanes(count: int) -> list[float]:
    """Where the line of each network runs, at the right edge of a stack."""
    step = min(_LANE, _MOST_LANES / max(count, 1))
    return [_STACKS.right - _PAD - step * (count - number - 0.5) for number in range(count)]


def _service(sheet: _Sheet, service: ServiceShown, top: float, column: _Column) -> tuple[Box, float]:
    """A container, and its socket if it is public; gives its box, and where its sites in the proxy end."""
    baseline, left, room = top + 20, column.left + 8, _inner(column, 8)
    sheet.text(left, baseline, service.name, "name", room)
    words = list(service.words)
    if width(service.name, "name") + 10 + width(service.side, "note") <= room:
        sheet.text(left + room, baseline, service.side, "note", room, right=True)
    elif service.side:
        words.insert(0, Words(service.side))
    end = sheet.write(left, top + 25, room, words)
    box = sheet.box(column, top, end + 7, "service")
    return box, _socket(sheet, service, baseline) if service.socket else top


def _socket(sheet: _Sheet, service: ServiceShown, baseline: float) -> float:
    middle = baseline - 4
    sheet.box(_SOCKETS, middle - 11, middle + 11, "socket")
    path, room = printable(service.socket), _inner(_SOCKETS, 5)
    shown = _socket_name(path.rpartition("/")[2], room)
    sheet.texts.append(Text(_SOCKETS.left + 5, baseline - 0.5, shown, "socket", room, whole=path))
    sheet.line("way", (_PROXY.right, middle), (_SOCKETS.left, middle), arrow=True)
    sheet.line("way", (_SOCKETS.right, middle), (_STACKS.left + _PAD, middle))
    return sheet.write(_PROXY.left + _PAD, baseline - 11, _inner(_PROXY), service.sites)


def _socket_name(name: str, room: float) -> str:
    """The file's name; where that is too wide, without its ending."""
    return wrapped(name if width(name, "socket") <= room else name.removesuffix(".sock"), "socket", room)[0]


def _networks(
    sheet: _Sheet, stack: StackShown, lanes: Sequence[float], members: Sequence[tuple[int, float]], y: float
) -> float:
    """Each network's line, from its members down to its name; the left one ends first, so that no name is crossed."""
    for number, (lane, name) in enumerate(zip(lanes, stack.networks, strict=True)):
        end = y + 7.5
        joined = [middle for network, middle in members if network == number]
        for middle in joined:
            sheet.line("network", (lanes[0] - 11, middle), (lane, middle))
            sheet.dot("member", lane, middle)
        sheet.line("network", (lane, min([*joined, end])), (lane, end), (lane - 6, end))
        sheet.text(lane - 10, end + 4, name, "note", lane - 10 - _STACKS.left - _PAD, right=True)
        y += 15
    return y + 6 if stack.networks else y


def _proxy(sheet: _Sheet, content: Content, sites_end: float, end: float) -> None:
    """Around the sites, which stand already: above them what it is, and below, as far down as may be, what it has."""
    left, room = _PROXY.left + _PAD, _inner(_PROXY)
    sheet.write(left, _TOP + 8, room, content.proxy)
    sheet.write(_SOCKETS.left, _TOP + 8, _SOCKETS.width - 4, content.sockets)
    y = end - _height(content.proxy_foot, room) - 18
    if y - sites_end < _NEARLY:
        y = sites_end + 14
    sheet.line("rule", (left, y), (left + room, y))
    sheet.write(left, y + 8, room, content.proxy_foot)
    sheet.box(_PROXY, _TOP, end, "proxy")


def _data(sheet: _Sheet, content: Content, below_stacks: float, end: float) -> None:
    """Below the stacks, whose volumes it holds, and as far down as the proxy."""
    top = end - _height(content.data, _inner(_STACKS)) - 18
    if top - below_stacks < _NEARLY:
        top = below_stacks
    _filled(sheet, _STACKS, (top, end), content.data, "data")


# So much room more is no reason to stand apart.
_NEARLY: Final = 60.0


def _way_out(sheet: _Sheet, content: Content, end: float) -> float:
    """What leaves: along the right edge and below the stacks, through the firewall. Gives where the next row begins."""
    gate = _gate(sheet, content.way_out, end + 4)
    starts = [dot.y for dot in sheet.dots if dot.look == "leaves"]
    proxy = _PROXY.left + 24
    corner = ((_WAY_OUT, min(starts)), (_WAY_OUT, gate.middle)) if starts else ((proxy, gate.middle),)
    sheet.line("out", *corner, (gate.right, gate.middle), arrow=True)
    sheet.line("out", (proxy, end), (proxy, gate.middle))
    sheet.dot("leaves", proxy, gate.middle)
    sheet.line("out", (gate.x, gate.middle), (_WORLD.right, gate.middle), arrow=True)
    half = _height(content.elsewhere, _inner(_WORLD)) / 2 + 9
    elsewhere = sheet.box(_WORLD, gate.middle - half, gate.middle + half, "world")
    sheet.write(_WORLD.left + _PAD, elsewhere.y + 8, _inner(_WORLD), content.elsewhere)
    return max(elsewhere.bottom, gate.bottom) + _GAP


def _lower_row(sheet: _Sheet, content: Content, top: float) -> float:
    """SSH from the world to the host, and backups; gives where the row ends."""
    gate = _gate(sheet, content.ssh_gate, top)
    sheet.line("way", (_WORLD.right, gate.middle), (gate.x, gate.middle), arrow=True)
    sheet.line("way", (gate.right, gate.middle), (_PROXY.left, gate.middle), arrow=True)
    if content.backup:
        row = [(_SSH, "ssh", content.sshd), (_STACKS, "data", content.backup)]
        if content.backup_leaves:
            _backs_up(sheet, top)
    else:
        row = [(_Column(_SSH.left, _STACKS.right), "ssh", content.sshd)]
    admins = top + _height(content.admins, _inner(_WORLD)) + 18
    bottom = max(gate.bottom + 8, *(top + _height(words, _inner(column)) + 18 for column, _, words in row))
    for column, look, words in row:
        _filled(sheet, column, (top, bottom), words, look)
    _filled(sheet, _WORLD, (top, max(admins, bottom)), content.admins, "world")
    return max(admins, bottom)


_SSH: Final = _Column(_PROXY.left, _SOCKETS.right - _GAP)


def _filled(sheet: _Sheet, column: _Column, ends: tuple[float, float], words: Sequence[Words], look: str) -> None:
    """A box with nothing but texts in it."""
    sheet.write(column.left + _PAD, ends[0] + 8, _inner(column), words)
    sheet.box(column, *ends, look)


def _backs_up(sheet: _Sheet, top: float) -> None:
    """From the box of backups up to what leaves the host."""
    x, end = _STACKS.left + 24, max(line.points[-1][1] for line in sheet.lines if line.look == "out")
    sheet.line("out", (x, top), (x, end))
    sheet.dot("leaves", x, end)
