"""What a compiler made of a graph: its kernels, and the bytes and operations of each.

TensorRT-RTX lists its final plan in its verbose log, a line for each kernel, also where it compiles without
a GPU (here broken in three):

    Name: ..., LayerType: kgen, Inputs: [ { Name: ..., Dimensions: [-1,32,192,256], ..., Datatype: Float,
    ... } ], Constants: [ ... ], Outputs: [ ... ], TacticName: ..., StreamId: 0,
    Metadata: [ONNX Layer: node_conv2d]
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

KERNEL = "LayerType: "
"""In every line of the plan."""
NOT_KERNELS = {"wait", "signal", "shape_call", "ShapeHostToDevice"}
"""Lines of the plan that start nothing on the GPU's cores."""
BYTES = {
    "Double": 8,
    "Int64": 8,
    "Float": 4,
    "Int32": 4,
    "Half": 2,
    "BFloat16": 2,
    "Int8": 1,
    "UInt8": 1,
    "FP8": 1,
    "Bool": 1,
}

_LINE = re.compile(
    r"LayerType: (?P<kind>\w+), (?P<tensors>Inputs: .*), TacticName: .*?Metadata: (?P<nodes>.*)$"
)
_KIND = re.compile(r"LayerType: (\w+)")
_TENSOR = re.compile(r"Dimensions: \[(?P<sides>[-\d,]*)\][^{}]*?Datatype: (?P<type>\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


class Kernel(BaseModel):
    """One kernel of a plan, for one image.

    Attributes:
        kind: as the compiler calls it: correlation (a convolution), gemm, kgen (generated), avgpool, ...
        module: of the network that most of it comes from; empty where nobody knows.
        nodes: of the ONNX graph that it computes.
        bytes: that it reads and writes, constants included.
        operations: floating-point additions and multiplications.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    module: str = ""
    nodes: tuple[str, ...] = ()
    bytes: int = Field(ge=0)
    operations: int = Field(ge=0)


class Plan(BaseModel):
    """All kernels of an engine in the order of the plan, for a batch of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernels: tuple[Kernel, ...]

    @property
    def bytes(self) -> int:
        """Read and written by all kernels."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def operations(self) -> int:
        """Of all kernels."""
        return sum(kernel.operations for kernel in self.kernels)

    def costliest(self, count: int = 10) -> list[Kernel]:
        """The kernels that move the most bytes, the most first."""
        return sorted(self.kernels, key=lambda kernel: -kernel.bytes)[:count]


@dataclass(frozen=True)
class NodeCost:
    """A node of the ONNX graph: the module that it comes from, and what it computes for one image."""

    module: str
    operations: int


def read_plan(log: Iterable[str], nodes: Mapping[str, NodeCost]) -> Plan | None:
    """The plan among the lines of a verbose build log; None where it holds none that can be read.

    A free size counts as one: that is the batch. An operand of which a kernel reads a part counts whole.

    Args:
        log: lines.
        nodes: of the graph that was compiled, by name.
    """
    kernels = []
    for line in log:
        kind = _KIND.search(line)
        if kind is None or kind[1] in NOT_KERNELS:
            continue
        found = _LINE.search(line)
        moved = _bytes_of(found["tensors"]) if found else None
        if found is None or moved is None:
            return None
        own = tuple(_NODE.findall(found["nodes"]))
        costs = [nodes[name] for name in own if name in nodes]
        kernels.append(
            Kernel(
                kind=found["kind"],
                module=next((cost.module for cost in costs if cost.module), ""),
                nodes=own,
                bytes=moved,
                operations=sum(cost.operations for cost in costs),
            )
        )
    return Plan(kernels=tuple(kernels)) if kernels else None


def _bytes_of(tensors: str) -> int | None:
    """Of all tensors of a line; None where a type is not known."""
    total = 0
    for tensor in _TENSOR.finditer(tensors):
        size = BYTES.get(tensor["type"])
        if size is None:
            return None
        total += size * math.prod(abs(int(side)) for side in tensor["sides"].split(",") if side)
    return total
