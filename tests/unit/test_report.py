"""The page of `er server report`: what is promised and seen is said, nothing foreign gets in, everybody can read it."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from builder import diagram
from builder.cli.server import report as command
from builder.problems import UserError
from builder.server.remote import doctor
from builder.server.remote import report as remote_report
from builder.server.report import assemble, gather, inside_rows, outside, outside_rows, page, promises
from builder.server.report.model import Row, Section, clean
from tests.unit.made_up_host import AT, V4, V6, faulty, healthy
from tests.unit.test_diagram import FOREIGN, ROOT, SVG, contrast, hostile, web

if TYPE_CHECKING:
    from builder.server.report.model import Report

GOLDEN = Path(__file__).parents[1] / "golden/report"
HOSTS = {"healthy": healthy, "faulty": faulty}


@cache
def report(name: str) -> Report:
    return assemble.report(HOSTS[name](), web())


def red(found: Report) -> dict[str, str]:
    return {row.what: row.seen for row in found.wrong}


# ---- what is said


@pytest.mark.parametrize("name", HOSTS)
def test_the_page_is_the_golden_one(name: str) -> None:
    """`UPDATE=1 pytest tests/unit/test_report.py` writes it anew; look at it in a browser."""
    file, made = GOLDEN / f"{name}.html", page.page(report(name))
    if os.environ.get("UPDATE"):
        file.write_bytes(made)
    assert made.decode() == file.read_text()


def test_a_healthy_host_has_nothing_red() -> None:
    assert red(report("healthy")) == {}
    assert "All as promised" in page.page(report("healthy")).decode()


def test_each_fault_is_red_and_at_the_top() -> None:
    wrong = red(report("faulty"))
    assert wrong == {
        f"IPv4, {V4}": "open: 22, 80, 443, 3306, 8080; not promised: 3306, 8080",
        "Straight at the proxy, IPv4": "8080 answer",
        "http://blog.example.org/": "answered 200 (IPv4)",
        "https://hello.example.org/": "no answer in time (IPv4)",
        "blog.example.org": wrong["blog.example.org"],
        "TLS 1.0": "taken (IPv4)",
        "HTTP/3, IPv4": "no answer by QUIC; a network on the way may drop UDP",
        "fail2ban": "the jails sshd are missing",
        "Files": "these differ: /etc/ssh/sshd_config.d/10-easyrunner.conf",
        "er-blog": "by another user: web",
        "blog/db": "failed, 5 restarts (exit-code)",
        "Rules": "LOCKDOWN: they did not load, and only SSH is open",
        "sshd": "it does not run",
        "Disk": "29 GiB of 40 GiB free, 2,400,000 more files",
        "Memory of er-hello": "180 MiB; 2 processes killed at the limit",
        "Packages": wrong["Packages"],
        "Reboot": "one is due for an update",
        "Secret backup-password": "the host lacks it, and makes no backup",
        "Last run": "no such bucket",
        "Backup of blog": wrong["Backup of blog"],
        "Restore of blog": "the database did not load",
    }
    about_blog = [row.seen for row in report("faulty").wrong if row.what == "blog.example.org"]
    assert [seen.partition(",")[0] for seen in about_blog] == [
        "ended 2026-11-27",
        "missing: strict-transport-security",
        "by R11",
    ]
    made = page.page(report("faulty")).decode()
    listed = re.findall(r'<li><a href="#([\w-]+)">(.*?)</a>: ', made)
    shown = [html.unescape(what).partition(": ")[2] for _, what in listed]
    assert shown == [row.what for row in report("faulty").wrong]
    assert {anchor for anchor, _ in listed} <= {*re.findall(r'<tr role="row" id="([\w-]+)" class="bad-row"', made)}


def test_what_could_not_be_tried_is_said_and_is_no_fault() -> None:
    untried = {row.what: row.seen for row in report("faulty").rows if row.state == "untried"}
    assert untried[f"IPv6, {V6}"] == "could not be tried: from here there is no way to IPv6"
    assert untried["TLS 1.1"] == "this machine cannot offer it (IPv4)"
    assert untried["Restore of hello"] == "not tried: no room"
    without_client = {row.what: row.seen for row in report("healthy").rows}["HTTP/3, IPv4"]
    assert "could not be tried, as curl here has no HTTP/3" in without_client


def _from_outside(edge: str, found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    promised = promises.Promises({"blog.example.org": "blog"}, ("blog",), edge=edge)
    rows = (row for section in outside_rows.sections(found, promised, AT) for row in section.rows)
    return {row.what: (row.state, row.seen) for row in rows}


def _behind_an_edge(*, answers: bool) -> dict[str, Any]:
    """Who looks is not the edge: silence on the web's ports, or a firewall that lets everybody in."""
    states = {port: "open" if answers or port == 22 else "silent" for port in (22, 80, 443, 8080, 8443, 2019)}
    states |= {8080: "silent", 8443: "silent", 2019: "silent"}
    plain: dict[str, Any] = {"status": 308, "location": "https://blog.example.org/"} if answers else {"error": "silent"}
    secure = {
        "status": 421,
        "version": "TLSv1.3",
        "headers": {},
        "certificate": {"issuer": "R11", "until": AT, "refusal": ""},
    }
    site = {"domain": "blog.example.org", "address": V4, "plain": plain}
    site["secure"] = secure if answers else {"error": "silent"}
    quic = {V4: {"status": None, "spoken": answers}}
    return {"tried": [*states], "ports": {V4: states}, "sites": [site], "versions": {}, "quic": quic}


