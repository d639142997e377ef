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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ablation import TUNING_STREAMS, append, network_of, read  # type: ignore[import-not-found]
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.masks import Mask
from ocl_edge.method.head import TrainableHead, only_output
from ocl_edge.method.methods import ocl
from ocl_edge.method.norms import Prior
from ocl_edge.method.ocl import output_contrastive_loss
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import adapt_step, align_views, mean_of_views
from ocl_edge.method.weights import TrainableWeights
from ocl_edge.network.tail import Tail
from ocl_edge.timings import Stopwatch
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.segmenter import Segmenter
from ocl_edge_runtime.session.session import Session

Image = NDArray[np.uint8]
PixelWeight = Callable[[Tensor], Tensor]
"""Mean probabilities of both views [1, C, h, w] -> weight of every pixel [1, 1, h, w]."""
ON_THE_FLY: tuple[Prior, ...] = ((0.5, 1), (0.7, 1), (0.85, 1), (1, 1))
EVERY = 5
SHORT = 60
REFERENCES = ("norms alone", "head")
BALANCE_LIMIT = 10.0
"""A rare class counts at most so many times what its pixels would."""


@dataclass(frozen=True)
class Frame:
    """One labelled frame and the backbone's features of its view pair."""

    image: Image
    labels: Mask
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


class Gated(nn.Module):
    """A frozen head whose logits go through a trained C x C matrix."""

    def __init__(self, head: nn.Module, classes: int) -> None:
        super().__init__()
        self.head = head.requires_grad_(False)
        self.gate = nn.Parameter(torch.eye(classes))

    def forward(self, features: Tensor) -> Tensor:
        logits = only_output(self.head(features))
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
        logits = only_output(self.head(features))
        changed: Tensor = logits + torch.einsum("cr,rf,nfhw->nchw", self.up, self.down, features)
        return changed


@dataclass(frozen=True)
class Idea:
    """One way to train the head; what is not said is the default."""

    name: str
    lr: float = 0.05
    part: str = "head"
    loss: Callable[[Tensor, Tensor, AdaptationDefaults], Tensor] = ocl
    stride: int = 1
    brake: float | None = None

    def module(self, bundle: Bundle) -> nn.Module:
        head = load_head(bundle)
        classes, channels = bundle.manifest.logits[0], bundle.manifest.features[0][0]
        if self.part == "gate":
            return Gated(head, classes)
        return LowRank(head, classes, channels) if self.part == "low rank" else head


def ideas() -> Iterator[Idea]:
    yield Idea("norms alone", 0.0)
    yield Idea("head")
    for stride in (2, 4, 8):
        yield Idea(f"every {stride}. pixel in both directions", stride=stride)
    for lr in (0.005, 0.02, 0.05, 0.1):
        yield Idea("class-balanced pixels", lr, loss=weighted(balanced))
    for lr in (0.02, 0.05, 0.1):
        yield Idea("confidence-weighted pixels", lr, loss=weighted(confident))
    for lr in (0.02, 0.1, 0.5, 2.0):
        yield Idea("bias alone", lr, "bias")
    for lr in (0.0005, 0.002, 0.01, 0.05):
        yield Idea("C x C gate on the logits", lr, "gate")
    for lr in (0.01, 0.05, 0.2):
        yield Idea("change of rank 2", lr, "low rank")
    for lr in (0.05, 0.1, 0.2):
        yield Idea("smaller steps far from the source", lr, brake=0.1)


def trained(idea: Idea, bundle: Bundle) -> TrainableHead:
    settings = bundle.manifest.adaptation.model_copy(update={"lr": idea.lr})
    head = TrainableHead(idea.module(bundle), settings)
    wanted = {"bias": ["bias"], "gate": ["gate"], "low rank": ["up", "down"]}.get(idea.part)
    if wanted:
        kept = {n: p for n, p in head.parameters.items() if n.split(".")[-1] in wanted}
        TrainableWeights.__init__(head, kept, settings)
    return head


def play(idea: Idea, bundle: Bundle, space: LabelSpace, frames: list[Frame]) -> float:
    """mIoU in percent of a stream; no mask sees its own update."""
    tail = Tail(bundle.manifest.align_corners).mask
    head, matrix, grid, watch = trained(idea, bundle), space.matrix(), PixelGrid(idea.stride), Stopwatch()
    for frame in frames:
        watch.start()
        with torch.no_grad():
            logits = head.logits(frame.features)
        matrix.add(tail(mean_of_views(logits), *frame.image.shape[:2]), frame.labels)
        if idea.brake:
            rate = idea.lr * float(np.exp(-head.distance_from_trained() / idea.brake))
            head.follow(head.settings.model_copy(update={"lr": rate}))
        view, flipped = (grid.sample([f[i : i + 1] for f in frame.features], i == 1) for i in (0, 1))
        pair = [torch.cat(both) for both in zip(view, flipped, strict=True)]
        adapt_step(head, head.logits(pair), idea.loss, watch)
    return 100 * matrix.miou()


def read_stream(bundle: Bundle, camvid: Path, stream: str) -> list[Frame]:
    """All frames of a stream, with their features under the default prior."""
    sequence, weather = stream.split("/")
    found = LabelledFrames.find(str(camvid / sequence / "images"), camvid / sequence / "labels")
    session = open_session(bundle, SessionOptions("norm", backend="onnxruntime", threads=1, opening=1.0))
    frames = []
    for index in range(len(found)):
        image, labels = found.read(index)
        image = parse_corruption(weather).apply(image, index)
        frames.append(Frame(image, labels, features_of(session, image)))
    return frames


