"""Tensors of a network that no checkpoint holds, and that its code draws anew whenever it is built."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ocl_edge.network import zoo

OTHER_SEED = 0x0C1ED6E


def made_anew(network: nn.Module, spec: zoo.Spec) -> list[str]:
    """Names of those that differ in a second network of the same spec.

    Args:
        network: built from the spec.
        spec: that builds it; where nothing lies outside of its state dict, it is not built again.

    Raises:
        UsageError: it cannot be built again.
    """
    ours = _unsaved(network)
    if not ours:
        return []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(OTHER_SEED)
        theirs = _unsaved(spec.build())
    return [name for name, tensor in ours.items() if not _same(tensor, theirs.get(name))]


def said(names: list[str]) -> str:
    """In words."""
    return (
        f"the network's code draws {', '.join(names[:4])} anew whenever it is built, and no checkpoint holds "
        "it: a mask that depends on it is not the trained network's; register it with persistent=True, or "
        "seed it, and save again"
    )


def _unsaved(network: nn.Module) -> dict[str, Tensor]:
    """Buffers and plain attributes that are tensors and not in the state dict."""
    saved = network.state_dict(keep_vars=True)
    found = dict(network.named_buffers())
    for prefix, module in network.named_modules():
        attributes = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
        found |= {f"{prefix}.{name}".lstrip("."): value for name, value in attributes.items()}
    return {name: tensor.detach() for name, tensor in found.items() if name not in saved}


def _same(ours: Tensor, theirs: Tensor | None) -> bool:
    return theirs is not None and torch.equal(ours.nan_to_num(), theirs.nan_to_num())
