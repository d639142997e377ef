"""The modulated and the measured form, written from the plain form's ONNX graph.

Only the norms differ, so that only they are written anew; all other nodes, and with them the
weights and the names, are the plain form's. The exporter would trace each form for itself,
which takes many times as long. What the nodes must compute stands in `ocl_edge.network.forms`
and is what the parity gate compares them with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import fx

from ocl_edge.errors import CaptureError
from ocl_edge.network.form_names import FormName
from ocl_edge.network.form_tensors import input_shapes, output_shapes
from ocl_edge.network.forms import Norm, list_norms, norm_nodes, trained_tensors
from ocl_edge_export.onnx_graph import GraphBuilder, declare

PREFIX = "norms/"
"""Begins the names of new values; no name that PyTorch gives holds a slash."""
IMAGE_AXES = [0, 2, 3]
ROWS = 2
TO_THE_END = int(np.iinfo(np.int64).max)


def modulated_graph(plain: onnx.ModelProto, backbone: fx.GraphModule) -> onnx.ModelProto:
    """As `modulated_form`: scale and shift of every norm come from ``norm_vectors``.

    Args:
        plain: the plain form, with its tensors.
        backbone: that it was written from; it has norms.

    Returns:
        A model without those tensors that the plain form holds under the same names.

    Raises:
        CaptureError: the norms of the two differ.
    """
    graph, norms = GraphBuilder(PREFIX), _Norms(plain, backbone)
    pieces = graph.pieces("norm_vectors", norms.channels * 2)

    def write(index: int, _: onnx.NodeProto) -> None:
        vectors, shape = (pieces[index], pieces[len(norms.channels) + index]), norms.shape(index)
        norms.modulate(graph, index, *vectors if len(shape) == 4 else norms.reshaped(graph, index, *vectors))

    norms.rewrite(graph, write)
    return norms.model(graph, "modulated")


def measured_graph(plain: onnx.ModelProto, backbone: fx.GraphModule, stat_rows: int) -> onnx.ModelProto:
    """As `measured_form`: every norm mixes its input's statistics with the anchor's.

    Args:
        plain: the plain form, with its tensors.
        backbone: that it was written from; it has norms.
        stat_rows: statistics are taken from every n-th row.

    Returns:
        A model without those tensors that the plain form holds under the same names.

    Raises:
        CaptureError: the norms of the two differ.
    """
    graph, norms = GraphBuilder(PREFIX), _Norms(plain, backbone)
    packed = _PackedInputs(graph, norms.described, stat_rows)
    means, variances = [], []

    def write(index: int, node: onnx.NodeProto) -> None:
        norm, anchor = norms.described[index], packed.of("anchor", index)
        if norm.pinned:
            current = mixed = anchor
        else:
            mean, var = _measure(graph, node.input[0], norm.row_stride(stat_rows))
            current = mean, graph.add("Mul", [var, packed.unbiasing[index]])
            mixed = _mix(graph, packed, index, current)
        means.append(current[0])
        variances.append(current[1])
        vectors = _vectors(graph, *mixed, *norms.affine(index), norm.eps)
        # Apart by a reshape: OpenVINO else computes the vectors anew for every position that they scale.
        norms.modulate(graph, index, *norms.reshaped(graph, index, *vectors))

    norms.rewrite(graph, write)
    statistics = graph.add("Concat", [*means, *variances], axis=0)
    graph.add("Reshape", [statistics, graph.integers([2, -1])], "statistics")
    return norms.model(graph, "measured")


class _Norms:
    """The norms of a backbone and their nodes in its plain form."""

    def __init__(self, plain: onnx.ModelProto, backbone: fx.GraphModule) -> None:
        self.described: list[Norm] = list_norms(backbone)
        self.channels = [norm.channels for norm in self.described]
        self._plain = plain.graph
        self._header = {"ir_version": plain.ir_version, "opset_imports": plain.opset_import}
        self._captured = norm_nodes(backbone)
        self._tensors = {tensor.name: tensor for tensor in plain.graph.initializer}
        self._nodes = self._found(trained_tensors(backbone)["mean"].numpy())

    def _found(self, means: NDArray[np.float32]) -> list[onnx.NodeProto]:
        """The node of every norm: both graphs keep one order, and the trained means tell that they do."""
        nodes = [
            node
            for node in self._plain.node
            if node.op_type == "BatchNormalization" and node.input[3] in self._tensors
        ]
        expected = np.split(means, np.cumsum(self.channels)[:-1])
        found = [numpy_helper.to_array(self._tensors[node.input[3]]) for node in nodes]
        if len(found) != len(expected) or not all(map(np.array_equal, found, expected)):
            raise CaptureError(
                f"the network has {len(expected)} norms with trained statistics, its ONNX graph "
                f"{len(found)}, or in another order: PyTorch's exporter changed them"
            )
        return nodes

    def rewrite(self, graph: GraphBuilder, write: Callable[[int, onnx.NodeProto], None]) -> None:
        """All nodes in order; ``write`` adds what takes a norm's place."""
        places = {node.output[0]: index for index, node in enumerate(self._nodes)}
        for node in self._plain.node:
            if (index := places.get(node.output[0])) is None:
                graph.nodes.append(node)
            else:
                write(index, node)

    def affine(self, index: int) -> tuple[str | None, str | None]:
        """Weight and bias of a norm, [C]; None where it has none."""
        weight, bias = (
            None if self._captured[index].args[place] is None else self._nodes[index].input[place]
            for place in (1, 2)
        )
        return weight, bias

    def shape(self, index: int) -> list[int]:
        """Of vectors that a norm's input can be multiplied by; -1 are the channels."""
        x = self._captured[index].args[0]
        assert isinstance(x, fx.Node)
        return [1, -1, *[1] * (x.meta["val"].dim() - 2)]

    def reshaped(self, graph: GraphBuilder, index: int, *vectors: str) -> list[str]:
        """Vectors in the `shape`."""
        return [graph.add("Reshape", [vector, graph.integers(self.shape(index))]) for vector in vectors]

    def modulate(self, graph: GraphBuilder, index: int, scale: str, shift: str) -> None:
        """``x * scale + shift`` in place of a norm; its output keeps its name."""
        node = self._nodes[index]
        graph.add("Add", [graph.add("Mul", [node.input[0], scale]), shift], node.output[0])

    def model(self, graph: GraphBuilder, form: FormName) -> onnx.ModelProto:
        """The plain model with other nodes, inputs and outputs."""
        channels = sum(self.channels)
        inputs = [
            declare(name, shape)
            for name, shape in input_shapes(form, (0, 0, 0), channels).items()
            if name != "image"
        ]
        outputs = [declare(name, shape) for name, shape in output_shapes(form, [], channels).items()]
        written = helper.make_graph(
            graph.nodes,
            self._plain.name,
            [*self._plain.input, *inputs],
            [*self._plain.output, *outputs],
            graph.constants,
            value_info=self._plain.value_info,
        )
        return helper.make_model(written, producer_name="ocl-edge", **self._header)


