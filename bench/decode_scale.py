"""What it costs and saves to let a JPEG decoder halve a large frame while it decodes.

    python bench/decode_scale.py BUNDLE --frames DIR [--limit N] [--backend NAME]

Frames are enlarged to 1920x1080 and written as JPEG of quality 95. Pillow's draft mode decodes them at half
the size. Told are the pixels of another class in the mask of 1920x1080, and the times to decode and to
preprocess, medians, interleaved.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle, load_tail
from ocl_edge.network.form_tensors import features_among
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.calibration.frames import find_frames
from ocl_edge_runtime.calibration.measuring import HeadAsTrained, Measurer

WIDTH, HEIGHT = 1920, 1080
QUALITY = 95


def decode(jpeg: bytes, halved: bool) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(jpeg)) as image:
        if halved:
            image.draft("RGB", (WIDTH // 2, HEIGHT // 2))
        return np.asarray(image.convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--backend", default="openvino")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle, frames = Bundle.open(arguments.bundle), find_frames(arguments.frames)
    tail, changed = load_tail(bundle), []
    times: dict[bool, list[float]] = {False: [], True: []}
    with open_backend(bundle, arguments.backend, 1).backend as backend:
        measurer, head = Measurer(bundle, backend), HeadAsTrained(bundle)
        for index in np.linspace(0, len(frames) - 1, arguments.limit, dtype=int):
            image = Image.fromarray(frames.read(int(index))).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            written = io.BytesIO()
            image.save(written, "JPEG", quality=QUALITY)
            masks = []
            for halved in times:
                start = time.perf_counter()
                view = measurer.preprocessor.single(decode(written.getvalue(), halved))
                times[halved].append(1000 * (time.perf_counter() - start))
                logits = head.logits(features_among(backend.infer("plain", {"image": view})))
                masks.append(tail.mask(logits, HEIGHT, WIDTH))
            changed.append(100 * float(np.mean(masks[0] != masks[1])))
    print(f"decoded whole {np.median(times[False]):.1f} ms, halved {np.median(times[True]):.1f} ms")
    print(f"pixels of another class: {np.mean(changed):.2f} % (at most {max(changed):.2f} %)")


if __name__ == "__main__":
    main()
