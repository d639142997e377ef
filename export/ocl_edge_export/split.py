"""Cut a captured network into backbone, head and tail.

    image -> [backbone] -> features -> [head] -> logits -> [tail] -> logits at image size

The head starts at one module, or at the last layers with weights, and ends where the
scores of the classes are (`class_scores`). What follows treats every class alike and is the
tail. All the rest is the backbone; every tensor that crosses from it into the head is a
feature. Constants, sizes and weights that are computed from others depend on no image:
each part that uses them gets its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TypeVar

from torch import fx

from ocl_edge.errors import SplitError
from ocl_edge.network.batch_norms import norm_nodes
from ocl_edge_export.class_scores import (
    ClassScores,
    Values,
    append_logits,
    find_scores,
    loss_rewriting,
    restore_output,
)
from ocl_edge_export.graph_parts import BILINEAR, GraphParts, owner, subgraph

__all__ = ["Cut", "SplitNetwork", "over_one_backbone", "owner", "plan_cut", "split_network"]

Each = TypeVar("Each")


@dataclass(frozen=True)
class SplitNetwork:
    """A network in three parts.

    Attributes:
        backbone: image [N,3,H,W] -> tuple of features.
        head: features -> logits [N,C,h,w].
        tail: logits -> logits at the network's output size; None where there is nothing
            but an optional bilinear upsampling to the image's size.
        align_corners: how the bilinear upsampling samples; False where there is none.
        module: where the head starts.
        features: shape of each feature for one image.
        logits: shape of the logits for one image.
        crossing: name of the node of the captured network that gives each feature.
        head_inputs: which of the features the head reads; None: all, in their order.
        norm_places: of the norms on their way to the outputs, 0 to 1; None: of one output, in their order.
    """

    backbone: fx.GraphModule
    head: fx.GraphModule
    tail: fx.GraphModule | None
    align_corners: bool
    module: str
    features: list[list[int]]
    logits: list[int]
    crossing: tuple[str, ...] = ()
    head_inputs: tuple[int, ...] | None = None
    norm_places: tuple[float, ...] | None = None

    def of_head(self, features: Sequence[Each]) -> list[Each]:
        """What the head reads of something that there is for each feature."""
        return list(features) if self.head_inputs is None else [features[index] for index in self.head_inputs]


@dataclass(frozen=True)
class Cut:
    """Where a network is cut.

    Attributes:
        module: where the head starts; several names have a plus between them.
        head: its nodes.
        features: nodes of the backbone that it reads.
        found: the class scores, where the head ends, and the tail.
    """

    module: str
    head: list[fx.Node]
    features: list[fx.Node]
    found: ClassScores


def split_network(
    network: fx.GraphModule, module: str = "auto", values: Values = "logits", threshold: float = 0.5
) -> SplitNetwork:
    """Cut a captured network at a module.

    Args:
        network: from `capture`.
        module: qualified name of the module where the head starts; ``auto`` takes the last layer
            with a weight of two or more dimensions on every way to the output.
        values: what the network's output is, see `class_scores.values_of`.
        threshold: of a network with one channel: probability from which a pixel is foreground.

    Raises:
        SplitError: there is no such module, or no clean cut there.
    """
    parts = GraphParts(network)
    cut = plan_cut(parts, module)
    scores, tail = cut.found.scores, cut.found.tail
    binary, hidden = loss_rewriting(cut.found, values)
    head = subgraph(parts, cut.head, cut.features, [scores])
    append_logits(head, binary, hidden)
    plain_threshold = not binary or threshold == 0.5
    resize = _lone_bilinear(parts, tail) if plain_threshold and not hidden else None
    restored = None
    if (tail and resize is None) or not plain_threshold or hidden:
        restored = subgraph(parts, tail, [scores], [tail[-1] if tail else scores])
        restore_output(restored, binary, hidden, threshold)
    classes, height, width = (int(side) for side in scores.meta["val"].shape[1:])
    behind = {*cut.head, *tail}
    return SplitNetwork(
        backbone=subgraph(parts, [n for n in parts.computing if n not in behind], None, cut.features),
        head=head,
        tail=restored,
        align_corners=bool(resize.args[2]) if resize is not None else False,
        module=cut.module,
        features=[_shape(node) for node in cut.features],
        logits=[2 if binary else classes, height, width],
        crossing=tuple(node.name for node in cut.features),
    )


def over_one_backbone(network: fx.GraphModule, splits: Mapping[str, SplitNetwork]) -> dict[str, SplitNetwork]:
    """The same heads and tails over one backbone, which gives the features of all of them.

    Args:
        network: gives all outputs.
        splits: of its outputs, each from `only_output`, whose nodes have the names of the network's.

    Raises:
        SplitError: see `subgraph`.
    """
    parts = GraphParts(network)
    wanted = {name for split in splits.values() for name in split.crossing}
    features = [node for node in parts.computing if node.name in wanted]
    needed = parts.ancestors(features)
    backbone = subgraph(parts, [n for n in parts.computing if n in needed], None, features)
    names, shapes = [node.name for node in features], [_shape(node) for node in features]
    places = _places(backbone, [split.backbone for split in splits.values()])
    return {
        output: replace(
            split,
            backbone=backbone,
            features=shapes,
            head_inputs=tuple(names.index(name) for name in split.crossing),
            norm_places=places,
        )
        for output, split in splits.items()
    }


def _places(whole: fx.GraphModule, parts: Sequence[fx.GraphModule]) -> tuple[float, ...]:
    """Of each norm of a backbone: how far it is on the way through those parts that have it, their mean."""
    found: dict[str, list[float]] = {}
    for part in parts:
        norms = norm_nodes(part)
        for index, node in enumerate(norms):
            found.setdefault(node.name, []).append(index / max(1, len(norms) - 1))
    return tuple(mean(found[node.name]) for node in norm_nodes(whole))


def _shape(node: fx.Node) -> list[int]:
    """For one image."""
    return [int(side) for side in node.meta["val"].shape[1:]]


def plan_cut(parts: GraphParts, module: str) -> Cut:
    """Where the head starts and ends, and what it reads.

    Raises:
        SplitError: see `split_network`.
    """
    found = find_scores(parts.network)
    needed = parts.ancestors([found.scores])
    starts = _last_weighted(parts, needed) if module == "auto" else _inside(parts, module)
    name = _name_of(parts, starts) if module == "auto" else module
    head = [n for n in parts.computing if n in parts.descendants(starts) and n in needed]
    if not any(parts.parameters(n) for n in head):
        raise SplitError(f"{name} and what follows it have no parameters, so there is nothing to train")
    inside = set(head)
    sources = {s for n in head for s in n.all_input_nodes if s not in inside and not parts.free(s)}
    for source in sources:
        readers = ", ".join(sorted({parts.layer(u) or u.name for u in source.users if u in inside}))
        if source.op == "placeholder":
            raise SplitError(
                f"a head that starts at {name} would read the image itself ({readers}); choose a later module"
            )
        if not parts.has_batch_first(source):
            raise SplitError(
                f"a head that starts at {name} would read what {parts.layer(source) or source.name} gives "
                f"({list(source.meta['val'].shape)}) in {readers}: not a tensor with one entry an image"
            )
    return Cut(name, head, [n for n in parts.computing if n in sources], found)


def _last_weighted(parts: GraphParts, needed: set[fx.Node]) -> list[fx.Node]:
    """Layers with weights after which no other layer with weights comes on the way to the scores."""
    before: set[fx.Node] = set()
    last: list[fx.Node] = []
    for node in reversed(parts.computing):
        if node not in needed or node in before:
            continue
        if parts.is_weighted(node):
            last.insert(0, node)
            before |= parts.ancestors(node.all_input_nodes)
    if not last:
        raise SplitError("the network has no layer with weights, so there is nothing to train")
    return last


def _name_of(parts: GraphParts, starts: list[fx.Node]) -> str:
    return " + ".join(dict.fromkeys(parts.layer(node) for node in starts))


def _inside(parts: GraphParts, module: str) -> list[fx.Node]:
    def matches(name: str) -> bool:
        return name == module or name.startswith(f"{module}.")

    found = [n for n in parts.computing if matches(owner(n)) or matches(parts.layer(n))]
    if not found:
        known = sorted({parts.layer(n) for n in parts.computing} - {""})
        close = [name for name in known if module.split(".")[-1] in name] or known[-10:]
        raise SplitError(
            f"no module {module!r} in the captured network; for example: {', '.join(close[:10])}"
        )
    return found


def _lone_bilinear(parts: GraphParts, tail: list[fx.Node]) -> fx.Node | None:
    """The tail, if it is one bilinear resize to the image's size: the runtime then goes to the frame's."""
    if len(tail) != 1 or tail[0].target is not BILINEAR:
        return None
    resize = tail[0]
    source = resize.args[0]
    assert isinstance(source, fx.Node)
    sizes = [[int(side) for side in n.meta["val"].shape[2:]] for n in (parts.image, resize, source)]
    scales = resize.args[3] if len(resize.args) > 3 else None
    exact = isinstance(scales, list | tuple) and all(
        scale is None or abs(float(scale) * small - large) < 1e-6
        for scale, small, large in zip(scales, sizes[2], sizes[1], strict=True)
    )
    return resize if sizes[0] == sizes[1] and (scales is None or exact) else None
