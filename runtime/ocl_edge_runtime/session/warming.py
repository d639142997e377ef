"""Before the first frame: everything that it will need runs once on a made-up picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.segmenter import Seen, Segments
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.update_policy import UpdatePolicy
from ocl_edge_runtime.session.updates import Updates

PATCH = 32
"""Side of a patch in pixels; on noise a mask has edges everywhere and takes longer than a frame's."""


def run_once(setup: Setup, segmenter: Segments, updates: Updates, policy: UpdatePolicy, clock: Clock) -> None:
    """Every form that frames go through, and in realtime mode an update.

    What realtime mode predicts from runs twice: the first time loads, the second is its history.
    What learns and follows has changed afterwards: the caller brings its state back.
    """
    spec = setup.bundle.manifest.input
    image = patches(spec.height, spec.width, spec.frame_channels)
    if setup.realtime is None:
        segmenter.see(image)
        return
    segmenter.see(image, measured=True)
    try_out(setup, updates, segmenter.see(image, measured=False))
    started = clock.now()
    seen = segmenter.see(image, measured=True)
    segmenter.norms.took(clock.now() - started)
    started = clock.now()
    try_out(setup, updates, seen)
    policy.took(clock.now() - started)


def try_out(setup: Setup, updates: Updates, seen: Seen) -> None:
    """An update, where the method makes any."""
    if setup.trains:
        updates.try_out(seen)


def patches(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """uint8 [height, width, channels]: patches of random colours, always the same."""
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    colours = np.random.default_rng(0).integers(0, 256, (rows, columns, channels), dtype=np.uint8)
    return colours.repeat(PATCH, axis=0).repeat(PATCH, axis=1)[:height, :width]
