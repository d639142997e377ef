"""Every second norm stays as trained, and the others move twice as far.

A norm that moved hands the next a picture that is nearly home, so the next has little to do; and each one
that is measured costs passes over its values, which an engine spares where it folds the norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from ocl_edge.method.norms import ALTERNATE_PRIOR, DEFAULT_PRIOR, Prior
from ocl_edge.network.batch_norms import keep_as_norms, list_norms, norm_nodes
from ocl_edge_export.split import SplitNetwork

NormsThatMove = Literal["all", "alternate"]
PRIORS: dict[NormsThatMove, Prior] = {"all": DEFAULT_PRIOR, "alternate": ALTERNATE_PRIOR}
"""Of a bundle, where nothing else is asked for."""


def let_alternate_stay(splits: Mapping[str, SplitNetwork]) -> dict[str, SplitNetwork]:
    """The parts of each output, whose norms are the first, third, fifth and so on of their backbone.

    A norm that works in several places counts once, where it works first. A pinned one stays, too: it moves
    in no form.

    Args:
        splits: of the outputs, over one backbone, whose nodes are marked in place.
    """
    backbone = next(iter(splits.values())).backbone
    nodes = norm_nodes(backbone)
    names = list(dict.fromkeys(norm.name for norm in list_norms(backbone) if not norm.pinned))
    keep_as_norms(backbone, set(names[::2]))
    move = set(norm_nodes(backbone))

    def places(split: SplitNetwork) -> tuple[float, ...] | None:
        if split.norm_places is None:
            return None
        return tuple(place for place, node in zip(split.norm_places, nodes, strict=True) if node in move)

    return {output: replace(split, norm_places=places(split)) for output, split in splits.items()}
