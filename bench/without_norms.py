"""What a network without BatchNorm gains on the demo's drives: head input moved home, and virtual norms.

    python bench/transformer.py --out segmenter.pth
    python bench/without_norms.py segmenter.pth [--seeds 2] [--frames 100]

The network of `bench/transformer.py` is exported twice: without home frames, and calibrated afterwards, so
that its head's input is moved home; and with them, so that its LayerNorms get virtual norms. mIoU in percent
of every stretch of each drive, a frame a second, in realtime mode; the mean opening in brackets.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_app.demo.world.classes import CLASSES
from ocl_edge_app.demo.world.drive import STRETCHES, DriveFrame, day_frames, drive
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.calibration.calibrate import calibrate_bundle
from ocl_edge_runtime.calibration.frames import find_frames
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions

HOME_SEEDS, HOME_TIMES_S = range(500, 510), [0.0, 6.0, 12.0]
"""Day streets that the network was not trained on."""
ARCH = f"{Path(__file__).parent / 'transformer.py'}:build"
BACKEND = "onnxruntime"
ADAPTING = SessionOptions(backend=BACKEND, threads=1)


def home_frames(directory: Path) -> Path:
    directory.mkdir()
    images = [image for seed in HOME_SEEDS for image, _ in day_frames(seed, HOME_TIMES_S)]
    for index, image in enumerate(images):
        Image.fromarray(image).save(directory / f"{index:03d}.png")
    return directory


def bundles(checkpoint: Path, directory: Path) -> dict[str, Bundle]:
    """The network, calibrated without norms and with virtual ones."""
    home = home_frames(directory / "home")
    found = {}
    for name, frames in (("input moved home", None), ("virtual norms", home)):
        out = directory / name.replace(" ", "-")
        request = ExportRequest(checkpoint, out, ARCH, input_size=(192, 320), calibration=frames)
        bundle, calibration = calibrate_bundle(export_bundle(request), find_frames(home), BACKEND, 1)
        print(
            f"{name}: {calibration.gain:+.1f} on copies, {calibration.tried[calibration.taken]}", flush=True
        )
        found[name] = bundle
    return found


def play(bundle: Bundle, options: SessionOptions, frames: list[DriveFrame]) -> list[str]:
    """Cells of a row: mIoU of each stretch and of all of it."""
    matrices = {name: ConfusionMatrix(len(CLASSES)) for name in (*STRETCHES, "all")}
    openings: dict[str, list[float]] = {name: [] for name in matrices}
    realtime = None if options.method == "frozen" else RealtimeOptions(adapt_every=1)
    with open_session(bundle, options, realtime) as session:
        for frame in frames:
            result = session.step(frame.image, float(frame.index))
            for name in (frame.stretch, "all"):
                matrices[name].add(result.mask, frame.labels)
                openings[name].append(result.opening)
    return [f"{100 * m.miou():.1f} ({np.mean(openings[name]):.2f})" for name, m in matrices.items()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--seeds", type=int, default=2, help="drives with seeds 0, 1, ...")
    parser.add_argument("--frames", type=int, default=100, help="length of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        found = bundles(arguments.checkpoint, Path(directory))
        rows = {"frozen": (found["virtual norms"], replace(ADAPTING, method="frozen"))}
        for name, bundle in found.items():
            rows[name] = bundle, ADAPTING
            rows[f"{name}, opening 1"] = bundle, replace(ADAPTING, opening=1.0)
        print("| drive | | " + " | ".join((*STRETCHES, "all")) + " |")
        print("|---" * (len(STRETCHES) + 3) + "|")
        for seed in range(arguments.seeds):
            frames = list(drive(arguments.frames, seed))
            for name, (bundle, options) in rows.items():
                print(f"| {seed} | {name} | " + " | ".join(play(bundle, options, frames)) + " |", flush=True)


if __name__ == "__main__":
    main()
