"""Norms that remember home, where training has left none: behind LayerNorms and GroupNorms.

Such layers normalise with the image's own statistics, and keep nothing of what they were trained on. But
behind each of them every channel has a mean and a variance at home, which home frames show. A BatchNorm with
those as its trained statistics, and with the weight and bias that undo it, changes nothing at home; and all
that moves norms away from home moves it, too: forms, weights, opening.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ocl_edge.method.norms import TINY_VARIANCE
from ocl_edge.network.batch_norms import BATCH_NORM, norm_nodes

NAME = "virtual_norm"
LAYER_NORM, GROUP_NORM = torch.ops.aten.layer_norm.default, torch.ops.aten.group_norm.default
PERMUTE, UNSQUEEZE, SQUEEZE = (
    torch.ops.aten.permute.default,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.squeeze.dim,
)
MOST_FRAMES = 40


def give_virtual_norms(backbone: fx.GraphModule, frames: Sequence[Tensor]) -> int:
    """Put a norm behind every LayerNorm and GroupNorm of a backbone that has more of them than norms.

    Args:
        backbone: changed in place.
        frames: of its home, float32 [1, C, H, W] each, normalised.

    Returns:
        How many norms there are now that were not there before.
    """
    layers = [node for node in backbone.graph.nodes if _to_channels_first(node) is not None]
    if len(layers) <= len(norm_nodes(backbone)):
        return 0
    for index, (layer, (mean, var)) in enumerate(_statistics(backbone, layers, frames).items()):
        _put_behind(backbone, layer, f"{NAME}_{index}", mean, var)
    backbone.graph.eliminate_dead_code()
    backbone.graph.lint()
    backbone.recompile()
    return len(layers)


def _to_channels_first(node: fx.Node) -> list[int] | None:
    """The permutation that makes a layer's output [N, C, ...]; None where it is no layer that counts."""
    if node.target not in (LAYER_NORM, GROUP_NORM):
        return None
    dims = node.meta["val"].dim()
    if node.target is GROUP_NORM:
        return list(range(dims)) if dims == 4 else None
    over_channels_alone = len(node.args[1]) == 1  # type: ignore[arg-type]
    return [0, dims - 1, *range(1, dims - 1)] if dims in (3, 4) and over_channels_alone else None


class _Watch(fx.Interpreter):
    """Runs the backbone, and keeps mean and variance of the channels behind some of its layers."""

    def __init__(self, backbone: fx.GraphModule, layers: Sequence[fx.Node]) -> None:
        super().__init__(backbone)
        self.seen: dict[fx.Node, list[Tensor]] = {layer: [] for layer in layers}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.seen:
            order = _to_channels_first(n)
            assert order is not None
            channels = result.permute(order).transpose(0, 1).flatten(1)
            self.seen[n].append(torch.stack((channels.mean(1), channels.var(1))))
        return result


@torch.no_grad()
def _statistics(
    backbone: fx.GraphModule, layers: Sequence[fx.Node], frames: Sequence[Tensor]
) -> dict[fx.Node, tuple[Tensor, Tensor]]:
    """Mean and variance of every channel behind each layer, [C] each: means over the frames."""
    watch = _Watch(backbone, layers)
    for frame in frames:
        watch.run(frame)
    means = {layer: torch.stack(seen).mean(0) for layer, seen in watch.seen.items()}
    return {layer: (mean, var.clamp(min=TINY_VARIANCE)) for layer, (mean, var) in means.items()}


def _put_behind(backbone: fx.GraphModule, layer: fx.Node, name: str, mean: Tensor, var: Tensor) -> None:
    module = nn.Module()
    tensors = {"weight": var.sqrt(), "bias": mean.clone(), "running_mean": mean, "running_var": var}
    for key, tensor in tensors.items():
        if key in ("weight", "bias"):
            module.register_parameter(key, nn.Parameter(tensor))
        else:
            module.register_buffer(key, tensor)
    backbone.add_submodule(name, module)
    order, graph, users = _to_channels_first(layer), backbone.graph, list(layer.users)
    assert order is not None
    last = layer

    def then(target: Any, *arguments: Any) -> fx.Node:
        nonlocal last
        with graph.inserting_after(last):
            node = graph.call_function(target, (last, *arguments))
        node.meta = {**layer.meta, "val": target(last.meta["val"], *arguments)}
        last = node
        return node

    there, back = order != sorted(order), [order.index(axis) for axis in range(len(order))]
    if there:
        then(PERMUTE, order)
    if len(order) == 3:
        then(UNSQUEEZE, 3)
    attributes = {}
    for key in tensors:
        with graph.inserting_before(layer):
            attributes[key] = graph.get_attr(f"{name}.{key}")
    with graph.inserting_after(last):
        norm = graph.call_function(BATCH_NORM, (last, *attributes.values(), False, 0.1, 0.0, True))
    norm.meta = dict(last.meta)
    last = norm
    if len(order) == 3:
        then(SQUEEZE, 3)
    channels_first = last
    if there:
        then(PERMUTE, back)
    for user in users:
        if user.target is PERMUTE and user.args[1] == order:  # there it goes anyway
            user.replace_all_uses_with(channels_first)
            graph.erase_node(user)
        else:
            user.replace_input_with(layer, last)
