"""Cut a captured network into backbone, head and tail.

    image -> [backbone] -> features -> [head] -> logits -> [tail] -> logits at image size

The head starts at one module and ends after the last parameters that depend on it. What
follows has no parameters and is the tail. All the rest is the backbone; every tensor
that crosses from it into the head is a feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ocl_edge.errors import SplitError

NO_OPS = {
    torch.ops.aten.dropout.default,
    torch.ops.aten.feature_dropout.default,
    torch.ops.aten.detach.default,
    torch.ops.aten.clone.default,
    torch.ops.aten.contiguous.default,
    torch.ops.aten.alias.default,
}
SYM_SIZE = torch.ops.aten.sym_size.int
BILINEAR = torch.ops.aten.upsample_bilinear2d.vec


@dataclass(frozen=True)
class SplitNetwork:
    """A network in three parts.

    Attributes:
        backbone: image [N,3,H,W] -> tuple of features.
        head: features -> logits [N,C,h,w].
        tail: logits -> logits at the network's output size; None where there is nothing
            but an optional bilinear upsampling.
        align_corners: how the bilinear upsampling samples; False where there is none.
        module: where the head starts.
        features: shape of each feature for one image.
        logits: shape of the logits for one image.
    """

    backbone: fx.GraphModule
    head: fx.GraphModule
    tail: fx.GraphModule | None
    align_corners: bool
    module: str
    features: list[list[int]]
    logits: list[int]


def split_network(network: fx.GraphModule, module: str = "auto") -> SplitNetwork:
    """Cut a captured network at a module.

    Args:
        network: from `capture`.
        module: qualified name of the module where the head starts; ``auto`` is the last
            layer with a weight of two or more dimensions.

    Raises:
        SplitError: there is no such module, or no clean cut there.
    """
    _drop_no_ops(network)
    nodes = [n for n in network.graph.nodes if n.op not in ("placeholder", "get_attr", "output")]
    weighted = [n for n in nodes if _weights(network, n)]
    if not weighted:
        raise SplitError("the network has no layer with weights, so there is nothing to train")
    start, name = (
        ([weighted[-1]], owner(weighted[-1])) if module == "auto" else (_inside(nodes, module), module)
    )
    below = _descendants(start, nodes)
    trained = [n for n in below if _parameters(network, n)]
    if not trained:
        raise SplitError(f"{name} and what follows it have no parameters, so there is nothing to train")
    head = set(start) | (below & _ancestors(trained))
    tail = [n for n in nodes if n in below and n not in head]
    logits = _single_exit(head, name)
    backbone = [n for n in nodes if n not in head and n not in below]
    cut = _cut_tensors(head, set(backbone), network)
    _refuse_reads_from_backbone(tail, head, name)
    output = network.graph.output_node().args[0]
    result = output[0] if isinstance(output, tuple | list) else output
    assert isinstance(result, fx.Node)
    resize = _lone_bilinear(tail, logits, result)
    return SplitNetwork(
        backbone=_subgraph(network, backbone, None, cut),
        head=_subgraph(network, [n for n in nodes if n in head], cut, [logits]),
        tail=None if not tail or resize is not None else _subgraph(network, tail, [logits], [result]),
        align_corners=bool(resize.args[2]) if resize is not None else False,
        module=name,
        features=[[int(side) for side in n.meta["val"].shape[1:]] for n in cut],
        logits=[int(side) for side in logits.meta["val"].shape[1:]],
    )


def owner(node: fx.Node) -> str:
    """Qualified name of the innermost module that a node was captured in, '' for the root."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _inside(nodes: list[fx.Node], module: str) -> list[fx.Node]:
    found = [n for n in nodes if owner(n) == module or owner(n).startswith(f"{module}.")]
    if not found:
        known = sorted({owner(n) for n in nodes} - {""})
        close = [name for name in known if module.split(".")[-1] in name] or known[-10:]
        raise SplitError(
            f"no module {module!r} in the captured network; for example: {', '.join(close[:10])}"
        )
    return found


def _tensor(network: fx.GraphModule, node: fx.Node) -> Tensor | None:
    value: object = network
    for part in str(node.target).split("."):
        value = getattr(value, part, None)
    return value if isinstance(value, Tensor) else None


