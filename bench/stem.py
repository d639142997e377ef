"""Which norms must be measured: late ones folded, groups left out, every second one, or predictions.

    python bench/stem.py list    BUNDLE
    python bench/stem.py fold    BUNDLE --network NAME [--every N] [--backend NAME]
    python bench/stem.py alternate BUNDLE --network NAME [--every N] [--backend NAME]
    python bench/stem.py predict BUNDLE --network NAME --home DIR [--every N]

*list*: place, size and prior of every norm. *fold*: norms from a place on keep the trained statistics, and
groups of norms do. *alternate*: every second norm does, and the others move farther. *predict*: the
statistics of all norms from those of the first few, by a ridge regression on frames and their corrupted
copies, beside what costs less than measuring already: statistics of every n-th frame.

One view, wide open, norms alone, labelled frames one second apart; the mIoU of each stream is a line of
--results. ``--every 1`` takes 24 frames in a row from the middle, as what reuses statistics needs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ablation import TUNING_STREAMS, append, read  # type: ignore[import-not-found]
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_backbone, load_tail
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR, RunningStatistics
from ocl_edge.network.batch_norms import Norm, list_norms
from ocl_edge.network.form_tensors import features_among
from ocl_edge.network.tail import Tail
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, read_label_space
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.calibration.copies import copies_of
from ocl_edge_runtime.calibration.frames import evenly_spaced, find_frames
from ocl_edge_runtime.calibration.measuring import HeadAsTrained, Measurer

RESULTS = Path(__file__).parent / "results" / "stem.jsonl"
FOLDED_FROM = (0.97, 0.95, 0.925, 0.9, 0.875, 0.85, 0.825, 0.8, 0.75)
STEMS = (1, 3, 5, 9)
FITTED_FRAMES = 20
ALTERNATE_PRIORS = ((0.7, 1.0), (0.5, 1.0), (0.4, 1.0), (0.3, 1.0))
"""Of the norms that move, where every second one stays."""
RIDGES = (1.0, 30.0, 1000.0)
AS_TUNING_STREAMS = ("shot noise", "blur")
"""Corruptions that the map must not have seen, for it is tried on their like."""
RUNNING_S = 8.0
IN_A_ROW = 24
"""Frames of a stream with ``--every 1``, for what reuses the statistics of frames before."""

Way = Callable[[Tensor, int], list[Tensor]]
"""View and index of the frame in its stream -> features."""


@dataclass(frozen=True)
class Norms:
    """The norms of a network and how they mix."""

    listed: list[Norm]
    line: Tensor

    @classmethod
    def of(cls, measurer: Measurer) -> Norms:
        line = Mixing.of_prior(measurer.channels, DEFAULT_PRIOR).at(1.0)
        return cls(list_norms(load_backbone(measurer.bundle)), line)

    def slices(self) -> list[slice]:
        ends = torch.tensor([norm.channels for norm in self.listed]).cumsum(0).tolist()
        return [slice(end - norm.channels, end) for norm, end in zip(self.listed, ends, strict=True)]

    def prior(self, index: int) -> float:
        first, last = DEFAULT_PRIOR
        return first + (last - first) * index / max(1, len(self.listed) - 1)

    def values(self, indices: Sequence[int]) -> float:
        """Share of all values that the norms read."""
        sizes = [norm.channels * norm.rows * norm.columns for norm in self.listed]
        return sum(sizes[i] for i in indices) / sum(sizes)

    def folded(self, indices: Sequence[int]) -> Tensor:
        """``anchor_weight`` with some norms as trained, float32 [3, S]."""
        weight, slices = self.line.clone(), self.slices()
        for index in indices:
            weight[:2, slices[index]] = 1
            weight[2, slices[index]] = 0
        return weight

    def groups(self) -> dict[str, list[int]]:
        """Norms of one stage: one height and width, one after the other."""
        groups: dict[str, list[int]] = {}
        for index, norm in enumerate(self.listed):
            previous = self.listed[index - 1] if index else norm
            if not groups or (norm.rows, norm.columns) != (previous.rows, previous.columns):
                groups[f"from {index}, {norm.rows}x{norm.columns}"] = []
            groups[list(groups)[-1]].append(index)
        return groups


def under(measurer: Measurer, weight: Tensor) -> Way:
    """The measured form at some weights."""

    def see(view: Tensor, _: int) -> list[Tensor]:
        return features_among(measured(measurer, view, weight))

    return see


def measured(measurer: Measurer, view: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    inputs = {"image": view, "anchor_statistics": measurer.norms.statistics, "anchor_weight": weight}
    return measurer.backend.infer("measured", inputs)


def frozen(measurer: Measurer) -> Way:
    return lambda view, _: features_among(measurer.backend.infer("plain", {"image": view}))


def foldings(measurer: Measurer, norms: Norms) -> Iterator[tuple[str, Way]]:
    yield "frozen", frozen(measurer)
    yield "measured", under(measurer, norms.line)
    everything = range(len(norms.listed))
    for threshold in FOLDED_FROM:
        late = [index for index in everything if norms.prior(index) >= threshold]
        yield (
            f"folded from {threshold}, {norms.values(late):.2f} of values",
            under(measurer, norms.folded(late)),
        )
    for name, group in norms.groups().items():
        yield f"without {name}, {norms.values(group):.2f} of values", under(measurer, norms.folded(group))


def alternates(measurer: Measurer, norms: Norms) -> Iterator[tuple[str, Way]]:
    yield "frozen", frozen(measurer)
    yield "measured", under(measurer, norms.line)
    stay = range(1, len(norms.listed), 2)
    move = [norm.channels for norm in norms.listed[::2]]
    for first, last in ALTERNATE_PRIORS:
        weight = norms.folded(stay)
        pieces = torch.split(Mixing.of_prior(move, (first, last)).at(1.0), move, 1)
        for own, piece in zip(norms.slices()[::2], pieces, strict=True):
            weight[:, own] = piece
        yield f"every second from {first:g} to {last:g}", under(measurer, weight)


class Predictor:
    """The statistics of all norms from those of the first few: ridge regression in deviations.

    Means count in trained deviations, variances as logarithms of their ratio to the trained ones.
    """

    def __init__(self, trained: Tensor, first: int) -> None:
        self._trained, self._first = trained, first
        self._scale = trained[1].clamp(min=1e-5)

    def fit(self, statistics: Tensor, ridge: float) -> Predictor:
        """``statistics`` float32 [N, 2, S], all measured wide open."""
        x, y = self._inputs(statistics).double(), self._relative(statistics).flatten(1).double()
        self._mean_x, self._mean_y = x.mean(0), y.mean(0)
        x, y = x - self._mean_x, y - self._mean_y
        kernel = x @ x.T  # fewer frames than channels
        self._map = (x.T @ torch.linalg.solve(kernel + ridge * torch.eye(len(x)), y)).float()
        self._mean_x, self._mean_y = self._mean_x.float(), self._mean_y.float()
        return self

    def predict(self, statistics: Tensor) -> Tensor:
        """Of one frame, float32 [2, S]; of it the first norms' are kept."""
        x = self._inputs(statistics[None]) - self._mean_x
        relative = (self._mean_y + x @ self._map).reshape(2, -1)
        mean = self._trained[0] + relative[0] * self._scale.sqrt()
        predicted = torch.stack((mean, self._scale * relative[1].clamp(-8, 8).exp()))
        predicted[:, : self._first] = statistics[:, : self._first]
        return predicted

    def error(self, statistics: Tensor) -> float:
        """Share of the other norms' squared change that stays unexplained."""
        actual = self._relative(statistics[None])[0]
        predicted = self._relative(self.predict(statistics)[None])[0]
        rest = slice(self._first, None)
        return float((predicted - actual)[:, rest].square().sum() / actual[:, rest].square().sum())

    def _relative(self, statistics: Tensor) -> Tensor:
        mean = (statistics[:, 0] - self._trained[0]) / self._scale.sqrt()
        return torch.stack((mean, (statistics[:, 1].clamp(min=1e-8) / self._scale).log()), 1)

    def _inputs(self, statistics: Tensor) -> Tensor:
        return self._relative(statistics)[:, :, : self._first].flatten(1)


