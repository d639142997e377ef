"""Which rate the head gets, and what the guard learns from the copies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.method.guard import mean_entropy
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.calibration.head_rate import DIVISORS, ROUNDS, Corrupted, choose_rate


def frames_of(bundle: Bundle, seed: int) -> Corrupted:
    generator = torch.Generator().manual_seed(seed)
    shape = bundle.manifest.features[0]
    views = [torch.randn(2, *shape, generator=generator) for _ in range(2)]
    truth = torch.randint(0, bundle.manifest.logits[0], shape[1:], generator=generator)
    return Corrupted([[view] for view in views], [([views[0][:1]], truth)])


def ratios(bundle: Bundle, frames: Corrupted, rate: float) -> Iterator[float]:
    """Of every update of a head that learns at a rate: its mean entropy against the trained one's."""
    settings = bundle.manifest.adaptation.model_copy(update={"lr": rate})
    head, trained = (TrainableHead(load_head(bundle), settings) for _ in range(2))
    for _ in range(ROUNDS):
        for pair in frames.lessons:
            head.adapt(pair, ocl, Stopwatch())
            with torch.no_grad():
                now, then = (mean_entropy(h.logits([pair[0][:1]])) for h in (head, trained))
            yield max(now / then, then / now)


def test_the_largest_entropy_ratio_of_the_rate_is_kept(small_bundle: Bundle) -> None:
    first, second = frames_of(small_bundle, 0), frames_of(small_bundle, 1)
    found = choose_rate(small_bundle, [("contrast", first), ("veil", second)])
    rates = [small_bundle.manifest.adaptation.lr / divisor for divisor in DIVISORS]
    largest = {
        rate: max(*ratios(small_bundle, first, rate), *ratios(small_bundle, second, rate)) for rate in rates
    }
    assert found.entropy_ratio is not None
    assert any(found.entropy_ratio == pytest.approx(ratio, rel=1e-4) for ratio in largest.values())
    assert found.entropy_ratio > 1
    if found.lr:
        assert found.entropy_ratio == pytest.approx(largest[found.lr], rel=1e-4)
