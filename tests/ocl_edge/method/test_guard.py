from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ocl_edge.errors import UsageError
from ocl_edge.method.guard import Guard, GuardLimits, compare_heads, violation_of
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation, words_of_guard
from ocl_edge.method.weights import TrainableWeights

GOOD = Signals(0.05, 0.02, 1.0, 0.1)
BAD = Signals(0.9, 0.02, 1.0, 0.1)
MADE = Verdict(Reason.ADAPTED, -1.0)


def make(limits: GuardLimits | None = None) -> tuple[Guard, TrainableWeights]:
    torch.manual_seed(0)
    weights = TrainableWeights(dict(nn.Conv2d(3, 4, 1).named_parameters()), AdaptationDefaults())
    # `move` is a long way; only the tests of steps look at it
    return Guard(weights, limits or GuardLimits(step=math.inf)), weights


def move(weights: TrainableWeights) -> None:
    with torch.no_grad():
        for parameter in weights.parameters.values():
            parameter.add_(1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("disagreement", math.nan),
        ("share_gain", -0.1),
        ("drift", 0.0),
        ("step", -math.inf),
        ("entropy_ratio", 1.0),
        ("strikes", 0),
        ("window", 2.5),
        ("freeze_frames", -1),
        ("ring", 0),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"the guard's {name} must be .*, got {value}"):
        GuardLimits(**{name: value})  # type: ignore[arg-type]


def test_signals_equal_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    adapted, frozen = (torch.randn(1, 5, 12, 14, generator=generator) for _ in range(2))
    signals = compare_heads(adapted, frozen, 0.3)
    ours, theirs = adapted.argmax(1).flatten().tolist(), frozen.argmax(1).flatten().tolist()
    assert signals.disagreement == pytest.approx(sum(a != b for a, b in zip(ours, theirs, strict=True)) / 168)
    assert signals.share_gain == pytest.approx(max(ours.count(c) - theirs.count(c) for c in range(5)) / 168)

    def entropy(logits: torch.Tensor) -> float:
        p = logits.double().softmax(1)
        return float(-(p * p.log()).sum(1).mean())

    assert signals.entropy_ratio == pytest.approx(entropy(adapted) / entropy(frozen), rel=1e-5)
    assert signals.drift == 0.3


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (Signals(0.9, 0.0, 1.0, 0.0), "90 % of the pixels disagree"),
        (Signals(0.1, 0.5, 1.0, 0.0), "a class gained 50 %"),
        (Signals(0.1, 0.0, 9.0, 0.0), "entropy is 9.00 times"),
        (Signals(0.1, 0.0, 0.01, 0.0), "entropy is 0.01 times"),
        (Signals(0.1, 0.0, 1.0, 2.0), "weights are 200 % away"),
        (Signals(0.1, 0.0, 1.0, 0.1, 0.5), "one step moved the weights by 50 %"),
        (Signals(0.1, 0.0, 1.0, 0.1, float("nan")), "one step"),
        (Signals(0.1, 0.0, float("nan"), 0.0), "entropy is nan"),
        (Signals(float("nan"), 0.0, 1.0, 0.0), "disagree"),
    ],
)
def test_every_limit_has_words_and_nan_breaks_it(signals: Signals, words: str) -> None:
    cause = violation_of(signals, GuardLimits())
    assert words in words_of_guard(Verdict(Reason.ROLLED_BACK, signals=signals, cause=cause))
    assert violation_of(GOOD, GuardLimits()) is None


def test_a_bad_update_goes_back_to_the_last_good_weights() -> None:
    guard, weights = make()
    move(weights)
    assert guard.judge(MADE, GOOD).reason is Reason.ADAPTED
    good = weights.weights_sha256()
    move(weights)
    verdict = guard.judge(MADE, BAD)
    assert (verdict.reason, guard.rollbacks) == (Reason.ROLLED_BACK, 1)
    assert weights.weights_sha256() == good


