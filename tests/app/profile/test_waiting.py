"""Late masks and frames passed over, against a queue that is played second by second."""

from __future__ import annotations

import random

import pytest

from ocl_edge_app.profile.waiting import Pace, Punctuality, played_at


def test_a_fast_session_is_never_late() -> None:
    assert played_at(Pace(10, 100), [20] * 5, [90] * 5) == Punctuality(0, 0)


def test_a_mask_is_late_by_its_own_time_or_by_the_frame_before() -> None:
    # the second frame begins at 150 instead of 100 ms, and its mask is there at 230 instead of 200
    assert played_at(Pace(10, 100), [80, 80, 60], [150, 80, 60]).late == 1 / 3


def test_the_newest_frame_wins() -> None:
    # free at 350 ms: frames 1 and 2 are passed over, frame 3 of 300 ms is taken
    found = played_at(Pace(10, 100), [60, 60], [350, 60])
    assert found.passed_over == 2 / 4
    assert found.late == 1 / 2


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_a_slow_simulation_gives(seed: int) -> None:
    generator = random.Random(seed)
    totals = [generator.randint(5, 90) for _ in range(200)]
    latencies = [generator.randint(1, total) for total in totals]
    period, deadline = generator.randint(20, 60), generator.randint(20, 80)
    late = passed_over = taken = 0
    now, newest_taken = 0, -1
    while taken < len(totals):  # a millisecond at a time
        newest = now // period
        if newest > newest_taken:
            passed_over += newest - newest_taken - 1
            late += now + latencies[taken] > newest * period + deadline
            newest_taken = newest
            now += totals[taken]
            taken += 1
        else:
            now += 1
    found = played_at(Pace(1000 / period, deadline), latencies, totals)
    assert found.late == pytest.approx(late / len(totals))
    assert found.passed_over == pytest.approx(passed_over / (passed_over + len(totals)))
