"""The nodes of a captured network: which depend on the image, on each other, and belong to which layer."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from operator import attrgetter

import torch
from torch import Tensor, fx

from ocl_edge.errors import SplitError

SYM_SIZE = torch.ops.aten.sym_size.int
BILINEAR = torch.ops.aten.upsample_bilinear2d.vec


def owner(node: fx.Node) -> str:
    """Qualified name of the innermost module that a node was captured in, '' for the root."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


class GraphParts:
    """A captured network, its nodes sorted into those that depend on the image and those that do not.

    Attributes:
        network: the captured network.
        image: its input.
        computing: nodes that depend on the image, in order.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        self.network = network
        self.image = next(node for node in network.graph.nodes if node.op == "placeholder")
        dependent = {self.image}
        self.computing: list[fx.Node] = []
        self._behind: dict[fx.Node, list[Tensor]] = {}
        for node in network.graph.nodes:
            if node.op != "call_function" or _is_size(node):
                continue
            if any(source in dependent for source in node.all_input_nodes):
                dependent.add(node)
                self.computing.append(node)
        self._dependent = dependent

    def free(self, node: fx.Node) -> bool:
        """Whether a node depends on no pixel: a constant, a weight, what is computed from them, a size."""
        return node not in self._dependent

    def has_batch_first(self, node: fx.Node) -> bool:
        """Whether a node gives a tensor with one entry an image, all other sizes fixed."""
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or value.dim() < 2 or value.dtype is not torch.float32:
            return False
        batch = self.image.meta["val"].shape[0]
        return str(value.shape[0]) == str(batch) and all(str(side).isdecimal() for side in value.shape[1:])

    def parameters(self, node: fx.Node) -> list[Tensor]:
        """Parameters that a node reads, also through weights that are computed from them."""
        tensors = []
        for source in node.all_input_nodes:
            if self.free(source):
                tensors += self._tensors_behind(source)
        return [t for t in tensors if isinstance(t, torch.nn.Parameter)]

    def is_weighted(self, node: fx.Node) -> bool:
        return any(p.dim() >= 2 for p in self.parameters(node))

    def layer(self, node: fx.Node) -> str:
        """The module that owns what a node reads first, else the one that it was captured in."""
        for source in node.all_input_nodes:
            while self.free(source) and source.op != "get_attr" and source.all_input_nodes:
                source = source.all_input_nodes[0]
            if self.free(source) and source.op == "get_attr":
                target = str(source.target)
                return target.split(".parametrizations.")[0].rpartition(".")[0] or owner(node) or target
        return owner(node)

    def descendants(self, start: Iterable[fx.Node]) -> set[fx.Node]:
        found = set(start)
        for node in self.computing:
            if any(source in found for source in node.all_input_nodes):
                found.add(node)
        return found

    def ancestors(self, ends: Iterable[fx.Node]) -> set[fx.Node]:
        found: set[fx.Node] = set()
        waiting = list(ends)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(node.all_input_nodes)
        return found

    def _tensors_behind(self, node: fx.Node) -> list[Tensor]:
        if node not in self._behind:
            if node.op == "get_attr":
                value = attrgetter(str(node.target))(self.network)
                self._behind[node] = [value] if isinstance(value, Tensor) else []
            elif _is_size(node):
                self._behind[node] = []  # of a tensor that may depend on the image
            else:
                self._behind[node] = [t for s in node.all_input_nodes for t in self._tensors_behind(s)]
        return self._behind[node]


def subgraph(
    parts: GraphParts, nodes: list[fx.Node], inputs: list[fx.Node] | None, outputs: list[fx.Node]
) -> fx.GraphModule:
    """Those nodes as a module of their own. ``inputs`` None: the network's own image.

    Raises:
        SplitError: a size that depends on the batch in a way that the inputs do not tell.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    entries = [parts.image] if inputs is None else inputs
    for index, entry in enumerate(entries):
        copies[entry] = graph.placeholder("image" if inputs is None else f"features_{index}")
        copies[entry].meta = dict(entry.meta)
    batch = str(parts.image.meta["val"].shape[0])

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            if node.op == "get_attr":
                copies[node] = graph.node_copy(node)
            elif node.target is SYM_SIZE and str(node.meta["val"]) == batch:
                copies[node] = graph.call_function(SYM_SIZE, (copies[entries[0]], 0))
                copies[node].meta = dict(node.meta)
            elif parts.free(node):
                copies[node] = graph.node_copy(node, copied)
            else:
                raise SplitError(
                    f"{parts.layer(node) or 'forward()'} ({node.name}) is needed on both sides of the cut"
                )
        return copies[node]

    for node in nodes:
        copies[node] = graph.node_copy(node, copied)
    graph.output(tuple(copied(node) for node in outputs))
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(parts.network, graph)  # copies only what the graph refers to


def only_output(network: fx.GraphModule, index: int) -> fx.GraphModule:
    """A network that gives several outputs, giving one of them; its nodes keep their names and tensors."""
    graph = fx.Graph()
    outputs = graph.graph_copy(network.graph, {})
    assert isinstance(outputs, tuple | list)
    graph.output((outputs[index],))
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(network, graph)


def _is_size(node: fx.Node) -> bool:
    """Whether a node gives a number: a size, or arithmetic on sizes."""
    value = node.meta.get("val")
    if value is None:
        return node.target in (operator.mul, operator.add, operator.sub, operator.floordiv)
    return not isinstance(value, Tensor | tuple | list)
