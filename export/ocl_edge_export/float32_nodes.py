"""Which nodes of a form stay in float32 when the rest goes to 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Constants = dict[str, "np.ndarray[Any, Any]"]

# Their results leave the range of fp16 or lose what they are there for.
SENSITIVE = {"Exp", "Log", "Pow", "Softmax", "LogSoftmax", "ReduceL2", "ReduceSumSquare"}
SENSITIVE |= {"LayerNormalization", "InstanceNormalization", "GroupNormalization"}
# The type of their result is an attribute, or they make it from integers.
OWN_TYPE = {"Cast", "ConstantOfShape", "EyeLike", "Range"}
ELEMENTWISE = {"Add", "Sub", "Mul", "Div"}
APPLIES_VECTORS = ELEMENTWISE | {"BatchNormalization"}
BATCH_AXIS = 0


def constant_values(model: onnx.ModelProto) -> Constants:
    """Initialisers and the values of Constant nodes, by name."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            attribute = node.attribute[0]
            value = helper.get_attribute_value(attribute)
            if isinstance(value, TensorProto):
                values[node.output[0]] = numpy_helper.to_array(value)
            else:
                kind = np.float32 if attribute.name.startswith("value_float") else np.int64
                values[node.output[0]] = np.asarray(value, kind)
    return values


def names_of_float32_nodes(model: onnx.ModelProto) -> set[str]:
    """The outputs of every node that stays in float32.

    A *vector* is a value that depends on the packed inputs (norm vectors, anchor
    statistics, anchor weight) or on a mean over the batch, and on nothing that is an
    image: statistics, scales, shifts. Vectors are float32; so is the arithmetic between
    a vector and an image (the norm itself), and what only feeds a mean over the batch.
    """
    constants = constant_values(model)
    vectors = {i.name for i in model.graph.input if i.name != "image"}
    float32: set[str] = set()
    reductions: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Constant":
            continue
        changing = [name for name in node.input if name and name not in constants]
        if _reduces_the_batch(node, constants):
            reductions.add(node.output[0])
            vectors.update(node.output)
        elif node.op_type in OWN_TYPE or all(name in vectors for name in changing):
            vectors.update(node.output)
        elif node.op_type in SENSITIVE or (
            node.op_type in APPLIES_VECTORS and any(name in vectors for name in changing)
        ):
            pass
        else:
            continue
        float32.update(node.output)
    return float32 | _feeding_only(model, reductions)


def _reduces_the_batch(node: onnx.NodeProto, constants: Constants) -> bool:
    if not node.op_type.startswith("Reduce"):
        return False
    axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    if axes is None and len(node.input) > 1 and node.input[1] in constants:
        axes = constants[node.input[1]].tolist()
    return axes is not None and BATCH_AXIS in axes


def _feeding_only(model: onnx.ModelProto, reductions: set[str]) -> set[str]:
    """Outputs of elementwise nodes whose every consumer is one of ``reductions``."""
    consumers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node.output[0])
    return {
        node.output[0]
        for node in model.graph.node
        if node.op_type in ELEMENTWISE
        and (users := consumers.get(node.output[0]))
        and all(user in reductions for user in users)
    }


def fold_batch_norms(model: onnx.ModelProto) -> None:
    """Fold every BatchNormalization of constants, in float32, into its convolution or one Mul and one Add."""
    graph = model.graph
    constants = constant_values(model)
    producers = {output: node for node in graph.node for output in node.output}
    uses = [name for node in graph.node for name in node.input] + [output.name for output in graph.output]
    changed: dict[str, np.ndarray[Any, Any]] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "BatchNormalization" or not all(name in constants for name in node.input[1:]):
            nodes.append(node)
            continue
        source, (scale, shift) = node.input[0], _scale_and_shift(node, constants)
        convolution = producers.get(source)
        if convolution is not None and convolution.op_type == "Conv" and uses.count(source) == 1:
            _fold_into(convolution, scale, shift, constants, changed)
            convolution.output[0] = node.output[0]
        else:
            nodes += _as_mul_and_add(node, scale, shift, changed)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in changed.items())
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _scale_and_shift(
    node: onnx.NodeProto, constants: Constants
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    weight, bias, mean, var = (constants[name].astype(np.float64) for name in node.input[1:5])
    eps = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    scale = weight / np.sqrt(var + eps)
    return scale, bias - mean * scale


def _fold_into(
    convolution: onnx.NodeProto,
    scale: np.ndarray[Any, Any],
    shift: np.ndarray[Any, Any],
    constants: Constants,
    changed: dict[str, np.ndarray[Any, Any]],
) -> None:
    weight = constants[convolution.input[1]]
    bias = constants[convolution.input[2]] if len(convolution.input) > 2 and convolution.input[2] else 0.0
    output = convolution.output[0]
    changed[f"{output}__weight"] = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
    changed[f"{output}__bias"] = (bias * scale + shift).astype(np.float32)
    inputs = [convolution.input[0], f"{output}__weight", f"{output}__bias"]
    del convolution.input[:]
    convolution.input.extend(inputs)


def _as_mul_and_add(
    node: onnx.NodeProto,
    scale: np.ndarray[Any, Any],
    shift: np.ndarray[Any, Any],
    changed: dict[str, np.ndarray[Any, Any]],
) -> list[onnx.NodeProto]:
    output, shape = node.output[0], (1, -1, 1, 1)
    changed[f"{output}__scale"] = scale.reshape(shape).astype(np.float32)
    changed[f"{output}__shift"] = shift.reshape(shape).astype(np.float32)
    product = f"{output}__product"
    return [
        helper.make_node("Mul", [node.input[0], f"{output}__scale"], [product], f"{node.name}_scale"),
        helper.make_node("Add", [product, f"{output}__shift"], [output], f"{node.name}_shift"),
    ]
