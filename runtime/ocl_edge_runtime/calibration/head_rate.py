"""Whether the head earns its place in a network, and at which rate: tried on corrupted home frames.

Of each corruption the head learns on some frames, as it does in a run, and is asked about others. The truth
is what the network as trained says of the clean frame, where it is sure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ocl_edge.bundle.manifest_parts import HeadRate
from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.method.guard import compare_heads
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.tensors import Tensor, without_gradients
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.calibration.measuring import Agreement

DIVISORS = (25.0, 5.0, 1.0)
"""Of the bundle's own rate: what is tried beside 0."""
LEAST_GAIN = 0.3
"""Points of mIoU that a rate gains on the mean of the corruptions, and loses on none, or the head is off."""
ROUNDS, ROUNDS_TO_SETTLE = 10, 4
"""The head learns from the frames so many times, and is asked after each but the first few."""
LOSS_STRIDE = 4


@dataclass(frozen=True)
class Corrupted:
    """Frames under one corruption, through the backbone wide open.

    Attributes:
        lessons: features of a view pair on the loss's pixels, for each frame to learn from.
        questions: features of a view, and the truth int64 [h, w], for each frame to be asked about.
    """

    lessons: Sequence[list[Tensor]]
    questions: Sequence[tuple[list[Tensor], Tensor]]


def choose_rate(bundle: Bundle, corrupted: Iterable[tuple[str, Corrupted]]) -> HeadRate:
    """The best of 0 and fractions of the bundle's own rate; 0 unless one gains enough and costs nowhere.

    Args:
        bundle: whose head.
        corrupted: name of a corruption, and its frames; asked for one after the other.
    """
    module, settings = load_head(bundle), bundle.manifest.adaptation
    rates = [settings.lr / divisor for divisor in DIVISORS]
    gains: dict[float, dict[str, float]] = {rate: {} for rate in rates}
    ratios = dict.fromkeys(rates, 1.0)
    for name, frames in corrupted:
        as_trained, _ = _agreement(TrainableHead(module, settings), frames, learns=False)
        for rate in rates:
            head = TrainableHead(module, settings.model_copy(update={"lr": rate}))
            agreement, ratio = _agreement(head, frames, learns=True)
            gains[rate][name], ratios[rate] = round(agreement - as_trained, 3), max(ratio, ratios[rate])
            head.reset()  # the module is the next one's
    found = [HeadRate(lr=r, gains=of_rate, entropy_ratio=ratios[r]) for r, of_rate in gains.items()]
    good = [rate for rate in found if _earns_its_place(rate)]
    return max(good, key=_mean_gain) if good else max(found, key=_mean_gain).model_copy(update={"lr": 0.0})


def loss_grid(head: TrainableHead, bundle: Bundle) -> PixelGrid:
    """The pixels that the loss takes."""
    return PixelGrid(LOSS_STRIDE if head.is_pointwise(bundle.manifest.head_features) else 1)


def _earns_its_place(rate: HeadRate) -> bool:
    return _mean_gain(rate) >= LEAST_GAIN and min(rate.gains.values()) >= -LEAST_GAIN


def _mean_gain(rate: HeadRate) -> float:
    return sum(rate.gains.values()) / len(rate.gains)


def _agreement(head: TrainableHead, frames: Corrupted, learns: bool) -> tuple[float, float]:
    """mIoU of the questions, percent, while the head learns one lesson a second, or as trained.

    Also the largest ratio of its mean entropy and that of the trained head, up or down, after an update.
    """
    watch, ratio = Stopwatch(), 1.0
    agreement = Agreement(head.logits(frames.questions[0][0]).shape[1])
    for lesson_round in range(ROUNDS if learns else 1):
        for pair in frames.lessons if learns else ():
            head.adapt(pair, ocl, watch)
            of_update = _entropy_ratio(head, pair)
            ratio = max(ratio, of_update, 1 / of_update)
        if learns and lesson_round < ROUNDS_TO_SETTLE:
            continue
        for features, truth in frames.questions:
            agreement.add(head.logits(features).detach().argmax(1)[0], truth)
    return agreement.percent(), ratio


@without_gradients
def _entropy_ratio(head: TrainableHead, pair: list[Tensor]) -> float:
    view = [f[:1] for f in pair]
    return compare_heads(head.logits(view), head.trained_logits(view), drift=0.0).entropy_ratio
