"""What became of the update on a frame: one value, from the step to the journal and the report.

Code decides by `Reason` and by numbers. Words are made here, where they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """What became of an update; the value is its name in reports and in the journal."""

    ADAPTED = "adapted"
    IN_BACKGROUND = "started in the background"
    """The frame that takes the update in tells what became of it."""

    NOTHING_TRAINS = "nothing trains"
    NO_FRAME = "no new frame"
    AT_HOME = "at home"
    """Where nothing is learned, and what was learned goes."""

    NOT_DUE = "not due"
    NO_TIME = "no time"
    WORKER_BUSY = "the worker is busy"
    NOT_ON_TAPE = "not in the schedule"

    BLANK = "the frame is blank"
    REPEATED = "the frame repeats the one before"
    FEATURES_NOT_FINITE = "the backbone's output is not finite"
    STATISTICS_TOO_FAR = "statistics refused"
    NOTHING_RELIABLE = "no prediction to learn from"
    LOSS_NOT_FINITE = "the loss is not finite"
    GRADIENT_NOT_FINITE = "a gradient is not finite"

    ROLLED_BACK = "roll back"
    RESET = "reset"
    STOPPED = "freeze"
    """The guard undid the update and lets none begin for a while."""
    FROZEN_BY_GUARD = "frozen by the guard"
    """No update began: this is such a while."""


UNDONE = (Reason.ROLLED_BACK, Reason.RESET, Reason.STOPPED)
"""What the guard does with an update that is wrong."""


class Violation(Enum):
    """The limit of the guard that an update broke."""

    STEP = "step"
    DRIFT = "drift"
    DISAGREEMENT = "disagreement"
    SHARE_GAIN = "share_gain"
    ENTROPY_RATIO = "entropy_ratio"


@dataclass(frozen=True)
class Signals:
    """Adapted head against frozen head on the same features; `Guard.judge` adds the step.

    Attributes:
        disagreement: share of the pixels whose class differs.
        share_gain: largest rise of any class's share of the pixels.
        entropy_ratio: mean entropy over the frozen head's.
        drift: relative distance of the weights from the trained ones.
        step: relative length of the step.
    """

    disagreement: float
    share_gain: float
    entropy_ratio: float
    drift: float
    step: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What became of one update.

    Attributes:
        reason: applied or not, and why.
        loss: before the update; None where none was computed.
        signals: what the guard saw; None where it was not asked, or there was nothing to look at.
        cause: why the guard undid the update; else None.
        strikes: so many rollbacks made the guard stop; else None.
        distance: of the frame's statistics, where they were too far from the trained ones.
        needed_ms: predicted time of an update that there was no time for.
        left_ms: time to the next frame, then.
    """

    reason: Reason
    loss: float | None = None
    signals: Signals | None = None
    cause: Violation | Reason | None = None
    strikes: int | None = None
    distance: float | None = None
    needed_ms: float | None = None
    left_ms: float | None = None

    @property
    def applied(self) -> bool:
        """Whether the weights have changed for good."""
        return self.reason is Reason.ADAPTED

    @property
    def undone(self) -> bool:
        """Whether the guard undid the update."""
        return self.reason in UNDONE

    @property
    def judged(self) -> bool:
        """Whether the guard was asked."""
        return self.undone or self.signals is not None

    def __str__(self) -> str:
        """The reason in words, with its numbers."""
        if self.reason is Reason.NO_TIME:
            return f"no time: needs {self.needed_ms:.0f} ms, {self.left_ms:.0f} ms are left"
        if self.reason is Reason.STATISTICS_TOO_FAR:
            return f"statistics refused: {self.distance:.2f} away from the trained ones"
        if self.undone:
            return f"{self.reason.value}: {words_of_guard(self)}"
        return str(self.reason.value)


def words_of_guard(verdict: Verdict) -> str:
    """Why the guard kept or undid an update that it judged."""
    if not verdict.undone:
        return "within all limits"
    why = _words_of_cause(verdict)
    if verdict.reason is Reason.STOPPED:
        return f"{why}; strike {verdict.strikes}: trained weights"
    if verdict.reason is Reason.RESET:
        return f"{why}; no good snapshot: trained weights"
    return why


def _words_of_cause(verdict: Verdict) -> str:
    cause, signals = verdict.cause, verdict.signals
    if isinstance(cause, Reason):
        return cause.value
    assert signals is not None
    if cause is Violation.STEP:
        return f"one step moved the weights by {100 * signals.step:.0f} %"
    if cause is Violation.DRIFT:
        return f"weights are {100 * signals.drift:.0f} % away from the trained ones"
    if cause is Violation.DISAGREEMENT:
        return f"{100 * signals.disagreement:.0f} % of the pixels disagree with the frozen head"
    if cause is Violation.SHARE_GAIN:
        return f"a class gained {100 * signals.share_gain:.0f} % of the pixels"
    return f"entropy is {signals.entropy_ratio:.2f} times the frozen head's"
