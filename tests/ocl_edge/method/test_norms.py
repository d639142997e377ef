from __future__ import annotations

import torch
from torch.nn import functional as F

from ocl_edge.method.norms import NormsAsTrained, prior_of_channels


def test_vectors_normalise_as_batch_norm_does() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, weight, bias = torch.randn(3, 7, generator=generator).unbind(0)
    var = torch.rand(7, generator=generator) + 0.1
    eps = torch.tensor([1e-5] * 4 + [1e-3] * 3)
    source = NormsAsTrained(mean, var, weight, bias, eps)
    x = torch.randn(2, 7, 5, 5, generator=generator)
    scale, shift = source.vectors(source.statistics)
    ours = x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
    for part, epsilon in ((slice(0, 4), 1e-5), (slice(4, 7), 1e-3)):
        theirs = F.batch_norm(x[:, part], mean[part], var[part], weight[part], bias[part], False, 0, epsilon)
        assert torch.allclose(ours[:, part], theirs, atol=1e-5)


def test_prior_weighs_source_against_current() -> None:
    ones, zeros = torch.ones(3), torch.zeros(3)
    source = NormsAsTrained(ones, ones * 2, ones, zeros, zeros)
    current = torch.zeros(2, 3)
    weight = torch.tensor([[1.0, 0.85, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[1.0, 0.85, 0.0], [2.0, 1.0, 0.0]])
    assert torch.allclose(source.mixed_with(current, weight), expected)
    alone = torch.ones(3, 3) * torch.tensor([[1.0], [1.0], [0.0]])
    assert torch.equal(source.mixed_with(current, alone), source.statistics)
    assert torch.equal(source.mixed_with(current, torch.zeros(3, 3)), current)


def test_the_prior_is_linear_in_the_order_of_the_norms() -> None:
    weights = prior_of_channels([2, 1, 3], (0.5, 1.0))
    assert torch.allclose(weights, torch.tensor([[0.5, 0.5, 0.75, 1.0, 1.0, 1.0]]))
    assert torch.equal(prior_of_channels([4], (0.5, 1.0)), torch.full((1, 4), 0.5))
    assert prior_of_channels([], (0.5, 1.0)).shape == (1, 0)
