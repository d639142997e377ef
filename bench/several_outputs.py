"""Two tasks on one backbone against one task: the time to the masks and of the whole frame, interleaved.

    python bench/several_outputs.py BUNDLE --one BUNDLE [--frames N] [--backend NAME]

BUNDLE has several outputs (``export --output all``); that of ``--one`` holds one of them, exported by itself
(``export --output NAME``). Both run each frame of noise in one process, in turns, and learn on it. Told are
medians, and the median over the frames of the ratio, which a busy machine moves less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.timings import mask_latency_ms
from ocl_edge_runtime.session.opening_outputs import open_outputs
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.outputs import Outputs

SETTLE = 3
"""Frames that do not count."""
SIZE = (360, 640, 3)


def timed(outputs: Outputs, image: np.ndarray) -> tuple[float, float]:
    """Milliseconds to the masks, and of the whole frame."""
    started = time.perf_counter()
    results = outputs.step(image)
    whole = 1000 * (time.perf_counter() - started)
    if not all(result.verdict.applied for result in results.values()):
        raise SystemExit(f"no update: {[result.verdict.reason.value for result in results.values()]}")
    return mask_latency_ms(next(iter(results.values())).timings_ms), whole


def measure(bundles: Mapping[str, Mapping[str, Bundle]], backend: str, frames: int) -> None:
    options = SessionOptions(backend=backend, threads=1, opening=1.0)
    rules = RealtimeOptions(adapt_every=1, statistics_limit=1e9, guarded=False)
    opened = {name: open_outputs(each, options, rules) for name, each in bundles.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in opened}
    for index in range(frames + SETTLE):
        image = np.random.default_rng(index).integers(0, 256, SIZE, dtype=np.uint8)
        for name in list(opened)[:: 1 if index % 2 else -1]:
            found[name] += [timed(opened[name], image)][: index >= SETTLE]
    for place, what in enumerate(("to the masks", "whole frame")):
        several, one = ([each[place] for each in found[name]] for name in ("several", "one"))
        ratio = median(s / o for s, o in zip(several, one, strict=True))
        print(f"{what}: {median(several):.1f} ms against {median(one):.1f} ms, {ratio:.2f} of one")
    for outputs in opened.values():
        outputs.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--one", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--backend", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = {"several": arguments.bundle, "one": arguments.one}
    measure(
        {name: Bundle.open_outputs(path) for name, path in given.items()},
        arguments.backend,
        arguments.frames,
    )


if __name__ == "__main__":
    main()
