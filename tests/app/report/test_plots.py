"""Plots: what is drawn are the numbers, and nothing unusual stops the drawing."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from ocl_edge_app.report import (
    Band,
    DotRow,
    Dots,
    Histogram,
    Lines,
    Moment,
    Series,
    Stack,
    StackedBars,
    Timeline,
)
from ocl_edge_app.report.plots import NARROW, WIDE, Plot
from ocl_edge_app.report.plots.lines import MOST_POINTS, smoothed
from ocl_edge_app.report.plots.svg import Scale
from tests.app.html_rules import Checker

NAN = math.nan


def drawn(plot: Plot, width: int = WIDE) -> str:
    svg = str(plot.svg(width))
    checker = Checker()
    checker.feed(svg)
    assert not checker.problems
    assert not checker.open
    return svg


def numbers(pattern: str, svg: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, svg)]


def series(values: list[float | None], name: str = "a", colour: int = 1) -> Series:
    return Series(name, values, colour)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize(
    "values", [[], [None], [NAN], [math.inf, -math.inf], [3.0], [2.0, 2.0], [None, 1.0, NAN, -1e9, 1e9]]
)
def test_every_plot_takes_unusual_values(values: list[float | None], width: int) -> None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    plots = [
        Lines("t", "y", [series(values), series([])], bands=[Band("b", 0, 1), Band("c", 5, 9)]),
        Histogram("t", "x", [series(values), series([])]),
        Dots("t", "x", ["a"], [DotRow("r" * 99, [v]) for v in values]),
        Timeline("t", [Moment(1, abs(v), abs(v), 0.0) for v in known], deadline_ms=5.0),
        StackedBars("t", [Stack("s", {"p": abs(v)}) for v in known], {"p": "mask1"}),
    ]
    for plot in plots:
        svg = drawn(plot, width)
        assert ("no values" in svg or "no frames" in svg) == (not known)


def test_ticks_are_round_and_inside() -> None:
    assert Scale(0, 100, 0, 1).ticks(5) == [0, 20, 40, 60, 80, 100]
    assert Scale(0.13, 0.31, 0, 1).ticks(4) == pytest.approx([0.15, 0.2, 0.25, 0.3])
    assert [Scale(0.13, 0.31, 0, 1).label(v, 4) for v in (0.15, 0.2)] == ["0.15", "0.20"]
    assert Scale(-2e6, 3e6, 0, 1).label(1e6, 4) == "1,000,000"
    for low, high in ((1e-7, 1.00001e-7), (-3, 1e12), (5, 5.5)):
        ticks = Scale(low, high, 0, 1).ticks(6)
        assert 2 <= len(ticks) <= 13
        assert all(low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9) for tick in ticks)


def test_smoothing_is_a_centred_mean_that_skips_gaps() -> None:
    assert smoothed([1.0, 2.0, 6.0, None, 4.0, NAN], 3) == [1.5, 3.0, 4.0, None, 4.0, None]
    assert smoothed([1.0, 2.0, 6.0], 1) == [1.0, 2.0, 6.0]


def test_a_curve_passes_through_its_values() -> None:
    svg = drawn(Lines("t", "y", [series([10.0, 20.0, None, 40.0])], window=1))
    curve = re.search(r'<path d="([^"]+)" class="line s1"', svg)
    assert curve is not None
    points = [tuple(map(float, point)) for point in re.findall(r"[ML]([\d.]+),([\d.]+)", curve[1])]
    assert len(points) == 3
    assert curve[1].count("M") == 2  # a gap where the value is missing
    (x0, y0), (x1, y1), (x3, y3) = points
    assert (x3 - x0) == pytest.approx(3 * (x1 - x0), abs=0.3)
    assert (y0 - y3) == pytest.approx(3 * (y0 - y1), abs=0.3)


def test_a_long_stream_is_decimated_and_says_so() -> None:
    plot = Lines("t", "y", [series([float(i % 7) for i in range(50_000)])])
    svg = drawn(plot)
    assert all(path.count(",") <= MOST_POINTS for path in re.findall(r' d="([^"]+)"', svg))
    assert len(svg) < 20_000
    assert "Each point stands for 125 frames" in plot.caption()
    assert "mean over 2001 frames" in plot.caption()


def test_the_bars_of_a_histogram_count_the_sample() -> None:
    sample = np.random.default_rng(0).gamma(9, 3, 700).tolist()
    svg = drawn(Histogram("t", "ms", [series([*sample, 900.0, None])]))
    assert sum(numbers(r"<title>[\d.]+ to [\d.]+ ms: (\d+)", svg)) == 700
    assert "1 beyond the right edge (up to 900 ms)" in svg
    for percentile in (50, 90, 99):
        assert f"p{percentile} {np.percentile([*sample, 900.0], percentile):.1f} ms" in svg


def test_parts_of_a_bar_are_as_long_as_their_values() -> None:
    stacks = [Stack("one", {"a": 30.0, "b": 10.0}), Stack("two", {"a": 20.0})]
    svg = drawn(StackedBars("t", stacks, {"a": "mask1", "b": "update1"}))
    widths = numbers(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)"', svg)
    assert [w + 1 for w in widths] == pytest.approx([WIDE * 3 / 4, WIDE / 4, WIDE / 2], abs=0.2)
    assert "40.0 ms" in svg


def test_marks_of_a_dot_plot_lie_at_their_values() -> None:
    rows = [DotRow("x", [0.0, 25.0, 100.0]), DotRow("never", [None, NAN, None])]
    # colours 0, 4 and 8 are all drawn as circles
    svg = drawn(Dots("t", "%", ["a", "b", "c"], rows, colours=[0, 4, 8], low=0, high=100, absent="not there"))
    left, quarter, right = numbers(r'<circle cx="([\d.]+)"', svg)
    assert quarter == pytest.approx(left + (right - left) / 4, abs=0.2)
    ticks = numbers(r'<line x1="([\d.]+)"[^>]*class="grid"', svg)
    assert (ticks[0], ticks[-1]) == (left, right)
    assert "not there" in svg
    assert "x, b: 25.0 %" in svg


def test_a_time_line_shows_deadline_guard_and_outliers() -> None:
    calm = [Moment(1, 50.0, 50.0, 40.0, kept=1) for _ in range(99)]
    plot = Timeline("t", [*calm, Moment(1, 9000.0, 9000.0, 0.0, undone=1, late=1)], deadline_ms=100.0)
    assert [key.name for key in plot.legend()] == [
        "to the mask",
        "update, after the mask",
        "time to the next frame",
        "update kept",
        "update undone by the guard",
        "mask late",
    ]
    assert plot.caption() == "A column a frame. 1 higher than the plot; the slowest mask took 9,000 ms."
    svg = drawn(plot)
    kept, undone = (
        re.search(r'd="([^"]*)" class="area kept"', svg),
        re.search(r'd="([^"]*)" class="area undone"', svg),
    )
    assert kept is not None
    assert undone is not None
    assert (kept[1].count("M"), undone[1].count("M")) == (99, 1)
    assert "undone" not in drawn(Timeline("t", calm))


def test_what_a_plot_shows_is_its_name_for_those_who_cannot_see_it() -> None:
    checker = Checker()
    checker.feed(drawn(Lines('a "b" <i>&\'c', "y", [series([1.0, 2.0])])))
    assert checker.tags[0][1]["aria-label"] == 'a "b" <i>&\'c'
    assert 'a "b" <i>&\'c' in checker.text


def test_moments_add_up() -> None:
    both = Moment(1, 10.0, 10.0, 0.0, kept=1) + Moment(3, 20.0, 35.0, 8.0, undone=2, late=1)
    assert both == Moment(4, 17.5, 35.0, 6.0, kept=1, undone=2, late=1)