class _PackedInputs:
    """What the measured form mixes with, one vector [C] for each row and norm."""

    def __init__(self, graph: GraphBuilder, norms: list[Norm], stat_rows: int) -> None:
        channels = [norm.channels for norm in norms]
        both = [graph.integers(bounds) for bounds in ([0], [2], [0])]
        weight = graph.add("Slice", ["anchor_weight", *both])
        rows = {
            "anchor": "anchor_statistics",
            "anchor_part": graph.add("Mul", [weight, "anchor_statistics"]),
            "of_current": graph.add("Sub", [graph.floats(1.0), weight]),
        }
        self._count = len(norms)
        self._rows = {name: graph.pieces(row, channels * 2, [-1]) for name, row in rows.items()}
        self.of_difference = graph.pieces("anchor_weight", channels * 3, [-1])[2 * self._count :]
        self.unbiasing = graph.pieces(_unbiasing(graph, norms, stat_rows), channels, [-1])

    def of(self, what: str, index: int) -> tuple[str, str]:
        """For a norm's mean and for its variance."""
        pieces = self._rows[what]
        return pieces[index], pieces[self._count + index]


def _unbiasing(graph: GraphBuilder, norms: list[Norm], stat_rows: int) -> str:
    """n / (n - 1) for every channel, n = batch * positions: [1, S]."""
    positions = np.concatenate(
        [np.full((1, norm.channels), norm.sampled_positions(stat_rows), np.float32) for norm in norms], 1
    )
    batch = graph.add("Cast", [graph.add("Shape", ["image"], start=0, end=1)], to=TensorProto.FLOAT)
    count = graph.add("Mul", [graph.constant(positions), batch])
    fewer = graph.add("Max", [graph.add("Sub", [count, graph.floats(1.0)]), graph.floats(1.0)])
    return graph.add("Div", [count, fewer])


def _measure(graph: GraphBuilder, x: str, stride: int) -> tuple[str, str]:
    """Mean and biased variance over batch and sampled rows, [C]."""
    if stride > 1:
        bounds = ([stride // 2], [TO_THE_END], [ROWS], [stride])
        x = graph.add("Slice", [x, *map(graph.integers, bounds)])
    mean = graph.mean(x, IMAGE_AXES)
    centred = graph.add("Sub", [x, mean])
    squares = graph.add("Mul", [centred, centred])
    var = graph.add("ReduceMean", [squares, graph.integers(IMAGE_AXES)], keepdims=0)
    return graph.add("Reshape", [mean, graph.integers([-1])]), var


def _mix(graph: GraphBuilder, packed: _PackedInputs, index: int, current: tuple[str, str]) -> tuple[str, str]:
    """Mean and variance that a norm uses."""
    mean, var = (
        graph.add("Add", [part, graph.add("Mul", [share, measured])])
        for part, share, measured in zip(
            packed.of("anchor_part", index), packed.of("of_current", index), current, strict=True
        )
    )
    difference = graph.add("Sub", [current[0], packed.of("anchor", index)[0]])
    square = graph.add("Mul", [difference, difference])
    return mean, graph.add("Add", [var, graph.add("Mul", [packed.of_difference[index], square])])


def _vectors(
    graph: GraphBuilder, mean: str, var: str, weight: str | None, bias: str | None, eps: float
) -> tuple[str, str]:
    """Scale and shift that normalise with a mean and a variance."""
    deviation = graph.add("Sqrt", [graph.add("Add", [var, graph.floats(eps)])])
    scale = graph.add("Div", [weight, deviation]) if weight else graph.add("Reciprocal", [deviation])
    moved = graph.add("Mul", [mean, scale])
    return scale, graph.add("Sub", [bias, moved]) if bias else graph.add("Neg", [moved])
