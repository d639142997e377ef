"""How far from the trained statistics a frame of pure noise is: the scale of distances in this network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import fx

from ocl_edge.method.home import AWAY_FROM, SensingNorms
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR, Prior, statistics_distance
from ocl_edge.network.batch_norms import list_norms, trained_tensors
from ocl_edge.network.forms import build_form
from ocl_edge.network.preprocess import InputSpec, noise_view


class Noise(NamedTuple):
    """What the norms of a network see of pixels that are random and independent.

    Attributes:
        distances: `statistics_distance` with norms unmixed and wide open; None where there are no norms.
        away: whether the sensing norms find it away from home; None where no norm senses.
    """

    distances: tuple[float, float] | None
    away: bool | None


@torch.no_grad()
def see_noise(
    backbone: fx.GraphModule,
    frame: InputSpec,
    stat_rows: int,
    sensing: Sequence[int],
    places: tuple[float, ...] | None = None,
    prior: Prior = DEFAULT_PRIOR,
) -> Noise:
    """A frame of pure noise through the measured form.

    Args:
        backbone: captured.
        frame: size and normalisation of the input.
        stat_rows: as for `build_form`.
        sensing: indices of the norms that sense.
        places: of the norms, see `prior_of_channels`.
        prior: wide open.
    """
    channels = [norm.channels for norm in list_norms(backbone)]
    if not channels:
        return Noise(None, None)
    trained = trained_tensors(backbone)
    statistics = torch.stack((trained["mean"], trained["var"]))
    measured, view = build_form(backbone, "measured", stat_rows), noise_view(frame)
    mixing = Mixing.of_prior(channels, prior, places)
    unmixed, wide_open = (measured(view, statistics, mixing.at(opening))[-1] for opening in (0.0, 1.0))
    distances = statistics_distance(unmixed, statistics), statistics_distance(wide_open, statistics)
    if not sensing:
        return Noise(distances, None)
    return Noise(distances, SensingNorms(statistics, channels, sensing).distance(unmixed) >= AWAY_FROM)
