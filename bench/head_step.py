"""The head in PyTorch against the head in the backend: one OCL step, forward pass, whole realtime frames.

    python bench/head_step.py BUNDLE [--backend onnxruntime] [--rounds N] [--threads N]

Steps and forward passes start from features and end with new weights (restoration
included) or logits; frames are noise, with statistics and an update on each. All take
turns in one process; medians with 10th and 90th percentile, ratios round by round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.method.head import Head, TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.session.backend_head import BackendHead
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import HeadKind, RealtimeOptions, SessionOptions

KINDS: tuple[HeadKind, ...] = ("torch", "engine")
STRIDE = RealtimeOptions().loss_stride
WARM_UP = 3

Work = Callable[[], object]


def head_works(bundle: Bundle, backend: str, threads: int) -> dict[str, dict[HeadKind, Work]]:
    settings, shape = bundle.manifest.adaptation, bundle.manifest.features[0]
    heads: dict[HeadKind, Head] = {
        "torch": TrainableHead(load_head(bundle), settings),
        "engine": BackendHead(bundle, open_backend(bundle, backend, threads).backend, settings),
    }
    pair = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    watch = Stopwatch()

    @torch.no_grad()
    def forward(head: Head) -> object:
        return head.logits([pair[:1]])

    def step(features: Tensor) -> Callable[[Head], object]:
        return lambda head: head.adapt([features], ocl, watch)

    works = {
        "forward pass, all pixels": forward,
        "step, all pixels": step(pair),
        f"step, every {STRIDE}th pixel": step(pair[:, :, ::STRIDE, ::STRIDE]),
    }
    return {name: {kind: partial(work, head) for kind, head in heads.items()} for name, work in works.items()}


def frame_works(bundle: Bundle, backend: str, threads: int) -> dict[HeadKind, Work]:
    images = np.random.default_rng(0).integers(0, 256, (4, 360, 480, 3), dtype=np.uint8)

    def frames(kind: HeadKind) -> Work:
        session = open_session(
            bundle,
            SessionOptions(backend=backend, threads=threads, head=kind, opening=1.0),
            RealtimeOptions(adapt_every=1, statistics_limit=float("inf")),
        )
        turn = iter(range(1 << 30))
        return lambda: session.step(images[next(turn) % len(images)])

    return {kind: frames(kind) for kind in KINDS}


def measure(what: str, works: dict[HeadKind, Work], rounds: int) -> None:
    times: dict[HeadKind, list[float]] = {kind: [] for kind in KINDS}
    for index in range(rounds + WARM_UP):
        for kind in KINDS[:: 1 if index % 2 else -1]:
            start = time.perf_counter()
            works[kind]()
            times[kind] += [(time.perf_counter() - start) * 1e3] if index >= WARM_UP else []
    ratio = np.percentile(np.array(times["engine"]) / np.array(times["torch"]), (50, 10, 90))
    cells = [np.percentile(times[kind], (50, 10, 90)) for kind in KINDS]
    texts = [f"{middle:7.2f} ({low:.2f} to {high:.2f})" for middle, low, high in cells]
    print(f"{what:26}{texts[0]:>28}{texts[1]:>28}   {ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bundle, backend, threads = Bundle.open(arguments.bundle), arguments.backend, arguments.threads
    print(f"{backend}, {threads} thread(s), {arguments.rounds} rounds, ms")
    print(f"{'':26}{'head in PyTorch':>28}{'head in the backend':>28}   backend / PyTorch")
    for what, works in head_works(bundle, backend, threads).items():
        measure(what, works, arguments.rounds)
    measure("whole realtime frame", frame_works(bundle, backend, threads), arguments.rounds)


if __name__ == "__main__":
    main()
