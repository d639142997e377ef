"""A convolutional head as two ONNX graphs, forward and one OCL step, whose weights are inputs.

Nothing in an engine is refitted: what a step returns is what the next one gets. The
gradient is written out (see `ocl_edge.method.ocl`), because engines have no automatic
differentiation. All tensors are float32.

    head       features [N, F, h, w], weight, bias -> logits [N, C, h, w]

    head_step  features [2, F, h, w]   of the view pair (image, horizontal flip)
               weight, bias            and weight_momentum, bias_momentum, weight_source, bias_source
               weight_restored, ...    not 0: this single weight returns to its trained value
               lr, momentum, weight_decay   [1] each
               -> loss [1], new_weight, new_bias, new_weight_momentum, new_bias_momentum

Height and width are free where the head is pointwise, else fixed. The caller looks at what
a step returned and keeps the old weights where it is not finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import TensorProto
from torch import fx

from ocl_edge.errors import SplitError
from ocl_edge.method.settings import NEG_COEFF, POS_COEFF
from ocl_edge_export.onnx_graph import GraphBuilder, Value

MOST_NAMED = 8
"""Kinds of operators that a reason names."""

CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default)
HYPERPARAMETERS = ("lr", "momentum", "weight_decay")


@dataclass(frozen=True)
class ConvolutionHead:
    """A head that is one convolution of stride 1.

    Attributes:
        classes: output channels.
        features: input channels.
        kernel: height and width.
        padding: rows and columns of zeros on each side.
        dilation: of the kernel, vertical and horizontal.
        bias: whether it has one.
    """

    classes: int
    features: int
    kernel: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = True

    @property
    def pointwise(self) -> bool:
        """Whether a pixel's logits depend on that pixel's features alone."""
        return self.kernel == (1, 1) and self.padding == (0, 0)

    def spatial(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the graphs' features: -1, free, where the head is pointwise."""
        return (-1, -1) if self.pointwise else (height, width)

    def spatial_of_logits(self, height: int, width: int) -> tuple[int, int]:
        """Likewise of their logits."""
        if self.pointwise:
            return -1, -1
        grown = (height + 2 * self.padding[0], width + 2 * self.padding[1])
        rows, columns = (
            side - dilation * (kernel - 1)
            for side, dilation, kernel in zip(grown, self.dilation, self.kernel, strict=True)
        )
        return rows, columns

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of what trains."""
        weight: dict[str, tuple[int, ...]] = {"weight": (self.classes, self.features, *self.kernel)}
        return {**weight, "bias": (self.classes,)} if self.bias else weight


def describe_head(head: fx.GraphModule) -> ConvolutionHead:
    """What kind of convolution a captured head is.

    Raises:
        SplitError: it is something else than one ungrouped convolution of stride 1.
    """
    call = _only_call(head)
    arguments = [*call.args, *[None] * 9]
    # input, weight, bias, stride, padding, dilation, groups
    stride, padding, dilation = (_pair(arguments[i], default) for i, default in ((3, 1), (4, 0), (5, 1)))
    transposed, groups = (False, arguments[6]) if call.target is CONVOLUTIONS[0] else arguments[6:9:2]
    shape = tuple(head.get_parameter(name_parameters(head)["weight"]).shape)
    if stride != (1, 1) or groups not in (None, 1) or transposed or len(shape) != 4:
        found = f"stride {stride} and {groups} groups" + (", and is transposed" if transposed else "")
        raise SplitError(f"a head step in the engine needs stride 1 and one group, this one has {found}")
    return ConvolutionHead(shape[0], shape[1], shape[2:], padding, dilation, arguments[2] is not None)


def name_parameters(head: fx.GraphModule) -> dict[str, str]:
    """``weight`` and ``bias`` of the graphs -> names in the captured head.

    Raises:
        SplitError: see `describe_head`.
    """
    found = zip(("weight", "bias"), _only_call(head).args[1:3], strict=False)
    return {name: str(node.target) for name, node in found if isinstance(node, fx.Node)}


def _only_call(head: fx.GraphModule) -> fx.Node:
    calls: list[fx.Node] = [node for node in head.graph.nodes if node.op == "call_function"]
    if len(calls) != 1 or calls[0].target not in CONVOLUTIONS:
        kinds = list(dict.fromkeys(str(node.target) for node in calls))
        more = f" and {len(kinds) - MOST_NAMED} more kinds" if len(kinds) > MOST_NAMED else ""
        what = ", ".join(kinds[:MOST_NAMED]) + more
        raise SplitError(f"a head step in the engine needs a head of one convolution, this one is: {what}")
    return calls[0]


def _pair(value: Any, default: int) -> tuple[int, int]:
    return (default, default) if value is None else (int(value[0]), int(value[1]))


def build_head(head: ConvolutionHead, height: int, width: int) -> onnx.ModelProto:
    """The forward graph; ``height`` and ``width`` are those of the features."""
    graph = GraphBuilder()
    _forward(graph, head, "logits")
    logits: Value = ("logits", (-1, head.classes, *head.spatial_of_logits(height, width)))
    return graph.model("head", [_features(head, -1, height, width), *head.parameters.items()], [logits])


def build_head_step(
    head: ConvolutionHead, height: int, width: int, pos_coeff: float = POS_COEFF, neg_coeff: float = NEG_COEFF
) -> onnx.ModelProto:
    """The step's graph.

    Args:
        head: what trains.
        height: of the features.
        width: of the features.
        pos_coeff: weight of the agreement term.
        neg_coeff: weight of the collapse term.
    """
    graph = GraphBuilder()
    loss, slope = _loss_and_slope(graph, head, _forward(graph, head), pos_coeff, neg_coeff)
    gradients = _gradients(graph, head, slope, head.spatial_of_logits(height, width))
    outputs: list[Value] = [("loss", (1,))]
    graph.add("Reshape", [loss, graph.integers([1])], "loss")
    for name, shape in head.parameters.items():
        _descend_and_restore(graph, name, gradients[name])
        outputs += [(f"new_{n}", shape) for n in (name, f"{name}_momentum")]
    inputs = [_features(head, 2, height, width)]
    for name, shape in head.parameters.items():
        inputs += [
            (n, shape) for n in (name, *(f"{name}_{what}" for what in ("momentum", "source", "restored")))
        ]
    inputs += [(name, (1,)) for name in HYPERPARAMETERS]
    return graph.model("head_step", inputs, outputs)


def _features(head: ConvolutionHead, batch: int, height: int, width: int) -> Value:
    return "features", (batch, head.features, *head.spatial(height, width))


def _forward(graph: GraphBuilder, head: ConvolutionHead, output: str | None = None) -> str:
    return graph.add(
        "Conv",
        ["features", *head.parameters],
        output,
        pads=[*head.padding, *head.padding],
        dilations=list(head.dilation),
        kernel_shape=list(head.kernel),
    )


def _loss_and_slope(
    graph: GraphBuilder, head: ConvolutionHead, logits: str, pos: float, neg: float
) -> tuple[str, str]:
    """Loss, and its derivative by the logits, flat [2, C, pixels] in the order of the convolution.

    q = e / |e| with e = exp(logits): the sum that softmax divides by cancels. Softmax and
    normalisation pass a gradient g back as q * (g - q <q, g>), see `ocl_edge.method.ocl`; here
    <q, g> is put together from what the loss needs anyway.
    """
    view, flipped = graph.split(logits, 2, 0)
    flat, image = graph.integers([1, head.classes, -1]), graph.add("Shape", [view])
    views = [
        _unit_predictions(graph, graph.add("Reshape", [value, flat]))
        for value in (view, graph.mirrored(flipped))
    ]
    means = [graph.mean(q, [2]) for q in views]
    agreement = graph.sum(graph.add("Mul", views), [1])
    slopes, spread = [], []
    for q, other, mean in zip(views, reversed(views), means, strict=True):
        pull = graph.times(mean, neg)
        g = graph.add("Sub", [pull, graph.times(other, pos)])
        towards_mean = graph.add("MatMul", [graph.add("Transpose", [pull], perm=[0, 2, 1]), q])
        along = graph.add("Sub", [towards_mean, graph.times(agreement, pos)])
        across = graph.add("Sub", [g, graph.add("Mul", [q, along])])
        slopes.append(graph.add("Mul", [q, across]))
        spread.append(graph.sum(graph.add("Mul", [mean, mean]), [1]))
    mirrored = graph.mirrored(graph.add("Reshape", [slopes[1], image]))
    slope = graph.add("Concat", [slopes[0], graph.add("Reshape", [mirrored, flat])], axis=0)
    negative = graph.times(graph.add("Add", spread), neg / 2)
    return graph.add("Sub", [negative, graph.times(graph.mean(agreement, [2]), pos)]), slope


def _unit_predictions(graph: GraphBuilder, logits: str) -> str:
    highest = graph.add("ReduceMax", [logits, graph.integers([1])], keepdims=1)
    e = graph.add("Exp", [graph.add("Sub", [logits, highest])])
    # ReduceSumSquare takes three times as long in ONNX Runtime
    return graph.add("Div", [e, graph.add("Sqrt", [graph.sum(graph.add("Mul", [e, e]), [1])])])


def _gradients(
    graph: GraphBuilder, head: ConvolutionHead, slope: str, spatial: tuple[int, int]
) -> dict[str, str]:
    """Slope of the logits -> gradient of weight and bias.

    For each position of the kernel, one product of [C, pixels] with [pixels, F], summed
    over the views. The mean over the pixels comes last, where little is left to divide.
    """
    source, (rows, columns) = "features", spatial
    if head.padding != (0, 0):
        (top, left), end = head.padding, head.padding
        source = graph.add("Pad", ["features", graph.integers([0, 0, top, left, 0, 0, *end])])
    parts = []
    for row in range(head.kernel[0]):
        for column in range(head.kernel[1]):
            top, left = row * head.dilation[0], column * head.dilation[1]
            window = source
            if head.kernel != (1, 1):
                bounds = ([top, left], [top + rows, left + columns], [2, 3])
                window = graph.add("Slice", [source, *(graph.integers(bound) for bound in bounds)])
            pixels = graph.add("Reshape", [window, graph.integers([2, head.features, -1])])
            product = graph.add("MatMul", [slope, graph.add("Transpose", [pixels], perm=[0, 2, 1])])
            parts.append(graph.add("Reshape", [product, graph.integers([2, head.classes, head.features, 1])]))
    stacked = parts[0] if len(parts) == 1 else graph.add("Concat", parts, axis=3)
    weight = graph.add("ReduceSum", [stacked, graph.integers([0])], keepdims=0)
    gradients = {"weight": graph.add("Reshape", [weight, graph.integers(list(head.parameters["weight"]))])}
    if head.bias:
        gradients["bias"] = graph.add("ReduceSum", [slope, graph.integers([0, 2])], keepdims=0)
    values = graph.add("Cast", [graph.add("Size", [slope])], to=TensorProto.FLOAT)
    pixels = graph.times(values, 1 / (2 * head.classes))
    return {name: graph.add("Div", [gradient, pixels]) for name, gradient in gradients.items()}


def _descend_and_restore(graph: GraphBuilder, name: str, gradient: str) -> None:
    """SGD with momentum and weight decay as PyTorch does it, then stochastic restoration."""
    decayed = graph.add("Add", [gradient, graph.add("Mul", ["weight_decay", name])])
    kept = graph.add("Mul", ["momentum", f"{name}_momentum"])
    velocity = graph.add("Add", [kept, decayed], f"new_{name}_momentum")
    stepped = graph.add("Sub", [name, graph.add("Mul", ["lr", velocity])])
    restored = graph.add("Cast", [f"{name}_restored"], to=TensorProto.BOOL)
    graph.add("Where", [restored, f"{name}_source", stepped], f"new_{name}")
