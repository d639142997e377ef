"""Ideas that need home or nothing but forward passes, against the head and the norms alone.

    python bench/home_ideas.py BUNDLE --network NAME [--home DIR] [--every N] [--results FILE]

Tuning streams, view pairs, wide open, labelled frames one second apart. The backbone's features of a stream
are computed once: they do not depend on the head. A finished row of a stream is a line of --results and is
not run again. ``--home`` holds the frames whose features the head's agreement with itself as trained is
asked on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ablation import TUNING_STREAMS, append, read  # type: ignore[import-not-found]
from ideas import Frame, features_of  # type: ignore[import-not-found]
from torch import Tensor
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.images import image_files, in_natural_order, read_image
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import Loss, adapt_step, mean_of_views
from ocl_edge.network.tail import Tail
from ocl_edge.timings import Stopwatch
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions

RESULTS = Path(__file__).parent / "results" / "home_ideas.jsonl"
HOME_FRAMES, HOME_VECTORS = 8, 400
SURE = 0.8
KEPT = 0.9
"""Of the prototypes a second."""


def both_agree_but_not_on_how_sure(least: float) -> Loss:
    """The OCL of the pixels to which both views give one class, at confidences that differ by ``least``."""

    def loss(view: Tensor, flipped_back: Tensor, settings: AdaptationDefaults) -> Tensor:
        p, q = (v.permute(0, 2, 3, 1).reshape(-1, v.shape[1]).softmax(1) for v in (view, flipped_back))
        (sure, ours), (as_sure, theirs) = p.max(1), q.max(1)
        taken = (ours == theirs) & ((sure - as_sure).abs() >= least)
        if not taken.any():
            return 0 * p.sum()
        q1, q2 = (F.normalize(each[taken], dim=1) for each in (p, q))
        spread = (q1.mean(0).square().sum() + q2.mean(0).square().sum()) / 2
        return settings.neg_coeff * spread - settings.pos_coeff * (q1 * q2).sum(1).mean()

    return loss


@dataclass(frozen=True)
class HomeFeatures:
    """Some vectors of the head's input at home, and the classes that the trained head gives them."""

    vectors: list[Tensor]
    classes: Tensor

    def agreement(self, head: TrainableHead) -> float:
        with torch.no_grad():
            return float((head.logits(self.vectors).argmax(1) == self.classes).float().mean())


