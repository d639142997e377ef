"""What the network makes of its home frames as they are: the first stage of a calibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ocl_edge.method.head_input import HeadInput, means_of
from ocl_edge.method.methods import ocl
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR
from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.calibration.frames import GivenFrames
from ocl_edge_runtime.calibration.measuring import UNKNOWN, HeadAsTrained, Measurer, Pass


@dataclass
class HomeSeen:
    """Frame by frame, of one output.

    Attributes:
        statistics: of the norms, unmixed, float32 [2, S].
        head_inputs: mean of every channel of the head's input, float32 [F].
        confidences: mean probability of the strongest class.
        losses: OCL of some of them.
        truths: index -> what the network is sure of, of some of them.
    """

    statistics: list[Tensor] = field(default_factory=list)
    head_inputs: list[Tensor] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    truths: dict[int, Tensor] = field(default_factory=dict)

    @property
    def sure(self) -> float:
        """Share of the pixels that the network is sure of."""
        return float(np.mean([float((t != UNKNOWN).float().mean()) for t in self.truths.values()]))

    @property
    def head_input(self) -> Tensor:
        """Mean and deviation of the head's input from frame to frame, float32 [2, F]."""
        stacked = torch.stack(self.head_inputs)
        return torch.stack((stacked.mean(0), stacked.std(0, correction=0)))

    def head_input_distances(self) -> list[float]:
        """Of every frame, in deviations from frame to frame."""
        home = HeadInput(self.head_input, border=1.0, share=0.0)
        return [home.distance(means) for means in self.head_inputs]

    def add(self, passed: Pass, head: HeadAsTrained) -> None:
        """A frame."""
        self.statistics.append(passed.statistics)
        self.head_inputs.append(means_of(head.input_among(passed.features)))
        self.confidences.append(head.confidence(passed.features))


def see_home(
    measurer: Measurer,
    heads: Mapping[str, HeadAsTrained],
    frames: GivenFrames,
    check_on: Collection[int],
    losses_of: Collection[int],
) -> dict[str, HomeSeen]:
    """Each frame through the network as trained; what each output makes of it, by the same names.

    Args:
        measurer: of the network.
        heads: of its outputs.
        frames: all of them.
        check_on: indices of the frames whose truth is kept.
        losses_of: indices of the frames whose flip is seen, too.
    """
    mixing = Mixing.of_prior(measurer.channels, DEFAULT_PRIOR)  # nothing is mixed: shut
    found = {name: HomeSeen() for name in heads}
    for index in range(len(frames)):
        frame = frames.read(index)
        passed = measurer.measure(frame, mixing, 0.0)
        flip = measurer.measure(frame, mixing, 0.0, flipped=True) if index in losses_of else None
        for name, head in heads.items():
            seen = found[name]
            seen.add(passed, head)
            if index in check_on:
                seen.truths[index] = head.truth(passed.features)
            if flip is not None:
                views = head.logits(passed.features), head.logits(flip.features).flip(3)
                seen.losses.append(float(ocl(*views, head.bundle.manifest.adaptation)))
    return found
