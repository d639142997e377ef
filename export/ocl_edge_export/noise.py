"""How far from the trained statistics a frame of pure noise is: the scale of distances in this network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from ocl_edge.method.home import AWAY_FROM, SensingNorms
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR, Prior, statistics_distance
from ocl_edge.network.batch_norms import list_norms, trained_tensors
from ocl_edge.network.forms import build_form
from ocl_edge.network.preprocess import InputSpec, noise_view


@torch.no_grad()
def noise_distances(
    backbone: fx.GraphModule,
    frame: InputSpec,
    stat_rows: int,
    places: tuple[float, ...] | None = None,
    prior: Prior = DEFAULT_PRIOR,
) -> tuple[float, float] | None:
    """`statistics_distance` of pixels that are random and independent, with norms unmixed and wide open.

    None where there are no norms.

    Args:
        backbone: captured.
        frame: size and normalisation of the input.
        stat_rows: as for `build_form`.
        places: of the norms, see `prior_of_channels`.
        prior: wide open.
    """
    norms = list_norms(backbone)
    if not norms:
        return None
    view = noise_view(frame)
    trained = trained_tensors(backbone)
    statistics = torch.stack((trained["mean"], trained["var"]))
    measured = build_form(backbone, "measured", stat_rows)
    mixing = Mixing.of_prior([norm.channels for norm in norms], prior, places)
    unmixed, wide_open = (
        statistics_distance(measured(view, statistics, weight)[-1], statistics)
        for weight in (mixing.at(0.0), mixing.at(1.0))
    )
    return unmixed, wide_open


@torch.no_grad()
def noise_is_away(backbone: fx.GraphModule, frame: InputSpec, sensing: Sequence[int]) -> bool | None:
    """Whether the sensing norms find pure noise away from home; None without such norms.

    Args:
        backbone: captured.
        frame: size and normalisation of the input.
        sensing: indices of the norms that sense.
    """
    if not sensing:
        return None
    norms, trained = list_norms(backbone), trained_tensors(backbone)
    statistics = torch.stack((trained["mean"], trained["var"]))
    channels = [norm.channels for norm in norms]
    shut = Mixing.of_prior(channels, DEFAULT_PRIOR).at(0.0)
    seen = build_form(backbone, "measured", 1)(noise_view(frame), statistics, shut)[-1]
    return SensingNorms(statistics, channels, sensing).distance(seen) >= AWAY_FROM
