"""Capture a network as a torch.export program with a free batch size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from ocl_edge.errors import CaptureError
from ocl_edge.network.programs import place

LARGEST_BATCH = 64
OUTPUT_KEYS = ("out", "logits")
WRAPPER = "network."
CHECKS = (
    torch.ops.aten._assert_tensor_metadata,
    torch.ops.aten._assert_scalar,
    torch.ops.aten.sym_constrain_range_for_size,
)
"""Operators that compute nothing."""


class SegmentationOutput(nn.Module):
    """Picks the segmentation logits out of what a network returns.

    A tensor is taken as it is, a mapping by its key ``out`` (torchvision) or ``logits``
    (transformers), a tuple or list by its first element.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return pick_logits(self.network(image))


def pick_logits(output: Any) -> Tensor:
    """See `SegmentationOutput`.

    Raises:
        CaptureError: nothing in the output is a tensor [N, C, H, W].
    """
    if hasattr(output, "keys"):
        for key in OUTPUT_KEYS:
            if key in output:
                return pick_logits(output[key])
        raise CaptureError(f"the network returns a mapping with none of {OUTPUT_KEYS}: {sorted(output)}")
    if isinstance(output, (tuple, list)):  # PyTorch 2.6 cannot capture tuple | list
        if not output:
            raise CaptureError("the network returns nothing")
        return pick_logits(output[0])
    if isinstance(output, Tensor) and output.dim() == 4:
        return output
    found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise CaptureError(f"expected logits [N, classes, H, W] from the network, got {found}")


def capture(network: nn.Module, height: int, width: int) -> fx.GraphModule:
    """The network in evaluation mode as a flat graph of ATen operators: image [N,3,H,W] -> logits.

    Parameters and buffers keep their qualified names. The batch size is free, height and
    width are those given.

    Raises:
        CaptureError: the network refuses that size, or does what torch.export cannot follow.
    """
    wrapped = SegmentationOutput(network).eval()
    example = torch.zeros(2, 3, height, width)
    try:
        with torch.no_grad():
            wrapped(example)
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(f"the network does not run on a {height}x{width} image: {error}") from error
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    try:
        with torch.no_grad():
            program = torch.export.export(wrapped, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CaptureError(
            f"torch.export cannot capture the network: {reason}\n"
            "Usual causes: control flow that depends on pixel values, or a fixed batch size inside forward()."
        ) from error
    module = program.module()
    assert isinstance(module, fx.GraphModule)
    return _unwrapped(as_plain_graph(module))


def as_plain_graph(module: fx.GraphModule) -> fx.GraphModule:
    """Make ``forward`` take the placeholders and return the graph's output tuple as they stand.

    Drops the nodes and the hook that check shapes and dtypes at every call (the backends check
    inputs once; a pointwise head also runs on every n-th pixel), and the wrapping of inputs
    and outputs in containers.
    """
    for node in list(module.graph.nodes):
        guards = node.op == "call_module" and node.target == "_guards_fn"
        if guards or getattr(node.target, "overloadpacket", None) in CHECKS:
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.graph.set_codegen(fx.graph.CodeGen())
    return fx.GraphModule(module, module.graph)  # takes what the graph refers to, and no hooks


def _unwrapped(module: fx.GraphModule) -> fx.GraphModule:
    """The same graph with tensors under the names that they have in the user's network."""
    root = nn.Module()
    for node in module.graph.nodes:
        if node.op == "get_attr":
            tensor = _resolve(module, node.target)
            node.target = node.target.removeprefix(WRAPPER)
            place(root, node.target, tensor)
        for name, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
            node.meta["nn_module_stack"][name] = (path.removeprefix(WRAPPER), kind)
    return fx.GraphModule(root, module.graph)


def _resolve(module: nn.Module, target: str) -> Tensor:
    value: Any = module
    for part in target.split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value
