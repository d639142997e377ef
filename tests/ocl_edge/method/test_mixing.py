from __future__ import annotations

import torch

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import NormsAsTrained


def test_the_variance_of_a_mixture_is_that_of_its_samples() -> None:
    """Two samples joined: their share in the whole is the weight, and the means' difference counts."""
    generator = torch.Generator().manual_seed(0)
    trained, current = torch.randn(3000, generator=generator), 2 + 3 * torch.randn(1000, generator=generator)
    zero = torch.zeros(1)
    norms = NormsAsTrained(trained.mean()[None], trained.var()[None], zero, zero, zero)
    weight = Mixing(torch.full((2, 1), 0.75), between=True).at(1.0)
    mixed = norms.mixed_with(torch.stack((current.mean(), current.var()))[:, None], weight)
    whole = torch.cat((trained, current))
    assert torch.allclose(mixed[:, 0], torch.stack((whole.mean(), whole.var())), rtol=2e-3)


def test_an_opening_scales_the_shares_of_the_frame() -> None:
    mixing = Mixing(torch.tensor([[0.6], [0.2]]), between=True)
    assert torch.equal(mixing.at(0.0), torch.tensor([[1.0], [1.0], [0.0]]))
    assert torch.allclose(mixing.at(0.5), torch.tensor([[0.8], [0.6], [0.16]]))
    assert torch.allclose(mixing.at(1.0), torch.tensor([[0.6], [0.2], [0.24]]))


def test_the_published_mixing_has_one_weight_for_both_and_nothing_between() -> None:
    weight = Mixing.of_prior([1, 2], (0.5, 1.0)).at(1.0)
    assert torch.equal(weight, torch.tensor([[0.5, 1.0, 1.0], [0.5, 1.0, 1.0], [0.0, 0.0, 0.0]]))
