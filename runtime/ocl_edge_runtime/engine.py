"""A bundle at work: frame in, mask out, then the update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from ocl_edge.adapter import Update, adapt_head, mean_of_views
from ocl_edge.bundle import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.head import TrainableHead
from ocl_edge.norms import SourceNorms
from ocl_edge.preprocess import Preprocessor
from ocl_edge.programs import load_program
from ocl_edge.tail import Tail
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.frames import FrameResult

Mode = Literal["paper", "frozen"]
Views = Literal["single", "pair"]
MODES: tuple[Mode, ...] = ("paper", "frozen")


@dataclass(frozen=True)
class EngineOptions:
    """How a bundle is run; None means the bundle's own default.

    Attributes:
        mode: ``paper`` adapts every frame, ``frozen`` never.
        views: ``pair`` averages the logits of the image and its flip. Paper mode always
            does; frozen mode takes a single view unless told otherwise.
        backend: ``auto`` or a name of `ocl_edge_runtime.backends.BACKENDS`.
        prior: weight of the source statistics, 0 to 1.
        lr: learning rate of the head.
        restoration: probability that a weight returns to its source value after a step.
        seed: of the restoration.
        threads: for one operator of the backend.
    """

    mode: Mode = "paper"
    views: Views | None = None
    backend: str = "auto"
    prior: float | None = None
    lr: float | None = None
    restoration: float | None = None
    seed: int = 0
    threads: int | None = None


class Engine:
    """Runs one bundle. Used from one thread at a time.

    `predict` gives the mask of a frame; `adapt`, called after the mask is out, updates
    the head on that same frame. `step` does both.

    Raises:
        UsageError: options that contradict each other.
        BundleError: a file of the bundle cannot be loaded.
        BackendError: the backend cannot run here.
    """

    def __init__(self, bundle: Bundle, options: EngineOptions | None = None) -> None:
        options = options or EngineOptions()
        if options.mode == "paper" and options.views == "single":
            raise UsageError("paper mode works on the view pair; --views single goes with --mode frozen")
        self.bundle = bundle
        self.mode = options.mode
        self.views: Views = options.views or ("pair" if options.mode == "paper" else "single")
        given = {"prior": options.prior, "lr": options.lr, "restoration": options.restoration}
        self.settings = bundle.manifest.adaptation.model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )
        choice = open_backend(bundle, options.backend, options.threads)
        self.backend, self.passed_over = choice.backend, choice.passed_over
        self.head = TrainableHead(load_program(bundle.file("head.pt2")), self.settings, options.seed)
        self.source = SourceNorms(**load_file(bundle.file("norms.safetensors")))
        self.watch = Stopwatch()
        tail = load_program(bundle.file("tail.pt2")) if "tail.pt2" in bundle.manifest.files else None
        self._tail = Tail(bundle.manifest.align_corners, tail)
        self._preprocessor = Preprocessor(bundle.manifest.input)
        self._anchor = {
            "anchor_statistics": self.source.statistics,
            "anchor_weight": torch.tensor([self.settings.prior]),
        }
        self._logits: Tensor | None = None

    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mask of an image, before any update on it.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            uint8 [H, W], class indices.

        Raises:
            FrameError: the image is of another dtype or shape.
        """
        self.watch.start()
        adapting = self.mode == "paper"
        pair = self.views == "pair"
        views = self._preprocessor.pair(image) if pair else self._preprocessor.single(image)
        self.watch.lap("preprocess")
        outputs = self.backend.infer(
            "measured" if adapting else "plain", {"image": views, **(self._anchor if adapting else {})}
        )
        features = [outputs[f"features_{index}"] for index in range(len(self.bundle.manifest.features))]
        self.watch.lap("backbone")
        with torch.set_grad_enabled(adapting):
            logits = self.head.logits(features)
        self._logits = logits if logits.requires_grad else None
        averaged = mean_of_views(logits) if pair else logits.detach()
        self.watch.lap("head")
        mask = self._tail.mask(averaged, image.shape[0], image.shape[1])
        self.watch.lap("tail")
        return mask

    def adapt(self) -> Update | None:
        """Update the head on the frame of the last `predict`; None where there is nothing to adapt on."""
        if self._logits is None:
            return None
        logits, self._logits = self._logits, None
        self.watch.resume()
        return adapt_head(self.head, logits, self.watch)

    def step(self, image: NDArray[np.uint8]) -> FrameResult:
        """`predict` and `adapt` in one call."""
        mask = self.predict(image)
        return self.result(mask, self.adapt())

    def result(self, mask: NDArray[np.uint8], update: Update | None) -> FrameResult:
        """What the last frame gave."""
        timings = self.watch.timings_ms()
        if update is None:
            return FrameResult(mask, timings, reason="frozen")
        return FrameResult(mask, timings, update.applied, update.reason, update.loss)

    def close(self) -> None:
        self.backend.close()
