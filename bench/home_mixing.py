"""Two questions about the mixing of the norms: averages over frames, and the seed of the copies.

    python bench/home_mixing.py averages BUNDLE --network NAME [--every N]
    python bench/home_mixing.py seeds    BUNDLE --network NAME --home DIR [--every N]

*averages*: of the frame's weight, half goes to the running average of the frames before, at three priors of
the first norm (tuning streams). *seeds*: the network is calibrated three times, the second and third time
with its frames in another order: others are learned and checked on, under copies of another seed. One view,
wide open, norms alone, labelled frames one second apart; each stream is a line of --results.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from ablation import TUNING_STREAMS, append  # type: ignore[import-not-found]
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_tail
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR
from ocl_edge.network.form_tensors import features_among
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, read_label_space
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.calibration import copies, learning
from ocl_edge_runtime.calibration.frames import find_frames
from ocl_edge_runtime.calibration.measuring import HeadAsTrained, Measurer
from ocl_edge_runtime.calibration.with_norms import StagesWithNorms

RESULTS = Path(__file__).parent / "results" / "home_mixing.jsonl"
REPORTED = tuple(
    f"Seq05VD/{weather}" for weather in ("fog:3", "contrast:3", "snow:2", "gaussian_noise:2", "motion_blur:3")
)
FIRST_PRIORS, AVERAGES_S = (0.7, 0.5, 0.3), (0.0, 2.0, 8.0)
SEEDS = 3
BACKEND = "onnxruntime"

Way = Callable[[Tensor], list[Tensor]]
"""View -> features; remembers the views before."""


class Averaged:
    """Half of the frame's weight goes to the running average of the frames before.

    Args:
        bundle: whose norms.
        first: prior at the first norm; at the last it is 1.
        tau_s: time constant of the average; 0: all of the weight is the frame's own.
    """

    def __init__(self, measurer: Measurer, first: float, tau_s: float) -> None:
        self._measurer, self._tau_s = measurer, tau_s
        self._weight = Mixing.of_prior(measurer.channels, (first, 1.0)).at(1.0)
        self._average: Tensor | None = None

    def __call__(self, view: Tensor) -> list[Tensor]:
        trained, weight = self._measurer.norms.statistics, self._weight
        anchor = trained
        if self._tau_s and self._average is not None:
            of_average = (1 - weight[:2]) / 2
            anchor = (weight[:2] * trained + of_average * self._average) / (weight[:2] + of_average)
            weight = torch.cat((weight[:2] + of_average, weight[2:]))
        inputs = {"image": view, "anchor_statistics": anchor, "anchor_weight": weight}
        outputs = self._measurer.backend.infer("measured", inputs)
        now = outputs["statistics"].clone()
        share = 1 - math.exp(-1 / self._tau_s) if self._tau_s else 1.0
        self._average = now if self._average is None else self._average.lerp(now, share)
        return features_among(outputs)


def averages(measurer: Measurer) -> Iterator[tuple[str, Way]]:
    for first in FIRST_PRIORS:
        for tau_s in AVERAGES_S:
            name = f"half of it the average of {tau_s:g} s" if tau_s else "current"
            yield f"{first}:1, {name}", Averaged(measurer, first, tau_s)


def calibrated(measurer: Measurer, home: Path) -> Iterator[tuple[str, Mixing]]:
    """The line, and what three calibrations take."""
    frames, line = find_frames(home), Mixing.of_prior(measurer.channels, DEFAULT_PRIOR)
    yield "line", line
    heads = {measurer.bundle.output: HeadAsTrained(measurer.bundle)}
    for seed in range(SEEDS):
        copies.FIT, copies.CHECK, learning.LEARN = (3 * seed + purpose for purpose in range(3))
        files = random.Random(seed).sample(frames.files, len(frames)) if seed else frames.files
        stages = StagesWithNorms(measurer, heads, replace(frames, files=files), print)
        found = stages.run()[measurer.bundle.output]
        print(f"seed {seed}: {found.tried[found.taken]}", flush=True)
        taken = Mixing(found.tensors.weights, between=True) if found.home.fitted else line
        yield f"seed {seed}", taken


def wide_open(measurer: Measurer, mixing: Mixing) -> Way:
    return lambda view: measurer.measure_view(view, mixing, 1.0).features


def play(
    measurer: Measurer, ways: Mapping[str, Way], stream: str, every: int, data: Path, network: str
) -> dict[str, float]:
    """mIoU in percent of each way."""
    bundle = measurer.bundle
    to_camvid = None if network == "cgnet" else data / "from_cityscapes.json"
    space, tail = read_label_space(bundle.manifest, to_camvid, data / "classes.json"), load_tail(bundle)
    sequence, _, weather = stream.partition("/")
    found = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")
    matrices, head = {name: space.matrix() for name in ways}, HeadAsTrained(bundle)
    for index in range(every // 2, len(found), every):
        image, labels = found.read(index)
        image = parse_corruption(weather).apply(image, index)
        view = measurer.preprocessor.single(image)
        for name, way in ways.items():
            matrices[name].add(tail.mask(head.logits(way(view)), *image.shape[:2]), labels)
    return {name: round(100 * matrix.miou(), 2) for name, matrix in matrices.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["averages", "seeds"])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--network", default="cgnet")
    parser.add_argument("--home", type=Path, default=Path("../shared/data/camvid/home"))
    parser.add_argument("--every", type=int, default=9)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = Bundle.open(arguments.bundle)
    with open_backend(bundle, BACKEND, 1).backend as backend:
        measurer = Measurer(bundle, backend)
        mixings = dict(calibrated(measurer, arguments.home)) if arguments.what == "seeds" else {}
        for stream in REPORTED if mixings else TUNING_STREAMS:
            ways = {name: wide_open(measurer, mixing) for name, mixing in mixings.items()}
            ways = ways or dict(averages(measurer))  # an average begins anew in each stream
            miou = play(measurer, ways, stream, arguments.every, arguments.data, arguments.network)
            line = {"what": arguments.what, "network": arguments.network, "stream": stream}
            append(arguments.results, {**line, "every": arguments.every, **miou})
            print(json.dumps({**line, **miou}), flush=True)


if __name__ == "__main__":
    main()
