"""The forms of the backbone: one captured graph, three ways to treat its norms.

A norm is a BatchNorm layer in evaluation mode. ``plain`` keeps it. ``modulated`` makes
it ``x * scale + shift`` with scale and shift read from an input, so that a compiled
engine adapts without being rebuilt. ``measured`` computes the statistics of its own
input inside the graph and mixes them with an anchor (OCL paper, section 3.3; reference
code: ``utils/train_helper.py``), norm after norm, in one sequential pass: every norm
sees inputs that the norms before it have already modulated.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ocl_edge.network.batch_norms import describe, list_norms, norm_nodes
from ocl_edge.network.form_names import FormName


def plain_form(backbone: fx.GraphModule) -> fx.GraphModule:
    """(image [N,3,H,W]) -> features. Norms use their trained statistics."""
    return backbone


def modulated_form(backbone: fx.GraphModule) -> fx.GraphModule:
    """(image [N,3,H,W], norm_vectors [2, S]) -> features.

    ``norm_vectors`` holds the scales (row 0) and shifts (row 1) of all norms.
    """
    form, nodes = _copied(backbone)
    channels = [describe(form, node).channels for node in nodes]
    vectors = _placeholder(form, "norm_vectors")
    with form.graph.inserting_after(vectors):
        pieces = form.graph.call_function(split_vectors, (vectors, channels))
    for index, node in enumerate(nodes):
        with form.graph.inserting_before(node):
            scale = form.graph.call_function(_item, (pieces, index))
            shift = form.graph.call_function(_item, (pieces, len(nodes) + index))
            _replace(node, form.graph.call_function(modulate, (node.args[0], scale, shift)))
    return _finished(form)


def measured_form(backbone: fx.GraphModule, stat_rows: int = 1) -> fx.GraphModule:
    """(image [N,3,H,W], anchor_statistics [2, S], anchor_weight [3, S]) -> features, statistics [2, S].

    With the weights a, b, c of a channel, the norm uses ``a * anchor + (1 - a) * current`` as mean, and as
    variance ``b * anchor + (1 - b) * current + c * (difference of the means)^2``. Current is taken over the
    batch and about every ``stat_rows``-th row, variance unbiased. The last output is the current
    statistics, mean (row 0) and variance (row 1). A gradient reaches the affine weights and the image,
    not the statistics.
    """
    form, nodes = _copied(backbone)
    norms = [describe(form, node) for node in nodes]
    counts = torch.cat([torch.full((n.channels,), float(n.sampled_positions(stat_rows))) for n in norms])
    form.register_buffer("sampled_positions", counts.reshape(1, -1))
    packed = _unpack_inputs(form, [norm.channels for norm in norms])
    graph = form.graph
    means: list[fx.Node] = []
    variances: list[fx.Node] = []
    for index, (node, norm) in enumerate(zip(nodes, norms, strict=True)):
        x, gamma, beta = node.args[:3]
        with graph.inserting_before(node):
            anchor_mean, anchor_var = packed.anchor(graph, index)
            mixed: tuple[fx.Node, fx.Node]
            if norm.pinned:
                mean, var = mixed = anchor_mean, anchor_var
            else:
                factor = graph.call_function(_item, (packed.corrections, index))
                measured = graph.call_function(measure, (x, factor, norm.row_stride(stat_rows)))
                mean = graph.call_function(_item, (measured, 0))
                var = graph.call_function(_item, (measured, 1))
                shares = packed.shares(graph, index)
                both = graph.call_function(mix, (anchor_mean, anchor_var, mean, var, *shares))
                mixed = (graph.call_function(_item, (both, 0)), graph.call_function(_item, (both, 1)))
            _replace(node, graph.call_function(normalise, (x, *mixed, gamma, beta, norm.eps)))
        means.append(mean)
        variances.append(var)
    output = graph.output_node()
    with graph.inserting_before(output):
        statistics = graph.call_function(pack_statistics, (means, variances))
    features = output.args[0]
    assert isinstance(features, tuple | list)
    output.args = ((*features, statistics),)
    return _finished(form)


@dataclass(frozen=True)
class _Unpacked:
    """The packed inputs of a measured form, split into one piece for each row and norm."""

    norms: int
    anchors: fx.Node
    of_anchor: fx.Node
    of_current: fx.Node
    corrections: fx.Node

    def anchor(self, graph: fx.Graph, index: int) -> tuple[fx.Node, fx.Node]:
        """Mean and variance."""
        mean, var = (graph.call_function(_item, (self.anchors, row * self.norms + index)) for row in range(2))
        return mean, var

    def shares(self, graph: fx.Graph, index: int) -> list[fx.Node]:
        """Weights of the anchor's mean and variance, of the current ones, of the squared difference."""
        places = [(self.of_anchor, 0), (self.of_anchor, 1), (self.of_current, 0), (self.of_current, 1)]
        return [
            graph.call_function(_item, (pieces, row * self.norms + index))
            for pieces, row in (*places, (self.of_anchor, 2))
        ]


