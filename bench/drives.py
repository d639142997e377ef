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
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=4, help="drives with seeds 0, 1, ...")
    parser.add_argument("--frames", type=int, default=150, help="length of each")
    parser.add_argument("--lr", type=float, nargs="+", default=[], help="other learning rates")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows = {
        "frozen": SessionOptions("frozen", backend=BACKEND, threads=THREADS),
        "norms alone": SessionOptions("norm", backend=BACKEND, threads=THREADS, opening=1.0),
        "norms and head": SessionOptions(backend=BACKEND, threads=THREADS, opening=1.0),
    }
    for lr in arguments.lr:
        rows[f"norms and head, lr {lr:g}"] = SessionOptions(
            lr=lr, backend=BACKEND, threads=THREADS, opening=1.0
        )
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
    bundle: Bundle, rows: dict[str, SessionOptions], scores: dict[str, Score], frames: int, seed: int
) -> None:
    """Run one drive through a new session of each row."""
    sessions = {
        name: open_session(bundle, options, None if options.method == "frozen" else RealtimeOptions())
        for name, options in rows.items()
    }
    for frame in drive(frames, seed):
        for name, session in sessions.items():
            scores[name].add(frame, session.step(frame.image, frame.index / FRAMES_PER_S))
    for session in sessions.values():
        session.close()


if __name__ == "__main__":
    main()
