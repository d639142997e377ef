"""The guard: after each update, keep it, roll it back, or stop adapting for a while.

The OCL loss is no safe guard by itself: it can prefer the worse of two heads. The guard
compares the updated head with the frozen head on the same features, where no label is
needed to see that something went wrong: a class that swallows the image, a mask that has
little to do with the frozen one, confidence or weights that run away.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from ocl_edge.errors import require
from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation
from ocl_edge.method.weights import AdaptedWeights
from ocl_edge.tensors import Tensor, torch

SURE_NATS = 0.01
"""Mean entropies below this are alike: of a network that is sure of everything their ratio means nothing."""


@dataclass(frozen=True)
class GuardLimits:
    """When an update is wrong.

    Eight healthy streams (CamVid, two sequences under six kinds of weather and noise; an update on each
    frame) reach a disagreement of 0.39, a share gain of 0.32, entropy ratios of 0.78 to 1.40, a drift of
    0.16 and steps of 0.004, and at a learning rate of 0.2 steps of 0.02. A rate 100 times too high begins
    with a step of 0.1, which the other signals only see when it is late.

    Attributes:
        disagreement: largest share of pixels whose class differs from the frozen head's.
        share_gain: largest rise of any class's share of the pixels over the frozen head's.
        entropy_ratio: mean entropy over the frozen head's must lie between 1 / this and this.
        drift: largest relative distance of the weights from the trained ones.
        step: largest relative length of one step (`AdaptedWeights.step_length`).
        strikes: so many rollbacks among the last `window` updates freeze the head.
        window: see `strikes`.
        freeze_frames: how long a frozen head stays so, in updates that were due.
        ring: snapshots of good weights to go back to.

    Raises:
        UsageError: a limit that is not above 0 (``entropy_ratio``: 1), or a count that is not a whole number
            from 1.
    """

    disagreement: float = 0.5
    share_gain: float = 0.4
    entropy_ratio: float = 3.0
    drift: float = 0.5
    step: float = 0.03
    strikes: int = 3
    window: int = 20
    freeze_frames: int = 50
    ring: int = 4

    def __post_init__(self) -> None:
        for name in ("disagreement", "share_gain", "drift", "step"):
            limit = getattr(self, name)
            require(limit > 0, f"the guard's {name}", "above 0", limit)  # NaN is not
        require(self.entropy_ratio > 1, "the guard's entropy_ratio", "above 1", self.entropy_ratio)
        for name in ("strikes", "window", "freeze_frames", "ring"):
            count = getattr(self, name)
            whole = isinstance(count, int) and count >= 1
            require(whole, f"the guard's {name}", "a whole number from 1", count)


def violation_of(signals: Signals, limits: GuardLimits) -> Violation | None:
    """The first limit that is broken; NaN breaks every limit."""
    if not signals.step <= limits.step:
        return Violation.STEP
    if not signals.drift <= limits.drift:
        return Violation.DRIFT
    if not signals.disagreement <= limits.disagreement:
        return Violation.DISAGREEMENT
    if not signals.share_gain <= limits.share_gain:
        return Violation.SHARE_GAIN
    if not 1 / limits.entropy_ratio <= signals.entropy_ratio <= limits.entropy_ratio:
        return Violation.ENTROPY_RATIO
    return None


def compare_heads(adapted: Tensor, frozen: Tensor, drift: float) -> Signals:
    """Signals from logits of the adapted and the frozen head on the same features, [N, C, h, w] each."""
    classes = adapted.shape[1]
    ours, theirs = adapted.argmax(1), frozen.argmax(1)
    shares = [torch.bincount(c.flatten(), minlength=classes).float() / c.numel() for c in (ours, theirs)]
    return Signals(
        disagreement=float((ours != theirs).float().mean()),
        share_gain=float((shares[0] - shares[1]).max()),
        entropy_ratio=max(mean_entropy(adapted), SURE_NATS) / max(mean_entropy(frozen), SURE_NATS),
        drift=drift,
    )


def mean_entropy(logits: Tensor) -> float:
    """Mean entropy of the softmax over the pixels, in nats."""
    log_p = torch.log_softmax(logits, 1)
    return float(-(log_p.exp() * log_p).sum(1).mean())


class Guard:
    """Judges every update of some weights and undoes the wrong ones.

    Args:
        weights: that are updated; rolled back and reset in place.
        limits: see `GuardLimits`.
    """

    def __init__(self, weights: AdaptedWeights, limits: GuardLimits | None = None) -> None:
        self.limits = limits or GuardLimits()
        self.frozen_for = 0
        self.rollbacks = 0
        self.resets = 0
        self._weights = weights
        self._snapshots: deque[dict[str, Tensor]] = deque(maxlen=self.limits.ring)
        self._strikes: deque[bool] = deque(maxlen=self.limits.window)
        self._before = weights.snapshot()

    def may_update(self) -> bool:
        """False while the head is frozen, else remember where the step begins.

        Every call counts as one update that was due.
        """
        if self.frozen_for == 0:
            self.begin()
            return True
        self.frozen_for -= 1
        return False

    def begin(self) -> None:
        """The step to be judged begins at the weights of now."""
        self._before = self._weights.snapshot()

    def judge(self, update: Verdict, signals: Signals) -> Verdict:
        """Keep the update that was just made, or undo it."""
        signals = replace(signals, step=self._weights.step_length(self._before))
        violation = violation_of(signals, self.limits)
        if violation is not None:
            return self._undo(replace(update, signals=signals, cause=violation))
        self._strikes.append(False)
        self._snapshots.append(self._weights.snapshot())
        return replace(update, signals=signals)

    def reject(self, update: Verdict) -> Verdict:
        """Undo an update that could not even be judged, for example because it was not finite."""
        return self._undo(replace(update, cause=update.reason))

    def _undo(self, update: Verdict) -> Verdict:
        self._strikes.append(True)
        self.rollbacks += 1
        if sum(self._strikes) >= self.limits.strikes:
            self._strikes.clear()
            self._snapshots.clear()
            self._weights.reset()
            self.resets += 1
            self.frozen_for = self.limits.freeze_frames
            return replace(update, reason=Reason.STOPPED, strikes=self.limits.strikes)
        if not self._snapshots:
            self._weights.reset()
            return replace(update, reason=Reason.RESET)
        # the newest snapshot led here: go back one further each time
        self._weights.load(self._snapshots.pop())
        return replace(update, reason=Reason.ROLLED_BACK)

    def forget(self) -> None:
        """Drop the snapshots: the weights are the trained ones again."""
        self._snapshots.clear()

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Snapshots as tensors ``snapshot.INDEX.NAME``, and counters."""
        tensors = {f"snapshot.{i}.{n}": t for i, s in enumerate(self._snapshots) for n, t in s.items()}
        return tensors, {
            "snapshots": len(self._snapshots),
            "strikes": list(self._strikes),
            "frozen_for": self.frozen_for,
            "rollbacks": self.rollbacks,
            "resets": self.resets,
        }

    def import_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what `export_state` gave."""
        names = self._weights.parameters
        self._snapshots.clear()
        self._snapshots.extend(
            {n: tensors[f"snapshot.{i}.{n}"] for n in names} for i in range(facts["snapshots"])
        )
        self._strikes.clear()
        self._strikes.extend(facts["strikes"])
        self.frozen_for, self.rollbacks, self.resets = (
            facts[k] for k in ("frozen_for", "rollbacks", "resets")
        )
