"""What vehicles of a fleet have learned, made up."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ocl_edge.method.fleet_heads import FleetHead
from ocl_edge_app.fleet.contribution import Border, Contribution, Facts, Summary

Learned = Callable[..., Contribution]


def learned_by(border: Border) -> Learned:
    """Contributions by seed, weather and number of updates."""

    def make(seed: int, weather: int = 0, updates: int = 50) -> Contribution:
        facts = Facts(network=border.network, version=0, summary=Summary(frames=60, updates=updates))
        return Contribution(facts, head_of(border, seed, weather))

    return make


def head_of(border: Border, seed: int, weather: int) -> FleetHead:
    """A twentieth of the way in the direction of the weather, and a little of the vehicle's own."""
    size = sum(float(w.square().sum()) for w in border.trained.values()) ** 0.5
    weights = {}
    for name, trained in border.trained.items():
        count = trained.numel()
        towards = torch.randn(count, generator=torch.Generator().manual_seed(1000 + weather))
        own = torch.randn(count, generator=torch.Generator().manual_seed(seed))
        step = (towards + 0.2 * own).reshape(trained.shape) / count**0.5
        weights[name] = trained + 0.05 * size * step
    channels = border.manifest.norm_channels
    noise = 0.02 * torch.randn(channels, generator=torch.Generator().manual_seed(seed))
    return FleetHead(weights, torch.stack((weather + noise, torch.full((channels,), 1.0 + weather))))
