"""Parts of a segmenter whose numbers a test can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ocl_edge.method.head import Head
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import Loss
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.network.form_names import FormName
from ocl_edge.timings import Stopwatch


class ColourBackbone:
    """Features are the image itself; remembers the forms that ran, and can be told to break.

    Attributes:
        ran: form and names of the inputs, in order.
        spoilt: replaces the outputs of these names.
    """

    def __init__(self) -> None:
        self.ran: list[tuple[FormName, list[str]]] = []
        self.spoilt: dict[str, Tensor] = {}

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.ran.append((form, sorted(inputs)))
        outputs = {"features_0": inputs["image"]}
        if form == "measured":
            image = inputs["image"]
            outputs["statistics"] = torch.stack((image.mean((0, 2, 3)), image.var((0, 2, 3))))
        return outputs | self.spoilt


class ColourHead(Head):
    """Class of a pixel: its strongest colour channel, plus a bias."""

    def __init__(self) -> None:
        super().__init__({"bias": torch.zeros(3)}, AdaptationDefaults())

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        return features[0] + self.parameters["bias"].view(1, 3, 1, 1)

    def trained_logits(self, features: Sequence[Tensor]) -> Tensor:
        return features[0]

    def is_pointwise(self, features: Sequence[Sequence[int]]) -> bool:
        return True

    def adapt(
        self, features: Sequence[Tensor], loss_of: Loss, watch: Stopwatch, logits: Tensor | None = None
    ) -> Verdict:
        """Moves every pixel to class 2."""
        self.parameters["bias"][2] += 100
        return Verdict(Reason.ADAPTED, -1.0)

    def forget_momentum(self) -> None:
        pass

    def momentum(self) -> dict[str, Tensor]:
        return {"bias": torch.zeros(3)}

    def load_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        pass
