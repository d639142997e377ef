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
from ocl_edge.network.batch_norms import Norm, batch_norms, list_norms, norm_nodes, trained_tensors
from ocl_edge.network.form_names import FormName
from ocl_edge.network.form_tensors import input_shapes, output_shapes
from ocl_edge_export.onnx_graph import GraphBuilder, declare

PREFIX = "norms/"
"""Begins the names of new values; no name that PyTorch gives holds a slash."""
IMAGE_AXES = [0, 2, 3]
ROWS = 2
COUNTLESS = 1e30
"""Positions of a norm whose variance is taken as it is: one more or less is none in float32."""
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
    pieces = graph.pieces("norm_vectors", norms.channels * 2, [-1])
    unscaled = {
        channels: (
            graph.constant(np.zeros(channels, np.float32)),
            graph.constant(np.ones(channels, np.float32)),
        )
        for channels in sorted(set(norms.channels))
    }

    def write(index: int, _: onnx.NodeProto) -> None:
        scale, shift = pieces[index], pieces[len(norms.channels) + index]
        norms.normalise(graph, index, (scale, shift), unscaled[norms.channels[index]], eps=0.0)

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
        norm = norms.described[index]
        if norm.pinned:
            current = mixed = packed.of("anchor", index)
        else:
            current = _measure(graph, node.input[0], norm.row_stride(stat_rows))
            mixed = _mix(graph, packed, index, current)
        means.append(current[0])
        variances.append(current[1])
        norms.normalise(graph, index, (node.input[1], node.input[2]), mixed, norm.eps)

    norms.rewrite(graph, write)
    biased = graph.add("Concat", variances, axis=0)
    rows = graph.add("Concat", means, axis=0), graph.add("Mul", [biased, packed.unbiasing])
    both = graph.add("Concat", list(rows), axis=0)
    graph.add("Reshape", [both, graph.integers([2, -1])], "statistics")
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
        every = batch_norms(backbone)
        means = trained_tensors(backbone, every)["mean"].numpy()
        self._nodes = [
            found
            for found, captured in zip(self._found(means), every, strict=True)
            if captured in self._captured
        ]

    def _found(self, means: NDArray[np.float32]) -> list[onnx.NodeProto]:
        """The node of every BatchNorm: both graphs keep one order, and the trained means tell it."""
        nodes = [
            node
            for node in self._plain.node
            if node.op_type == "BatchNormalization" and node.input[3] in self._tensors
        ]
        found = [numpy_helper.to_array(self._tensors[node.input[3]]) for node in nodes]
        if not np.array_equal(np.concatenate(found) if found else means[:0], means):
            raise CaptureError(
                f"the trained statistics of the network's norms ({len(means)} channels) are not those of its "
                f"ONNX graph ({sum(map(len, found))}), or in another order: PyTorch's exporter changed them"
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

    def normalise(
        self,
        graph: GraphBuilder,
        index: int,
        affine: tuple[str, str],
        statistics: tuple[str, str],
        eps: float,
    ) -> None:
        """In place of a norm the same with other vectors, [C] each; its output keeps its name.

        One operator, in one pass over the values: a product and a sum are two in ONNX Runtime.
        """
        node = self._nodes[index]
        graph.add(
            "BatchNormalization",
            [node.input[0], *affine, *statistics],
            node.output[0],
            epsilon=eps,
        )

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
    """What the measured form mixes with, one vector [C] for each row and norm.

    Attributes:
        unbiasing: what makes measured variances unbiased, [S].
    """

    def __init__(self, graph: GraphBuilder, norms: list[Norm], stat_rows: int) -> None:
        channels = [norm.channels for norm in norms]
        both = [graph.integers(bounds) for bounds in ([0], [2], [0])]
        weight = graph.add("Slice", ["anchor_weight", *both])
        of_current = graph.add("Sub", [graph.floats(1.0), weight])
        self.unbiasing = _unbiasing(graph, norms, stat_rows)
        mean_as_it_is = graph.constant(np.ones(sum(channels), np.float32))
        factors = graph.add("Concat", [mean_as_it_is, self.unbiasing], axis=0)
        factors = graph.add("Reshape", [factors, graph.integers([2, -1])])
        rows = {
            "anchor": "anchor_statistics",
            "anchor_part": graph.add("Mul", [weight, "anchor_statistics"]),
            "of_current": graph.add("Mul", [of_current, factors]),
        }
        self._count = len(norms)
        self._rows = {name: graph.pieces(row, channels * 2, [-1]) for name, row in rows.items()}
        self.of_difference = graph.pieces("anchor_weight", channels * 3, [-1])[2 * self._count :]

    def of(self, what: str, index: int) -> tuple[str, str]:
        """For a norm's mean and for its variance, as it is measured."""
        pieces = self._rows[what]
        return pieces[index], pieces[self._count + index]


def _unbiasing(graph: GraphBuilder, norms: list[Norm], stat_rows: int) -> str:
    """1 + 1 / (n - 1) for every channel, n = batch * positions: [S]. 1 for norms that are not measured."""
    counts = [COUNTLESS if norm.pinned else norm.sampled_positions(stat_rows) for norm in norms]
    positions = np.repeat(np.array(counts, np.float32), [norm.channels for norm in norms])
    batch = graph.add("Cast", [graph.add("Shape", ["image"], start=0, end=1)], to=TensorProto.FLOAT)
    fewer = graph.add("Sub", [graph.add("Mul", [graph.constant(positions), batch]), graph.floats(1.0)])
    part = graph.add("Reciprocal", [graph.add("Max", [fewer, graph.floats(1.0)])])
    return graph.add("Add", [part, graph.floats(1.0)])


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
    anchor_mean, _ = packed.of("anchor", index)
    of_anchor_mean, of_anchor_var = packed.of("anchor_part", index)
    of_mean, of_var = (
        graph.add("Mul", [share, measured])
        for share, measured in zip(packed.of("of_current", index), current, strict=True)
    )
    difference = graph.add("Sub", [current[0], anchor_mean])
    square = graph.add("Mul", [difference, difference])
    between = graph.add("Mul", [packed.of_difference[index], square])
    mean = graph.add("Add", [of_anchor_mean, of_mean])
    return mean, graph.add("Sum", [of_anchor_var, of_var, between])
