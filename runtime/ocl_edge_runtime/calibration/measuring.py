"""What a calibration sees of a frame: one pass of the measured form, and what a head makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle, load_head, load_norms
from ocl_edge.method.head import only_output
from ocl_edge.method.mixing import Mixing
from ocl_edge.network.form_tensors import features_among
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge.tensors import Tensor, torch, without_gradients
from ocl_edge_runtime.backends.base import Backend

SURE_FROM = 0.8
"""Confidence from which the frozen network's class of a clean pixel stands for the truth."""
UNKNOWN = -1


@dataclass(frozen=True)
class Pass:
    """What one pass gave; tensors of its own.

    Attributes:
        statistics: float32 [2, S]; S = 0 without norms.
        features: of one view, float32 [1, F, h, w] each.
    """

    statistics: Tensor
    features: list[Tensor]


class Measurer:
    """Runs frames through the measured form.

    Args:
        bundle: of the network; any output of it.
        backend: that runs it.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.norms = load_norms(bundle)
        self.channels = [norm.channels for norm in bundle.manifest.norms]
        self.passes = 0
        self.backend = backend
        self.preprocessor = Preprocessor(bundle.manifest.input)

    def measure(
        self, frame: NDArray[np.uint8], mixing: Mixing, opening: float, flipped: bool = False
    ) -> Pass:
        """One pass.

        Args:
            frame: uint8 [H, W, 3].
            mixing: of the norms, wide open.
            opening: that it is seen at.
            flipped: the horizontal flip of the frame.
        """
        view = self.preprocessor.single(frame)
        return self.measure_view(view.flip(3) if flipped else view, mixing, opening)

    def measure_view(self, view: Tensor, mixing: Mixing, opening: float) -> Pass:
        """As `measure`, of a view float32 [1, C, h, w], normalised."""
        self.passes += 1
        inputs = {"image": view}
        if self.channels:
            weight = mixing.at(opening)[: self.bundle.manifest.weight_rows]
            inputs |= {"anchor_statistics": self.norms.statistics, "anchor_weight": weight}
        outputs = self.backend.infer("measured", inputs)
        statistics = outputs["statistics"].cpu().clone() if self.channels else self.norms.statistics
        return Pass(statistics, [f.cpu().clone() for f in features_among(outputs)])


class HeadAsTrained:
    """What the head of a bundle, or of one output of it, makes of the features of a pass.

    Args:
        bundle: whose head.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._head = load_head(bundle)

    def input_among(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Those that it reads."""
        return [features[index] for index in self.bundle.manifest.read_by_head]

    @without_gradients
    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """[N, C, h, w]."""
        return self.logits_with_gradients(features)

    def logits_with_gradients(self, features: Sequence[Tensor]) -> Tensor:
        """As `logits`; a gradient reaches the features."""
        return only_output(self._head(*self.input_among(features)))

    def mask(self, features: Sequence[Tensor]) -> Tensor:
        """Strongest classes, int64 [h, w]."""
        return self.logits(features).argmax(1)[0]

    def confidence(self, features: Sequence[Tensor]) -> float:
        """Mean probability of the strongest class."""
        return float(self.logits(features).softmax(1).amax(1).mean())

    def truth(self, features: Sequence[Tensor]) -> Tensor:
        """Classes of the pixels that the network as trained is sure of, int64 [h, w]; else `UNKNOWN`."""
        confidence, classes = self.logits(features).softmax(1).max(1)
        return torch.where(confidence > SURE_FROM, classes, UNKNOWN)[0]


class Agreement:
    """mIoU of masks with a truth that knows some pixels."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._counts = torch.zeros(3, classes)  # pixels that are right, of the truth, of the mask

    def add(self, mask: Tensor, truth: Tensor) -> None:
        """Both int64 [h, w]."""
        known = truth != UNKNOWN
        ours, theirs = mask[known], truth[known]
        for row, values in enumerate((theirs[theirs == ours], theirs, ours)):
            self._counts[row] += torch.bincount(values, minlength=self._classes)

    def percent(self) -> float:
        """Over the classes that occur in the truth; NaN where none does."""
        hits, known, predicted = self._counts
        iou = (hits / (known + predicted - hits))[known > 0]
        return 100 * float(iou.mean())
