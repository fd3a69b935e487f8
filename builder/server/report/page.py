"""The report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere.

Every text passes `_text`, which makes it printable and escapes it; what the page may load is nothing, and its two
styles are allowed by their digests alone, so that a text which slipped through could neither run nor draw.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import time
from typing import TYPE_CHECKING, Final

from builder.server.report.model import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.server.report.model import Report, Row, Section, State

# By name, in light and in dark.
COLOURS: Final = {
    "page": ("#ffffff", "#0d1117"),
    "panel": ("#f6f8fa", "#151b23"),
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#505a64", "#a9b4bf"),
    "edge": ("#8c959f", "#59636e"),
    "link": ("#0a5299", "#79bbff"),
    "good": ("#17663a", "#5fd08a"),
    "bad": ("#a3101d", "#ff8f8a"),
    "bad-panel": ("#fdecec", "#331516"),
    "good-panel": ("#e7f4ea", "#14261b"),
    "bar": ("#3a6ea5", "#5b8fc9"),
}
# Each text with what it stands on; a test computes the contrast of each.
PAIRS: Final = (
    *((text, "page") for text in ("ink", "muted", "link", "good", "bad")),
    *((text, "panel") for text in ("ink", "muted", "good", "bad")),
    ("ink", "bad-panel"),
    ("bad", "bad-panel"),
    ("link", "bad-panel"),
    ("ink", "good-panel"),
    ("good", "good-panel"),
)
_SIGNS: Final[dict[State, tuple[str, str]]] = {
    "good": ("✓", "as promised"),
    "bad": ("✗", "not as promised"),
    "untried": ("?", "not tried"),
    "note": ("·", "counted"),
}


def page(report: Report) -> bytes:
    """The file; the same report gives the same bytes."""
    picture = report.picture[report.picture.find("<svg") :] if report.picture else ""
    body = "".join(
        (
            _head(report),
            _verdict(report),
            _contents(report, has_picture=bool(picture)),
            _picture(picture),
            *(_section(section, report) for section in report.sections),
        )
    )
    title = _text(f"{_name(report)}, {_day(report.at)}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(picture)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">To the content</a>\n'
        f"{body}</main>\n<footer><p>Made by <code>er</code>, {_minute(report.at)}. What is not listed was not examined."
        "</p></footer>\n</body>\n</html>\n"
    ).encode()


def _text(text: str) -> str:
    return html.escape(clean(text))


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _minute(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _name(report: Report) -> str:
    return f"{report.stack} on {report.host}" if report.stack else report.host


_STYLE_IN_PICTURE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def _policy(picture: str) -> str:
    styles = [STYLE, *_STYLE_IN_PICTURE.findall(picture)]
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in styles)
    return f"default-src 'none'; style-src {digests}; base-uri 'none'; form-action 'none'"


# ---- what stands above the tables


def _head(report: Report) -> str:
    where = " in a rehearsal, booted on one machine" if report.is_rehearsal else ""
    return (
        f"<header>\n<h1>{_text(_name(report))}</h1>\n"
        f'<p class="muted">What was promised and what was seen{where}, {_minute(report.at)}</p>\n</header>\n'
        '<main id="content">\n'
    )


def _verdict(report: Report) -> str:
    tried = [row for row in report.rows if row.state in {"good", "bad"}]
    untried = len([row for row in report.rows if row.state == "untried"])
    rest = f" {untried} could not be tried." if untried else ""
    if not report.wrong:
        return (
            '<section class="verdict fine" aria-labelledby="verdict">\n'
            f'<h2 id="verdict"><span class="sign" aria-hidden="true">✓</span> All as promised</h2>\n'
            f"<p>{len(tried)} of {len(tried)} that were examined.{rest}</p>\n</section>\n"
        )
    listed = "".join(_wrong(report))
    return (
        '<section class="verdict broken" aria-labelledby="verdict">\n'
        f'<h2 id="verdict"><span class="sign" aria-hidden="true">✗</span> Not as promised: {len(report.wrong)} of '
        f"{len(tried)}</h2>\n<ul>\n{listed}</ul>\n<p>{len(tried) - len(report.wrong)} are as promised.{rest}</p>\n"
        "</section>\n"
    )


def _wrong(report: Report) -> Iterator[str]:
    for section in report.sections:
        for number, row in enumerate(section.rows):
            if row.state == "bad":
                what = f"{section.title}: {row.what}"
                yield f'<li><a href="#{_anchor(section, number)}">{_text(what)}</a>: {_text(row.seen)}</li>\n'


def _anchor(section: Section, number: int) -> str:
    return f"{section.name}-{number + 1}"


def _contents(report: Report, *, has_picture: bool) -> str:
    picture = '<li><a href="#picture">The host as a picture</a></li>\n' if has_picture else ""
    entries = "".join(_entry(section) for section in report.sections)
    return f'<nav aria-label="Contents">\n<ul>\n{picture}{entries}</ul>\n</nav>\n'


def _entry(section: Section) -> str:
    wrong = len([row for row in section.rows if row.state == "bad"])
    said = f' <span class="bad">✗ {wrong}</span>' if wrong else ""
    return f'<li><a href="#{section.name}">{_text(section.title)}</a>{said}</li>\n'


def _picture(picture: str) -> str:
    if not picture:
        return ""
    return (
        '<section aria-labelledby="picture">\n<h2 id="picture">The host as a picture</h2>\n'
        '<p class="muted">What its spec says; ✓ and ✗ are what was seen.</p>\n'
        '<div class="wide" role="region" aria-label="The picture, wider than a phone" tabindex="0">\n'
        f"{picture}</div>\n</section>\n"
    )


# ---- tables


def _section(section: Section, report: Report) -> str:
    about = f'<p class="muted">{_text(section.about)}</p>\n' if section.about else ""
    rows = "".join(_row(row, _anchor(section, number)) for number, row in enumerate(section.rows))
    columns = "".join(
        f'<th role="columnheader" scope="col">{name}</th>' for name in ("What", "Promised", "Seen", "Result")
    )
    return (
        f'<section aria-labelledby="{section.name}">\n<h2 id="{section.name}">{_text(section.title)}</h2>\n{about}'
        f"{_bans(report) if section.name == 'bans' else ''}"
        f'<table role="table" aria-labelledby="{section.name}">\n'
        f'<thead role="rowgroup"><tr role="row">{columns}</tr></thead>\n<tbody role="rowgroup">\n{rows}</tbody>\n'
        "</table>\n</section>\n"
    )


def _row(row: Row, anchor: str) -> str:
    sign, words = _SIGNS[row.state]
    return (
        f'<tr role="row" id="{anchor}" class="{row.state}-row">'
        f'<th role="rowheader" scope="row">{_text(row.what)}</th>'
        f'<td role="cell" class="promised">{_text(row.promised)}</td>'
        f'<td role="cell" class="seen">{_text(row.seen)}</td>'
        f'<td role="cell" class="{row.state}"><span class="sign" aria-hidden="true">{sign}</span> {words}</td></tr>\n'
    )


def _bans(report: Report) -> str:
    """The plot, and its numbers as a table for who cannot see it."""
    if not report.bans:
        return ""
    since = f" The journal goes back to {_text(report.bans_since)}." if report.bans_since else ""
    rows = "".join(
        f'<tr><th scope="row">{_text(day)}</th><td>{count}</td></tr>\n' for day, count in report.bans if count
    )
    numbers = (
        '<details>\n<summary>Its numbers</summary>\n<table class="numbers">\n'
        '<thead><tr><th scope="col">Day</th><th scope="col">Bans</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n</details>\n"
    )
    return (
        f"<figure>\n{plot(report.bans)}<figcaption>{_text(description(report.bans))}{since}"
        f"</figcaption>\n</figure>\n{numbers if rows else ''}"
    )


# ---- the plot

_WIDTH, _HEIGHT = 720, 170
_LEFT, _RIGHT, _TOP, _BASE = 36, 712, 22, 138
# Of bars, from one to the next, what is left free.
_FREE: Final = 0.25
# Every so many days have their date below.
_DATED: Final = 7


def plot(days: Sequence[tuple[str, int]]) -> str:
    """The plot of each day's number; the same days give the same text."""
    most = max((count for _, count in days), default=0)
    step = (_RIGHT - _LEFT) / max(len(days), 1)
    bars = "".join(_bar(number, day, count, most, step) for number, (day, count) in enumerate(days))
    last = html.escape(days[-1][0][5:] if days else "")
    dates = "".join(
        f'<text class="p-text" x="{_LEFT + step * number:.1f}" y="{_BASE + 20}">{html.escape(day[5:])}</text>\n'
        for number, (day, _) in enumerate(days)
        if (len(days) - 1 - number) % _DATED == 0 and number < len(days) - 1
    )
    return (
        f'<svg class="p" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="bans-title bans-text">\n'
        f'<title id="bans-title">Bans by day</title>\n<desc id="bans-text">{html.escape(description(days))}</desc>\n'
        f'<path class="p-line" d="M{_LEFT} {_BASE}H{_RIGHT}{f"M{_LEFT} {_TOP}H{_RIGHT}" if most else ""}"/>\n'
        f'<text class="p-text p-end" x="{_LEFT - 6}" y="{_BASE + 4}">0</text>\n'
        + (f'<text class="p-text p-end" x="{_LEFT - 6}" y="{_TOP + 4}">{most}</text>\n' if most else "")
        + f"{bars}{dates}"
        f'<text class="p-text p-end" x="{_RIGHT}" y="{_BASE + 20}">{last}</text>\n'
        "</svg>\n"
    )