def test_behind_an_edge_that_is_the_only_way_silence_is_as_promised() -> None:
    seen = _from_outside("only", _behind_an_edge(answers=False))
    assert {state for state, _ in seen.values()} == {"good", "untried"}
    assert seen[f"IPv4, {V4}"] == ("good", "open: 22")
    assert seen["https://blog.example.org/"] == ("untried", "answers its edge alone, which was not asked (IPv4)")
    assert seen["HTTP/3, IPv4"] == ("good", "no answer by QUIC")
    open_to_all = _from_outside("only", _behind_an_edge(answers=True))
    assert open_to_all[f"IPv4, {V4}"] == ("bad", "open: 22, 80, 443; not promised: 80, 443")
    assert open_to_all["HTTP/3, IPv4"] == ("bad", "QUIC answers")


def test_behind_an_edge_beside_others_the_sites_answer_and_http_3_does_not() -> None:
    assert _from_outside("too", _behind_an_edge(answers=False))["https://blog.example.org/"][0] == "bad"
    seen = _from_outside("too", {**_behind_an_edge(answers=True), "quic": {V4: {"status": None, "spoken": False}}})
    assert seen[f"IPv4, {V4}"][0] == seen["https://blog.example.org/"][0] == seen["HTTP/3, IPv4"][0] == "good"


def test_every_check_of_doctor_has_its_promise_in_words() -> None:
    names = {check.name for check in doctor.CHECKS}
    assert names <= {*inside_rows.PROMISED}, "say in builder/server/report/inside_rows.py what the check promises"
    assert {*inside_rows._MARKS} | assemble._OF_HOST <= names


def test_json_says_the_same_as_the_page() -> None:
    for name in HOSTS:
        value, made = report(name).value(), page.page(report(name)).decode()
        assert value["ok"] is (name == "healthy")
        rows = [row for section in value["sections"] for row in section["rows"]]
        assert len(rows) == len(re.findall('<tr role="row" id=', made)) > 60
        assert all(f">{html.escape(row['seen'])}</td>" in made for row in rows)


def test_the_picture_says_what_was_seen() -> None:
    assert "✗" not in told("healthy")
    assert told("healthy").count("✓") > 15
    for text in ("✗ 3306, 8080 open", "✗ LOCKDOWN", "✗ failed", "✗ sshd does not run", "✗ no answer in time"):
        assert text in told("faulty"), text
    marks = {"wall": tuple(diagram.Mark(f"thing {number}", good=False) for number in range(9))}
    assert "and 4 more" in diagram.svg(web(), marks).decode()


def told(name: str) -> str:
    """All texts of a picture, in order."""
    return " ".join("".join(one.itertext()) for one in ET.fromstring(report(name).picture).iter(f"{SVG}text"))


def test_without_a_spec_the_hosts_own_word_counts() -> None:
    found = {**healthy(), "differs": None}
    made = assemble.report(found, None)
    assert made.picture == ""
    assert "https://blog.example.org/" in {row.what for row in made.rows}
    assert not made.wrong


# ---- certificates


