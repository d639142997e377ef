"""A second view for less: what the head gains from other views than the flip of the whole frame.

    python bench/second_view.py BUNDLE --crop CROP --network NAME [--every N | --time]

CROP is the same network at half the height and width. Norms wide open, no guard, each mask scored before its
update; seeds are of restoration and of the crop's place. *still or flip*: the frame of a second before where
the clean scene stands still, else the flip. *standing*: the same frame again, with other noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ablation import TUNING_STREAMS, append, read  # type: ignore[import-not-found]
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_head, load_tail
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.network.form_tensors import features_among
from ocl_edge.network.preprocess import noise_view
from ocl_edge.timings import Stopwatch
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, read_label_space
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.calibration.measuring import Measurer, Pass

Pixels = NDArray[np.uint8]
Views = tuple[list[Tensor], list[Tensor], bool]  # features of both views; whether the second is flipped
RESULTS = Path(__file__).parent / "results" / "second_view.jsonl"
SEEDS = 3
STILL = 2.0  # mean difference of frames at an eighth of the size, grey levels; 20 and more where it drives
ALIGNED = 8  # crops start at multiples of so many pixels, where features start, too
OTHER_NOISE = 100_000  # added to a frame's seed of noise
FLIP, CROP, OWN, SLOW = "flip", "crop, norms of the frame", "crop, norms of its own", "the same, slower"
WAYS = (FLIP, CROP, OWN, SLOW, "still or flip", "standing")
SLOWER = {"lr": 0.4, "restoration": 0.5}  # times the default: fewer pixels may need smaller steps


class Networks:
    """The whole network and the same one at the size of the crop."""

    def __init__(self, whole: Measurer, crop: Measurer) -> None:
        self.whole, self.crop = whole, crop
        self.size = crop.bundle.manifest.input.height, crop.bundle.manifest.input.width
        self.mixing = Mixing.of_prior(whole.channels, DEFAULT_PRIOR)

    def see(self, view: Tensor) -> Pass:
        return self.whole.measure_view(view, self.mixing, 1.0)

    def flipped(self, view: Tensor) -> list[Tensor]:
        return self.see(view.flip(3).contiguous()).features

    def flipped_crop(self, view: Tensor, seen: Pass, own: bool, rng: np.random.Generator) -> Views:
        """The flip of a random crop; ``own``: with its own statistics, else with those of the frame."""
        height, width = self.size
        room = view.shape[2] - height, view.shape[3] - width
        y, x = (ALIGNED * int(rng.integers(0, most // ALIGNED + 1)) for most in room)
        piece = view[:, :, y : y + height, x : x + width].flip(3).contiguous()
        if own:
            second = self.crop.measure_view(piece, self.mixing, 1.0).features
        else:
            norms = self.whole.norms
            vectors = norms.vectors(norms.mixed_with(seen.statistics, self.mixing.at(1.0)))
            outputs = self.crop.backend.infer("modulated", {"image": piece, "norm_vectors": vectors})
            second = [f.clone() for f in features_among(outputs)]
        places = [(y * f.shape[2] // view.shape[2], x * f.shape[3] // view.shape[3]) for f in seen.features]
        matched = zip(seen.features, places, second, strict=True)
        return [f[:, :, i : i + s.shape[2], j : j + s.shape[3]] for f, (i, j), s in matched], second, True


class Learning:
    """A head that learns from one kind of view pair, and how well its masks do."""

    def __init__(self, bundle: Bundle, matrix: Any, name: str) -> None:
        self.way, _, seed = name.partition(", seed ")
        settings = bundle.manifest.adaptation
        slower = {name: factor * getattr(settings, name) for name, factor in SLOWER.items()}
        settings = settings.model_copy(update=slower if self.way == SLOW else {})
        self.head = TrainableHead(load_head(bundle), settings, int(seed or 0))
        self.matrix, self.rng = matrix, np.random.default_rng(int(seed or 0))
        self._grid = PixelGrid(4 if self.head.is_pointwise(bundle.manifest.features) else 1)

    def learn(self, views: Views) -> None:
        first, second, flipped = self._grid.sample(views[0]), self._grid.sample(views[1], views[2]), views[2]
        second = second if flipped else [f.flip(3) for f in second]  # the step flips it back
        (watch := Stopwatch()).start()
        self.head.adapt([torch.cat(both) for both in zip(first, second, strict=True)], ocl, watch)


def play(networks: Networks, stream: str, every: int, data: Path, network: str) -> dict[str, Any]:
    """mIoU in percent of each way and seed, and the share of frames that stand still."""
    bundle = networks.whole.bundle
    to_camvid = None if network.startswith("cgnet") else data / "from_cityscapes.json"
    space, tail = read_label_space(bundle.manifest, to_camvid, data / "classes.json"), load_tail(bundle)
    sequence, _, weather = stream.partition("/")
    found = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")

    def view_of(frame: Pixels, noise: int) -> Tensor:
        return networks.whole.preprocessor.single(parse_corruption(weather).apply(frame, noise)).clone()

    names = ("norm", *(f"{way}, seed {seed}" for way in WAYS for seed in range(SEEDS)))
    heads = {name: Learning(bundle, space.matrix(), name) for name in names}
    still, indices = 0, range(max(1, every // 2), len(found), every)
    for index in indices:
        (clean, labels), (before, _) = found.read(index), found.read(index - 1)
        seen = networks.see(view := view_of(clean, index))
        for learning in heads.values():
            logits = learning.head.logits(seen.features).detach()
            learning.matrix.add(tail.mask(logits, *clean.shape[:2]), labels)
        again = networks.see(view_of(clean, index + OTHER_NOISE)).features
        flip: Views = (seen.features, networks.flipped(view), True)
        views = {FLIP: flip, "still or flip": flip, "standing": (seen.features, again, False)}
        now, then = (np.asarray(Image.fromarray(f).reduce(8), np.float32) for f in (clean, before))
        if np.abs(now - then).mean() < STILL:
            still += 1
            views["still or flip"] = (seen.features, networks.see(view_of(before, index - 1)).features, False)
        for learning in heads.values():
            if learning.way in (CROP, OWN, SLOW):
                learning.learn(networks.flipped_crop(view, seen, learning.way != CROP, learning.rng))
            elif learning.way != "norm":
                learning.learn(views[learning.way])
    miou = {name: round(100 * learning.matrix.miou(), 2) for name, learning in heads.items()}
    return {"frames": len(indices), "still": still, "miou": miou}


def times(networks: Networks, rounds: int) -> dict[str, list[float]]:
    """Processor time of an update over that with the whole flip: median, 10th and 90th percentile."""
    view = noise_view(networks.whole.bundle.manifest.input)
    seen = networks.see(view)
    learning = Learning(networks.whole.bundle, None, FLIP)
    ways: dict[str, Callable[[], Views]] = {
        FLIP: lambda: (seen.features, networks.flipped(view), True),
        CROP: lambda: networks.flipped_crop(view, seen, False, learning.rng),
        OWN: lambda: networks.flipped_crop(view, seen, True, learning.rng),
        "standing": lambda: (seen.features, seen.features, False),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for name in list(ways) * (rounds + 2):
        started = time.process_time()
        learning.learn(ways[name]())
        taken[name].append(time.process_time() - started)
    ratios = {name: np.divide(each, taken[FLIP])[2:] for name, each in taken.items()}
    return {name: np.percentile(each, (50, 10, 90)).round(3).tolist() for name, each in ratios.items()}


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Gain over the norms alone: mean of the seeds, and in brackets the largest minus the smallest."""
    yield "| network | stream | frames (still) | norm | " + " | ".join(WAYS) + " |"
    yield "|" + "---|" * (4 + len(WAYS))
    for line in lines:
        miou, cells = line["miou"], []
        for way in WAYS:
            gains = [miou[f"{way}, seed {seed}"] - miou["norm"] for seed in range(SEEDS)]
            cells.append(f"{np.mean(gains):+.2f} ({max(gains) - min(gains):.2f})")
        about = [
            line["network"],
            line["stream"],
            f"{line['frames']} ({line['still']})",
            f"{miou['norm']:.1f}",
        ]
        yield f"| {' | '.join(about + cells)} |"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--crop", type=click.Path(path_type=Path), required=True, help="Its smaller twin.")
@click.option("--network", default="espnetv2", show_default=True)
@click.option("--every", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--time", "timed", is_flag=True, help="Measure time instead of masks.")
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data/camvid"))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def main(bundle: Path, crop: Path, network: str, every: int, timed: bool, data: Path, results: Path) -> None:
    """Measure the head's gain over the norms, stream by stream; what is there is not run again."""
    torch.set_num_threads(1)
    opened = [Bundle.open(path) for path in (bundle, crop)]
    networks = Networks(*(Measurer(b, open_backend(b, "openvino", 1).backend) for b in opened))
    if timed:
        append(results, {"network": network, "time_over_flip_p50_p10_p90": times(networks, 30)})
    for stream in () if timed else TUNING_STREAMS:
        key = {"network": network, "stream": stream, "every": every}
        if not any(key.items() <= line.items() for line in read(results)):
            append(results, {**key, **play(networks, stream, every, data, network)})
            print(stream, flush=True)
    print("\n".join(table([line for line in read(results) if "miou" in line])))


if __name__ == "__main__":
    main()