def home_features(bundle: Bundle, directory: Path) -> HomeFeatures:
    """Of a few frames, as the frozen network sees them."""
    files = in_natural_order(image_files(directory))
    files = files[:: max(1, len(files) // HOME_FRAMES)][:HOME_FRAMES]
    generator = torch.Generator().manual_seed(0)
    with open_session(
        bundle, SessionOptions("norm", backend="onnxruntime", threads=1, opening=0.0)
    ) as session:
        seen = [features_of(session, read_image(file)) for file in files]
    stacked = torch.cat([f[0][:1].flatten(2)[0].T for f in seen])
    chosen = stacked[torch.randperm(len(stacked), generator=generator)[:HOME_VECTORS]]
    vectors = [chosen.T[None, :, :, None].contiguous()]
    head = TrainableHead(load_head(bundle), bundle.manifest.adaptation)
    with torch.no_grad():
        return HomeFeatures(vectors, head.logits(vectors).argmax(1))


class Prototypes:
    """Running means of the head's input, class by class, from the pixels that the head is sure of.

    Args:
        share: of the probabilities that the prototypes give.
        cosine: similarity by the angle; else by the distance in deviations within the classes.
    """

    def __init__(self, share: float, cosine: bool) -> None:
        self.share, self.cosine = share, cosine
        self.means: Tensor | None = None
        self.within = 1.0

    def mixed(self, features: Tensor, logits: Tensor) -> Tensor:
        """Logits whose softmax is the mixture; both views [2, F or C, h, w]."""
        p = logits.softmax(1)
        self._learn(features, p)
        assert self.means is not None
        vectors = features.permute(0, 2, 3, 1)
        if self.cosine:
            scores = F.normalize(vectors, dim=3) @ F.normalize(self.means, dim=1).T / 0.1
        else:
            scores = -torch.cdist(vectors.flatten(0, 2), self.means).square() / (2 * self.within)
            scores = scores.reshape(*vectors.shape[:3], -1)
        scores[..., self.means.isnan().any(1)] = -torch.inf
        mixed = (1 - self.share) * p + self.share * scores.softmax(3).permute(0, 3, 1, 2)
        return mixed.clamp(min=1e-12).log()

    def _learn(self, features: Tensor, p: Tensor) -> None:
        vectors = features.permute(0, 2, 3, 1).flatten(0, 2)
        sure, classes = p.permute(0, 2, 3, 1).flatten(0, 2).max(1)
        known = sure > SURE
        vectors, classes = vectors[known], classes[known]
        if self.means is None:
            self.means = torch.full((p.shape[1], features.shape[1]), torch.nan)
        sums = torch.zeros_like(self.means).index_add_(0, classes, vectors)
        counts = torch.bincount(classes, minlength=len(self.means))[:, None]
        new = torch.where(counts > 0, sums / counts.clamp(min=1), self.means)
        self.means = torch.where(self.means.isnan(), new, torch.lerp(new, self.means, KEPT))
        self.within = (
            float((vectors - self.means[classes]).square().sum(1).mean()) / 2 if len(vectors) else 1.0
        )


@dataclass(frozen=True)
class Row:
    """One way to see a stream; no learning where ``divisor`` is 0, else at the bundle's rate over it."""

    name: str
    divisor: float = 0.0
    loss: Loss = ocl
    keeps_agreement: bool = False
    prototypes: Callable[[], Prototypes] | None = None


def rows() -> Iterator[Row]:
    yield Row("norms alone")
    for divisor in (1, 5):
        yield Row(f"head, rate / {divisor}", divisor)
        yield Row(f"head that keeps agreement at home, rate / {divisor}", divisor, keeps_agreement=True)
        for least in (0.02, 0.1):
            loss = both_agree_but_not_on_how_sure(least)
            yield Row(
                f"head, pixels of one class and confidences {least} apart, rate / {divisor}", divisor, loss
            )
    for cosine in (False, True):
        for share in (0.1, 0.3, 0.5):
            name = f"norms and prototypes by {'angle' if cosine else 'distance'}, {share}"
            yield Row(name, prototypes=partial(Prototypes, share, cosine))
    yield Row("head and prototypes by distance, 0.3, rate / 1", 1, prototypes=partial(Prototypes, 0.3, False))


def play(
    row: Row, bundle: Bundle, space: LabelSpace, frames: list[Frame], home: HomeFeatures
) -> dict[str, Any]:
    """mIoU in percent of a stream; no mask sees its own update."""
    settings = bundle.manifest.adaptation
    if row.divisor:
        settings = settings.model_copy(update={"lr": settings.lr / row.divisor})
    head, tail = TrainableHead(load_head(bundle), settings), Tail(bundle.manifest.align_corners)
    prototypes = row.prototypes() if row.prototypes else None
    grid, matrix, watch, undone = (
        PixelGrid(2 if frames[0].features[0].shape[2] > 100 else 1),
        space.matrix(),
        Stopwatch(),
        0,
    )
    for frame in frames:
        watch.start()
        with torch.no_grad():
            logits = head.logits(frame.features)
            if prototypes is not None:
                logits = prototypes.mixed(frame.features[0], logits)
        matrix.add(tail.mask(mean_of_views(logits), *frame.image.shape[:2]), frame.labels)
        if not row.divisor:
            continue
        view, flipped = (grid.sample([f[i : i + 1] for f in frame.features], i == 1) for i in (0, 1))
        pair = [torch.cat(both) for both in zip(view, flipped, strict=True)]
        before, agreed = head.snapshot(), home.agreement(head) if row.keeps_agreement else 0.0
        adapt_step(head, head.logits(pair), row.loss, watch)
        if row.keeps_agreement and home.agreement(head) < agreed:
            head.load(before)
            undone += 1
    of_row = {"miou": round(100 * matrix.miou(), 2), "drift": round(head.distance_from_trained(), 3)}
    return of_row | {"at home": round(100 * home.agreement(head), 1), "undone": undone}


def read_stream(bundle: Bundle, data: Path, stream: str, every: int) -> list[Frame]:
    sequence, _, weather = stream.partition("/")
    found = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")
    frames = []
    with open_session(
        bundle, SessionOptions("norm", backend="onnxruntime", threads=1, opening=1.0)
    ) as session:
        for index in range(every // 2, len(found), every):
            image, labels = found.read(index)
            image = parse_corruption(weather).apply(image, index)
            frames.append(Frame(image, labels, features_of(session, image)))
    return frames


def heads(
    bundle: Bundle, network: str, home: Path, data: Path, every: int, streams: list[str], results: Path
) -> None:
    """Every row on every stream that has no line yet."""
    to_camvid = None if network.startswith("cgnet") else data / "from_cityscapes.json"
    space = read_label_space(bundle.manifest, to_camvid, data / "classes.json")
    stored = home_features(bundle, home)
    done = {(e["network"], e["stream"], e["every"], e["row"]) for e in read(results)}
    for stream in streams:
        left = [row for row in rows() if (network, stream, every, row.name) not in done]
        frames = read_stream(bundle, data, stream, every) if left else []
        for row in left:
            line = {"network": network, "stream": stream, "every": every, "row": row.name}
            line |= {"frames": len(frames), **play(row, bundle, space, frames, stored)}
            append(results, line)
            print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--network", default="espnetv2")
    parser.add_argument("--home", type=Path, default=Path("../shared/data/camvid/home"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--streams", nargs="+", default=list(TUNING_STREAMS))
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heads(
        Bundle.open(arguments.bundle),
        arguments.network,
        arguments.home,
        arguments.data,
        arguments.every,
        arguments.streams,
        arguments.results,
    )


if __name__ == "__main__":
    main()