@pytest.mark.parametrize(
    ("ca", "issuer", "days", "refusal", "state"),
    [
        ("letsencrypt", "R11", 61, "", "good"),
        ("letsencrypt", "R11", 13, "", "bad"),
        ("letsencrypt", "Caddy Local Authority - ECC", 1, "", "bad"),
        ("letsencrypt", "R11", 61, "Hostname mismatch", "bad"),
        ("internal", "Caddy Local Authority - ECC", 0.3, "", "good"),
        ("internal", "Caddy Local Authority - ECC", -0.3, "certificate has expired", "bad"),
        ("internal", "R11", 61, "", "bad"),
        ("letsencrypt-staging", "(STAGING) R1", 61, "unable to get local issuer certificate", "good"),
        ("letsencrypt-staging", "(STAGING) R1", 61, "Hostname mismatch", "bad"),
        ("", "A stranger", 61, "self-signed certificate", "bad"),
        ("", "Caddy Local Authority - ECC", 0.3, "", "good"),
    ],
)
def test_a_certificate_is_judged_by_who_was_to_sign_it(
    ca: str, issuer: str, days: float, refusal: str, state: str
) -> None:
    secure = {"certificate": {"issuer": issuer, "until": AT + int(days * 86_400), "refusal": refusal}}
    assert outside_rows._certificate(secure, ca, AT)[1] == state


# ---- nothing foreign gets in


def with_text(value: Any, text: str) -> Any:
    """The same value with a text in the place of each text that a host, an app or a visitor could choose."""
    if isinstance(value, dict):
        return {key: one if key in _WORDS_OF_ER else with_text(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [with_text(one, text) for one in value]
    return text if isinstance(value, str) else value


# Their values decide what is said: words of er's own, and addresses that it has tried itself.
_WORDS_OF_ER = {"stack", "state", "check", "domain", "domains", "versions", "ports", "protocol", "days", "user"}


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_no_foreign_text_is_more_than_text(text: str) -> None:
    found = with_text(faulty(), text)
    for one in found["outside"]["sites"]:
        one["address"] = V4
    made = assemble.report(found, hostile(text))
    row = Row(text, text, text, "bad")
    made = replace(made, sections=(*made.sections, Section("more", text, (row,), text)))
    content = page.page(made).decode()
    parsed = Parsed(content)
    assert parsed.tags <= ALLOWED
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name in {"style", "src", "srcdoc"}]
    assert all(value.startswith("#") for name, value in parsed.attributes if name == "href")
    outside_style = re.sub(r"<style>.*?</style>", "", content, flags=re.DOTALL)
    assert all(char == "\n" or char.isprintable() for char in outside_style)
    assert max(map(len, parsed.cells)) <= 400


ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "h1", "h2", "p", "main", "section", "span", "ul",
    "li", "nav", "div", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary",
    "footer",
    "code", "svg", "desc", "defs", "marker", "polygon", "rect", "path", "g", "circle", "ellipse", "text",
}  # fmt: skip