def _bar(number: int, day: str, count: int, most: int, step: float) -> str:
    if not count:
        return ""
    high = (_BASE - _TOP) * count / most
    place = f'x="{_LEFT + step * (number + _FREE / 2):.1f}" y="{_BASE - high:.1f}"'
    size = f'width="{step * (1 - _FREE):.1f}" height="{high:.1f}"'
    return f'<rect class="p-bar" {place} {size}><title>{html.escape(day)}: {count}</title></rect>\n'


def description(days: Sequence[tuple[str, int]]) -> str:
    """The plot in a sentence."""
    total = sum(count for _, count in days)
    if not total:
        return f"No address was banned in the last {len(days)} days."
    day, most = max(days, key=lambda one: one[1])
    bans = "1 ban" if total == 1 else f"{total:,} bans"
    return f"{bans} in the last {len(days)} days; most on {day}: {most:,}."


# ---- how it looks


def _colours(scheme: int) -> str:
    return " ".join(f"--{name}: {pair[scheme]};" for name, pair in COLOURS.items())


STYLE: Final = f"""
:root {{ color-scheme: light dark; {_colours(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colours(1)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 1rem 1.25rem 3rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .25rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.25rem 0 .5rem; scroll-margin-top: 1rem; }}
a {{ color: var(--link); }}
a:focus-visible, .wide:focus-visible, summary:focus-visible {{ outline: 3px solid var(--link); outline-offset: 2px; }}
.skip {{ position: absolute; left: -100vw; }}
.skip:focus {{ left: 1rem; top: .5rem; background: var(--page); padding: .25rem .5rem; z-index: 1; }}
.muted, footer, figcaption {{ color: var(--muted); }}
.muted {{ margin: 0 0 .75rem; }}
.verdict {{ border: 1px solid var(--edge); border-left-width: 6px; border-radius: .5rem; padding: .25rem 1rem; }}
.verdict h2 {{ margin: .75rem 0 .25rem; }}
.verdict li {{ margin: .35rem 0; overflow-wrap: anywhere; }}
.fine {{ border-left-color: var(--good); background: var(--good-panel); }}
.fine h2 {{ color: var(--good); }}
.broken {{ border-left-color: var(--bad); background: var(--bad-panel); }}
.broken h2 {{ color: var(--bad); }}
nav ul {{ list-style: none; display: flex; flex-wrap: wrap; gap: .35rem 1.25rem; padding: 0; margin: 1.25rem 0 0; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; font-size: .925rem; }}
thead th {{ background: var(--panel); text-align: left; }}
th, td {{ padding: .45rem .6rem; vertical-align: top; overflow-wrap: anywhere; border-bottom: 1px solid var(--edge); }}
tbody th {{ text-align: left; font-weight: 600; }}
th:nth-child(1) {{ width: 24%; }}
th:nth-child(2) {{ width: 27%; }}
th:nth-child(4) {{ width: 10.5rem; }}
tr:target {{ outline: 3px solid var(--link); outline-offset: -3px; }}
.promised {{ color: var(--muted); }}
.bad-row, .bad-row .promised {{ background: var(--bad-panel); color: var(--ink); }}
.good {{ color: var(--good); }}
.bad {{ color: var(--bad); font-weight: 600; }}
.untried, .note {{ color: var(--muted); }}
.sign {{ font-weight: 700; }}
.wide {{ overflow-x: auto; border-radius: .75rem; }}
.wide > svg {{ display: block; min-width: 860px; max-width: 100%; height: auto; margin: 0 auto; }}
figure {{ margin: 0 0 .75rem; }}
.p {{ display: block; width: 100%; height: auto; }}
.p-bar {{ fill: var(--bar); }}
.p-line {{ fill: none; stroke: var(--edge); stroke-width: 1; }}
.p-text {{ fill: var(--muted); font-size: 12px; }}
.p-end {{ text-anchor: end; }}
.numbers {{ width: auto; }}
details {{ margin-bottom: 1rem; }}
footer {{ margin-top: 3rem; border-top: 1px solid var(--edge); }}
@media (max-width: 44rem) {{
  body {{ padding: .75rem .9rem 2rem; }}
  table[role], table[role] tbody, table[role] tr, table[role] th, table[role] td {{ display: block; width: auto; }}
  table[role] thead {{ position: absolute; left: -100vw; }}
  table[role] tr {{ border-bottom: 1px solid var(--edge); padding: .5rem .25rem; }}
  table[role] th, table[role] td {{ border: 0; padding: .1rem .25rem; }}
  .promised::before {{ content: "promised: "; }}
  .seen::before {{ content: "seen: "; color: var(--muted); }}
  .p-text {{ font-size: 22px; }}
}}
@media print {{ body {{ max-width: none; }} nav, .skip {{ display: none; }} section {{ break-inside: avoid; }} }}
"""
