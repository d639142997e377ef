"""Frames and their corrupted copies, through the backbone: what the weights are fitted and checked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.shares import ShareFit
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS, Pixels
from ocl_edge_runtime.calibration.frames import GivenFrames
from ocl_edge_runtime.calibration.measuring import Agreement, HeadAsTrained, Measurer

FIT, CHECK = 0, 1
"""Seeds of the copies."""


@dataclass
class Tried:
    """Copies of some frames under one corruption.

    Attributes:
        shut: their statistics, measured unmixed.
        wide_open: the same wide open, with each mixing that was tried.
        agreement: of their masks with what the network as trained is sure of in the clean frames, likewise;
            of each output by its name.
    """

    shut: list[Tensor]
    wide_open: list[list[Tensor]]
    agreement: dict[str, list[Agreement]]

    def also(self, other: Tried) -> None:
        """Takes in what else was tried on the same copies."""
        self.wide_open += other.wide_open
        for output, found in other.agreement.items():
            self.agreement[output] += found


def copies_of(frames: GivenFrames, indices: Iterable[int], seed: int) -> Iterator[tuple[int, str, Pixels]]:
    """Index, corruption and copy, for every frame and corruption; the same for the same seed."""
    for index in indices:
        frame = frames.read(index)
        for name in CORRUPTIONS:
            yield index, name, corrupted(frame, name, (seed, index))


def corrupted(frame: Pixels, name: str, seed: Sequence[int]) -> Pixels:
    """A copy of a frame, the same for the same seed. Weather is seen in colours: other channels stay."""
    place = list(CORRUPTIONS).index(name)
    copy = CORRUPTIONS[name](frame[..., :3], np.random.default_rng((*seed, place)))
    return np.concatenate((copy, frame[..., 3:]), axis=2) if frame.shape[2] > 3 else copy


def fit_mixing(measurer: Measurer, frames: GivenFrames, clean: dict[int, Tensor], line: Mixing) -> ShareFit:
    """The weights of a mixing that takes corruption out of the statistics and leaves the picture in.

    Args:
        measurer: of the network.
        frames: all of them.
        clean: index -> statistics, measured unmixed, of the frames to fit on.
        line: that the copies are measured with; again with what that gives, and the weights are worse.
    """
    prior = measurer.bundle.manifest.adaptation.prior
    fit = ShareFit(measurer.norms.statistics, measurer.channels, prior)
    for index, _, copy in copies_of(frames, clean, FIT):
        fit.add(clean[index], measurer.measure(copy, line, 1.0).statistics)
    return fit


def try_copies(
    measurer: Measurer,
    heads: Mapping[str, HeadAsTrained],
    frames: GivenFrames,
    truths: Mapping[str, Mapping[int, Tensor]],
    mixings: Sequence[Mixing],
    shut: bool = True,
) -> dict[str, Tried]:
    """Corruption -> what became of its copies.

    Args:
        measurer: of the network.
        heads: of its outputs.
        frames: all of them.
        truths: of each output, index -> truth of the frames to try (`HeadAsTrained.truth`).
        mixings: to try.
        shut: measure the copies unmixed, too.
    """
    tried = {name: Tried([], [[] for _ in mixings], {}) for name in CORRUPTIONS}
    for each in tried.values():
        for output, head in heads.items():
            classes = head.bundle.manifest.logits[0]
            each.agreement[output] = [Agreement(classes) for _ in mixings]
    for index, name, copy in copies_of(frames, next(iter(truths.values())), CHECK):
        found = tried[name]
        if shut:
            found.shut.append(measurer.measure(copy, mixings[0], 0.0).statistics)
        for place, mixing in enumerate(mixings):
            seen = measurer.measure(copy, mixing, 1.0)
            found.wide_open[place].append(seen.statistics)
            for output, head in heads.items():
                found.agreement[output][place].add(head.mask(seen.features), truths[output][index])
    return tried
