"""Networks that nobody tuned on: what adaptation costs them at home, and gains away.

    python bench/other_networks.py train --checkpoints DIR          minutes of one thread each; not shipped
    python bench/other_networks.py play  --checkpoints DIR [--networks ...]
    python bench/other_networks.py table

The segmenters of `bench/segmenters.py` learn the drawn street by day, 300 frames of it. Home are other day
streets, away is the drawn weather on them, and corruptions that no constant was chosen on. Every network is
played without home frames and calibrated on 30 of ten more streets. A stream that was played is a line of
--results and is not played again, so that a killed run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import home  # type: ignore[import-not-found]
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.home import SensingNorms
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import statistics_distance
from ocl_edge.network.zoo import parse_spec
from ocl_edge.network.zoo.demo import MEAN, STD
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_app.demo.world.classes import CLASSES
from ocl_edge_app.demo.world.drive import STRETCHES, day_frames, record
from ocl_edge_app.demo.world.scene import Scene
from ocl_edge_app.demo.world.train import HELD_OUT_SEED, confusion, draw_frames, train
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.calibration.calibrate import calibrate_bundle
from ocl_edge_runtime.calibration.frames import find_frames
from ocl_edge_runtime.calibration.measuring import Measurer

RESULTS = Path(__file__).parent / "results" / "other_networks.jsonl"
SIZE = (192, 320)
STREETS, PEAK_LEARNING_RATE = 50, 4e-3
HOME_SEEDS, HOME_TIMES_S = range(500, 510), [0.0, 6.0, 12.0]
SEEN_SEEDS, SEEN_TIMES_S = range(600, 612), [0.0, 6.0]
"""Streets of the streams."""
WEATHER = ("fog", "rain", "dusk")
CORRUPTIONS = (
    "frost:2",
    "shot_noise:2",
    "motion_blur:3",
    "jpeg_compression:4",
    "contrast:3",
    "spatter:3",
)
STREAMS = ("day", *WEATHER, *CORRUPTIONS)
ROWS = [row for row in home.ROWS if row != "ocl-head, opening 1"]


@dataclass(frozen=True)
class Kind:
    """A network to train.

    Attributes:
        build: the function that makes it.
        scale: what a white pixel becomes; 255: neither mean nor deviation is taken out.
        jitter: how far colours and contrast move in training, up to this factor and its inverse.
        steps: of training, eight frames each.
    """

    build: str
    scale: int = 1
    jitter: float = 1.0
    steps: int = 300

    @property
    def arch(self) -> str:
        return f"{Path(__file__).parent / 'segmenters.py'}:{self.build}"


KINDS = {
    "inverted": Kind("inverted", steps=200),
    "residual, jittered": Kind("residual", jitter=1.8, steps=200),
    "excited": Kind("excited", steps=200),
    "late norm": Kind("late_norm"),
    "patches": Kind("patches"),
    "normed pixels, 0..255": Kind("normed_pixels", scale=255),
    "pyramid": Kind("Pyramid"),
}


class AsTrained(nn.Module):
    """A network behind its own scale of the input, and in training behind a jitter of its colours."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.network, self.kind = parse_spec(kind.arch).build(), kind

    def forward(self, normalised: Tensor) -> Tensor:
        """As `ocl_edge_app.demo.world.train.train` hands it over, float32 [N, 3, H, W]."""
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
        pixels = normalised * std + mean
        if self.training and self.kind.jitter > 1:
            drawn = torch.empty(2, len(pixels), 3, 1, 1).uniform_(-1, 1)
            gain, gamma = self.kind.jitter ** (drawn * torch.tensor((1.0, 0.5)).reshape(2, 1, 1, 1, 1))
            pixels = (pixels.clamp(1e-3, 1) ** gamma * gain).clamp(0, 1)
        logits: Tensor = self.network(pixels * 255 if self.kind.scale == 255 else (pixels - mean) / std)
        return logits


def file_of(checkpoints: Path, name: str) -> Path:
    return checkpoints / f"{name.replace(', ', '-').replace(' ', '-').replace('..', '-')}.pth"


