"""Weights that are computed by operators that no bundle may call: computed once, and kept as they are."""

from __future__ import annotations

from operator import attrgetter

import torch
from torch import Tensor, fx

from ocl_edge.network.programs import place
from ocl_edge.network.programs.operators import OPERATORS, name_of

FOLDED = "folded"


def fold_foreign_weights(network: fx.GraphModule) -> None:
    """Replace what such an operator makes of weights alone by a tensor of the network.

    Orthogonal weights are a matrix exponential, for example. What they are computed from is then not
    trained; nothing that depends on the image is touched.

    Args:
        network: captured; changed in place. Its new tensors are called ``folded.NODE``.
    """
    known: dict[fx.Node, Tensor] = {}
    for node in list(network.graph.nodes):
        value = _value(network, node, known)
        if value is None:
            continue
        known[node] = value
        if node.op == "call_function" and name_of(node.target) not in OPERATORS:
            target = f"{FOLDED}.{node.name}"
            place(network, target, value.clone())
            with network.graph.inserting_before(node):
                held = network.graph.get_attr(target)
            held.meta = dict(node.meta)
            node.replace_all_uses_with(held)
            network.graph.erase_node(node)
            known[held] = value
    network.graph.eliminate_dead_code()
    network.recompile()


@torch.no_grad()
def _value(network: fx.GraphModule, node: fx.Node, known: dict[fx.Node, Tensor]) -> Tensor | None:
    """What a node gives, where weights alone decide it."""
    if node.op == "get_attr":
        found = attrgetter(str(node.target))(network)
        return found.detach() if isinstance(found, Tensor) else None
    inputs = node.all_input_nodes
    if node.op != "call_function" or not inputs or not all(source in known for source in inputs):
        return None
    assert callable(node.target)
    arguments = fx.node.map_arg((node.args, node.kwargs), lambda source: known[source])
    value = node.target(*arguments[0], **arguments[1])
    return value if isinstance(value, Tensor) else None