def features_of(session: Session, image: Image) -> list[Tensor]:
    with torch.no_grad():
        return [f.clone() for f in session.segmenter.see(image).features]


def norms_with(priors: Sequence[Prior], bundle: Bundle, space: LabelSpace, frames: list[Frame]) -> float:
    """Norms alone, with that of some priors which has the lowest OCL on the frame."""
    sessions = [
        open_session(
            bundle, SessionOptions("norm", backend="onnxruntime", prior=prior, threads=1, opening=1.0)
        )
        for prior in priors
    ]
    matrix, first = space.matrix(), sessions[0].segmenter
    assert isinstance(first, Segmenter)
    for frame in frames:
        with torch.no_grad():
            logits = [e.segmenter.see(frame.image).logits for e in sessions]
        best = min(logits, key=lambda z: float(output_contrastive_loss(*align_views(z))))
        matrix.add(first.tail.mask(mean_of_views(best), *frame.image.shape[:2]), frame.labels)
    return 100 * matrix.miou()


def half_size_view(half: Bundle, bundle: Bundle, space: LabelSpace, frames: list[Frame]) -> float:
    """The second view is the image at half the size; masks still average the image and its flip."""
    small = open_session(half, SessionOptions("norm", backend="onnxruntime", threads=1, opening=1.0))
    tail = Tail(bundle.manifest.align_corners).mask
    head, matrix, watch = trained(Idea("half"), bundle), space.matrix(), Stopwatch()
    for frame in frames:
        watch.start()
        with torch.no_grad():
            mask = tail(mean_of_views(head.logits(frame.features)), *frame.image.shape[:2])
        matrix.add(mask, frame.labels)
        few = [f[:1] for f in features_of(small, frame.image)]
        view, other = head.logits([f[:1] for f in frame.features]), head.logits(few)
        other = F.interpolate(other, view.shape[2:], mode="bilinear", align_corners=True)
        adapt_step(head, torch.cat((view, other.flip(3))), ocl, watch)
    return 100 * matrix.miou()


def affine_at_low_rate(
    every: int, with_head: bool, bundle: Bundle, space: LabelSpace, frames: list[Frame]
) -> float:
    """OCL on the norms' weight and bias on every n-th frame, with or without the head on every frame."""
    session = open_session(bundle, SessionOptions("ocl-norm", threads=1, opening=1.0))
    weights, matrix, watch = session.weights, space.matrix(), session.watch
    assert isinstance(weights, TrainableWeights)
    assert isinstance(session.segmenter, Segmenter)
    session.segmenter.head = head = TrainableHead(load_head(bundle), bundle.manifest.adaptation)
    for index, frame in enumerate(frames):
        due = index % every == 0
        with torch.set_grad_enabled(due):  # the backbone's; the head's are always there
            matrix.add(session.predict(frame.image), frame.labels)
        assert session.seen is not None
        features, logits = session.seen.features, session.seen.logits
        if due:
            adapt_step(weights, logits, ocl, watch)
            head.discard_gradients()
        if with_head:
            adapt_step(head, head.logits([f.detach() for f in features]), ocl, watch)
    return 100 * matrix.miou()


@dataclass(frozen=True)
class Job:
    """One measurement of one stream: name and rate, which of its frames, and how to get the mIoU."""

    name: str
    lr: float | None
    which: str
    run: Callable[[Bundle, LabelSpace, list[Frame]], float]


def jobs(half: Bundle | None) -> Iterator[Job]:
    """Everything that is measured on a stream."""
    for idea in ideas():
        yield Job(idea.name, idea.lr, "all", partial(play, idea))
        if idea.name in REFERENCES:
            yield Job(idea.name, idea.lr, "short", partial(play, idea))
    if half is not None:
        yield Job("second view of half the size", None, "all", partial(half_size_view, half))
    for prior in ON_THE_FLY:
        yield Job(f"norms, prior {prior[0]:g}:{prior[1]:g}", None, "sparse", partial(norms_with, [prior]))
    yield Job("norms, prior of the lowest OCL", None, "sparse", partial(norms_with, ON_THE_FLY))
    for every, with_head in ((1, False), (8, False), (8, True)):
        name = f"norms' affine, every {every}. frame" + (", and the head" if with_head else "")
        yield Job(name, None, "short", partial(affine_at_low_rate, every, with_head))


def measure(bundle: Bundle, half: Bundle | None, data: Path, results: Path, only: str) -> None:
    """Run what is not in the results yet, stream by stream."""
    camvid = data / "camvid"
    space = read_label_space(bundle.manifest, camvid / "from_cityscapes.json", camvid / "classes.json")
    network = network_of(bundle)
    for stream in TUNING_STREAMS:
        lines = [line for line in read(results) if (line["stream"], line["bundle"]) == (stream, network)]
        done = {(line["idea"], line["lr"], line["frames"]) for line in lines}
        waiting = [j for j in jobs(half) if only in j.name and (j.name, j.lr, j.which) not in done]
        frames = read_stream(bundle, camvid, stream) if waiting else []
        parts = {"all": frames, "short": frames[:SHORT], "sparse": frames[EVERY // 2 :: EVERY]}
        for job in waiting:
            miou = job.run(bundle, space, parts[job.which])
            of_job = {"idea": job.name, "lr": job.lr, "frames": job.which, "stream": stream}
            append(results, {**of_job, "miou": miou, "bundle": network})
            print(f"{stream} {job.which} {job.name} {job.lr}: {miou:.2f}", flush=True)


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