def predictions(measurer: Measurer, norms: Norms, home: Path) -> Iterator[tuple[str, Way]]:
    yield "frozen", frozen(measurer)
    yield "measured", under(measurer, norms.line)
    ends = torch.tensor(measurer.channels).cumsum(0).tolist()
    seen = home_statistics(measurer, norms, home)
    for stem in STEMS:
        for ridge in RIDGES:
            predictor = Predictor(measurer.norms.statistics, ends[stem - 1]).fit(seen, ridge)
            yield f"first {stem} of {len(ends)}, ridge {ridge:g}", predicting(measurer, norms.line, predictor)
        first_only = norms.folded(range(stem, len(ends)))
        yield f"first {stem} alone, others as trained", under(measurer, first_only)
    for every in (2, 4, 8):
        yield f"statistics every {every}", reusing(measurer, norms.line, every)


def home_statistics(measurer: Measurer, norms: Norms, home: Path) -> Tensor:
    """Of frames and their corrupted copies, float32 [N, 2, S]."""
    frames = find_frames(home)
    indices = evenly_spaced(list(range(len(frames))), FITTED_FRAMES)
    copies = [copy for _, name, copy in copies_of(frames, indices, 0) if name not in AS_TUNING_STREAMS]
    views = [frames.read(index) for index in indices] + copies
    return torch.stack(
        [measured(measurer, measurer.preprocessor.single(v), norms.line)["statistics"].clone() for v in views]
    )


