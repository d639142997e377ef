from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize
from torch.nn import functional as F

from ocl_edge.errors import CaptureError
from ocl_edge_export.behaviour import refuse_unsteady
from tests.doubles import small_network
from tests.doubles.network_blocks import Step

IMAGE = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def run_again(network: nn.Module, image: Tensor) -> None:
    with torch.no_grad():
        refuse_unsteady(network, image, network(image))


def network(what: Callable[[Tensor], Tensor]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), Step(what)), nn.Conv2d(4, 5, 1)).eval()


@pytest.mark.parametrize(
    "what",
    [
        lambda x: F.dropout(x, 0.3),
        lambda x: F.dropout2d(x, 0.5),
        lambda x: x + torch.rand_like(x),
        lambda x: x[:, torch.randperm(4)],
    ],
)
def test_randomness_is_found_with_its_module(what: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    with pytest.raises(CaptureError, match=r"one image twice: .*random.*\n.*differs: 1\.1 \(Step\)"):
        run_again(network(what), IMAGE)


@pytest.mark.parametrize("observed", [True, False])
def test_what_keeps_something_of_an_image_is_not_called_random(observed: bool) -> None:
    torch.manual_seed(0)
    observing = FakeQuantize()
    observing(torch.zeros(8))  # so that its range grows with every image
    own = torch.Generator().manual_seed(0)
    layer = network(observing if observed else lambda x: x + torch.rand(x.shape, generator=own))
    with pytest.raises(
        CaptureError, match=r"one image twice: it keeps .*observer.* generator of its own\.\n"
    ):
        run_again(layer, IMAGE)


def test_what_is_dropped_now_and_then_is_random_not_a_matter_of_the_batch() -> None:
    """Two runs in a row drop the same half of the time."""
    layer = network(lambda x: x * (torch.rand(len(x), 1, 1, 1) > 0.5))
    for seed in range(8):
        torch.manual_seed(seed)
        with pytest.raises(CaptureError, match=r"one image twice: .*random"):
            refuse_unsteady(layer, IMAGE, layer(IMAGE))


@pytest.mark.parametrize(
    "what",
    [
        lambda x: x.sigmoid() if len(x) == 1 else x,
        lambda x: x - x.mean(0, keepdim=True),
        lambda x: x / len(x),
    ],
)
def test_a_batch_of_one_that_is_treated_otherwise_is_found(what: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(CaptureError, match=r"batch of one image.*batch of two.*\n.*differs: 1\.1 \(Step\)"):
        run_again(network(what), IMAGE)


def test_another_number_of_dimensions_is_a_difference() -> None:
    with pytest.raises(CaptureError, match=re.escape("shape [1, 4, 16] and [1, 4, 16, 24]")):
        run_again(
            Step(
                lambda x: (
                    x[:, :1].expand(-1, 4, -1, -1)[..., 0] if len(x) == 1 else x[:, :1].expand(-1, 4, -1, -1)
                )
            ),
            IMAGE,
        )


def test_what_is_nested_is_compared_too() -> None:
    nested = Step(lambda x: {"out": [x], "aux": (F.dropout(x), 3)})  # type: ignore[return-value,dict-item]
    with pytest.raises(CaptureError, match="one image twice"):
        run_again(nested, IMAGE)


def test_steady_networks_pass() -> None:
    run_again(small_network.trained(), torch.randn(1, 3, small_network.HEIGHT, small_network.WIDTH))
    run_again(small_network.WithoutBatchNorm().eval(), IMAGE)
