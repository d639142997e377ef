"""Poison: what a vehicle of the fleet's bench sends instead of what it has learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ocl_edge.method.fleet_heads import FleetHead

Poison = Callable[[FleetHead, FleetHead], FleetHead]
"""What a vehicle sends instead: from what it learned, and the trained head."""


def not_a_number(learned: FleetHead, _trained: FleetHead) -> FleetHead:
    return replace(learned, weights={n: torch.full_like(t, torch.nan) for n, t in learned.weights.items()})


def hundredfold(learned: FleetHead, trained: FleetHead) -> FleetHead:
    """As if every step had been 100 times as long."""
    return replace(
        learned, weights={n: t + 100 * (learned.weights[n] - t) for n, t in trained.weights.items()}
    )


def flipped(learned: FleetHead, _trained: FleetHead) -> FleetHead:
    """Every class has the weights of another one."""
    return replace(learned, weights={n: t.flip(0) for n, t in learned.weights.items()})


def unchanged(learned: FleetHead, _trained: FleetHead) -> FleetHead:
    return learned


def backwards(learned: FleetHead, trained: FleetHead) -> FleetHead:
    """The opposite of what it learned, as far from the trained head: what no limit of length sees."""
    return replace(learned, weights={n: 2 * t - learned.weights[n] for n, t in trained.weights.items()})


POISONS: dict[str, Poison] = {
    "NaN": not_a_number,
    "lr x 100": hundredfold,
    "flipped labels": flipped,
    "backwards": backwards,
}