def train_all(checkpoints: Path, names: list[str]) -> None:
    """What is not there yet."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    left = [name for name in names if not file_of(checkpoints, name).exists()]
    images, labels = draw_frames(0, STREETS) if left else (torch.empty(0), torch.empty(0))
    for name in left:
        kind = KINDS[name]
        network = train(images, labels, kind.steps, 0, partial(AsTrained, kind), PEAK_LEARNING_RATE)
        miou = 100 * confusion(network, *draw_frames(HELD_OUT_SEED, 5)).miou()
        print(f"{name}: mIoU on held-out day streets {miou:.1f}", flush=True)
        assert isinstance(network, AsTrained)
        torch.save(network.network.state_dict(), file_of(checkpoints, name))


def bundles_of(checkpoints: Path, name: str) -> tuple[Bundle, Bundle]:
    """Of a network without home frames, and calibrated; made where they are not there yet."""
    kind, checkpoint, at_home = KINDS[name], file_of(checkpoints, name), checkpoints / "home"
    plain, calibrated = checkpoint.with_suffix(".bundle"), checkpoint.with_suffix(".home")
    if not at_home.exists():
        at_home.mkdir()
        for index, (image, _) in enumerate(day_pictures(HOME_SEEDS, HOME_TIMES_S)):
            Image.fromarray(image).save(at_home / f"{index:03d}.png")
    for out in (plain, calibrated):
        if not out.exists():
            scaled: dict[str, Any] = {"mean": MEAN, "std": STD}
            if kind.scale == 255:
                scaled = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "scale": 255}
            export_bundle(ExportRequest(checkpoint, out, kind.arch, input_size=SIZE, **scaled))
    if Bundle.open(calibrated).manifest.home is None:
        _, found = calibrate_bundle(Bundle.open(calibrated), find_frames(at_home), home.BACKEND, 1)
        print(f"{name}: {found.tried[found.taken]}, {found.gain:+.1f} on copies", *found.notes)
    return Bundle.open(plain), Bundle.open(calibrated)


Labelled = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def day_pictures(seeds: range, times_s: list[float]) -> Iterator[Labelled]:
    for seed in seeds:
        yield from day_frames(seed, times_s)


def pictures(stream: str) -> Iterator[Labelled]:
    """Frames of a stream and their labels."""
    if stream in WEATHER:
        for seed in SEEN_SEEDS:
            scene = Scene(seed)
            for index, time_s in enumerate(SEEN_TIMES_S):
                yield record(scene, time_s, STRETCHES[stream], (seed, index))
        return
    corruption = parse_corruption("clean" if stream == "day" else stream)
    for index, (image, labels) in enumerate(day_pictures(SEEN_SEEDS, SEEN_TIMES_S)):
        yield corruption.apply(image, index), labels


def play(bundle: Bundle, row: str, frames: list[Labelled]) -> dict[str, Any]:
    """One row on a stream whose frames come a second apart."""
    matrix, openings = ConfusionMatrix(len(CLASSES)), []
    with home.open_row(bundle, row) as session:
        for second, (image, labels) in enumerate(frames):
            result = session.step(image, float(second))
            matrix.add(result.mask, labels)
            openings.append(result.opening)
    return {"miou": round(100 * matrix.miou(), 2), "opening": round(float(np.mean(openings)), 3)}


def distances(bundle: Bundle, frames: list[Labelled]) -> dict[str, Any]:
    """Least, median, 90 % and largest: of the sensing norms, of all over those of discs, shut and open."""
    manifest = bundle.manifest
    assert manifest.discs_distance is not None
    found: dict[str, list[float]] = {"sensing": [], "shut of discs": [], "open of discs": []}
    with open_backend(bundle, home.BACKEND, 1).backend as backend:
        measurer = Measurer(bundle, backend)
        trained = measurer.norms.statistics
        sensing = SensingNorms(trained, measurer.channels, manifest.sensing_norms)
        mixing = Mixing.of_prior(measurer.channels, manifest.adaptation.prior)
        for image, _ in frames:
            shut, wide = (measurer.measure(image, mixing, opening).statistics for opening in (0.0, 1.0))
            found["sensing"].append(sensing.distance(shut))
            for name, seen in zip(list(found)[1:], (shut, wide), strict=True):
                found[name].append(statistics_distance(seen, trained) / manifest.discs_distance)
    return {name: np.quantile(each, (0, 0.5, 0.9, 1)).round(3).tolist() for name, each in found.items()}


def play_all(checkpoints: Path, names: list[str], streams: list[str], results: Path) -> None:
    """Append what is not there yet."""
    done = {(line["network"], line["stream"], line["row"]) for line in home.read(results)}
    for name in names:
        plain, calibrated = bundles_of(checkpoints, name)
        for stream in streams:
            left = [row for row in (*ROWS, "distances") if (name, stream, row) not in done]
            frames = list(pictures(stream)) if left else []
            for row in left:
                bundle = calibrated if row.endswith("calibrated") else plain
                facts = distances(bundle, frames) if row == "distances" else play(bundle, row, frames)
                told = {"network": name, "stream": stream, "row": row, "frames": len(frames)}
                home.append(results, {**told, **facts})


def table(results: Path) -> None:
    """A line for each network: home, the mean away, and what the worst stream loses."""
    lines = [line for line in home.read(results) if line["row"] in ROWS]
    found = {(line["network"], line["stream"], line["row"]): line for line in lines}
    adapting = [row for row in ROWS if row.endswith(("auto", "auto, calibrated"))]
    print(
        "| network | | " + " | ".join(ROWS) + " | " + " | ".join(f"worst: {row}" for row in adapting) + " |"
    )
    print("|---" * (2 + len(ROWS) + len(adapting)) + "|")
    for name in dict.fromkeys(line["network"] for line in lines):
        streams = [stream for stream in STREAMS if all((name, stream, row) in found for row in ROWS)]
        miou = {(stream, row): found[name, stream, row]["miou"] for stream in streams for row in ROWS}
        for where, some in (("home", streams[:1]), ("away", streams[1:])):
            means = [f"{np.mean([miou[stream, row] for stream in some]):.1f}" for row in ROWS]
            worst = [worst_of(miou, some, row) for row in adapting]
            print("| " + " | ".join([name, where, *means, *worst]) + " |")


def worst_of(miou: dict[tuple[str, str], float], streams: list[str], row: str) -> str:
    """Where a row ends farthest below frozen or, away from home, always open norms of the same weights."""
    wide = "norm, opening 1, calibrated" if row.endswith("calibrated") else "norm, opening 1"
    lost = {
        stream: miou[stream, row] - max(miou[stream, "frozen"], miou[stream, wide] if stream != "day" else 0)
        for stream in streams
    }
    worst = min(lost, key=lambda stream: lost[stream])
    return f"{lost[worst]:+.1f} {worst}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "play", "table"])
    parser.add_argument("--checkpoints", type=Path, default=Path("other-networks"))
    parser.add_argument("--networks", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "train":
        train_all(arguments.checkpoints, arguments.networks)
    elif arguments.what == "play":
        play_all(arguments.checkpoints, arguments.networks, arguments.streams, arguments.results)
    else:
        table(arguments.results)


if __name__ == "__main__":
    main()