def predicting(measurer: Measurer, weight: Tensor, predictor: Predictor) -> Way:
    """As a graph would whose first norms are measured and whose others get predicted vectors."""

    def see(view: Tensor, _: int) -> list[Tensor]:
        statistics = measured(measurer, view, weight)["statistics"].clone()
        return modulated(measurer, view, predictor.predict(statistics), weight)

    return see


def modulated(measurer: Measurer, view: Tensor, statistics: Tensor, weight: Tensor) -> list[Tensor]:
    vectors = measurer.norms.vectors(measurer.norms.mixed_with(statistics, weight))
    return features_among(measurer.backend.infer("modulated", {"image": view, "norm_vectors": vectors}))


def reusing(measurer: Measurer, weight: Tensor, every: int) -> Way:
    """As realtime mode with ``--norm-every``: between frames that are measured, a running average of 8 s."""
    running = RunningStatistics(RUNNING_S)

    def see(view: Tensor, index: int) -> list[Tensor]:
        if index == 0:
            running.average = None
        if index % every == 0:
            outputs = measured(measurer, view, weight)
            running.add(outputs["statistics"].clone(), float(index))
            return features_among(outputs)
        assert running.average is not None
        return modulated(measurer, view, running.average, weight)

    return see


def play(
    measurer: Measurer, tail: Tail, ways: Mapping[str, Way], stream: str, every: int, data: Path, network: str
) -> dict[str, float]:
    """mIoU in percent of each way."""
    to_camvid = None if network.startswith("cgnet") else data / "from_cityscapes.json"
    space = read_label_space(measurer.bundle.manifest, to_camvid, data / "classes.json")
    sequence, _, weather = stream.partition("/")
    found = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")
    matrices, head = {name: space.matrix() for name in ways}, HeadAsTrained(measurer.bundle)
    first, last = (every // 2, len(found)) if every > 1 else (len(found) // 3, len(found) // 3 + IN_A_ROW)
    for place, index in enumerate(range(first, last, every)):
        image, labels = found.read(index)
        image = parse_corruption(weather).apply(image, index)
        view = measurer.preprocessor.single(image)
        for name, way in ways.items():
            matrices[name].add(tail.mask(head.logits(way(view, place)), *image.shape[:2]), labels)
    return {name: round(100 * matrix.miou(), 2) for name, matrix in matrices.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["list", "fold", "alternate", "predict"])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--network", default="cgnet")
    parser.add_argument("--home", type=Path, default=Path("../shared/data/camvid/home"))
    parser.add_argument("--streams", default=",".join(TUNING_STREAMS))
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = Bundle.open(arguments.bundle)
    with open_backend(bundle, arguments.backend, 1).backend as backend:
        measurer = Measurer(bundle, backend)
        norms = Norms.of(measurer)
        if arguments.what == "list":
            for index, norm in enumerate(norms.listed):
                print(
                    index,
                    norm.name,
                    norm.channels,
                    f"{norm.rows}x{norm.columns}",
                    f"{norms.prior(index):.3f}",
                )
            return
        if arguments.what == "predict":
            ways = dict(predictions(measurer, norms, arguments.home))
        else:
            ways = dict((foldings if arguments.what == "fold" else alternates)(measurer, norms))
        tail = load_tail(bundle)
        for stream in arguments.streams.split(","):
            key = {"what": arguments.what, "network": arguments.network, "stream": stream}
            key["every"] = arguments.every
            if any(key.items() <= line.items() for line in read(arguments.results)):
                continue
            miou = play(measurer, tail, ways, stream, arguments.every, arguments.data, arguments.network)
            append(arguments.results, {**key, "miou": miou})
            print(json.dumps({**key, **miou}, indent=1), flush=True)


if __name__ == "__main__":
    main()
