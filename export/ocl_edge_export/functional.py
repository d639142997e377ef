"""A captured program without side effects: what is dropped or moved then changes nothing else.

Tensors share memory and are written in place in a program as PyTorch captures it, so that
an operator without users may still matter, and a copy that looks idle may keep two writers
apart. Here every operator gives a new value.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from ocl_edge.errors import CaptureError
from ocl_edge.network.batch_norms import BATCH_NORM
from ocl_edge_export.listed_operators import in_listed_operators

ATEN = torch.ops.aten
COPIES = {
    ATEN.detach.default,
    ATEN.clone.default,
    ATEN.contiguous.default,
    ATEN.alias.default,
    ATEN.lift_fresh_copy.default,
}
DROPOUTS = {ATEN.dropout.default, ATEN.feature_dropout.default, ATEN.native_dropout.default}
VIEWS = {ATEN.view.default, ATEN._unsafe_view.default}
CHECKS = (
    torch.ops.aten._assert_tensor_metadata,
    torch.ops.aten._assert_scalar,
    torch.ops.aten.sym_constrain_range_for_size,
)
"""Operators that compute nothing."""
COPY, INDEX_PUT, RRELU = ATEN.copy.default, ATEN.index_put.default, ATEN.rrelu.default
RRELU_SLOPES = (1 / 8, 1 / 3)
READS_LAYOUT = {ATEN.as_strided.default}
EVALUATED_NORM = ATEN._native_batch_norm_legit_no_training.default
LIKE_ANOTHER: dict[Any, int | None] = {
    ATEN.zeros_like.default: 0,
    ATEN.ones_like.default: 1,
    ATEN.full_like.default: None,
}
NEW_FROM_ANOTHER: dict[Any, int | None] = {
    ATEN.new_zeros.default: 0,
    ATEN.new_ones.default: 1,
    ATEN.new_full.default: None,
}
"""What they are filled with; None: with a number that they are called with."""
REWRITTEN = COPIES | DROPOUTS | VIEWS | {COPY, INDEX_PUT, RRELU, EVALUATED_NORM}
"""Operators that `as_functional` itself replaces."""


def as_functional(program: ExportedProgram) -> fx.GraphModule:
    """The program as a plain graph that writes nothing in place; layers stay layers.

    Regions in which autocast or gradients are switched off are inlined, and operators that no
    bundle may call are written with those that it may, where PyTorch says how.

    Raises:
        CaptureError: it computes in 16 bits or with complex numbers somewhere.
    """
    listed = in_listed_operators(program.run_decompositions({}), REWRITTEN)
    module = as_plain_graph(listed.module())
    graph = module.graph
    batch = next(str(node.meta["val"].shape[0]) for node in graph.nodes if node.op == "placeholder")
    copies_matter = any(node.target in READS_LAYOUT for node in graph.nodes)
    for node in list(graph.nodes):
        _refuse_sixteen_bits(node)
        if node.target in VIEWS:
            # a view asks for a layout, which no longer is what the copies made it
            node.target = ATEN.reshape.default
        elif node.target is EVALUATED_NORM:
            _restore_batch_norm(node)
        elif node.target is COPY:
            node.target, node.args = ATEN.expand_as.default, (node.args[1], node.args[0])
        elif node.target is INDEX_PUT and _chooses_by_mask(node):
            _assign_where(node)
        elif node.target in LIKE_ANOTHER | NEW_FROM_ANOTHER:
            _make_from_sizes(node, batch)
        elif node.target is RRELU:
            low, high = (*map(float, node.args[1:3]), *RRELU_SLOPES[len(node.args) - 1 :])[:2]
            node.target, node.args = ATEN.leaky_relu.default, (node.args[0], (low + high) / 2)
        elif _is_idle(node, copies_matter):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()
    return module


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


def _is_idle(node: fx.Node, copies_matter: bool) -> bool:
    if node.target in DROPOUTS:
        return node.args[2] is False  # not training
    return node.target in COPIES and not copies_matter


def _restore_batch_norm(node: fx.Node) -> None:
    """The layer as it was, in place of the operator that also gives saved statistics."""
    source, weight, bias, mean, var, momentum, eps = node.args
    with node.graph.inserting_before(node):
        arguments = (source, weight, bias, mean, var, False, momentum, eps, True)
        norm = node.graph.call_function(BATCH_NORM, arguments)
    norm.meta = {**node.meta, "val": node.meta["val"][0]}
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(norm)
        user.graph.erase_node(user)
    node.graph.erase_node(node)


def _make_from_sizes(node: fx.Node, batch: str) -> None:
    """Zeros like another tensor take nothing of its values: made from its sizes, they are a constant."""
    arguments: tuple[Any, ...] = node.args
    source, *more = arguments
    value = node.meta["val"]
    if node.target in NEW_FROM_ANOTHER:
        sizes, filling = more[0], NEW_FROM_ANOTHER[node.target]
    else:
        if any(str(side) != batch and not str(side).isdecimal() for side in value.shape):
            return
        sizes, filling = [_size(node, source, axis) for axis in range(value.dim())], LIKE_ANOTHER[node.target]
    number = more[-1] if filling is None else filling
    node.target, node.args, node.kwargs = ATEN.full.default, (sizes, number), {"dtype": value.dtype}


def _size(before: fx.Node, source: fx.Node, axis: int) -> int | fx.Node:
    side = source.meta["val"].shape[axis]
    if str(side).isdecimal():
        return int(side)
    with before.graph.inserting_before(before):
        node = before.graph.call_function(ATEN.sym_size.int, (source, axis))
    node.meta = {**before.meta, "val": side}
    return node


def _chooses_by_mask(node: fx.Node) -> bool:
    """Whether it is ``x[mask] = number``."""
    arguments: tuple[Any, ...] = node.args
    _, indices, value, *accumulate = arguments
    masks = [index.meta["val"] for index in indices if isinstance(index, fx.Node)]
    one = len(indices) == len(masks) == 1 and masks[0].dtype is torch.bool
    return one and value.meta["val"].numel() == 1 and not any(accumulate)


def _assign_where(node: fx.Node) -> None:
    arguments: tuple[Any, ...] = node.args
    source, (mask,), value = arguments[:3]
    with node.graph.inserting_before(node):
        for _ in range(source.meta["val"].dim() - mask.meta["val"].dim()):
            shape = mask.meta["val"]
            mask = node.graph.call_function(ATEN.unsqueeze.default, (mask, -1))
            mask.meta = {**node.meta, "val": shape.unsqueeze(-1)}
    node.target, node.args = ATEN.where.self, (mask, value, source)


def _refuse_sixteen_bits(node: fx.Node) -> None:
    value = node.meta.get("val")
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        where = str(stack[-1][0]) if stack else ""
        raise CaptureError(
            f"{where or 'forward()'} computes in {str(value.dtype).removeprefix('torch.')} ({node.name}): "
            "export the network in float32, without autocast inside forward(); "
            "the precision of an engine is chosen by build"
        )