def test_a_step_that_is_too_long_is_undone_however_good_it_looks() -> None:
    guard, weights = make(GuardLimits(step=0.05))
    size = sum(float(p.detach().square().sum()) for p in weights.parameters.values()) ** 0.5
    numbers = sum(p.numel() for p in weights.parameters.values())
    for relative, reason in ((0.04, Reason.ADAPTED), (0.04, Reason.ADAPTED), (0.06, Reason.ROLLED_BACK)):
        assert guard.may_update()
        with torch.no_grad():
            for parameter in weights.parameters.values():
                parameter.add_(relative * size / numbers**0.5)
        verdict = guard.judge(MADE, GOOD)
        assert verdict.reason is reason
        assert verdict.signals is not None
        assert verdict.signals.step == pytest.approx(relative, rel=1e-4)
    assert weights.distance_from_trained() == pytest.approx(0.08, rel=1e-4)


def test_restored_weights_are_no_step() -> None:
    guard, weights = make(GuardLimits(step=0.05))
    move(weights)
    assert guard.may_update()
    weights.reset()
    verdict = guard.judge(MADE, GOOD)
    assert verdict.reason is Reason.ADAPTED
    assert verdict.signals is not None
    assert verdict.signals.step == 0.0


def test_each_further_rollback_goes_one_snapshot_back() -> None:
    guard, weights = make(GuardLimits(strikes=9, step=math.inf))
    hashes = []
    for _ in range(3):
        move(weights)
        guard.judge(MADE, GOOD)
        hashes.append(weights.weights_sha256())
    for expected in reversed(hashes):
        move(weights)
        assert guard.judge(MADE, BAD).reason is Reason.ROLLED_BACK
        assert weights.weights_sha256() == expected
    move(weights)
    assert guard.judge(MADE, BAD).reason is Reason.RESET
    assert weights.distance_from_trained() == 0


def test_three_strikes_freeze_and_reset() -> None:
    guard, weights = make(GuardLimits(strikes=3, freeze_frames=5, step=math.inf))
    for reason in (Reason.RESET, Reason.RESET, Reason.STOPPED):
        move(weights)
        assert guard.judge(MADE, BAD).reason is reason
    assert weights.distance_from_trained() == 0
    assert [guard.may_update() for _ in range(6)] == [False] * 5 + [True]


def test_what_cannot_be_judged_is_undone() -> None:
    guard, weights = make()
    move(weights)
    verdict = guard.reject(Verdict(Reason.LOSS_NOT_FINITE))
    assert str(verdict) == "reset: the loss is not finite; no good snapshot: trained weights"
    assert weights.distance_from_trained() == 0


def test_state_survives_a_round_trip() -> None:
    guard, weights = make()
    for signals in (GOOD, GOOD, BAD):
        move(weights)
        guard.judge(MADE, signals)
    tensors, facts = guard.export_state()
    other, other_weights = make()
    other.import_state(tensors, facts)
    for g, w in ((guard, weights), (other, other_weights)):
        move(w)
        g.judge(MADE, BAD)
    assert weights.weights_sha256() == other_weights.weights_sha256()
    assert guard.export_state()[1] == other.export_state()[1]


def test_a_network_that_is_sure_of_everything_breaks_no_limit() -> None:
    """Entropies of 1e-3 and 1e-8 nats have a huge ratio that means nothing; 0.9 and 0.01 have a real one."""

    def logits(margin: float) -> torch.Tensor:
        return torch.tensor([margin, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)

    def signals(adapted: float, frozen: float) -> Signals:
        return compare_heads(logits(adapted), logits(frozen), 0.0)

    for adapted, frozen in ((9.0, 20.0), (20.0, 9.0)):
        assert signals(adapted, frozen).entropy_ratio == 1.0
        assert violation_of(signals(adapted, frozen), GuardLimits()) is None
    assert violation_of(signals(1.0, 20.0), GuardLimits()) is Violation.ENTROPY_RATIO
    assert violation_of(signals(20.0, 1.0), GuardLimits()) is Violation.ENTROPY_RATIO
