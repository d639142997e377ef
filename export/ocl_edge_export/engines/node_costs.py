"""What the nodes of an ONNX graph compute, and the modules that they come from."""

from __future__ import annotations

import math

import onnx
from onnx import shape_inference

from ocl_edge.tensorrt.plan import NodeCost

Shapes = dict[str, tuple[int, ...]]


def node_costs(model: onnx.ModelProto) -> dict[str, NodeCost]:
    """Module and operations of every node for one image.

    A node with weights comes from the module whose name they have, another from that of its first input.
    Convolutions and matrix products count two operations for a product and its sum, others one for an output
    value.

    Args:
        model: external weights need not be loaded; a free size becomes one.
    """
    shapes = _shapes(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    modules: dict[str, str] = {}
    costs = {}
    for node in model.graph.node:
        own = (name.rpartition(".")[0] for name in node.input if name in weights)
        inherited = (modules.get(name, "") for name in node.input)
        module = next((m for m in own if m), "") or next((m for m in inherited if m), "")
        modules.update(dict.fromkeys(node.output, module))
        costs[node.name] = NodeCost(module, _operations(node, shapes))
    return costs


def _shapes(model: onnx.ModelProto) -> Shapes:
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in [*single.graph.input, *single.graph.output]:
        for side in value.type.tensor_type.shape.dim:
            if not side.HasField("dim_value"):
                side.dim_value = 1
    inferred = shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in [*inferred.input, *inferred.output, *inferred.value_info]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(max(1, side.dim_value) for side in tensor.shape.dim)
    return shapes


def _operations(node: onnx.NodeProto, shapes: Shapes) -> int:
    written = math.prod(shapes.get(node.output[0], (0,)))
    weight = shapes.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type == "Conv" and weight:
        return 2 * written * math.prod(weight[1:])
    if node.op_type == "ConvTranspose" and weight:
        return 2 * math.prod(shapes.get(node.input[0], (0,))) * math.prod(weight[1:])
    if node.op_type in ("Gemm", "MatMul"):
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        read = shapes.get(node.input[0], (0,))
        return 2 * written * (read[-2] if turned else read[-1])
    return 0 if node.op_type in MOVES else written


MOVES = {
    "Cast",
    "Concat",
    "Constant",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Shape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
}
"""Operators that compute nothing."""
