from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ocl_edge.method.head import TrainableHead, only_output
from ocl_edge.method.methods import ocl
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import adapt_step
from ocl_edge.method.verdict import Reason
from ocl_edge.timings import Stopwatch


def make_head(restoration: float = 0.0, lr: float = 0.1, seed: int = 0) -> TrainableHead:
    torch.manual_seed(0)
    return TrainableHead(nn.Conv2d(6, 5, 1), AdaptationDefaults(restoration=restoration, lr=lr), seed)


def adapt(head: TrainableHead, features: torch.Tensor) -> None:
    assert adapt_step(head, head.logits([features]), ocl, Stopwatch()).applied


def test_restoration_zero_keeps_and_one_returns_every_weight() -> None:
    features = torch.randn(2, 6, 4, 5)
    kept, restored = make_head(0.0), make_head(1.0)
    adapt(kept, features)
    adapt(restored, features)
    assert kept.distance_from_trained() > 0
    assert restored.distance_from_trained() == 0


def test_restoration_returns_about_its_share_of_weights() -> None:
    head = TrainableHead(nn.Conv2d(100, 100, 1), AdaptationDefaults(restoration=0.25))
    with torch.no_grad():
        for parameter in head.parameters.values():
            parameter.add_(1.0)
    head.restore_toward_trained()
    returned = sum(int((p == head.trained[name]).sum()) for name, p in head.parameters.items())
    assert returned / 10_100 == pytest.approx(0.25, abs=0.02)


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    hashes = []
    for seed in (1, 1, 2):
        head = make_head(0.3, seed=seed)
        for step in range(3):
            adapt(head, torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(step)))
        hashes.append(head.weights_sha256())
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_loss_that_is_not_finite_leaves_the_head_as_it_was() -> None:
    head = make_head()
    before = head.weights_sha256()
    features = torch.randn(2, 6, 4, 5)
    features[0, 0, 0, 0] = float("nan")
    update = adapt_step(head, head.logits([features]), ocl, Stopwatch())
    assert not update.applied
    assert update.reason is Reason.LOSS_NOT_FINITE
    assert head.weights_sha256() == before


def test_a_gradient_that_is_not_finite_leaves_the_head_as_it_was() -> None:
    head = make_head()
    before = head.weights_sha256()
    head.parameters["bias"].register_hook(lambda gradient: gradient * float("inf"))
    update = adapt_step(head, head.logits([torch.randn(2, 6, 4, 5)]), ocl, Stopwatch())
    assert update.reason is Reason.GRADIENT_NOT_FINITE
    assert head.weights_sha256() == before
    assert head.gradients_are_finite()


def test_reset_returns_to_the_source_and_forgets_momentum() -> None:
    head, features = make_head(), torch.randn(2, 6, 4, 5)
    adapt(head, features)
    once = head.weights_sha256()
    adapt(head, features)
    head.reset()
    assert head.distance_from_trained() == 0
    adapt(head, features)
    assert head.weights_sha256() == once


def test_a_step_is_that_of_pytorchs_sgd_bit_for_bit() -> None:
    head = make_head()
    twin = copy.deepcopy(head.module)
    settings = head.settings
    optimizer = torch.optim.SGD(
        twin.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
    )
    for step in range(4):
        features = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(step))
        for module in (head.module, twin):
            only_output(module(features)).square().mean().backward()
        head.step()
        optimizer.step()
        optimizer.zero_grad()
        assert all(map(torch.equal, head.parameters.values(), twin.parameters()))
    momentum = [optimizer.state[p]["momentum_buffer"] for p in twin.parameters()]
    assert all(map(torch.equal, head.momentum().values(), momentum))
