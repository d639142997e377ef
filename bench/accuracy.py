"""mIoU of the frozen network and of paper mode on a labelled CamVid sequence.

    python bench/accuracy.py --data ../shared/data [--backends torch,onnxruntime]

Exports the published ESPNetv2 checkpoint at 512x384, statistics from every row, runs all
frames in order, and prints one line a row of the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.sources import ImageSource

ROWS = {
    "frozen, single view": SessionOptions("frozen", "single"),
    "frozen, flip-averaged": SessionOptions("frozen", "pair"),
    "norm (paper mode)": SessionOptions("norm", opening=1.0),
    "ocl-head (paper mode)": SessionOptions("ocl-head", opening=1.0),
}


def evaluate(bundle: Bundle, options: SessionOptions, data: Path, sequence: str) -> tuple[float, float]:
    """mIoU in percent over the labelled classes, and seconds a frame, decoding left out."""
    classes = json.loads((data / "camvid" / "classes.json").read_text("utf-8"))
    to_camvid = json.loads((data / "camvid" / "from_cityscapes.json").read_text("utf-8"))["to_camvid"]
    matrix = ConfusionMatrix(len(classes["classes"]), classes["ignore_index"], np.array(to_camvid))
    session = open_session(bundle, options)
    frames = ImageSource(str(data / "camvid" / sequence / "images"))
    seconds = 0.0
    for frame in frames:
        start = time.perf_counter()
        mask = session.step(frame.image).mask
        seconds += time.perf_counter() - start
        labels = data / "camvid" / sequence / "labels" / f"{frame.name}.png"
        matrix.add(mask, np.array(Image.open(labels)))
    session.close()
    return 100 * matrix.miou(), seconds / len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sequence", default="0001TP")
    parser.add_argument("--backends", default="torch,onnxruntime")
    parser.add_argument("--stat-rows", type=int, default=1)
    arguments = parser.parse_args()
    checkpoint = arguments.data / "models" / "espnetv2_s_2.0_city_1024x512.pth"
    with tempfile.TemporaryDirectory() as directory:
        request = ExportRequest(
            checkpoint, Path(directory) / "bundle", input_size=(384, 512), stat_rows=arguments.stat_rows
        )
        start = time.perf_counter()
        bundle = export_bundle(request)
        print(f"export with parity gate: {time.perf_counter() - start:.0f} s", flush=True)
        print(f"{'row':34}{'backend':14}{'mIoU %':>8}{'ms/frame':>10}")
        for name, options in ROWS.items():
            for backend in arguments.backends.split(","):
                chosen = SessionOptions(options.method, options.views, backend, opening=1.0)
                miou, seconds = evaluate(bundle, chosen, arguments.data, arguments.sequence)
                print(f"{name:34}{backend:14}{miou:8.2f}{1000 * seconds:10.0f}", flush=True)


if __name__ == "__main__":
    main()
