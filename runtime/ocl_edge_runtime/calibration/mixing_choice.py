"""Chooses the weights of the norms: those of the default prior, fitted ones, or learned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.manifest_parts import LEARNED
from ocl_edge.errors import BundleError
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.shares import FULLNESSES
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.calibration.copies import Tried, fit_mixing, try_copies
from ocl_edge_runtime.calibration.findings import LEAST_GAIN, LEAST_SURE, Progress
from ocl_edge_runtime.calibration.frames import GivenFrames, evenly_spaced
from ocl_edge_runtime.calibration.home_frames import HomeSeen
from ocl_edge_runtime.calibration.learning import WeightsLearner
from ocl_edge_runtime.calibration.measuring import HeadAsTrained, Measurer

MOST_LEARNED = 40
"""Frames to learn on."""
MOST_LOST = 2.0
"""Mean gains of fitted weights that they may cost one corruption: 0.3 and 1.7 gained on streams, 3.5 lost."""


class MixingChoice:
    """Fits weights on some frames, learns them from the best of the fits on, and checks all on others.

    Args:
        measurer: of a network with norms.
        heads: of its outputs, by name.
        frames: of its home, or of where it will run.
        seen: what each output made of them.
        at_home: whether they are its home.
        fit_on: indices of the frames to fit on; to learn on are all but those to check on.
        check_on: indices of the frames to check on.
        progress: told what begins.

    Attributes:
        mixings: that were tried, by their fullness; that of the default prior first.
        tried: what became of the copies to check on, corruption by corruption.
        taken: which of the mixings agrees best.
        notes: in words, for the user.
    """

    def __init__(
        self,
        measurer: Measurer,
        heads: Mapping[str, HeadAsTrained],
        frames: GivenFrames,
        seen: Mapping[str, HomeSeen],
        at_home: bool,
        fit_on: Sequence[int],
        check_on: Sequence[int],
        progress: Progress,
    ) -> None:
        self._measurer, self._heads, self._frames, self._progress = measurer, heads, frames, progress
        self._seen, self._at_home, self.notes = seen, at_home, list[str]()
        line = Mixing.of_prior(measurer.channels, measurer.bundle.manifest.adaptation.prior)
        self.mixings = {0.0: line}
        if measurer.bundle.manifest.weight_rows > 1:
            self._fit(fit_on)
        progress(f"check on {len(check_on)} others")
        at_once = {name: each.truths for name, each in seen.items()}  # of these very frames, as trained
        self._check_truths = at_once if at_home else self._truths_of(check_on)
        self.tried = self._try(list(self.mixings.values()))
        self.taken = self._best()
        if measurer.bundle.manifest.weight_rows > 1 and self._some_sure:
            others = [index for index in range(len(frames)) if index not in check_on]
            self._learn(evenly_spaced(others, MOST_LEARNED))

    @property
    def fullness(self) -> float:
        return list(self.mixings)[self.taken]

    @property
    def mixing(self) -> Mixing:
        return self.mixings[self.fullness]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the mixings that were tried."""
        fits = (f"fitted, {fullness:g}" for fullness in self.mixings if 0 < fullness < LEARNED)
        return ("default prior", *fits, *(["learned"] if LEARNED in self.mixings else []))

    @property
    def _some_sure(self) -> bool:
        return any(seen.sure >= LEAST_SURE for seen in self._seen.values())

    def _fit(self, indices: Sequence[int]) -> None:
        self._progress(f"weights of the norms, on {len(indices)} frames and their corrupted copies")
        statistics = next(iter(self._seen.values())).statistics
        clean = {index: statistics[index] for index in indices}
        fit = fit_mixing(self._measurer, self._frames, clean, self.mixings[0.0])
        self.mixings |= {fullness: fit.mixing(fullness) for fullness in FULLNESSES}

    def _learn(self, indices: Sequence[int]) -> None:
        try:
            learner = WeightsLearner(self._measurer, self._heads, self._frames, self._truths_of(indices))
            learned = learner.learn(self.mixing, self._progress)
        except BundleError as error:
            self.notes.append(f"weights of the norms were fitted at best, not learned: {error}")
            return
        self.mixings[LEARNED] = learned
        for name, tried in self._try([learned], shut=False).items():
            self.tried[name].also(tried)
        self.taken = self._best()

    def _truths_of(self, indices: Sequence[int]) -> dict[str, dict[int, Tensor]]:
        """Of each output: at home what the network says as trained, elsewhere what it says wide open."""
        truths: dict[str, dict[int, Tensor]] = {name: {} for name in self._heads}
        for index in indices:
            opening = 0.0 if self._at_home else 1.0
            passed = self._measurer.measure(self._frames.read(index), self.mixings[0.0], opening)
            for name, head in self._heads.items():
                truths[name][index] = head.truth(passed.features)
        return truths

    def _try(self, mixings: list[Mixing], shut: bool = True) -> dict[str, Tried]:
        return try_copies(self._measurer, self._heads, self._frames, self._check_truths, mixings, shut)

    def _best(self) -> int:
        """Outputs that are sure of nothing have no say."""
        return best_for_all(
            [
                np.array([[a.percent() for a in each.agreement[name]] for each in self.tried.values()])
                for name, seen in self._seen.items()
                if seen.sure >= LEAST_SURE
            ]
        )


def best_for_all(agreements: Sequence[NDArray[np.float64]]) -> int:
    """The mixing that gains most on the mean of the outputs, and loses on none; 0 where none gains enough.

    It costs no corruption more than `MOST_LOST` times what it gains on their mean, or it would cost what is
    mild, too (docs/ablation.md).

    Args:
        agreements: of each output, [corruptions, mixings], in percent; the line is the first.
    """
    if not agreements:
        return 0
    of_outputs = []
    for agreement in agreements:
        gains = agreement - agreement[:, :1]
        mean = gains.mean(0)
        of_outputs.append(np.where(gains.min(0) >= -MOST_LOST * mean, mean, -np.inf))
    of_all = np.where(np.min(of_outputs, 0) >= 0, np.mean(of_outputs, 0), -np.inf)
    best = int(np.argmax(of_all))
    return best if of_all[best] >= LEAST_GAIN else 0
