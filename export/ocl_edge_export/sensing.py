"""Which norms see the image itself: they tell how far from home it is, however the norms are mixed."""

from __future__ import annotations

from torch import fx

from ocl_edge.network.batch_norms import batch_norms, list_norms, norm_nodes


def which_norms_sense(backbone: fx.GraphModule) -> list[bool]:
    """For every norm of `list_norms`: no other norm feeds it, directly or through other layers.

    A norm whose input has one position an image senses nothing: one value has no variance. Found by a
    walk over the graph: two passes under different mixing would also leave a nearly constant norm alike.
    What stands behind a BatchNorm that stays as trained senses nothing either: it sees no image, and many
    channels that hardly move hide what the few others tell.

    Args:
        backbone: captured, as `list_norms` takes it.
    """
    behind_a_norm: set[fx.Node] = set()
    norms = set(batch_norms(backbone))
    for node in backbone.graph.nodes:  # in the order of execution: what feeds a node comes before it
        if any(entry in norms or entry in behind_a_norm for entry in node.all_input_nodes):
            behind_a_norm.add(node)
    return [
        node not in behind_a_norm and not norm.pinned
        for node, norm in zip(norm_nodes(backbone), list_norms(backbone), strict=True)
    ]
