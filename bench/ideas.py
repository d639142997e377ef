"""Ideas for a better head method, measured on streams that are not reported on.

    python bench/ideas.py BUNDLE [--half BUNDLE] [--only WORDS] [--results FILE]

mIoU of whole tuning streams in paper mode, one line of --results for each idea and stream; what is
there is not run again, so a killed run goes on. The backbone's features of a stream are computed
once: they do not depend on the head. ``--half`` is the same network exported at half the size, for
the idea of a cheaper second view. Ideas that need gradients or several passes of the backbone see
every fifth frame, or the first sixty, against a reference on the same frames.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ablation import TUNING_STREAMS, append, read  # type: ignore[import-not-found]
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.adapter import adapt_step, align_views, mean_of_views
from ocl_edge.bundle import AdaptationDefaults, Bundle
from ocl_edge.head import TrainableHead, TrainableWeights
from ocl_edge.norms import Prior
from ocl_edge.ocl import output_contrastive_loss
from ocl_edge.pixel_grid import PixelGrid
from ocl_edge.programs import load_program
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.engine import Engine, EngineOptions
from ocl_edge_runtime.evaluation.corruption import parse_corruption
from ocl_edge_runtime.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space

Image = NDArray[np.uint8]
PixelWeight = Callable[[Tensor], Tensor]
"""Mean probabilities of both views [1, C, h, w] -> weight of every pixel [1, 1, h, w]."""
ON_THE_FLY: tuple[Prior, ...] = ((0.5, 1), (0.7, 1), (0.85, 1), (1, 1))
EVERY = 5
SHORT = 60
BALANCE_LIMIT = 10.0
"""A rare class counts at most so many times what its pixels would."""


@dataclass(frozen=True)
class Frame:
    """One labelled frame and the backbone's features of its view pair."""

    image: Image
    labels: Image
    features: list[Tensor]


def balanced(p: Tensor) -> Tensor:
    """Every class weighs the same, within a limit."""
    classes = p.argmax(1, keepdim=True)
    share = torch.bincount(classes.flatten(), minlength=p.shape[1]) / classes.numel()
    return (1 / share.clamp(min=1e-6) / p.shape[1]).clamp(max=BALANCE_LIMIT)[classes]


def confident(p: Tensor) -> Tensor:
    """Pixels weigh as much as the likeliest class."""
    return p.amax(1, keepdim=True)


def weighted(weight_of: PixelWeight) -> Callable[[Tensor, Tensor, AdaptationDefaults], Tensor]:
    """The OCL with weighted means instead of means over the pixels."""

    def loss(view: Tensor, flipped_back: Tensor, settings: AdaptationDefaults) -> Tensor:
        p = view.softmax(1), flipped_back.softmax(1)
        weight = weight_of(((p[0] + p[1]) / 2).detach())
        weight = weight / weight.sum()
        q1, q2 = (F.normalize(each, dim=1) for each in p)
        agreement = (weight * q1 * q2).sum()
        spread = sum((weight * q).sum((2, 3)).square().sum() for q in (q1, q2)) / 2
        return settings.neg_coeff * spread - settings.pos_coeff * agreement

    return loss


def plain(view: Tensor, flipped_back: Tensor, settings: AdaptationDefaults) -> Tensor:
    return output_contrastive_loss(view, flipped_back, settings.pos_coeff, settings.neg_coeff)


class Gated(nn.Module):
    """A frozen head whose logits go through a trained C x C matrix."""

    def __init__(self, head: nn.Module, classes: int) -> None:
        super().__init__()
        self.head = head.requires_grad_(False)
        self.gate = nn.Parameter(torch.eye(classes))

    def forward(self, features: Tensor) -> Tensor:
        logits = self.head(features)
        logits = logits[0] if isinstance(logits, tuple) else logits
        gated: Tensor = torch.einsum("dc,nchw->ndhw", self.gate, logits)
        return gated


class LowRank(nn.Module):
    """A frozen head and a trained change of rank 2: up @ down, with up from zero."""

    def __init__(self, head: nn.Module, classes: int, channels: int) -> None:
        super().__init__()
        self.head = head.requires_grad_(False)
        generator = torch.Generator().manual_seed(0)
        self.down = nn.Parameter(torch.randn(2, channels, generator=generator) / channels**0.5)
        self.up = nn.Parameter(torch.zeros(classes, 2))

    def forward(self, features: Tensor) -> Tensor:
        logits = self.head(features)
        logits = logits[0] if isinstance(logits, tuple) else logits
        changed: Tensor = logits + torch.einsum("cr,rf,nfhw->nchw", self.up, self.down, features)
        return changed


