"""The words of every verdict, as journal and reports have them."""

from __future__ import annotations

import pytest

from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation, words_of_guard

SIGNALS = Signals(0.6, 0.5, 4.0, 0.7, 0.1)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict(Reason.ADAPTED, -2.0, SIGNALS), "adapted"),
        (Verdict(Reason.BLANK), "the frame is blank"),
        (Verdict(Reason.NO_TIME, needed_ms=59.4, left_ms=0.0), "no time: needs 59 ms, 0 ms are left"),
        (
            Verdict(Reason.STATISTICS_TOO_FAR, distance=0.6149),
            "statistics refused: 0.61 away from the trained ones",
        ),
        (
            Verdict(Reason.ROLLED_BACK, -2.0, SIGNALS, Violation.STEP),
            "roll back: one step moved the weights by 10 %",
        ),
        (
            Verdict(Reason.RESET, -2.0, SIGNALS, Violation.DRIFT),
            "reset: weights are 70 % away from the trained ones; no good snapshot: trained weights",
        ),
        (
            Verdict(Reason.STOPPED, None, None, Reason.LOSS_NOT_FINITE, strikes=3),
            "freeze: the loss is not finite; strike 3: trained weights",
        ),
    ],
)
def test_a_verdict_is_told_with_its_numbers(verdict: Verdict, words: str) -> None:
    assert str(verdict) == words


def test_only_a_kept_update_is_applied_and_only_an_undone_one_is_undone() -> None:
    assert [reason for reason in Reason if Verdict(reason).applied] == [Reason.ADAPTED]
    undone = [reason for reason in Reason if Verdict(reason).undone]
    assert undone == [Reason.ROLLED_BACK, Reason.RESET, Reason.STOPPED]


def test_an_update_that_nobody_judged_is_not_within_limits() -> None:
    assert not Verdict(Reason.ADAPTED, -2.0).judged
    assert Verdict(Reason.ADAPTED, -2.0, SIGNALS).judged
    assert words_of_guard(Verdict(Reason.ADAPTED, -2.0, SIGNALS)) == "within all limits"
