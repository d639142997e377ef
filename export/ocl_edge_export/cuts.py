"""The cuts that a network allows: what the head would train, what would cross, and what it would compute."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ocl_edge.errors import SplitError
from ocl_edge_export.graph_parts import GraphParts, owner
from ocl_edge_export.split import Cut, plan_cut

ATEN = torch.ops.aten
CONVOLUTIONS = (ATEN.conv2d.default, ATEN.convolution.default, ATEN.conv_transpose2d.input)
PRODUCTS = (ATEN.linear.default, ATEN.matmul.default, ATEN.bmm.default, ATEN.mm.default, ATEN.addmm.default)
BYTES = 4


@dataclass(frozen=True)
class PossibleCut:
    """One module where the head can start.

    Attributes:
        module: its qualified name.
        parameters: weights of the head.
        features_mb: what the backbone hands on for one frame, in 10^6 bytes of float32.
        compute: share of the network's multiplications that the head does, 0 to 1.
        taken: ``auto`` takes it.
    """

    module: str
    parameters: int
    features_mb: float
    compute: float
    taken: bool


def possible_cuts(network: fx.GraphModule) -> list[PossibleCut]:
    """Every module that owns a layer with weights and where a clean cut lies, in order of execution.

    Last comes the one that ``auto`` takes, if it can be made.
    """
    parts = GraphParts(network)
    work = {node: _multiplications(node) for node in parts.computing}
    try:
        usual = plan_cut(parts, "auto")
        last = [_described(parts, usual, work, taken=True)]
    except SplitError:
        usual, last = None, []
    cuts = []
    for module in _modules(parts):
        if usual is not None and module == usual.module:
            continue
        try:
            cuts.append(_described(parts, plan_cut(parts, module), work, taken=False))
        except SplitError:
            continue
    return cuts + last


def nearest_cuts(network: fx.GraphModule, module: str) -> str:
    """The possible cuts before and after a module, in words; empty where there are none.

    Before and after ``auto`` is: the last of all.
    """
    parts = GraphParts(network)
    names = list(_modules(parts))
    if module not in [*names, "auto"]:
        return ""
    place = len(names) if module == "auto" else names.index(module)
    earlier = (name for name in reversed(names[:place]) if _is_possible(parts, name))
    later = (name for name in names[place + 1 :] if _is_possible(parts, name))
    found = [name for name in (next(earlier, None), next(later, None)) if name is not None]
    return " and ".join(found)


def _is_possible(parts: GraphParts, module: str) -> bool:
    try:
        plan_cut(parts, module)
    except SplitError:
        return False
    return True


def _modules(parts: GraphParts) -> list[str]:
    """Modules with a layer that has weights, and those that hold them, in the order in which they begin."""
    names: dict[str, None] = {}
    for node in parts.computing:
        if not parts.parameters(node):
            continue
        path = (parts.layer(node) or owner(node)).split(".")
        for count in range(1, len(path) + 1):
            names.setdefault(".".join(path[:count]))
    names.pop("", None)
    return list(names)


def _described(parts: GraphParts, cut: Cut, work: dict[fx.Node, int], taken: bool) -> PossibleCut:
    parameters = {id(p): p.numel() for node in cut.head for p in parts.parameters(node)}
    values = sum(_count(node) for node in cut.features)
    share = sum(work[node] for node in cut.head) / max(1, sum(work.values()))
    return PossibleCut(cut.module, sum(parameters.values()), BYTES * values / 1e6, share, taken)


def _count(node: fx.Node) -> int:
    """Values that a node gives for one image."""
    return math.prod(int(side) for side in node.meta["val"].shape[1:])


def _multiplications(node: fx.Node) -> int:
    """Of one image, in convolutions and products of matrices; other operators do few."""
    operands = [source.meta.get("val") for source in node.args[:2] if isinstance(source, fx.Node)]
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    if node.target not in CONVOLUTIONS + PRODUCTS or len(tensors) < 2:
        return 0
    data, weight = tensors
    if node.target in CONVOLUTIONS:
        places = node if node.target is not CONVOLUTIONS[2] else node.all_input_nodes[0]
        return _count(places) * math.prod(int(side) for side in weight.shape[1:])
    return _count(node) * int(data.shape[-1])
