"""An ONNX graph that is written operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ocl_edge_export.onnx_forms import OPSET

Value = tuple[str, tuple[int, ...]]
"""Name and shape of an input or output, float32; -1 is a free size."""

FREE_SIZES = ("batch", "channels", "height", "width")


class GraphBuilder:
    """Nodes and constants as they are added; every value gets a name.

    Args:
        prefix: of the names, where nodes of another graph are among these.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], f"node_{output}", **attributes))
        return output

    def split(self, value: str, parts: int, axis: int) -> list[str]:
        outputs = [f"split_{len(self.nodes)}_{index}" for index in range(parts)]
        name = f"node_split_{len(self.nodes)}"
        self.nodes.append(helper.make_node("Split", [value], outputs, name, axis=axis, num_outputs=parts))
        return outputs

    def pieces(self, packed: str, channels: list[int], shape: Sequence[int] = (1, -1, 1, 1)) -> list[str]:
        """[rows, S] -> a vector for every count of channels, row after row, with them at -1 in the shape."""
        flat = self.add("Reshape", [packed, self.integers(shape)])
        outputs = [f"{self.prefix}piece_{len(self.nodes)}_{index}" for index in range(len(channels))]
        sizes = numpy_helper.from_array(np.array(channels, np.int64))
        # no initialiser: long ones lie in the weight file, where parsers do not look for sizes
        inside = self.add("Constant", [], f"{self.prefix}sizes_{len(self.nodes)}", value=sizes)
        name = f"node_{self.prefix}pieces_{len(self.nodes)}"
        split = helper.make_node("Split", [flat, inside], outputs, name, axis=shape.index(-1))
        self.nodes.append(split)
        return outputs

    def mirrored(self, value: str) -> str:
        """Columns in reverse order. Gather does the same and takes many times as long in ONNX Runtime."""
        start, end, axes, step = ([-1], [np.iinfo(np.int64).min], [3], [-1])
        return self.add("Slice", [value, *(self.integers(part) for part in (start, end, axes, step))])

    def sum(self, value: str, axes: list[int]) -> str:
        return self.add("ReduceSum", [value, self.integers(axes)], keepdims=1)

    def mean(self, value: str, axes: list[int]) -> str:
        return self.add("ReduceMean", [value, self.integers(axes)], keepdims=1)

    def times(self, value: str, factor: float) -> str:
        return self.add("Mul", [value, self.floats(factor)])

    def floats(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def integers(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def model(self, name: str, inputs: list[Value], outputs: list[Value]) -> onnx.ModelProto:
        """The checked model; free sizes on the same axis are the same."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [declare(*value) for value in inputs],
            [declare(*value) for value in outputs],
            self.constants,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, producer_name="ocl-edge", opset_imports=[opset])
        model.ir_version = 9  # of opset 20; newer ones are refused by older runtimes
        onnx.checker.check_model(model, full_check=True)
        return model


def declare(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    """A float32 input or output; -1 is a free size."""
    sizes = [FREE_SIZES[axis] if side == -1 else side for axis, side in enumerate(shape)]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
