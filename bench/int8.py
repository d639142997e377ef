"""Would int8 pay on this CPU? The plain form, quantised by NNCF for OpenVINO, against float32.

    pip install nncf
    python bench/int8.py BUNDLE --source DIR [--calibration 16] [--frames 16] [--rounds 20]

The first frames of the source give the ranges; the next ones are compared: pixels that get another class, and
time, both forms in turn, one thread. Nothing of the product uses it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle, load_head, load_tail
from ocl_edge.masks import Mask
from ocl_edge.method.head import only_output
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge.openvino_core import openvino_core

SETTINGS = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
Images = list[NDArray[np.float32]]


class Masks:
    """Image -> mask, with one of the two models."""

    def __init__(self, bundle: Bundle, model: Any) -> None:
        self.request = openvino_core().compile_model(model, "CPU", SETTINGS).create_infer_request()
        self._head, self._tail = load_head(bundle), load_tail(bundle)
        self._size = bundle.manifest.input.height, bundle.manifest.input.width
        self._features = len(bundle.manifest.features)

    @torch.no_grad()
    def of(self, image: NDArray[np.float32]) -> Mask:
        given = self.request.infer({"image": image})
        features = [torch.from_numpy(given[index].copy()) for index in range(self._features)]
        return self._tail.mask(only_output(self._head(*features)), *self._size)


def frames_of(bundle: Bundle, source: Path, count: int) -> Images:
    preprocessor = Preprocessor(bundle.manifest.input)
    files = sorted(source.glob("*.png"))[:count]
    return [preprocessor.single(np.array(Image.open(file).convert("RGB"))).numpy().copy() for file in files]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--source", type=click.Path(path_type=Path), required=True)
@click.option("--calibration", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--frames", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True)
def main(bundle: Path, source: Path, calibration: int, frames: int, rounds: int) -> None:
    """Compare the plain form of BUNDLE in int8 with float32."""
    import nncf

    torch.set_num_threads(1)
    opened = Bundle.open(bundle)
    images = frames_of(opened, source, calibration + frames)
    model = openvino_core().read_model(str(opened.graph_file("plain")))
    model.reshape({"image": list(images[0].shape)})
    quantised = nncf.quantize(
        model,
        nncf.Dataset(images[:calibration]),
        subset_size=calibration,
        preset=nncf.QuantizationPreset.MIXED,
    )
    exact, low = Masks(opened, model), Masks(opened, quantised)
    changed = [float(np.mean(exact.of(image) != low.of(image))) for image in images[calibration:]]
    ratios = []
    for index in range(rounds):
        times = {}
        for name, masks in (("exact", exact), ("low", low))[:: 1 if index % 2 else -1]:
            start = time.perf_counter()
            masks.request.infer({"image": images[0]})
            times[name] = time.perf_counter() - start
        ratios.append(times["exact"] / times["low"])
    slow, middle, fast = np.percentile(ratios, (10, 50, 90))
    print(f"pixels of another class: {100 * np.mean(changed):.1f} %, at most {100 * max(changed):.1f} %")
    print(f"float32 takes {middle:.2f} times as long as int8 ({slow:.2f} to {fast:.2f})")


if __name__ == "__main__":
    main()