class Parsed(HTMLParser):
    """What a browser finds in a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in {"td", "th", "h1"}:
            self.cells.append(data)


@pytest.mark.parametrize("name", HOSTS)
def test_the_page_may_load_and_run_nothing(name: str) -> None:
    made = page.page(report(name)).decode()
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', made)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert policy[1].endswith("; base-uri 'none'; form-action 'none'")
    assert "unsafe" not in policy[1]
    styles = re.findall(r"<style>(.*?)</style>", made, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in styles]
    assert re.findall(r"sha256-([^']+)", policy[1]) == digests
    assert len(styles) == 2
    assert not re.search(r"https?:|url\(", "".join(styles).replace("url(#", ""))
    assert "<script" not in made


def test_a_login_in_an_address_is_not_shown() -> None:
    assert (
        clean("cannot reach rest:https://me:secret@b.example.org/r: no")
        == "cannot reach rest:https://b.example.org/r: no"
    )
    assert clean("a\nb\x1b[31m\u202e") == "a b\\x1b[31m\\u202e"
    assert clean("x" * 500) == "x" * 399 + "…"


def test_no_value_of_a_variable_and_no_path_of_this_machine_is_in_it() -> None:
    spec = web()
    service = replace(
        spec.stacks[1].services[0],
        environment=(("TOKEN", "a-word-that-nobody-may-see"),),
        image="oci-archive:/home/me/private/app.tar",
    )
    spec = replace(spec, stacks=(spec.stacks[0], replace(spec.stacks[1], services=(service,))))
    shown = page.page(assemble.report(faulty(), spec)).decode()
    assert "app.tar (archive)" in shown
    assert not [word for word in ("a-word-that-nobody-may-see", "TOKEN", "/home/me", str(ROOT)) if word in shown]


def test_visitors_are_shown_by_their_network_unless_all_is_wanted() -> None:
    short, full = (page.page(assemble.report(healthy(), web(), full=full)).decode() for full in (False, True))
    for address in ("203.0.113.77", "192.0.2.201", "2001:db8:5:6::"):
        assert address not in short
        assert address in full
    assert all(network in short for network in ("203.0.113.0/24", "192.0.2.0/24", "2001:db8:5::/48"))
    assert inside_rows.shortened("no address") == "an address"


# ---- one customer's part


@pytest.mark.parametrize("name", HOSTS)
def test_the_part_of_one_stack_names_no_other(name: str) -> None:
    for own, other in (("blog", "hello"), ("hello", "blog")):
        for spec in (web(), None):
            made = assemble.report(HOSTS[name](), spec, stack=own)
            shown = page.page(made).decode()
            assert f"https://{own}.example.org/" in shown
            assert other not in shown
            assert other not in str(made.value())
            assert not [
                word for word in ("203.0.113.77", "203.0.113.0", "s3://", "backup-password", "/etc/") if word in shown
            ]


def test_the_part_of_one_stack_has_its_own_faults() -> None:
    made = red(assemble.report(faulty(), web(), stack="blog"))
    assert {"blog/db", "Restore of blog", "sshd", "TLS 1.0", "http://blog.example.org/"} <= {*made}
    assert not {"Files", "Last run", "Secret backup-password", "https://hello.example.org/"} & {*made}


# ---- everybody can read it


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out(scheme: int) -> None:
    colour = {name: pair[scheme] for name, pair in page.COLOURS.items()}
    assert not [pair for pair in page.PAIRS if contrast(colour[pair[0]], colour[pair[1]]) < 4.5]
    assert contrast(colour["bar"], colour["page"]) >= 3
    assert contrast(colour["edge"], colour["page"]) >= 3


def test_every_colour_that_is_used_is_named_and_held_against_what_it_stands_on() -> None:
    used = {*re.findall(r"var\(--([\w-]+)\)", page.STYLE)}
    assert used == {*page.COLOURS}
    texts = {*re.findall(r"[^-]color: var\(--([\w-]+)\)", page.STYLE)}
    assert texts == {text for text, _ in page.PAIRS}


@pytest.mark.parametrize("name", HOSTS)
def test_who_hears_it_finds_the_way(name: str) -> None:
    elements = Parsed(page.page(report(name)).decode()).elements
    tags = [tag for tag, _ in elements]
    assert ("html", {"lang": "en"}) in elements
    assert {tag: tags.count(tag) for tag in ("h1", "main", "header", "footer", "nav")} == dict.fromkeys(
        ("h1", "main", "header", "footer", "nav"), 1
    )
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len({*ids})
    labels = [words for _, attributes in elements for words in attributes.get("aria-labelledby", "").split()]
    assert {*labels} <= {*ids}
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")
    assert all(
        attributes.get("role") == "img" and attributes.get("aria-labelledby")
        for tag, attributes in elements
        if tag == "svg"
    )
    links = [attributes["href"].removeprefix("#") for tag, attributes in elements if tag == "a"]
    assert {*links} <= {*ids}
    assert links[0] == "content", "the first stop of the keyboard leads past the contents"
    assert not [attributes for _, attributes in elements if int(attributes.get("tabindex", 0)) > 0]


def test_no_result_is_told_by_colour_alone() -> None:
    cells = re.findall(
        r'<td role="cell" class="(\w+)"><span .*?>(.)</span> (.*?)</td></tr>', page.page(report("faulty")).decode()
    )
    assert {*cells} == {(state, *shown) for state, shown in page._SIGNS.items()}


# ---- the plot


def test_the_plot_has_a_bar_for_each_day_with_bans() -> None:
    days = [("2026-11-28", 0), ("2026-11-29", 4), ("2026-11-30", 2)]
    drawn = page.plot(days)
    high = [float(one) for one in re.findall(r'class="p-bar".*? height="([\d.]+)"', drawn)]
    assert high[0] == 2 * high[1]
    assert len(high) == 2
    assert page.description(days) == "6 bans in the last 3 days; most on 2026-11-29: 4."
    assert page.description([("2026-11-30", 0)]) == "No address was banned in the last 1 days."
    assert "p-bar" not in page.plot([("2026-11-30", 0)])
    assert page.plot([])


def test_bans_are_counted_by_day_and_restored_ones_are_not() -> None:
    said = (
        (0, "NOTICE [sshd] Ban 203.0.113.9"),
        (0, "NOTICE [er-web-scan] Ban 2001:db8::/64"),
        (1, "NOTICE [sshd] Ban 192.0.2.1"),
        (1, "NOTICE [sshd] Restore Ban 192.0.2.1"),
        (2, "INFO [sshd] Found 192.0.2.1"),
        (99, "NOTICE [sshd] Ban 192.0.2.1"),
        (0, [1, 2]),
    )
    entries = ({"MESSAGE": one, "__REALTIME_TIMESTAMP": f"{(AT - back * 86_400) * 1_000_000}"} for back, one in said)
    days = remote_report.bans_by_day(entries, AT)
    assert len(days) == 30
    assert [count for _, count in days[-3:]] == [0, 1, 2]


# ---- the edges, as far as they are pure


def test_packets_are_counted_by_what_their_rule_is_for() -> None:
    saved = """*filter