@dataclass(frozen=True)
class Idea:
    """One way to train the head; what is not said is the default."""

    name: str
    lr: float = 0.05
    part: str = "head"
    loss: Callable[[Tensor, Tensor, AdaptationDefaults], Tensor] = plain
    stride: int = 1
    brake: float | None = None

    def module(self, bundle: Bundle) -> nn.Module:
        head = load_program(bundle.file("head.pt2"))
        classes, channels = bundle.manifest.logits[0], bundle.manifest.features[0][0]
        if self.part == "gate":
            return Gated(head, classes)
        return LowRank(head, classes, channels) if self.part == "low rank" else head


def ideas() -> Iterator[Idea]:
    yield Idea("norms alone", 0.0)
    yield Idea("head")
    for stride in (2, 4, 8):
        yield Idea(f"every {stride}. pixel in both directions", stride=stride)
    for name, weight in (("class-balanced pixels", balanced), ("confidence-weighted pixels", confident)):
        for lr in (0.02, 0.05, 0.1):
            yield Idea(name, lr, loss=weighted(weight))
    for lr in (0.02, 0.1, 0.5):
        yield Idea("bias alone", lr, "bias")
    for lr in (0.002, 0.01, 0.05):
        yield Idea("C x C gate on the logits", lr, "gate")
    for lr in (0.01, 0.05, 0.2):
        yield Idea("change of rank 2", lr, "low rank")
    for lr in (0.05, 0.1, 0.2):
        yield Idea("smaller steps far from the source", lr, brake=0.1)


def trained(idea: Idea, bundle: Bundle) -> TrainableHead:
    settings = bundle.manifest.adaptation.model_copy(update={"lr": idea.lr})
    if idea.lr == 0:
        settings = settings.model_copy(update={"weight_decay": 0.0})
    head = TrainableHead(idea.module(bundle), settings)
    wanted = {"bias": ["bias"], "gate": ["gate"], "low rank": ["up", "down"]}.get(idea.part)
    if wanted:
        kept = {n: p for n, p in head.parameters.items() if n.split(".")[-1] in wanted}
        TrainableWeights.__init__(head, kept, settings)
    return head


def play(
    idea: Idea, bundle: Bundle, frames: list[Frame], space: LabelSpace, tail: Callable[..., Image]
) -> float:
    """mIoU in percent of a stream; no mask sees its own update."""
    head, matrix, grid, watch = trained(idea, bundle), space.matrix(), PixelGrid(idea.stride), Stopwatch()
    for frame in frames:
        watch.start()
        with torch.no_grad():
            logits = head.logits(frame.features)
        matrix.add(tail(mean_of_views(logits), *frame.image.shape[:2]), frame.labels)
        if idea.brake:
            rate = idea.lr * float(np.exp(-head.distance_from_source() / idea.brake))
            head.optimizer.param_groups[0]["lr"] = rate
        view, flipped = (grid.sample([f[i : i + 1] for f in frame.features], i == 1) for i in (0, 1))
        pair = [torch.cat(both) for both in zip(view, flipped, strict=True)]
        adapt_step(head, head.logits(pair), idea.loss, watch)
    return 100 * matrix.miou()


def features_of(engine: Engine, image: Image) -> list[Tensor]:
    with torch.no_grad():
        return [f.clone() for f in engine._features(engine._preprocessor.pair(image))]


def priors_on_the_fly(bundle: Bundle, frames: list[Frame], space: LabelSpace) -> dict[str, float]:
    """Norms alone: each of some priors, and on every frame the one with the lowest OCL."""
    engines = {
        f"{first:g}:{last:g}": Engine(
            bundle, EngineOptions("norm", backend="onnxruntime", prior=(first, last), threads=1)
        )
        for first, last in ON_THE_FLY
    }
    matrices = {name: space.matrix() for name in (*engines, "lowest OCL")}
    for frame in frames:
        losses, masks = {}, {}
        for name, engine in engines.items():
            with torch.no_grad():
                logits = engine.head.logits(features_of(engine, frame.image))
            losses[name] = float(output_contrastive_loss(*align_views(logits)))
            masks[name] = engine._tail.mask(mean_of_views(logits), *frame.image.shape[:2])
        masks["lowest OCL"] = masks[min(losses, key=lambda name: losses[name])]
        for name, mask in masks.items():
            matrices[name].add(mask, frame.labels)
    return {f"norms, prior {name}": 100 * matrix.miou() for name, matrix in matrices.items()}


def half_size_view(bundle: Bundle, half: Bundle, frames: list[Frame], space: LabelSpace) -> float:
    """The second view is the image at half the size; masks still average the image and its flip."""
    small = Engine(half, EngineOptions("norm", backend="onnxruntime", threads=1))
    whole = Engine(bundle, EngineOptions("frozen", backend="onnxruntime", threads=1))
    head, matrix, watch = trained(Idea("half"), bundle), space.matrix(), Stopwatch()
    for frame in frames:
        watch.start()
        with torch.no_grad():
            mask = whole._tail.mask(mean_of_views(head.logits(frame.features)), *frame.image.shape[:2])
        matrix.add(mask, frame.labels)
        few = [f[:1] for f in features_of(small, frame.image)]
        view, other = head.logits([f[:1] for f in frame.features]), head.logits(few)
        other = F.interpolate(other, view.shape[2:], mode="bilinear", align_corners=True)
        adapt_step(head, torch.cat((view, other.flip(3))), plain, watch)
    return 100 * matrix.miou()


