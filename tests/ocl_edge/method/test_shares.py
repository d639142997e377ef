from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR
from ocl_edge.method.shares import ShareFit

CHANNELS = [3, 2]
TRAINED = torch.stack((torch.zeros(5), torch.ones(5)))
LINE = 1 - Mixing.of_prior(CHANNELS, DEFAULT_PRIOR).weights


def pairs(generator: torch.Generator, of_picture: float, of_corruption: float) -> list[tuple[Tensor, Tensor]]:
    """Means move by the picture, which both have, and by the corruption, which the copy alone has."""
    found = []
    for _ in range(400):
        picture, corruption = torch.randn(2, 5, generator=generator)
        clean = torch.stack((of_picture * picture, torch.ones(5)))
        copy = torch.stack((of_picture * picture + of_corruption * corruption, torch.ones(5)))
        found.append((clean, copy))
    return found


@pytest.mark.parametrize(("of_picture", "of_corruption"), [(1.0, 1.0), (1.0, 2.0), (0.5, 2.0)])
def test_the_share_of_the_mean_is_the_corruptions_share_of_what_moves_it(
    of_picture: float, of_corruption: float
) -> None:
    fit = ShareFit(TRAINED, CHANNELS)
    for clean, copy in pairs(torch.Generator().manual_seed(0), of_picture, of_corruption):
        fit.add(clean, copy)
    # least squares of the corruption on the sum of both; a ridge of half pulls by a third to the line
    share = of_corruption**2 / (of_picture**2 + of_corruption**2)
    expected = torch.maximum((share + 0.5 * LINE[0]) / 1.5, LINE[0])
    assert torch.allclose(1 - fit.mixing(1.0).weights[0], expected, atol=0.06)
    assert torch.allclose(1 - fit.mixing(0.6).weights[0], 0.6 * expected, atol=0.04)
    assert fit.mixing(0.6).between


def test_what_only_the_picture_moves_keeps_the_share_of_the_line() -> None:
    fit = ShareFit(TRAINED, CHANNELS)
    for clean, copy in pairs(torch.Generator().manual_seed(0), 1.0, 0.0):
        fit.add(clean, copy)
    assert torch.allclose(1 - fit.mixing(1.0).weights, LINE, atol=1e-5)


def test_a_variance_that_corruption_raises_gets_a_share_near_one() -> None:
    """Noise adds the same to every clean frame's variance, which is the trained one."""
    fit = ShareFit(TRAINED, CHANNELS)
    for _ in range(10):
        fit.add(TRAINED, torch.stack((torch.zeros(5), torch.full((5,), 3.0))))
    # u = (3 - 1) / 3, and 1 - 1/3 goes: share 1, pulled by a third to the line
    expected = torch.maximum((1 + 0.5 * LINE[1]) / 1.5, LINE[1])
    assert torch.allclose(1 - fit.mixing(1.0).weights[1], expected, atol=1e-4)
