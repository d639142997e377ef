"""What realtime mode gains on several of the demo's drives, by learning rate.

    python bench/drives.py [--seeds 4] [--frames 150] [--lr 0.005]

mIoU in percent of every stretch, over all drives together: frozen, norms alone, norms and head
with the default learning rate and with others. Every frame gets its update. `ocl-edge demo` is
the drive of seed 0.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.demo.comparison import BACKEND, THREADS, Score
from ocl_edge_app.demo.world.drive import FRAMES_PER_S, STRETCHES, drive
from ocl_edge_app.demo.world.measure import SHIPPED
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.engine import Engine, EngineOptions
from ocl_edge_runtime.session.realtime import RealtimeEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=4, help="drives with seeds 0, 1, ...")
    parser.add_argument("--frames", type=int, default=150, help="length of each")
    parser.add_argument("--lr", type=float, nargs="+", default=[], help="other learning rates")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows = {
        "frozen": EngineOptions("frozen", backend=BACKEND, threads=THREADS),
        "norms alone": EngineOptions("norm", backend=BACKEND, threads=THREADS),
        "norms and head": EngineOptions(backend=BACKEND, threads=THREADS),
    }
    for lr in arguments.lr:
        rows[f"norms and head, lr {lr:g}"] = EngineOptions(lr=lr, backend=BACKEND, threads=THREADS)
    scores = {name: Score() for name in rows}
    with tempfile.TemporaryDirectory() as directory:
        bundle = export_bundle(ExportRequest(SHIPPED, Path(directory) / "bundle"))
        for seed in range(arguments.seeds):
            add_drive(bundle, rows, scores, arguments.frames, seed)
    print("| mIoU % | " + " | ".join((*STRETCHES, "all")) + " |")
    print("|---" * (len(STRETCHES) + 2) + "|")
    for name, score in scores.items():
        matrices = (*score.by_stretch.values(), score.whole)
        print(f"| {name} | " + " | ".join(f"{100 * matrix.miou():.1f}" for matrix in matrices) + " |")


def add_drive(
    bundle: Bundle, rows: dict[str, EngineOptions], scores: dict[str, Score], frames: int, seed: int
) -> None:
    """Run one drive through a new engine of each row."""
    engines = {
        name: Engine(bundle, options) if options.method == "frozen" else RealtimeEngine(bundle, options)
        for name, options in rows.items()
    }
    for frame in drive(frames, seed):
        for name, engine in engines.items():
            mask = engine.predict(frame.image, frame.index / FRAMES_PER_S)
            scores[name].add(frame, engine.result(mask, engine.adapt()))
    for engine in engines.values():
        engine.close()


if __name__ == "__main__":
    main()
