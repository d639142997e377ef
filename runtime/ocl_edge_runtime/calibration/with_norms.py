"""A calibration of a network with norms: home is their statistics, and their weights are fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ocl_edge.bundle.home import HomeTensors, statistics_of
from ocl_edge.bundle.manifest_parts import HeadRate, HomeSpec
from ocl_edge.bundle.reading import load_head
from ocl_edge.method import home
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.norms import statistics_distance
from ocl_edge.network.preprocess import noise_view
from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.calibration.copies import corrupted
from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS, Pixels
from ocl_edge_runtime.calibration.findings import (
    HEAD_STAYS,
    LEAST_SURE,
    TOO_FEW,
    Calibration,
    Progress,
    quantiles_of,
    unsure,
)
from ocl_edge_runtime.calibration.frames import FEW_FRAMES, GivenFrames, evenly_spaced
from ocl_edge_runtime.calibration.head_rate import Corrupted, choose_rate, loss_grid
from ocl_edge_runtime.calibration.home_frames import HomeSeen, see_home
from ocl_edge_runtime.calibration.measuring import HeadAsTrained, Measurer
from ocl_edge_runtime.calibration.mixing_choice import MixingChoice

MOST_FITTED, MOST_CHECKED, MOST_LESSONS, MOST_OPENED, MOST_LOSSES = 9, 4, 4, 40, 20
"""Frames to fit the weights on, to check on, for the head to learn on, at every opening, for the loss."""
NEARLY_ALL = 0.95
"""Quantile of home's and of its copies' distances that limits are made of."""
MARGIN = 1.1
SMALLEST = 1e-3
"""A distance that is divided by, or that is a limit, is no smaller."""


class StagesWithNorms:
    """A calibration in progress: each stage uses what those before have found.

    Args:
        measurer: of a network with norms.
        heads: of its outputs, by name.
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
        self.measurer, self.heads = measurer, heads
        self.frames, self.progress = frames, progress
        self.manifest, self.trained = measurer.bundle.manifest, measurer.norms.statistics
        self.indices = list(range(len(frames)))
        self.fit_on = evenly_spaced(self.indices[0::2], MOST_FITTED)
        self.check_on = evenly_spaced(self.indices[1::2], MOST_CHECKED)
        sensing = home.SensingNorms(self.trained, measurer.channels, self.manifest.sensing_norms)
        self.distance_of = sensing.distance
        self.losses_of = evenly_spaced(self.indices, MOST_LOSSES)

    def run(self) -> dict[str, Calibration]:
        self._see_the_frames()
        self._choose_the_weights()
        enough = self.at_home and len(self.frames) >= FEW_FRAMES
        quantiles, jump = self._measure_home() if enough else (None, None)
        copies = self._distances_of_copies() if self.at_home else None
        noise = self._distances_of_noise()
        return {
            name: self._found(
                name,
                HomeSpec(
                    frames=len(self.frames),
                    at_home=self.at_home,
                    distance=quantiles_of(self.distances),
                    confidence=quantiles_of(seen.confidences),
                    loss=quantiles_of(seen.losses),
                    fullness=self.choice.fullness,
                    home_distances=quantiles,
                    copies_distances=copies,
                    noise_distance=noise,
                    jump=jump,
                    head=self._try_the_head(name) if enough and seen.sure >= LEAST_SURE else None,
                    features_distance=quantiles_of(seen.head_input_distances()),
                ),
            )
            for name, seen in self.seen.items()
        }

    def _found(self, name: str, spec: HomeSpec) -> Calibration:
        opens, seen = self._opener(spec), self.seen[name]
        return Calibration(
            spec,
            HomeTensors(self.mixing.weights, *statistics_of(self.clean), seen.head_input),
            [*self.frames.notes, *self.choice.notes, *self._notes(spec, seen)],
            self.distances,
            [opens(each) for each in self.clean],
            {name: [(self.distance_of(s), opens(s)) for s in each.shut] for name, each in self.tried.items()},
            self.choice.names,
            {of: tuple(a.percent() for a in each.agreement[name]) for of, each in self.tried.items()},
            self.choice.taken,
            self.measurer.passes,
        )

    def _see_the_frames(self) -> None:
        self.progress(f"{len(self.frames)} home frames")
        self.seen = see_home(self.measurer, self.heads, self.frames, self.check_on, self.losses_of)
        self.clean = next(iter(self.seen.values())).statistics
        self.distances = [self.distance_of(each) for each in self.clean]
        self.at_home = float(np.median(self.distances)) < home.HOME_UNTIL

    def _choose_the_weights(self) -> None:
        self.choice = MixingChoice(
            self.measurer,
            self.heads,
            self.frames,
            self.seen,
            self.at_home,
            self.fit_on,
            self.check_on,
            self.progress,
        )
        self.tried, self.mixing = self.choice.tried, self.choice.mixing

    def _measure_home(self) -> tuple[tuple[float, float, float], float]:
        """Home's distances at every opening, and what is a jump there."""
        self.progress("home at every opening")
        some = evenly_spaced(self.indices, MOST_OPENED)
        shut = [self.clean[index] for index in some]
        half, wide = (
            [self.measurer.measure(self.frames.read(i), self.mixing, opening).statistics for i in some]
            for opening in home.OPENINGS[1:]
        )
        distance_of = home.DistanceOfNorms(self.trained, self.measurer.channels)
        first, second, third = (
            max(float(np.quantile([distance_of(s) for s in seen], home.HOME_QUANTILE)), SMALLEST)
            for seen in (shut, half, wide)
        )
        middle = torch.stack(wide).mean(0)
        jump = MARGIN * float(np.quantile([statistics_distance(s, middle) for s in wide], NEARLY_ALL))
        return (first, second, third), max(jump, SMALLEST)

    def _try_the_head(self, name: str) -> HeadRate:
        self.progress(f"the head{f' of {name}' if name else ''}, on corrupted copies")
        return choose_rate(self.heads[name].bundle, self._corrupted(name))

    def _corrupted(self, output: str) -> Iterator[tuple[str, Corrupted]]:
        """What the head is tried on; one corruption at a time, for the features of all are large."""
        head = self.heads[output]
        bundle = head.bundle
        grid = loss_grid(TrainableHead(load_head(bundle), bundle.manifest.adaptation), bundle)
        for name in CORRUPTIONS:
            lessons, questions = [], []
            for index in evenly_spaced(self.fit_on, MOST_LESSONS):
                copy = corrupted(self.frames.read(index), name, (index,))
                view, flip = (self._wide_open(head, copy, flipped) for flipped in (False, True))
                pair = zip(grid.sample(view), grid.sample(flip, flip=True), strict=True)
                lessons.append([torch.cat(views) for views in pair])
            for index, truth in self.seen[output].truths.items():
                copy = corrupted(self.frames.read(index), name, (index,))
                questions.append((self._wide_open(head, copy), truth))
            yield name, Corrupted(lessons, questions)

    def _wide_open(self, head: HeadAsTrained, frame: Pixels, flipped: bool = False) -> list[Tensor]:
        return head.input_among(self.measurer.measure(frame, self.mixing, 1.0, flipped).features)

    def _distances_of_copies(self) -> tuple[float, float]:
        shut = [s for each in self.tried.values() for s in each.shut]
        wide = [s for each in self.tried.values() for s in each.wide_open[self.choice.taken]]
        unmixed, wide_open = (
            MARGIN * float(np.quantile([statistics_distance(s, self.trained) for s in seen], NEARLY_ALL))
            for seen in (shut, wide)
        )
        return unmixed, wide_open

    def _distances_of_noise(self) -> tuple[float, float]:
        view = noise_view(self.manifest.input)
        unmixed, wide_open = (
            statistics_distance(self.measurer.measure_view(view, self.mixing, o).statistics, self.trained)
            for o in (0.0, 1.0)
        )
        return unmixed, wide_open

    def _opener(self, spec: HomeSpec) -> Callable[[Tensor], float]:
        """How far statistics that were measured shut open a session."""
        of_all = home.distances_of_all(
            self.trained, self.measurer.channels, spec.home_distances, self.manifest.discs_distance
        )
        return lambda seen: home.opening_wanted(self.distance_of(seen), of_all.openings_at(seen, 0.0))

    def _notes(self, spec: HomeSpec, seen: HomeSeen) -> Iterator[str]:
        if not spec.at_home:
            yield (
                f"these frames are not the network's home: half are {spec.distance.median:.2f} away or more, "
                f"home ends at {home.HOME_UNTIL}. They serve for the weights of the norms alone: what is "
                "home, the limits and the head's rate stay as without calibration. Frames like those "
                "that the network was trained on would tell more"
            )
        elif len(self.frames) < FEW_FRAMES:
            yield TOO_FEW
        if self.manifest.weight_rows == 1:
            yield (
                "the bundle was converted from an older one, whose norms have one weight each: export the "
                "checkpoint again to have them fitted"
            )
        elif seen.sure < LEAST_SURE:
            yield unsure(seen.sure)
        elif not spec.fitted:
            yield "fitted weights gained too little, or cost more somewhere: those of the default prior stay"
        if spec.head is not None and spec.head.lr == 0:
            yield HEAD_STAYS
