"""When an update may start, on a simulated clock."""

from __future__ import annotations

import pytest

from ocl_edge.method.verdict import Reason
from ocl_edge_runtime.session.update_policy import WhenThereIsTime
from tests.doubles.clock import SimulatedClock


def test_one_slow_moment_does_not_stop_updates_for_ever() -> None:
    clock = SimulatedClock()
    policy = WhenThereIsTime(None, 0.1, clock)
    for seconds in (0.02, 0.02, 5.0):
        policy.took(seconds)
    granted = [policy.refusal(index, 0.0) is None for index in range(40)]
    assert granted.index(True) == 32


def granted_frames(policy: WhenThereIsTime, seconds: float, frames: int) -> list[int]:
    """Which frames were granted an update, each of which takes so long."""
    granted = []
    for index in range(frames):
        if policy.refusal(index, 0.0) is None:
            granted.append(index)
            policy.took(seconds)
    return granted


def test_a_slow_beginning_does_not_stop_updates_for_ever() -> None:
    policy = WhenThereIsTime(None, 0.1, SimulatedClock())
    for _ in range(2):
        policy.took(5.0)
    assert granted_frames(policy, 0.02, 70) == list(range(64, 70))


def test_trials_on_a_device_that_is_too_slow_become_rarer() -> None:
    policy = WhenThereIsTime(None, 0.1, SimulatedClock())
    assert granted_frames(policy, 5.0, 1000) == [0, 33, 98, 227, 484, 997]
    assert granted_frames(policy, 0.02, 1100)[0] == 1024 - 2  # the trial at 997 was refused twice
    for _ in range(3):
        policy.took(5.0)
    assert granted_frames(policy, 0.02, 70)[0] == 64  # 32 for each of two of them, as at first


def test_an_update_that_does_not_fit_is_skipped_and_counted() -> None:
    clock = SimulatedClock()
    policy = WhenThereIsTime(None, 0.1, clock)
    assert policy.refusal(0, 0.0) is None  # nothing is known yet
    for seconds in (0.05, 0.06, 0.05):
        policy.took(seconds)
    clock.time = 1.03
    assert policy.refusal(1, 1.0) is None
    clock.time = 1.06
    refusal = policy.refusal(2, 1.0)
    assert refusal is not None
    assert refusal.reason is Reason.NO_TIME
    assert (refusal.needed_ms, refusal.left_ms) == (pytest.approx(59), pytest.approx(40))
    assert str(refusal) == "no time: needs 59 ms, 40 ms are left"
    assert policy.skipped == 1
    every = WhenThereIsTime(3, None, clock)
    assert [every.refusal(index, 0.0) is None for index in range(7)] == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
