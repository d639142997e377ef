"""Where in a captured network the scores of the classes are, and what its output makes of them.

    features -> ... -> class scores [N, C, h, w] -> [resize, crop, softmax] -> output

The output decides what a class is: everything that gives a channel another meaning
(pixel shuffle, a background channel, a sum of two classifiers, a layout) comes before the
scores. What follows treats every class alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

from ocl_edge.errors import CaptureError
from ocl_edge_export.outputs import CLASS_MAP

ATEN = torch.ops.aten
Values = Literal["logits", "probabilities", "log-probabilities"]

RESIZES = {
    getattr(getattr(ATEN, f"{name}2d{suffix}"), overload)
    for name, suffix in (
        ("upsample_bilinear", ""),
        ("upsample_nearest", ""),
        ("upsample_bicubic", ""),
        ("_upsample_nearest_exact", ""),
        ("_upsample_bilinear", "_aa"),
        ("_upsample_bicubic", "_aa"),
    )
    for overload in ("vec", "default")
}
SOFTMAX = {ATEN.softmax.int, ATEN._softmax.default}
LOG_SOFTMAX = {ATEN.log_softmax.int, ATEN._log_softmax.default}
SIGMOID = {ATEN.sigmoid.default}
CROPS = {ATEN.slice.Tensor}
CHOOSES_A_CLASS = {ATEN.argmax.default, ATEN.topk.default, ATEN.max.dim}
CLASSES, ROWS = 1, 2
LEAST_PROBABILITY = 1e-12
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ClassScores:
    """The node that gives the scores, and the nodes from there to the output, in order."""

    scores: fx.Node
    tail: list[fx.Node]


def find_scores(network: fx.GraphModule) -> ClassScores:
    """Walk back from the output over operators that treat every class alike."""
    node = output_of(network)
    tail: list[fx.Node] = []
    while _treats_classes_alike(node) and len(node.all_input_nodes) >= 1:
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_function":
            break
        if any(user is not node for user in source.users if isinstance(user.meta.get("val"), Tensor)):
            break
        tail.insert(0, node)
        node = source
    return ClassScores(node, tail)


def output_of(network: fx.GraphModule) -> fx.Node:
    output = network.graph.output_node().args[0]
    result = output[0] if isinstance(output, tuple | list) else output
    assert isinstance(result, fx.Node)
    return result


def refuse_class_maps(network: fx.GraphModule) -> None:
    """Raise where the output holds indices of classes, as numbers of another type.

    Raises:
        CaptureError: with advice.
    """
    node = output_of(network)
    while node.op == "call_function" and len(node.all_input_nodes) == 1:
        if node.target in CHOOSES_A_CLASS:
            raise CaptureError(CLASS_MAP)
        node = node.all_input_nodes[0]


def values_of(network: fx.GraphModule, output: Tensor) -> Values:
    """What the numbers of an output are.

    Args:
        network: captured.
        output: what it gives for real images or noise, [N, C, H, W].
    """
    targets = [node.target for node in find_scores(network).tail]
    if any(target in SOFTMAX | SIGMOID for target in targets):
        return "probabilities"
    if any(target in LOG_SOFTMAX for target in targets):
        return "log-probabilities"
    if not (float(output.min()) >= 0 and float(output.max()) <= 1 + SUM_TOLERANCE):
        return "logits"
    if output.shape[CLASSES] > 1:
        return "probabilities" if float((output.sum(CLASSES) - 1).abs().max()) < SUM_TOLERANCE else "logits"
    squashed = {node.target for node in network.graph.nodes} & (SOFTMAX | SIGMOID)
    return "probabilities" if squashed else "logits"


def loss_rewriting(found: ClassScores, values: Values) -> tuple[bool, bool]:
    """Whether the scores are one channel, and whether they are probabilities themselves."""
    made = any(node.target in SOFTMAX | SIGMOID for node in found.tail)
    return int(found.scores.meta["val"].shape[CLASSES]) == 1, values == "probabilities" and not made


def append_logits(head: fx.GraphModule, binary: bool, hidden: bool) -> None:
    """Make a head give what the loss takes: logits of two or more classes.

    One channel z becomes two, (0, z): their softmax is (1 - sigmoid(z), sigmoid(z)).
    Probabilities become their logarithms, whose softmax they are.

    Args:
        head: changed in place.
        binary: it gives one channel.
        hidden: it gives probabilities.
    """
    output = head.graph.output_node()
    node = output_of(head)
    with head.graph.inserting_before(output):
        if hidden and binary:
            node = head.graph.call_function(ATEN.logit.default, (node, LEAST_PROBABILITY))
        elif hidden:
            node = head.graph.call_function(ATEN.clamp.default, (node, LEAST_PROBABILITY))
            node = head.graph.call_function(ATEN.log.default, (node,))
        if binary:
            node = head.graph.call_function(ATEN.constant_pad_nd.default, (node, [0, 0, 0, 0, 1, 0], 0.0))
    output.args = ((node,),)
    head.recompile()


def restore_output(tail: fx.GraphModule, binary: bool, hidden: bool, threshold: float) -> None:
    """Make a tail that begins with what `append_logits` gives end as the network's own output does.

    Args:
        tail: changed in place.
        binary: the network gives one channel; two come out, whose larger one is the class.
        hidden: the network gives probabilities.
        threshold: of one channel: probability from which a pixel is foreground.
    """
    logits = next(node for node in tail.graph.nodes if node.op == "placeholder")
    for node in list(tail.graph.nodes) if binary else ():
        if node.target in SIGMOID:
            node.target, node.args = ATEN.softmax.int, (node.args[0], CLASSES)
    if hidden:
        _insert_after(tail, logits, ATEN.softmax.int, CLASSES)
    if binary and threshold != 0.5:
        softmaxes = [node for node in tail.graph.nodes if node.target in SOFTMAX]
        background, foreground = shares_of(threshold)
        shares = (background, foreground) if softmaxes else (math.log(background / foreground), 0.0)
        tail.register_buffer("threshold", torch.tensor(shares).view(1, 2, 1, 1))
        with tail.graph.inserting_after(logits):
            weights = tail.graph.get_attr("threshold")
        if softmaxes:
            _insert_after(tail, softmaxes[-1], ATEN.mul.Tensor, weights)
        else:
            _insert_after(tail, weights, ATEN.add.Tensor, weights, source=logits)
    tail.graph.lint()
    tail.recompile()


def _insert_after(
    module: fx.GraphModule, place: fx.Node, target: Any, argument: Any, source: fx.Node | None = None
) -> None:
    """An operator on ``source``, by default ``place``, that everything after it reads instead."""
    read = source or place
    with module.graph.inserting_after(place):
        new = module.graph.call_function(target, (read, argument))
    read.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)


def binary_scores(output: Tensor, values: Values, threshold: float) -> Tensor:
    """One channel [N, 1, H, W] as scores of background and foreground [N, 2, H, W], whose larger one wins."""
    background, foreground = shares_of(threshold)
    if values == "probabilities":
        return torch.cat((background * (1 - output), foreground * output), CLASSES)
    return torch.cat((torch.full_like(output, math.log(background / foreground)), output), CLASSES)


def shares_of(threshold: float) -> tuple[float, float]:
    """Factors of the probabilities of background and foreground: the larger product wins at the threshold."""
    return 2 * threshold, 2 * (1 - threshold)


def _treats_classes_alike(node: fx.Node) -> bool:
    if node.target in RESIZES | SIGMOID:
        return True
    if node.target in SOFTMAX | LOG_SOFTMAX:
        return node.args[1] in (CLASSES, CLASSES - 4)
    return node.target in CROPS and node.args[1] in (2, 3, -1, -2)
