"""A calibration of a network without norms: home is the head's input, and the way back is tried on copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ocl_edge.bundle.home import HomeTensors
from ocl_edge.bundle.manifest_parts import HeadRate, HomeSpec
from ocl_edge.bundle.reading import load_head
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.head_input import HeadInput, means_of, moved
from ocl_edge.method.home import opening_at
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR
from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.calibration.copies import CHECK, corrupted
from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS, Pixels
from ocl_edge_runtime.calibration.findings import (
    HEAD_STAYS,
    LEAST_GAIN,
    LEAST_SURE,
    Calibration,
    Progress,
    quantiles_of,
    unsure,
)
from ocl_edge_runtime.calibration.frames import GivenFrames, evenly_spaced
from ocl_edge_runtime.calibration.head_rate import Corrupted, choose_rate, loss_grid
from ocl_edge_runtime.calibration.home_frames import see_home
from ocl_edge_runtime.calibration.measuring import Agreement, HeadAsTrained, Measurer

SHARES = (0.5, 1.0)
"""Of the way back, tried beside 0."""
MOST_CHECKED, MOST_LESSONS, MOST_LOSSES = 6, 4, 20
"""Frames to check on, for the head to learn on, for the loss."""


class StagesWithoutNorms:
    """A calibration in progress: each stage uses what those before have found.

    Args:
        measurer: of a network without norms.
        heads: its one.
        frames: of its home.
        progress: see `ocl_edge_runtime.calibration.calibrate.calibrate_bundle`.
    """

    def __init__(
        self,
        measurer: Measurer,
        heads: Mapping[str, HeadAsTrained],
        frames: GivenFrames,
        progress: Progress,
    ) -> None:
        self.measurer, self.frames, self.progress = measurer, frames, progress
        ((self.output, self.head),) = heads.items()
        indices = list(range(len(frames)))
        self.nothing_to_mix = Mixing.of_prior([], DEFAULT_PRIOR)
        self.learn_on = evenly_spaced(indices[0::2], MOST_LESSONS)
        self.check_on = evenly_spaced(indices[1::2], MOST_CHECKED)
        self.losses_of = evenly_spaced(indices, MOST_LOSSES)

    def run(self) -> dict[str, Calibration]:
        self.progress(f"{len(self.frames)} home frames")
        given = {self.output: self.head}
        (self.seen,) = see_home(self.measurer, given, self.frames, self.check_on, self.losses_of).values()
        distances = quantiles_of(self.seen.head_input_distances())
        self.input = HeadInput(self.seen.head_input, distances.high, 1.0)
        self.progress(f"check on {len(self.check_on)} others")
        self.copies = {name: self._means(name) for name in CORRUPTIONS}
        self.agreement = {name: self._agreement(name) for name in CORRUPTIONS}
        means = [float(np.mean(column)) for column in zip(*self.agreement.values(), strict=True)]
        best = int(np.argmax(means))
        wins = self.seen.sure >= LEAST_SURE and means[best] - means[0] >= LEAST_GAIN
        taken = best if wins else 0
        self.share = (0.0, *SHARES)[taken]
        home = [self.input.distance(m) for m in self.seen.head_inputs]
        spec = HomeSpec(
            frames=len(self.frames),
            at_home=True,
            distance=quantiles_of(home),
            confidence=quantiles_of(self.seen.confidences),
            loss=quantiles_of(self.seen.losses),
            fullness=self.share,
            head=self._try_the_head() if self.seen.sure >= LEAST_SURE else None,
            features_distance=distances,
        )
        nothing = torch.zeros(2, 0)
        copies = {name: [self.input.distance(m) for m in means] for name, means in self.copies.items()}
        found = Calibration(
            spec,
            HomeTensors(nothing, nothing, nothing, self.seen.head_input),
            [*self.frames.notes, *self._notes(spec)],
            home,
            [opening_at(d) for d in home],
            {name: [(d, opening_at(d)) for d in of_name] for name, of_name in copies.items()},
            ("as trained", *(f"moved home, {share:g}" for share in SHARES)),
            self.agreement,
            taken,
            self.measurer.passes,
        )
        return {self.output: found}

    def _copies(self, name: str, indices: list[int]) -> Iterator[tuple[int, Pixels]]:
        for index in indices:
            yield index, corrupted(self.frames.read(index), name, (CHECK, index))

    def _features(self, copy: Pixels, flipped: bool = False) -> list[Tensor]:
        return self.measurer.measure(copy, self.nothing_to_mix, 1.0, flipped).features

    def _means(self, name: str) -> list[Tensor]:
        return [means_of(self._features(copy)) for _, copy in self._copies(name, self.check_on)]

    def _way_home(self, name: str) -> Tensor:
        """From the mean of all copies under a corruption, as a stream under it would have it."""
        way: Tensor = self.input.home - torch.stack(self.copies[name]).mean(0)
        return way

    def _agreement(self, name: str) -> tuple[float, ...]:
        way = self._way_home(name)
        found = [Agreement(self.measurer.bundle.manifest.logits[0]) for _ in (0.0, *SHARES)]
        for index, copy in self._copies(name, self.check_on):
            features = self._features(copy)
            for agreement, share in zip(found, (0.0, *SHARES), strict=True):
                agreement.add(self.head.mask(moved(features, share * way)), self.seen.truths[index])
        return tuple(agreement.percent() for agreement in found)

    def _try_the_head(self) -> HeadRate:
        self.progress("the head, on corrupted copies")
        return choose_rate(self.measurer.bundle, self._corrupted())

    def _corrupted(self) -> Iterator[tuple[str, Corrupted]]:
        """What the head is tried on, moved home as a run would; one corruption at a time."""
        bundle = self.measurer.bundle
        grid = loss_grid(TrainableHead(load_head(bundle), bundle.manifest.adaptation), bundle)
        for name in CORRUPTIONS:
            way = self.share * self._way_home(name)
            lessons = []
            for _, copy in self._copies(name, self.learn_on):
                view, flip = (moved(self._features(copy, flipped), way) for flipped in (False, True))
                pair = zip(grid.sample(view), grid.sample(flip, flip=True), strict=True)
                lessons.append([torch.cat(views) for views in pair])
            questions = [
                (moved(self._features(copy), way), self.seen.truths[index])
                for index, copy in self._copies(name, self.check_on)
            ]
            yield name, Corrupted(lessons, questions)

    def _notes(self, spec: HomeSpec) -> Iterator[str]:
        yield (
            "this network has no norms that remember what it was trained on: these frames are taken for its "
            "home, whatever they show"
        )
        if self.seen.sure < LEAST_SURE:
            yield unsure(self.seen.sure)
        elif not spec.fitted:
            yield "to move the head's input home gained too little on corrupted copies: it stays as it is"
        if spec.head is not None and spec.head.lr == 0:
            yield HEAD_STAYS
