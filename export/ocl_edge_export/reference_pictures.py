"""How far from the trained statistics pictures of nothing are: the scales of distances in this network.

Pure noise tells where statistics are too far to learn from. Pictures of discs tell what home is: as in
photographs things hide each other at all sizes, so that edges and areas are like theirs (A. B. Lee,
D. Mumford, J. Huang, *Occlusion models for natural images*, IJCV 2001), and they show nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR, Prior, statistics_distance
from ocl_edge.network.batch_norms import list_norms, trained_tensors
from ocl_edge.network.forms import build_form
from ocl_edge.network.preprocess import InputSpec, noise_view

PICTURES = 4
"""Whose mean distance counts: single ones differ by a tenth."""
LEAST_RADIUS_PX, LARGEST_RADIUS_PX = 3.0, 120.0
"""Between them the number of radii falls with their cube, so that no size stands out."""
COLOUR = 0.08
"""Standard deviation of a disc's channels around its grey, which may be any."""
COVER = 6
"""Times the area of the picture that its discs have together."""


class Distances(NamedTuple):
    """Of reference pictures, `statistics_distance`; None where there are no norms.

    Attributes:
        noise: with norms unmixed and wide open.
        discs: with norms unmixed.
    """

    noise: tuple[float, float] | None
    discs: float | None


@torch.no_grad()
def see_reference_pictures(
    backbone: fx.GraphModule,
    frame: InputSpec,
    stat_rows: int,
    places: tuple[float, ...] | None = None,
    prior: Prior = DEFAULT_PRIOR,
) -> Distances:
    """Reference pictures through the measured form.

    Args:
        backbone: captured.
        frame: size and normalisation of the input.
        stat_rows: as for `build_form`.
        places: of the norms, see `prior_of_channels`.
        prior: wide open.
    """
    channels = [norm.channels for norm in list_norms(backbone)]
    if not channels:
        return Distances(None, None)
    trained = trained_tensors(backbone)
    statistics = torch.stack((trained["mean"], trained["var"]))
    measured = build_form(backbone, "measured", stat_rows)
    mixing = Mixing.of_prior(channels, prior, places)

    def distance(view: Tensor, opening: float) -> float:
        return statistics_distance(measured(view, statistics, mixing.at(opening))[-1], statistics)

    noise = noise_view(frame)
    unmixed, wide_open = (distance(noise, opening) for opening in (0.0, 1.0))
    discs = [distance(discs_view(frame, seed), 0.0) for seed in range(PICTURES)]
    return Distances((unmixed, wide_open), float(np.mean(discs)))


def discs_view(spec: InputSpec, seed: int) -> Tensor:
    """A picture of discs that hide each other, normalised: float32 [1, C, h, w].

    Args:
        spec: size, channels and normalisation.
        seed: of places, sizes and colours.
    """
    random = np.random.default_rng(seed)
    height, width = spec.height, spec.width
    pixels = np.full((height, width, spec.channels), 0.5, np.float32)
    sizes = LARGEST_RADIUS_PX / LEAST_RADIUS_PX
    mean_area = 2 * math.pi * LEAST_RADIUS_PX**2 * math.log(sizes)
    for _ in range(math.ceil(COVER * height * width / mean_area)):
        radius = LEAST_RADIUS_PX / math.sqrt(random.uniform(sizes**-2, 1))
        y, x = random.uniform(0, height), random.uniform(0, width)
        colour = (random.uniform() + random.normal(0, COLOUR, spec.channels)).clip(0, 1)
        rows = np.arange(max(0, math.ceil(y - radius)), min(height, math.floor(y + radius) + 1))
        columns = np.arange(max(0, math.ceil(x - radius)), min(width, math.floor(x + radius) + 1))
        inside = np.square(rows - y)[:, None] + np.square(columns - x) <= radius**2
        if inside.any():
            pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][inside] = colour
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return (planes[None] * spec.scale - mean) / std
