"""What an ONNX file holds, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

from ocl_edge.errors import CheckpointError
from ocl_edge.given_files import read_given
from ocl_edge_export.outside_weights import bring_inside

MOST_BYTES = 2**31 - 1
"""The largest message of protocol buffers; larger weights lie in a file of their own."""

MOST_NODES = 100_000
STANDARD = ("", "ai.onnx")
NUMBERS = {
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BOOL, TensorProto.UINT8,
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
}  # fmt: skip
ATTRIBUTES = {AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.TENSOR} | {
    AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One node.

    Attributes:
        name: of the node; may be empty.
        operator: of ONNX's own set.
        inputs: names of values; empty where one is left out.
        outputs: likewise.
        attributes: numbers, lists of numbers, text, or tensors.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class OnnxFile:
    """A graph whose operators are ONNX's own.

    Attributes:
        path: of the file.
        opset: version of the operators.
        image: name of its input.
        shape: of the input; None where a size is free.
        outputs: names of what it gives.
        tensors: its constants by name.
        operations: in order of execution.
        content: the whole model with its tensors, for ONNX Runtime.
    """

    path: Path
    opset: int
    image: str
    shape: tuple[int | None, int | None, int | None, int | None]
    outputs: tuple[str, ...]
    tensors: dict[str, Tensor]
    operations: tuple[Operation, ...]
    content: bytes


def read_onnx(path: Path) -> OnnxFile:
    """Read and check an ONNX file, and the files beside it that hold its tensors.

    Raises:
        CheckpointError: it is damaged, reaches for other files, holds what is no plain graph of ONNX's own
            operators, or does not take one float32 image [N, C, H, W].
    """
    try:
        model = onnx.ModelProto.FromString(read_given(path, MOST_BYTES))
    except Exception as error:  # of the file system, or of whichever library decodes the message
        raise CheckpointError(f"{path} is no ONNX file, or damaged: {error}") from error
    graph = model.graph
    if not graph.node:
        raise CheckpointError(f"{path} is no ONNX file, or empty: it holds no operators")
    if len(graph.node) > MOST_NODES:
        raise CheckpointError(f"{path} holds {len(graph.node):,} operators, expected at most {MOST_NODES:,}")
    opset = next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0)
    for tensor in graph.initializer:
        _bring_inside(tensor, path)
    tensors = {tensor.name: _values(tensor, path) for tensor in graph.initializer}
    operations = tuple(_operation(node, path) for node in graph.node)
    _check_order(operations, {*tensors, *(value.name for value in graph.input)}, path)
    image, shape = _image(list(graph.input), tensors, path)
    outputs = tuple(value.name for value in graph.output)
    return OnnxFile(path, opset, image, shape, outputs, tensors, operations, _serialised(model, path))


def _serialised(model: onnx.ModelProto, path: Path) -> bytes:
    try:
        return bytes(model.SerializeToString())
    except ValueError as error:
        raise CheckpointError(f"{path} and its tensors are larger than 2 GiB, which is not read") from error


def _operation(node: NodeProto, path: Path) -> Operation:
    where = f"{path}: {node.name or node.op_type}"
    if node.domain not in STANDARD:
        raise CheckpointError(
            f"{where} is an operator {node.op_type} of the domain {node.domain!r}, expected ONNX's own: "
            "write the file without optimisation or quantisation, or give the PyTorch checkpoint"
        )
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type not in ATTRIBUTES or attribute.ref_attr_name:
            kind = AttributeProto.AttributeType.Name(attribute.type)
            raise CheckpointError(
                f"{where} ({node.op_type}) has an attribute {attribute.name!r} of the kind {kind}, which is "
                "not read: branches and loops must be gone, as in a file written by torch.onnx.export"
            )
        if attribute.type == AttributeProto.TENSOR:
            _bring_inside(attribute.t, path)
            attributes[attribute.name] = _values(attribute.t, path)
        else:
            value = helper.get_attribute_value(attribute)
            attributes[attribute.name] = (
                value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            )
    return Operation(node.name, node.op_type, tuple(node.input), tuple(node.output), attributes)


def _check_order(operations: tuple[Operation, ...], known: set[str], path: Path) -> None:
    known = {*known, ""}
    for operation in operations:
        if missing := [name for name in operation.inputs if name not in known]:
            raise CheckpointError(
                f"{path}: {operation.name or operation.operator} reads {missing[0]!r}, which nothing gives"
            )
        if twice := [name for name in operation.outputs if name and name in known]:
            raise CheckpointError(f"{path}: two operators give {twice[0]!r}")
        known.update(operation.outputs)


def _bring_inside(tensor: TensorProto, path: Path) -> None:
    try:
        bring_inside(tensor, path)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _values(tensor: TensorProto, path: Path) -> Tensor:
    kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in _kinds() else "unknown"
    if tensor.data_type not in NUMBERS:
        raise CheckpointError(
            f"{path}: the tensor {tensor.name} holds {kind.lower()} numbers; write the file in float32 and "
            "without quantisation: the precision of an engine is chosen by build"
        )
    try:
        values = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: the tensor {tensor.name} is damaged: {error}") from error
    return torch.from_numpy(np.array(values))


def _kinds() -> Iterator[int]:
    return iter(TensorProto.DataType.values())


def _image(
    inputs: list[ValueInfoProto], tensors: dict[str, Tensor], path: Path
) -> tuple[str, tuple[int | None, int | None, int | None, int | None]]:
    given = [value for value in inputs if value.name not in tensors]  # older files list their weights, too
    if len(given) != 1:
        names = ", ".join(value.name for value in given) or "none"
        raise CheckpointError(f"{path} takes {len(given)} inputs ({names}), expected one image [N, C, H, W]")
    kind = given[0].type.tensor_type
    sides = [int(d.dim_value) if d.dim_value > 0 else None for d in kind.shape.dim]
    if kind.elem_type != TensorProto.FLOAT or len(sides) != 4:
        found = TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type in _kinds() else "unknown"
        raise CheckpointError(
            f"{path} takes {given[0].name}, {found} {['?' if s is None else s for s in sides]}, expected one "
            "float32 image [N, C, H, W]"
        )
    if sides[3] in (1, 3, 4) and sides[1] not in (1, 3, 4):
        raise CheckpointError(
            f"{path} takes images [N, H, W, C], expected [N, C, H, W]: write it with channels first "
            "(tf2onnx: --inputs-as-nchw)"
        )
    return given[0].name, (sides[0], sides[1], sides[2], sides[3])
