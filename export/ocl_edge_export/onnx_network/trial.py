"""An ONNX graph run once without pixels: which values no pixel decides, and what they are.

Those are computed for real. What a pixel decides is computed on PyTorch's meta device, which knows shapes
alone and takes neither time nor memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ocl_edge.errors import CheckpointError
from ocl_edge_export.onnx_network.arithmetic import ARITHMETIC
from ocl_edge_export.onnx_network.file import OnnxFile, Operation
from ocl_edge_export.onnx_network.layers import LAYERS
from ocl_edge_export.onnx_network.unknown import UnknownOperatorError

OPERATORS: dict[str, Callable[..., Any]] = {**LAYERS, **ARITHMETIC}

REDUCTIONS = tuple(name for name in ARITHMETIC if name.startswith("Reduce"))
HOST_INPUTS: dict[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **dict.fromkeys(REDUCTIONS, (1,)),
}
"""Inputs that say shapes, places and bounds: numbers and lists of them, not tensors."""


class Trial:
    """One run of a graph for a size of its image.

    Args:
        file: the graph.
        image: shape [N, C, H, W].

    Attributes:
        computing: names of the values that pixels decide.
        values: every value by name; of ``computing`` ones the shape alone.

    Raises:
        CheckpointError: an operator is not read, or cannot be computed for such an image.
    """

    def __init__(self, file: OnnxFile, image: tuple[int, int, int, int]) -> None:
        self.computing = {file.image}
        self.values: dict[str, Tensor] = {**file.tensors, file.image: torch.zeros(image, device="meta")}
        self._path = file.path
        for operation in file.operations:
            self._run(operation)

    def _run(self, operation: Operation) -> None:
        name = operation.name or operation.operator
        try:
            results = self._results(operation)
        except UnknownOperatorError as error:
            raise CheckpointError(f"{self._path}: {name} is {error}, which is not read") from error
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"{self._path}: {name} ({operation.operator}) cannot be computed for an image "
                f"{list(self.values_of_image())}: {reason}"
            ) from error
        pairs = list(zip(operation.outputs, results, strict=False))
        if len(results) < len([output for output in operation.outputs if output]):
            raise CheckpointError(
                f"{self._path}: {name} gives {len(operation.outputs)} values, which is not read"
            )
        self.values.update({output: result for output, result in pairs if output})
        if operation.operator != "Shape" and any(source in self.computing for source in operation.inputs):
            self.computing.update(output for output in operation.outputs if output)

    def values_of_image(self) -> torch.Size:
        """Shape of the image."""
        return next(v.shape for v in self.values.values() if v.device.type == "meta")

    def _results(self, operation: Operation) -> tuple[Tensor, ...]:
        if operation.operator == "Constant":
            return (_constant(operation.attributes),)
        if operation.operator == "Shape":
            sides = list(self.values[operation.inputs[0]].shape)
            a = operation.attributes
            return (torch.tensor(sides[a.get("start", 0) : a.get("end", len(sides))], dtype=torch.int64),)
        return call(operation, [self._input(operation, index) for index in range(len(operation.inputs))])

    def _input(self, operation: Operation, index: int) -> Any:
        name = operation.inputs[index]
        if not name:
            return None
        value = self.values[name]
        if index in HOST_INPUTS.get(operation.operator, ()):
            if name in self.computing:
                raise UnknownOperatorError("a shape that depends on pixel values")
            return value.tolist()
        moved = any(source in self.computing for source in operation.inputs)
        return value.to("meta") if moved else value


def call(operation: Operation, inputs: list[Any]) -> tuple[Tensor, ...]:
    """What an operator gives.

    Raises:
        UnknownOperatorError: it is not on the list.
    """
    function = OPERATORS.get(operation.operator)
    if function is None:
        raise UnknownOperatorError(f"an operator {operation.operator}")
    result = function({**operation.attributes, "outputs": len(operation.outputs)}, *inputs)
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _constant(attributes: dict[str, Any]) -> Tensor:
    for name, dtype in (("value_float", torch.float32), ("value_floats", torch.float32)):
        if name in attributes:
            return torch.tensor(attributes[name], dtype=dtype)
    for name in ("value_int", "value_ints"):
        if name in attributes:
            return torch.tensor(attributes[name], dtype=torch.int64)
    value = attributes.get("value")
    if not isinstance(value, Tensor):
        raise UnknownOperatorError("a constant of text")
    return value