def _unpack_inputs(form: fx.GraphModule, channels: list[int]) -> _Unpacked:
    graph = form.graph
    anchor = _placeholder(form, "anchor_statistics")
    weight = _placeholder(form, "anchor_weight")
    image = next(node for node in graph.nodes if node.op == "placeholder")
    last = weight

    def after(function: Callable[..., object], *arguments: object) -> fx.Node:
        nonlocal last
        with graph.inserting_after(last):
            last = graph.call_function(function, arguments)  # type: ignore[arg-type]
        return last

    with graph.inserting_after(weight):
        last = counts = graph.get_attr("sampled_positions")
    corrections = after(split_vectors, after(unbiasing_factors, image, counts), channels)
    anchors = after(split_vectors, anchor, channels)
    of_anchor = after(split_vectors, weight, channels)
    of_current = after(split_vectors, after(complement, weight), channels)
    return _Unpacked(len(channels), anchors, of_anchor, of_current, corrections)


def build_form(backbone: fx.GraphModule, form: FormName, stat_rows: int) -> fx.GraphModule:
    """The named form of a captured plain backbone; without norms every form is the plain one."""
    builders: dict[FormName, Callable[[], fx.GraphModule]] = {
        "plain": lambda: plain_form(backbone),
        "modulated": lambda: modulated_form(backbone),
        "measured": lambda: measured_form(backbone, stat_rows),
    }
    return builders[distinct_form(form, list_norms(backbone))]()


def distinct_form(form: FormName, norms: Sequence[object]) -> FormName:
    """``plain`` where there are no norms to treat in another way."""
    return form if norms else "plain"


# What the rewritten graphs call. Exporters trace through these.


def split_vectors(packed: Tensor, channels: list[int]) -> tuple[Tensor, ...]:
    """[rows, S] -> per row and norm one [1, C, 1, 1], all of row 0 first: a single Split in ONNX."""
    rows = packed.shape[0]
    return torch.split(packed.reshape(1, -1, 1, 1), channels * rows, dim=1)


def unbiasing_factors(image: Tensor, positions: Tensor) -> Tensor:
    """N / (n - 1) for every channel, n = batch * positions: [1, S]."""
    count = positions * image.shape[0]
    return count / (count - 1).clamp(min=1.0)


def measure(x: Tensor, unbiasing: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance over batch and sampled rows, [1, C, 1, 1] each, detached.

    Sampling starts half a stride from the top: row 0 is mostly zero padding and sky, and
    statistics that start there cost up to 4 points of mIoU.
    """
    sample = x.detach()[:, :, stride // 2 :: stride] if stride > 1 else x.detach()
    mean = sample.mean((0, 2, 3), keepdim=True)
    centred = sample - mean
    return mean, (centred * centred).mean((0, 2, 3), keepdim=True) * unbiasing


def complement(weight: Tensor) -> Tensor:
    return 1 - weight


def mix(
    anchor_mean: Tensor,
    anchor_var: Tensor,
    mean: Tensor,
    var: Tensor,
    of_anchor_mean: Tensor,
    of_anchor_var: Tensor,
    of_mean: Tensor,
    of_var: Tensor,
    of_difference: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean and variance that a norm uses."""
    difference = mean - anchor_mean
    mixed_var = of_anchor_var * anchor_var + of_var * var + of_difference * (difference * difference)
    return of_anchor_mean * anchor_mean + of_mean * mean, mixed_var


def normalise(
    x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> Tensor:
    scale = torch.rsqrt(var + eps)
    if gamma is not None:
        scale = scale * gamma.reshape(1, -1, 1, 1)
    shift = -mean * scale
    if beta is not None:
        shift = shift + beta.reshape(1, -1, 1, 1)
    return modulate(x, scale, shift)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    if x.dim() != 4:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        scale, shift = scale.reshape(shape), shift.reshape(shape)
    return torch.addcmul(shift, x, scale)


def pack_statistics(means: list[Tensor], variances: list[Tensor]) -> Tensor:
    """[1, C, 1, 1] of every norm -> [2, S]."""
    return torch.cat([*means, *variances], dim=1).reshape(2, -1)


def _item(values: tuple[Tensor, ...], index: int) -> Tensor:
    return values[index]


def _copied(backbone: fx.GraphModule) -> tuple[fx.GraphModule, list[fx.Node]]:
    """A copy whose graph can be rewritten; parameters and buffers stay shared with the original."""
    form = fx.GraphModule(backbone, copy.deepcopy(backbone.graph))
    return form, norm_nodes(form)


def _placeholder(form: fx.GraphModule, name: str) -> fx.Node:
    last = [node for node in form.graph.nodes if node.op == "placeholder"][-1]
    with form.graph.inserting_after(last):
        return form.graph.placeholder(name)


def _replace(node: fx.Node, by: fx.Node) -> None:
    by.meta = dict(node.meta)
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _finished(form: fx.GraphModule) -> fx.GraphModule:
    form.graph.eliminate_dead_code()
    form.graph.lint()
    form.recompile()
    return form