def _parameters(network: fx.GraphModule, node: fx.Node) -> list[Tensor]:
    tensors = [_tensor(network, n) for n in node.all_input_nodes if n.op == "get_attr"]
    return [t for t in tensors if isinstance(t, torch.nn.Parameter)]


def _weights(network: fx.GraphModule, node: fx.Node) -> list[Tensor]:
    return [p for p in _parameters(network, node) if p.dim() >= 2]


def _descendants(start: list[fx.Node], nodes: list[fx.Node]) -> set[fx.Node]:
    found = set(start)
    for node in nodes:
        if any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _ancestors(ends: list[fx.Node]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found


def _single_exit(head: set[fx.Node], name: str) -> fx.Node:
    exits = [n for n in head if any(user not in head for user in n.users)]
    if len(exits) != 1:
        raise SplitError(
            f"a head that starts at {name} would hand on {len(exits)} tensors "
            f"({', '.join(sorted(n.name for n in exits))}); one tensor of logits is needed: "
            "choose a later module"
        )
    shape = getattr(exits[0].meta.get("val"), "shape", ())
    if len(shape) != 4:
        raise SplitError(
            f"a head that starts at {name} ends in shape {list(shape)}, not in logits [N, classes, h, w]"
        )
    return exits[0]


def _cut_tensors(head: set[fx.Node], backbone: set[fx.Node], network: fx.GraphModule) -> list[fx.Node]:
    order = {node: index for index, node in enumerate(network.graph.nodes)}
    sources = {source for node in head for source in node.all_input_nodes}
    crossing = [n for n in sources if n in backbone or n.op == "placeholder"]
    tensors = [n for n in crossing if isinstance(n.meta.get("val"), Tensor)]
    if any(n.op == "placeholder" for n in tensors):
        raise SplitError("the head would read the image itself; choose a later module")
    return sorted(tensors, key=order.__getitem__)


def _refuse_reads_from_backbone(tail: list[fx.Node], head: set[fx.Node], name: str) -> None:
    allowed = head | set(tail)
    for node in tail:
        for source in node.all_input_nodes:
            if source.op == "get_attr" or source in allowed or not isinstance(source.meta.get("val"), Tensor):
                continue
            raise SplitError(
                f"after the head at {name}, {node.name} also reads {source.name} from the backbone; "
                "choose an earlier module, so that this lies inside the head"
            )


def _lone_bilinear(tail: list[fx.Node], logits: fx.Node, result: Any) -> fx.Node | None:
    """The tail, if it is one bilinear resize: the runtime then goes straight to the frame's size."""
    computing = [n for n in tail if n.target is not SYM_SIZE]
    if len(computing) == 1 and computing[0] is result and computing[0].target is BILINEAR:
        return computing[0] if computing[0].args[0] is logits else None
    return None


def _subgraph(
    network: fx.GraphModule, nodes: list[fx.Node], inputs: list[fx.Node] | None, outputs: list[fx.Node]
) -> fx.GraphModule:
    """Those nodes as a module of their own. ``inputs`` None: the network's own image."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    entries = [n for n in network.graph.nodes if n.op == "placeholder"] if inputs is None else inputs
    for index, entry in enumerate(entries):
        name = (
            "image"
            if inputs is None
            else ("logits" if len(entries) == 1 and not outputs else f"features_{index}")
        )
        copies[entry] = graph.placeholder(name)
        copies[entry].meta = dict(entry.meta)

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies and node.op == "get_attr":
            copies[node] = graph.node_copy(node)
        elif node not in copies and node.target is SYM_SIZE and node.args[1] == 0:
            copies[node] = graph.call_function(SYM_SIZE, (copies[entries[0]], 0))
            copies[node].meta = dict(node.meta)
        elif node not in copies:
            raise SplitError(f"{node.name} is needed on both sides of the cut and cannot be carried across")
        return copies[node]

    for node in nodes:
        copies[node] = graph.node_copy(node, copied)
    graph.output(tuple(copied(node) for node in outputs))
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(network, graph)  # copies only what the graph refers to


def _drop_no_ops(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        if node.target in NO_OPS:
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
    network.graph.eliminate_dead_code()
    network.recompile()