def affine_at_low_rate(
    bundle: Bundle, frames: list[Frame], space: LabelSpace, every: int, with_head: bool
) -> float:
    """OCL on the norms' weight and bias on every n-th frame, with or without the head on every frame."""
    engine = Engine(bundle, EngineOptions("ocl-norm", threads=1))
    weights, matrix, watch = engine.weights, space.matrix(), engine.watch
    assert isinstance(weights, TrainableWeights)
    engine.head = head = TrainableHead(load_program(bundle.file("head.pt2")), bundle.manifest.adaptation)
    for index, frame in enumerate(frames):
        due = index % every == 0
        with torch.set_grad_enabled(due):  # the backbone's; the head's are always there
            matrix.add(engine.predict(frame.image), frame.labels)
        assert engine._pair is not None
        features, logits = engine._pair
        if due:
            adapt_step(weights, logits, plain, watch)
            head.discard_gradients()
        if with_head:
            adapt_step(head, head.logits([f.detach() for f in features]), plain, watch)
    return 100 * matrix.miou()


def measure(bundle: Bundle, half: Bundle | None, data: Path, results: Path, only: str) -> None:
    """Run what is not in the results yet, stream by stream."""
    camvid = data / "camvid"
    space = read_label_space(bundle.manifest, camvid / "from_cityscapes.json", camvid / "classes.json")
    engine = Engine(bundle, EngineOptions("norm", backend="onnxruntime", threads=1))
    tail = engine._tail.mask
    for stream in TUNING_STREAMS:
        frames: list[Frame] = []

        def stream_frames(frames: list[Frame] = frames, stream: str = stream) -> list[Frame]:
            if not frames:
                sequence, weather = stream.split("/")
                found = LabelledFrames.find(str(camvid / sequence / "images"), camvid / sequence / "labels")
                for index in range(len(found)):
                    image, labels = found.read(index)
                    image = parse_corruption(weather).apply(image, index)
                    frames.append(Frame(image, labels, features_of(engine, image)))
            return frames

        work: list[tuple[str, float | None, str, Callable[[], dict[str, float]]]] = []
        for idea in ideas():

            def whole(idea: Idea = idea) -> dict[str, float]:
                return {idea.name: play(idea, bundle, stream_frames(), space, tail)}

            work.append((idea.name, idea.lr, "all", whole))
            if idea.name in ("norms alone", "head"):

                def short(idea: Idea = idea) -> dict[str, float]:
                    return {idea.name: play(idea, bundle, stream_frames()[:SHORT], space, tail)}

                work.append((idea.name, idea.lr, f"first {SHORT}", short))
        if half is not None:

            def smaller(half: Bundle = half) -> dict[str, float]:
                return {"second view of half the size": half_size_view(bundle, half, stream_frames(), space)}

            work.append(("second view of half the size", None, "all", smaller))

        def chosen() -> dict[str, float]:
            return priors_on_the_fly(bundle, stream_frames()[EVERY // 2 :: EVERY], space)

        work.append(("norms, prior lowest OCL", None, f"every {EVERY}th", chosen))
        for every, with_head in ((1, False), (8, False), (8, True)):
            name = f"norms' affine, every {every}. frame" + (", and the head" if with_head else "")

            def affine(name: str = name, every: int = every, with_head: bool = with_head) -> dict[str, float]:
                few = stream_frames()[:SHORT]
                return {name: affine_at_low_rate(bundle, few, space, every, with_head)}

            work.append((name, None, f"first {SHORT}", affine))
        done = {(line["idea"], line["lr"], line["frames"], line["stream"]) for line in read(results)}
        for name, lr, which, run in work:
            if only not in name or (name, lr, which, stream) in done:
                continue
            start = time.perf_counter()
            for found_name, miou in run().items():
                line = {"idea": found_name, "lr": lr, "frames": which, "stream": stream, "miou": miou}
                append(results, line)
                print(f"{stream} {which} {found_name} {lr}: {miou:.2f}", flush=True)
            print(f"{time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="of the published ESPNetv2")
    parser.add_argument("--half", type=Path, help="the same network exported at half the size")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--results", type=Path, default=Path("bench/results/ideas.jsonl"))
    parser.add_argument("--only", default="", help="only ideas whose name holds this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    half = Bundle.open(arguments.half) if arguments.half else None
    measure(Bundle.open(arguments.bundle), half, arguments.data, arguments.results, arguments.only)


if __name__ == "__main__":
    main()