:INPUT DROP [207:12420]
[24:1655] -A ER-INPUT -p tcp -m tcp --dport 8080 -m conntrack --ctstate DNAT --ctorigdstport 80 -j ACCEPT
[59:7181] -A ER-INPUT -p tcp -m tcp --dport 8443 -m conntrack --ctstate DNAT --ctorigdstport 443 -j ACCEPT
[6:360] -A ER-INPUT -p tcp -m multiport --dports 8080,8443 -j DROP
[3:180] -A ER-INPUT ! -i lo -p tcp -m tcp --dport 2019 -j DROP
[1:60] -A ER-SSH -j ACCEPT
[7:60] -A ER-WEB -m hashlimit --hashlimit-above 50/sec --hashlimit-name w -j DROP
[8:60] -A ER-BANS-WEB -m set --match-set er-web-scan-4 src -j DROP
[12:1164] -A ER-INPUT -i lo -j ACCEPT
COMMIT
"""
    assert remote_report.packets(saved) == {
        "let in to the web": 83,
        "let in to SSH": 1,
        "dropped: banned": 8,
        "dropped: too many from one visitor": 7,
        "dropped: straight at the proxy's own ports": 9,
        "dropped: not asked for": 207,
    }


def test_a_private_address_of_the_host_is_not_tried_as_it_may_be_anothers_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if name != "web":
            raise OSError(name)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("socket.getaddrinfo", found)
    own = ["10.0.0.5", "93.184.216.34", "fd00::5", "2606:2800:220:1::1"]
    assert gather.addresses(["web"], own) == ["127.0.0.1", "93.184.216.34", "2606:2800:220:1::1"]
    assert gather.addresses(["no such name!"], ["10.0.0.5"]) == []


def test_who_speaks_quic_names_its_versions() -> None:
    own = b"12345678"
    answer = b"\xc3" + bytes(4) + b"\x08" + own + b"\x08" + b"abcdefgh" + b"\0\0\0\1"
    assert outside.is_negotiation(answer, own)
    assert not outside.is_negotiation(answer, b"87654321")
    assert not outside.is_negotiation(b"\xc3\0\0\0\1" + answer[5:], own)
    assert not outside.is_negotiation(b"", own)


# ---- the command


def test_an_option_for_ssh_is_not_taken_for_a_file() -> None:
    with pytest.raises(UserError, match="here -o is the page's file") as caught:
        command.check("IdentityFile=key", "", None)
    assert caught.value.hint == "for ssh: --ssh-option IdentityFile=key"


def test_a_stack_that_is_not_there_is_said_before_anything_is_asked() -> None:
    with pytest.raises(UserError, match="the spec has no stack shop") as caught:
        command.check("", "shop", web())
    assert caught.value.hint == "it has: blog, hello"


def test_the_page_goes_where_it_is_wanted_and_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.html"
    made, rows = command.report(faulty(), web(), str(file))
    assert made.wrong
    assert rows == [("seen", "45 of 68 are as promised"), ("page", str(file))]
    said = capsys.readouterr()
    assert file.read_bytes() == page.page(report("faulty"))
    assert said.out == ""
    assert "error: sshd: it does not run" in said.err
    command.report(healthy(), web(), "-", full=True)
    assert capsys.readouterr().out.startswith("<!doctype html>")
    with pytest.raises(UserError, match="there is no stack shop"):
        command.report(healthy(), None, "", stack="shop")


def test_the_docs_say_how_many_ports_are_tried() -> None:
    assert f"a connection to {len(outside.USUAL)} ports" in (ROOT / "docs/report.md").read_text()
