"""The head's learning rate, scaled to the network.

A step of gradient descent moves a logit by the learning rate times the squared norm of the
logit's gradient with respect to the weights (for a 1x1 convolution: of its input). That
norm differs tenfold between networks, and one rate does not suit them all. It is scaled down alone: where the
norm is small, larger steps gained hardly more on average and lost more where they lost (docs/ablation.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

REFERENCE = 20.0
"""Squared gradient norm of ESPNetv2's head on CamVid at dusk, where the default rate was chosen."""
SAMPLES = 64
ROUND = (1.0, 5.0, 10.0)
"""Coarse on purpose: the norm differs twofold between images of one network."""


def squared_gradient_norm(head: nn.Module, features: Sequence[Tensor]) -> float:
    """Mean over some logits of the squared norm of their gradient with respect to the head's weights.

    Args:
        head: features -> logits (or a tuple of them), parameters trainable.
        features: its inputs, [N, F, h, w] each.
    """
    parameters = [p for p in head.parameters() if p.requires_grad]
    outputs = head(*features)
    logits = (outputs[0] if isinstance(outputs, tuple | list) else outputs).flatten()
    places = torch.randperm(logits.numel(), generator=torch.Generator().manual_seed(0))[:SAMPLES]
    total = 0.0
    for place in places:
        gradients = torch.autograd.grad(logits[place], parameters, retain_graph=True)
        total += sum(float(g.square().sum()) for g in gradients)
    return total / len(places)


def scaled_rate(default: float, squared_norm: float) -> float:
    """The rate for a head of that squared gradient norm: the nearest 1 or 5 times a power of ten.

    The default itself where the norm is no larger than `REFERENCE`, or not finite.
    """
    if not (squared_norm > REFERENCE and math.isfinite(squared_norm)):
        return default
    rate = default * REFERENCE / squared_norm
    power = 10.0 ** math.floor(math.log10(rate))
    return float(f"{min((power * r for r in ROUND), key=lambda r: abs(math.log(r / rate))):.0e}")
