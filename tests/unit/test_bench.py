"""The pure parts of the benchmarks: what they make of numbers, and the text they write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import hosts, load, memory, options, report, rivals, specs
from bench.result import Goal, Result, Row, Sample, interleaved, slope
from builder import host
from builder import spec as specifications
from builder.problems import UserError
from builder.stack import user

if TYPE_CHECKING:
    from pathlib import Path

WRK = """Running 4s test @ https://hello.example.com/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     7.46ms    4.70ms  60.77ms   84.86%
    Req/Sec     4.53k   434.16     5.23k    80.00%
  Latency Distribution
     50%    6.54ms
     99%  {p99}
  18036 requests in 4.00s, 10.44MB read
{said}Requests/sec:   4507.55
Transfer/sec:      2.61MB
"""


def _result() -> Result:
    rows = (
        Row("plain", Sample((1.0, 2.0, 4.0)), "s"),
        Row("ours", Sample((3.0, 4.0, 4.0)), "s", "plain"),
    )
    return Result("boot", "Boot", "What is compared.", rows, (Goal("Ours", "at most", 2.0, 2.5),))


def test_median_is_not_moved_by_one_bad_round() -> None:
    sample = Sample((1.0, 90.0, 2.0))
    assert (sample.median, sample.low, sample.high) == (2.0, 1.0, 90.0)


def test_ratio_is_taken_round_by_round() -> None:
    ratio = _result().ratio(_result().row("ours"))
    assert ratio is not None
    assert ratio.values == (3.0, 2.0, 1.0)


def test_the_row_that_others_stand_against_has_no_ratio() -> None:
    assert _result().ratio(_result().row("plain")) is None


def test_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Sample((1.0, 2.0)).over(Sample((1.0,)))


@pytest.mark.parametrize(
    ("bound", "limit", "met"),
    [("at most", 2.5, True), ("at most", 2.4, False), ("at least", 2.5, True), ("at least", 2.6, False)],
)
def test_goal_is_met_up_to_its_limit(bound: str, limit: float, met: bool) -> None:
    assert Goal("x", bound, limit, 2.5).met is met  # type: ignore[arg-type]


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleaved(2, [("a", lambda: measure("a")), ("b", lambda: measure("b"))])
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": Sample((1.0, 3.0)), "b": Sample((2.0, 4.0))}


def test_slope_of_a_line() -> None:
    assert slope([(1, 5.0), (10, 23.0), (100, 203.0)]) == pytest.approx(2.0)


def test_section_is_a_table_with_its_goals() -> None:
    assert report.section(_result()) == (
        "## Boot\n\nWhat is compared.\n\n"
        "| what | median | lowest to highest | ratio | lowest to highest |\n"
        "|---|---:|---:|---:|---:|\n"
        "| plain | 2.00 s | 1.00 to 4.00 |  |  |\n"
        "| ours | 4.00 s | 3.00 to 4.00 | 2.00x | 1.00 to 3.00 |\n\n"
        "* Ours: 2.50x, wanted at most 2.00x: **missed**\n"
    )


def test_page_has_every_section_and_says_how_to_repeat_it() -> None:
    page = report.markdown([_result()], "a machine")
    assert page.startswith("# Benchmarks\n")
    assert "nothing about another:\na machine." in page
    assert report.section(_result()) in page
    assert "sudo make bench" in page


def test_terminal_columns_are_aligned() -> None:
    lines = report.plain(_result()).splitlines()
    assert lines[0] == "Boot"
    assert lines[1].index("median") == lines[2].index("2.00 s") == lines[3].index("4.00 s")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (100.0, "100"),
        (42.04, "42.0"),
        (1.005, "1.00"),
        (0.25, "0.25"),
        (0.0123, "0.0123"),
        (0.0, "0.0000"),
    ],
)
def test_numbers_have_a_fitting_precision(value: float, text: str) -> None:
    assert report.number(value) == text


def test_rounds() -> None:
    assert options.Options().rounds(7) == 7
    assert options.Options(quick=True).rounds(7) == 2
    assert options.Options(quick=True, wanted_rounds=5).rounds(7) == 5


@pytest.mark.parametrize(("p99", "milliseconds"), [("23.11ms", 23.11), ("870.00us", 0.87), ("1.20s", 1200.0)])
def test_wrk_report_is_read(p99: str, milliseconds: float) -> None:
    found = load.parse(WRK.format(p99=p99, said=""))
    assert found.rate == 4507.55
    assert found.p99 == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    "said", ["  Non-2xx or 3xx responses: 12\n", "  Socket errors: connect 3, read 0, write 0, timeout 0\n"]
)
def test_answers_that_are_none_fail(said: str) -> None:
    with pytest.raises(UserError, match="answers only"):
        load.parse(WRK.format(p99="1.00ms", said=said))


def test_slow_answers_are_answers() -> None:
    said = "  Socket errors: connect 0, read 0, write 0, timeout 4\n"
    assert load.parse(WRK.format(p99="2.10s", said=said)).p99 == pytest.approx(2100)


def test_memory_of_subordinate_ids_is_the_users_own() -> None:
    uid = 30_000
    first = user.subids(uid).first
    kib = {0: 9000.0, 1000: 500.0, uid: 1024.0, first: 2048.0, first + 65_535: 1024.0, 20_008: 512.0}
    assert memory.joined(kib) == {uid: 4.0, 20_008: 0.5}


@pytest.mark.parametrize("stacks", [1, 3, 40])
def test_generated_specs_are_right(tmp_path: Path, stacks: int) -> None:
    path = specs.write(
        tmp_path / "spec.yaml", stacks, image="registry.example.com/app:1", proxy="docker.io/library/caddy:2.11"
    )
    spec, warnings = specifications.load(path)
    assert not warnings
    assert len({stack.uid for stack in spec.stacks}) == stacks
    assert [service.domains for stack in spec.stacks for service in stack.public] == [
        (specs.domain(n),) for n in range(stacks)
    ]


def test_rivals_get_the_hosts_own_site_configuration(tmp_path: Path) -> None:
    path = specs.write(
        tmp_path / "spec.yaml", 1, image="registry.example.com/app:1", proxy="docker.io/library/caddy:2.11"
    )
    built = host.build(specifications.load(path)[0])
    text = rivals.plain(rivals.of_every_host(built))
    for gone in ("fd/", "fdgram/", "unix/", "import /etc/caddy", "http:// {"):
        assert gone not in text
    assert "reverse_proxy {args[1]} {args[0]} {" in text
    for kept in ("output file /var/log/caddy/access.log", "-Server", "admin off"):
        assert kept in text
    assert text.count("{") == text.count("}")


def test_examples_are_where_the_benchmarks_look() -> None:
    assert hosts.HELLO.is_file()
