"""Whether the tensors of a checkpoint are numbers that a network can compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ocl_edge.errors import CheckpointError


def check_values(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what ``load_state_dict`` would convert without a word, and what no network is made of.

    Args:
        network: that the tensors are for; names and shapes are already known to fit.
        tensors: by name.

    Raises:
        CheckpointError: naming the first tensor and what is wrong with it.
    """
    weights = {name for name, _ in network.named_parameters()}
    variances = set(_variances(network))
    for name, expected in network.state_dict().items():
        problem = _kind_problem(tensors[name], expected) or _number_problem(
            tensors[name].to(expected.dtype), name in weights, name in variances
        )
        if problem:
            raise CheckpointError(f"the tensor {name} {problem}")


def _variances(network: nn.Module) -> Iterator[str]:
    for name, module in network.named_modules():
        if isinstance(getattr(module, "running_var", None), Tensor):
            yield f"{name}.running_var" if name else "running_var"


def _kind_problem(tensor: Tensor, expected: Tensor) -> str | None:
    if tensor.layout != torch.strided:
        return f"is sparse ({tensor.layout}), expected a dense one"
    if tensor.is_quantized:
        return f"is quantised ({tensor.dtype}): save the network before quantising it"
    if tensor.device.type != "cpu":
        return f"is on the {tensor.device.type} device, where it has no content: save the loaded network"
    if tensor.is_complex() and expected.is_complex():
        return f"holds {_said(tensor)} numbers, which no bundle can hold: keep them as real ones"
    if tensor.is_floating_point() != expected.is_floating_point() or tensor.is_complex():
        return f"holds {_said(tensor)} numbers, expected {_said(expected)} ones"
    return None


def _number_problem(tensor: Tensor, is_weight: bool, is_variance: bool) -> str | None:
    if not tensor.is_floating_point():
        return None
    if bool(tensor.isnan().any()):
        return "holds NaN: the network did not survive its training"
    if (is_weight or is_variance) and bool(tensor.isinf().any()):  # a buffer may: masks of attention do
        return f"holds infinite numbers, or such as {tensor.dtype} cannot hold"
    if is_variance and bool((tensor < 0).any()):
        return "holds negative variances"
    return None


def _said(tensor: Tensor) -> str:
    kind = "complex" if tensor.is_complex() else "floating-point" if tensor.is_floating_point() else "integer"
    return f"{kind} ({tensor.dtype})"
