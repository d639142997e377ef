"""What a program would compute, worked out without computing it: on PyTorch's meta device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from ocl_edge.errors import BundleError
from ocl_edge.network.programs.operators import CREATORS, PYTHON, name_of

Shape = Sequence[int]

BATCH = 2
LARGEST_TENSOR_BYTES = 16 * 2**30
LARGEST_SIDE = 2**20
LARGEST_SIZE = 2**53
MOST_PIECES = 2**16
"""An operator that gives a list may cut no side that is longer."""

GIVE_LISTS = ("aten.split", "aten.unbind", "aten.chunk", "aten.meshgrid", "aten.split_with_sizes")


def fit_shapes(
    graph: fx.Graph,
    root: nn.Module,
    inputs: Sequence[Shape],
    results: Sequence[fx.Node],
    outputs: Sequence[Shape | None],
    file: str,
) -> None:
    """Follow shapes and dtypes through a graph: ``meta["val"]`` of a node is then its value for two images.

    Args:
        graph: nodes in order; what they refer to is in ``root``.
        root: the tensors.
        inputs: float32 inputs, shape of each for one image.
        results: the nodes that are the outputs.
        outputs: shape of each of them for one image; None where any will do.
        file: named in errors.

    Raises:
        BundleError: a node does not fit what it is given, or would need absurd memory.
    """
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    if len(placeholders) != len(inputs):
        raise BundleError(f"{file} takes {len(placeholders)} inputs, {len(inputs)} were expected")
    for node, shape in zip(placeholders, inputs, strict=True):
        if not all(0 < side < LARGEST_SIDE for side in shape):
            raise BundleError(f"{file}: {list(shape)} is no shape of an input")
        node.meta["val"] = torch.empty(BATCH, *shape, device="meta")
        _refuse_huge(node.meta["val"], f"{file}: {node.name}")
    for node in graph.nodes:
        if node.op == "get_attr":
            node.meta["val"] = _attribute(root, node.target).to("meta")
        elif node.op == "call_function":
            node.meta["val"] = _called(node, file)
    if len(results) != len(outputs):
        raise BundleError(f"{file} gives {len(results)} outputs, {len(outputs)} were expected")
    for node, wanted in zip(results, outputs, strict=True):
        found = tuple(getattr(node.meta["val"], "shape", ()))
        if wanted is not None and found != (BATCH, *wanted):
            raise BundleError(f"{file}: {node.name} has shape {list(found[1:])}, expected {list(wanted)}")


def _attribute(root: nn.Module, target: Any) -> Tensor:
    value = attrgetter(str(target))(root)
    assert isinstance(value, Tensor)
    return value


def _called(node: fx.Node, file: str) -> Any:
    operator = name_of(node.target)
    arguments = fx.map_arg(node.args, lambda n: n.meta["val"])
    keywords = dict(fx.map_arg(dict(node.kwargs), lambda n: n.meta["val"]))
    _refuse_absurd(operator, [n.meta["val"] for n in node.all_input_nodes], arguments, f"{file}: {node.name}")
    if operator in CREATORS:
        keywords["device"] = torch.device("meta")
    shape_of: Callable[..., Any] = conv2d_shape if operator == "aten.conv2d.default" else node.target  # type: ignore[assignment]
    try:
        value = shape_of(*arguments, **keywords)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BundleError(
            f"{file}: {node.name} ({operator}) does not fit what it is given: {reason[0]}"
        ) from error
    _refuse_huge(value, f"{file}: {node.name}")
    return value


def conv2d_shape(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """What a convolution gives. PyTorch's own answer imports its compiler, which takes seconds.

    Raises:
        ValueError: it does not fit.
    """
    if x.dim() != 4 or weight.dim() != 4 or groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"input {list(x.shape)}, weight {list(weight.shape)}, {groups} groups")
    if x.shape[1] != weight.shape[1] * groups or x.dtype != weight.dtype:
        raise ValueError(f"input {list(x.shape)} of {x.dtype}, weight {list(weight.shape)} of {weight.dtype}")
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype):
        raise ValueError(f"bias {list(bias.shape)} for weight {list(weight.shape)}")
    pairs = [tuple(sides) * 2 if len(sides) == 1 else tuple(sides) for sides in (stride, padding, dilation)]
    steps, margins, spread = pairs
    if min(steps) < 1 or min(margins) < 0 or min(spread) < 1:
        raise ValueError(f"stride {steps}, padding {margins}, dilation {spread}")
    height, width = (
        (x.shape[i + 2] + 2 * margins[i] - spread[i] * (weight.shape[i + 2] - 1) - 1) // steps[i] + 1
        for i in range(2)
    )
    if height < 1 or width < 1:
        raise ValueError(f"nothing of {list(x.shape)} is left")
    return torch.empty(x.shape[0], weight.shape[0], height, width, dtype=x.dtype, device="meta")


def _refuse_absurd(operator: str, read: list[Any], arguments: Any, where: str) -> None:
    """What takes memory or time even where tensors have no memory."""
    numbers = operator in PYTHON and operator != "operator.getitem"
    if numbers and not all(isinstance(argument, int | float) for argument in arguments):
        raise BundleError(f"{where}: {operator} is for sizes, it is given something else")
    if operator.startswith(GIVE_LISTS):
        tensors = [value for value in read if isinstance(value, Tensor)]
        if any(side > MOST_PIECES for tensor in tensors for side in tensor.shape):
            raise BundleError(f"{where}: {operator} would cut a side of more than {MOST_PIECES} into pieces")


def _refuse_huge(value: Any, where: str) -> None:
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, Tensor) and item.numel() * item.element_size() > LARGEST_TENSOR_BYTES:
            raise BundleError(
                f"{where} would have shape {list(item.shape)}, more than {LARGEST_TENSOR_BYTES >> 30} GiB"
            )
        if isinstance(item, int | float) and abs(item) > LARGEST_SIZE:
            raise BundleError(f"{where}: {item} is no size")
