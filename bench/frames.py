"""Time of preprocessing and tail against the size of the frame, with the edges of real masks.

    python bench/frames.py BUNDLE --source DIR [--frames 8] [--rounds 5]

The frames of the source are resized to each size and preprocessed. Their logits from the frozen
network become masks of that size, once by the tail as it is and once by interpolating all logits,
in turn; the two masks are compared. One thread; times are of the processor, so that a busy machine
counts less.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.method.head import only_output
from ocl_edge.network.form_tensors import features_among
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge.network.tail import Tail
from ocl_edge_runtime.backends import open_backend

SIZES = ((480, 360), (1280, 720), (1920, 1080), (3840, 2160))
"""Width and height."""


def frames_of(source: Path, wanted: int) -> list[Image.Image]:
    files = sorted(source.glob("*.png"))
    return [Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // wanted)][:wanted]]


def logits_of(bundle: Bundle, frames: list[Image.Image]) -> Iterator[torch.Tensor]:
    """Of the frozen network, float32 [1, C, h, w] each."""
    preprocessor, head = Preprocessor(bundle.manifest.input), load_head(bundle)
    backend = open_backend(bundle, threads=1).backend
    for frame in frames:
        outputs = backend.infer("plain", {"image": preprocessor.single(np.array(frame))})
        features = features_among(outputs)
        with torch.no_grad():
            yield only_output(head(*features)).clone()
    backend.close()


def milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return 1000 * (time.process_time() - started), result


def measure(
    bundle: Bundle, frames: list[Image.Image], logits: list[torch.Tensor], size: tuple[int, int], rounds: int
) -> dict[str, Any]:
    width, height = size
    preprocessor, tail = Preprocessor(bundle.manifest.input), Tail(bundle.manifest.align_corners)
    times: dict[str, list[float]] = {"preprocess": [], "tail": [], "everything": []}
    different = 0
    for repeat in range(rounds + 1):
        for frame, scores in zip(frames, logits, strict=True):
            image: NDArray[np.uint8] = np.array(frame.resize(size))
            preprocess_ms, _ = milliseconds(partial(preprocessor.single, image))
            tail_ms, mask = milliseconds(partial(tail.mask, scores, height, width))
            everything_ms, expected = milliseconds(partial(tail.everywhere, scores, height, width))
            different += int((mask != expected).sum())
            if repeat:  # the first round makes buffers
                for name, value in zip(times, (preprocess_ms, tail_ms, everything_ms), strict=True):
                    times[name].append(value)
    quantiles = {name: [float(q) for q in np.percentile(ms, (50, 10, 90))] for name, ms in times.items()}
    return {"size": f"{width}x{height}", "ms_p50_p10_p90": quantiles, "different_pixels": different}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--source", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--frames", "wanted", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(bundle: Path, source: Path, wanted: int, rounds: int, json_path: Path | None) -> None:
    """Measure the stages whose time grows with the frame."""
    torch.set_num_threads(1)
    opened = Bundle.open(bundle)
    frames = frames_of(source, wanted)
    logits = list(logits_of(opened, frames))
    rows = []
    print("| frame | preprocess | tail | interpolating everything | pixels that differ |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        row = measure(opened, frames, logits, size, rounds)
        rows.append(row)
        cells = [f"{p50:.1f} ({p10:.1f} to {p90:.1f})" for p50, p10, p90 in row["ms_p50_p10_p90"].values()]
        print(f"| {row['size']} | {' | '.join(cells)} | {row['different_pixels']} |")
    if json_path:
        json_path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
