"""What DIGA cannot do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ocl_edge.errors import UsageError
from ocl_edge.method.published.diga import DIGA
from ocl_edge.method.published.published import Pass
from ocl_edge.method.settings import AdaptationDefaults


class Upsampling:
    """A network whose head makes four pixels of one."""

    affine: tuple[str, ...] = ()
    channels = (2,)
    trained = torch.ones(2, 2)
    image = (3, 8, 8)
    features = 2
    classes = 3

    def __init__(self) -> None:
        self.parameters: dict[str, torch.nn.Parameter] = {}

    def run(self, views: Tensor, *_: object) -> Pass:
        return Pass(torch.randn(1, 3, 8, 8), torch.randn(1, 2, 4, 4), self.trained)


def test_a_head_that_makes_other_pixels_is_refused() -> None:
    method = DIGA(Upsampling(), AdaptationDefaults())
    with pytest.raises(UsageError, match=r"makes \(8, 8\) pixels of \(4, 4\)"):
        method.logits(torch.zeros(1, 3, 8, 8))
