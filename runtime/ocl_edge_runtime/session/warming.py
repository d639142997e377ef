"""Before the first frame: everything that it will need runs once on noise."""

from __future__ import annotations

import numpy as np

from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.segmenter import Segments
from ocl_edge_runtime.session.setup import Setup
from ocl_edge_runtime.session.update_policy import UpdatePolicy
from ocl_edge_runtime.session.updates import Updates

RUNS_WITH_A_CLOCK = 2
"""The first one loads; how long the second one takes is the history that realtime mode predicts from."""


def run_on_noise(
    setup: Setup, segmenter: Segments, updates: Updates, policy: UpdatePolicy, clock: Clock
) -> None:
    """Every form that frames go through, and in realtime mode an update.

    What learns and follows has changed afterwards: the caller brings its state back.
    """
    frame = setup.bundle.manifest.input
    image = np.random.default_rng(0).integers(0, 256, (frame.height, frame.width, 3), dtype=np.uint8)
    if setup.realtime is None:
        segmenter.see(image)
        return
    for run in range(RUNS_WITH_A_CLOCK):
        started = clock.now()
        segmenter.see(image, measured=True)
        measured_s = clock.now() - started
        seen = segmenter.see(image, measured=False)
        started = clock.now()
        if setup.trains:
            updates.try_out(seen)
        if run:
            segmenter.norms.took(measured_s)
            policy.took(clock.now() - started)
